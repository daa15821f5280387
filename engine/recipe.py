"""The deployable folder: create it, read it, add and remove normal images, set its thresholds and settings.

A change that touches features writes new files beside the old ones and then switches to them; how that
survives kills and full disks is :mod:`.generations`'s business. Readers never wait, and hold the generation
that they opened. Nothing is scored here, and no image is read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .cells import from_cells
from .checks import check_integer
from .errors import InputError, RecipeError
from .extractor import Features
from .files import check_stored, copy_file, reading, writing
from .gallery import EMBEDDINGS, GalleryWriter, Geometry, new_gallery, open_array
from .generations import MANIFEST_NAME, check_source, next_generation, only_writer, read_manifest, switch
from .manifest import EXTRACTOR, Manifest, extractor_name, from_json
from .settings import MOST_IMAGES, Calibration, ImageRecord, Settings

__all__ = [
    "Calibration",
    "ImageRecord",
    "Recipe",
    "Settings",
    "add_images",
    "create_recipe",
    "remove_images",
    "set_calibration",
]

BUILT_IN = ("framing", "storage")  # the stored features depend on these settings


@dataclass(frozen=True, kw_only=True, eq=False)
class Recipe(Manifest):
    """A recipe opened for reading: what recipe.json says, and the arrays that it named at that moment.

    The arrays stay as they are even if a writer adds or removes images afterwards; load again to see that.

    Attributes
    ----------
    folder
        Where it lies.
    embeddings
        (n, d) float32, mapped read-only.
    levels
        (n, rows, columns, 4**depth, c) in the cell-blocked layout, float32 or float16, mapped read-only;
        finest first.
    """

    folder: Path
    embeddings: NDArray[np.float32] = field(repr=False)
    levels: tuple[NDArray[np.floating], ...] = field(repr=False)

    @staticmethod
    def load(folder: str | os.PathLike[str], *, verify: bool = False) -> Recipe:
        """Open a recipe.

        Sizes, shapes and number types of all files are always checked, before any memory is asked for.

        Parameters
        ----------
        folder
            The recipe.
        verify
            Also read every file through and compare its SHA-256.

        Raises
        ------
        RecipeError
            Not a recipe, of another version, or damaged; the text names the file.
        """
        folder = Path(folder)
        encoded = read_manifest(folder)
        while True:
            try:
                return _opened(folder, from_json(encoded, folder / MANIFEST_NAME), verify=verify)
            except RecipeError:
                # A writer may have switched since recipe.json was read, and swept the files that it named.
                current = read_manifest(folder)
                if current == encoded:
                    raise
                encoded = current

    @property
    def extractor_path(self) -> Path:
        """The extractor's ONNX file."""
        return self.folder / self.files[EXTRACTOR].name

    @property
    def input_size(self) -> tuple[int, int]:
        """(H, W) of the extractor's input."""
        return self.geometry.input_size

    @property
    def level_names(self) -> tuple[str, ...]:
        """The levels' names, finest first."""
        return self.geometry.level_names

    @property
    def level_shapes(self) -> tuple[tuple[int, int, int], ...]:
        """(c, h, w) of each level, finest first."""
        return self.geometry.level_shapes

    def with_settings(self, settings: Settings) -> Recipe:
        """Return the recipe with other settings, in memory alone; its thresholds are those of the old ones.

        Raises
        ------
        InputError
            A change of framing or storage, which the stored features depend on.
        """
        for name in BUILT_IN:
            own, new = getattr(self.settings, name), getattr(settings, name)
            if new != own:
                raise InputError(f"{name}: expected {own!r}, which is built into the stored features, got {new!r}")
        return replace(self, settings=settings)

    def features(self, index: int) -> Features:
        """Return what was stored of one image as float32: levels (1, c, h, w) and embedding (1, d).

        Raises
        ------
        InputError
            There is no image of that index.
        """
        check_integer("index", index, low=0, high=len(self.images) - 1)
        rows = slice(index, index + 1)
        levels = (
            from_cells(np.array(level[rows], np.float32), height, width)
            for level, (_, height, width) in zip(self.levels, self.level_shapes, strict=True)
        )
        return Features(tuple(levels), np.array(self.embeddings[rows]))


def create_recipe(
    folder: str | os.PathLike[str],
    *,
    extractor_path: str | os.PathLike[str],
    features: Iterable[tuple[ImageRecord, Features]],
    count: int,
    settings: Settings,
    level_names: tuple[str, ...],
    level_shapes: tuple[tuple[int, int, int], ...],
    input_size: tuple[int, int],
    embedding_size: int,
    calibrate: Callable[[Recipe], Calibration] | None = None,
    overwrite: bool = False,
) -> Recipe:
    """Write a new recipe.

    Parameters
    ----------
    folder
        Made if it doesn't exist. Other files in it are left alone.
    extractor_path
        The ONNX file, copied into the recipe.
    features
        Exactly ``count`` images' features, consumed one by one: levels (1, c, h, w), finest first, embedding
        (1, d).
    count
        Number of images.
    settings
        Every setting that changes a score.
    level_names, level_shapes, input_size, embedding_size
        The extractor's, see :class:`~.gallery.Geometry`.
    calibrate
        Makes the thresholds from the complete recipe, before it goes live; None: it has none yet.
    overwrite
        Replace a recipe, also a damaged one, that is in the folder; it stays live until the new one is
        complete.

    Raises
    ------
    InputError
        Features that aren't finite, don't fit the shapes or the number type, or are more or fewer than
        ``count``; two images of one name; an extractor that can't be read.
    OutputError
        The folder can't be written, or the disk is full. The recipe that was there, if any, is as before.
    RecipeError
        There is a recipe already, or another process is writing.
    """
    folder, source = Path(folder), Path(extractor_path)
    geometry = Geometry(
        input_size=input_size,
        level_names=level_names,
        level_shapes=level_shapes,
        embedding_size=embedding_size,
    )
    check_integer("count", count, low=1, high=MOST_IMAGES)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    check_source(source, folder)
    with only_writer(folder):
        if os.path.lexists(folder / MANIFEST_NAME) and not overwrite:
            raise RecipeError(f"{folder}: expected no recipe, got one; overwrite it, or create elsewhere")
        generation = next_generation(folder)
        extractor = copy_file(source, folder / extractor_name(generation))
        with new_gallery(folder, generation, geometry, count=count, storage=settings.storage) as gallery:
            images = _append(gallery, features, images=())
            files = gallery.finish()
        manifest = Manifest(
            spadeline_version=_spadeline_version(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            generation=generation,
            settings=settings,
            geometry=geometry,
            files={EXTRACTOR: extractor} | files,
            calibration=None,
            images=images,
        )
        if calibrate is not None:
            manifest = manifest.changed(calibration=calibrate(_opened(folder, manifest, verify=False)))
        return _commit(folder, manifest)


def add_images(folder: str | os.PathLike[str], features: Iterable[tuple[ImageRecord, Features]], count: int) -> Recipe:
    """Add normal images behind those that are there, as :func:`create_recipe` takes them; no refit is needed.

    The thresholds stay as they are, so that an image added to end a false alarm takes effect at once;
    ``calibration.tau.images`` still says how many images they come from. The old files are verified first:
    damage must not get a fresh hash.

    Raises
    ------
    InputError
        As for :func:`create_recipe`, or a name that the recipe already holds.
    OutputError
        The folder can't be written, or the disk is full; the recipe is as before.
    RecipeError
        Not a recipe, a damaged one, or another process is writing.
    """
    check_integer("count", count, low=1, high=MOST_IMAGES)
    with _changing(Path(folder), verify=True) as recipe:
        return _rewrite(recipe, range(len(recipe.images)), features, count)


def remove_images(folder: str | os.PathLike[str], names: Sequence[str]) -> Recipe:
    """Remove normal images by name; the others keep their order, the thresholds stay as they are.

    Raises
    ------
    InputError
        No name, an unknown name, or all names: a recipe can't be empty.
    OutputError
        The folder can't be written, or the disk is full; the recipe is as before.
    RecipeError
        Not a recipe, a damaged one, or another process is writing.
    """
    with _changing(Path(folder), verify=True) as recipe:
        unwanted = set(names)
        known = {image.name for image in recipe.images}
        if not unwanted or unwanted == known:
            raise InputError(f"names: expected 1 to {len(known) - 1} of {len(known)} images, got {len(unwanted)}")
        if unknown := sorted(unwanted - known):
            raise InputError(f"names: expected images of {folder}, got {unknown[0]!r}")
        kept = [index for index, image in enumerate(recipe.images) if image.name not in unwanted]
        return _rewrite(recipe, kept, (), 0)


def set_calibration(
    folder: str | os.PathLike[str],
    calibration: Calibration | None,
    *,
    settings: Settings | None = None,
    generation: int | None = None,
) -> Recipe:
    """Set the thresholds, or with None forget them, and the settings that they were made for.

    Only recipe.json changes.

    Parameters
    ----------
    folder
        The recipe.
    calibration
        The thresholds.
    settings
        The settings to change to, as :meth:`Recipe.with_settings` allows; None: as they are.
    generation
        The generation whose images the thresholds come from; None: whichever is live.

    Raises
    ------
    InputError
        Settings that would need other features.
    OutputError
        The folder can't be written, or the disk is full; the recipe is as before.
    RecipeError
        Not a recipe, a damaged one, of another generation by now, or another process is writing.
    """
    with _changing(Path(folder)) as recipe:
        if generation not in (None, recipe.generation):
            raise RecipeError(
                f"{folder}: expected generation {generation}, which the thresholds were made from, "
                f"got {recipe.generation}: images were added or removed meanwhile; calibrate again"
            )
        settings = recipe.with_settings(settings or recipe.settings).settings
        return _commit(recipe.folder, recipe.changed(calibration=calibration, settings=settings))


def _rewrite(
    recipe: Recipe, kept: Sequence[int], features: Iterable[tuple[ImageRecord, Features]], count: int
) -> Recipe:
    """Write the next generation: the kept images' rows as they are, then ``count`` further images."""
    folder, generation = recipe.folder, next_generation(recipe.folder)
    total, storage = len(kept) + count, recipe.settings.storage
    stored = dict(zip((EMBEDDINGS, *recipe.level_names), (recipe.embeddings, *recipe.levels), strict=True))
    with new_gallery(folder, generation, recipe.geometry, count=total, storage=storage) as gallery:
        for index in kept:
            gallery.append_stored({role: array[index] for role, array in stored.items()})
        images = _append(gallery, features, images=tuple(recipe.images[index] for index in kept))
        files = gallery.finish()
    files[EXTRACTOR] = recipe.files[EXTRACTOR]
    return _commit(folder, recipe.changed(generation=generation, images=images, files=files))


def _append(
    gallery: GalleryWriter,
    features: Iterable[tuple[ImageRecord, Features]],
    *,
    images: tuple[ImageRecord, ...],
) -> tuple[ImageRecord, ...]:
    records = {image.name: image for image in images}
    for record, image_features in features:
        if record.name in records:
            raise InputError(f"image {record.name!r}: expected a name of its own, got one that the recipe holds")
        gallery.append(record.name, image_features)
        records[record.name] = record
    return tuple(records.values())


def _opened(folder: Path, manifest: Manifest, *, verify: bool) -> Recipe:
    """Open the files that a manifest names, whether or not recipe.json already holds it."""
    extractor = folder / manifest.files[EXTRACTOR].name
    with reading(extractor) as file:
        check_stored(file, extractor, manifest.files[EXTRACTOR], verify=verify)
    layouts = manifest.geometry.arrays(len(manifest.images), manifest.settings.storage)
    arrays = {role: open_array(folder, manifest.files[role], layout, verify=verify) for role, layout in layouts.items()}
    embeddings = arrays.pop(EMBEDDINGS)
    return Recipe(**vars(manifest), folder=folder, embeddings=embeddings, levels=tuple(arrays.values()))


@contextmanager
def _changing(folder: Path, *, verify: bool = False) -> Iterator[Recipe]:
    read_manifest(folder)  # before the lock, whose file has no place in a folder that isn't a recipe
    with only_writer(folder):
        yield Recipe.load(folder, verify=verify)


def _commit(folder: Path, manifest: Manifest) -> Recipe:
    switch(folder, manifest)
    return Recipe.load(folder)


def _spadeline_version() -> str:
    try:
        return metadata.version("spadeline")
    except metadata.PackageNotFoundError:
        return "uninstalled"  # run from a source tree
