"""The deployable folder: create it, add and remove normal images, set its thresholds and settings.

A change that touches features or codes writes new files beside the old ones and then switches to them; how that
survives kills and full disks is :mod:`.generations`'s business. Whoever writes features leaves codes for all of them,
if they can be encoded at all. Reading is :mod:`.recipe`'s business: readers never wait, and hold the files that they
opened. Nothing is scored here, and no image is read.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..checks import check_instances, check_integer
from ..errors import InputError, RecipeError
from ..features import Features
from ..files import copy_file, writing
from ..match.codes import CODES_VERSION
from ..settings import MOST_IMAGES, Settings
from .arrays import StoredArray, write_array
from .gallery import EMBEDDINGS, GalleryWriter, Geometry, new_gallery
from .generations import MANIFEST_NAME, next_generation, only_writer, read_manifest, stray_files, switch
from .ignore import IGNORE, check_ignore
from .manifest import EXTRACTOR, Manifest, check_level_weights, extractor_name
from .recipe import Recipe, open_recipe
from .records import Calibration, ImageRecord
from .stored_codes import StoredCodes, can_have_codes, code_roles, write_codes

__all__ = [
    "Calibration",
    "ImageRecord",
    "Recipe",
    "Settings",
    "add_images",
    "check_free",
    "create_recipe",
    "remove_images",
    "set_calibration",
    "update_codes",
]


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
    ignore: NDArray[np.bool_] | None = None,
    calibrate: Callable[[Recipe], Calibration] | None = None,
    overwrite: bool = False,
) -> Recipe:
    """Write a new recipe.

    Parameters
    ----------
    folder
        Made if it doesn't exist. Other files in it are left alone, with a warning those that may be a recipe's whose
        recipe.json is gone or damaged.
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
    ignore
        (H, W) bool at ``input_size``: True is not scored; None: every pixel is.
    calibrate
        Makes the thresholds from the complete recipe, before it goes live; None: it has none yet.
    overwrite
        Replace a recipe, also a damaged one, that is in the folder; it stays live until the new one is
        complete.

    Raises
    ------
    InputError
        Features that aren't finite, don't fit the shapes or the number type, or are more or fewer than
        ``count``; two images of one name; an extractor that can't be read; weights for another number of levels; a
        mask of another shape or type, or one that leaves nothing to score.
    OutputError
        The folder can't be written, or the disk is full; what was there is as before, or, where no more than the last
        of all failed, making the switch durable, the new recipe is live.
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
    check_level_weights(settings, geometry)
    if ignore is not None:
        check_ignore(ignore, geometry.input_size)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with only_writer(folder) as own:
        check_free(folder, overwrite=overwrite)
        generation = next_generation(folder)
        files = {EXTRACTOR: copy_file(source, own / extractor_name(generation))}
        if ignore is not None:
            files[IGNORE] = write_array(own, generation, IGNORE, ignore)
        with new_gallery(own, generation, geometry, count=count, storage=settings.storage) as gallery:
            images = _append(gallery, features, images=())
            files |= gallery.finish()
        manifest = Manifest(
            spadeline_version=_spadeline_version(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            generation=generation,
            settings=settings,
            geometry=geometry,
            files=files,
            calibration=None,
            images=images,
        )
        written = open_recipe(own, manifest, verify=False)
        manifest = _with_codes(own, manifest, generation, written.levels)
        if calibrate is not None:
            manifest = manifest.changed(calibration=calibrate(open_recipe(own, manifest, verify=False)))
        strays = stray_files(folder)
        recipe = _commit(folder, manifest)
    if strays:
        text = f"{folder}: holds {len(strays)} files of a recipe's kind that no readable recipe.json named, such as "
        text += f"{strays[0]}: they were left alone; delete them unless they are wanted"
        warnings.warn(text, UserWarning, stacklevel=2)
    return recipe


def check_free(folder: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Raise RecipeError where a new recipe would replace one without leave."""
    if os.path.lexists(Path(folder) / MANIFEST_NAME) and not overwrite:
        raise RecipeError(f"{folder}: expected no recipe, got one; overwrite it, or create elsewhere")


def add_images(
    folder: str | os.PathLike[str],
    features: Iterable[tuple[ImageRecord, Features]],
    count: int,
    *,
    made_for: Recipe | None = None,
) -> Recipe:
    """Add normal images behind those that are there, as :func:`create_recipe` takes them; no refit is needed.

    The thresholds stay as they are, so that an image added to end a false alarm takes effect at once;
    ``calibration.tau.images`` still says how many images they come from. The old files are verified first:
    damage must not get a fresh hash.

    Parameters
    ----------
    folder
        The recipe.
    features, count
        As for :func:`create_recipe`.
    made_for
        The recipe whose extractor and framing the features were made with: by now it may have been replaced by another
        of that folder. None: the live one.

    Raises
    ------
    InputError
        As for :func:`create_recipe`, or a name that the recipe already holds.
    OutputError
        The folder can't be written, or the disk is full; the recipe is as before, or, where no more than the last of
        all failed, making the switch durable, the new one.
    RecipeError
        Not a recipe, a damaged one, one of another extractor or framing by now, or another process is writing.
    """
    check_integer("count", count, low=1, high=MOST_IMAGES)
    with _changing(Path(folder), verify=True) as (recipe, own):
        if made_for is not None and _made_with(made_for) != _made_with(recipe):
            raise RecipeError(
                f"{folder}: expected the extractor and the framing that the features were made with, "
                "got others: the recipe was replaced meanwhile; add the images again"
            )
        return _rewrite(recipe, own, range(len(recipe.images)), features, count)


def remove_images(
    folder: str | os.PathLike[str],
    names: Sequence[str],
    *,
    calibrate: Callable[[Recipe], Calibration] | None = None,
) -> Recipe:
    """Remove normal images by name; the others keep their order.

    Parameters
    ----------
    calibrate
        Makes the thresholds from the images that are left, before they go live; None: they stay as they are.

    Raises
    ------
    InputError
        No names, one unknown name, or all names: a recipe can't be empty.
    OutputError
        The folder can't be written, or the disk is full; the recipe is as before, or, where no more than the last of
        all failed, making the switch durable, the new one.
    RecipeError
        Not a recipe, a damaged one, or another process is writing.
    """
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise InputError(f"names: expected several names, got {names!r:.100}")
    check_instances("names", names := tuple(names), str)
    with _changing(Path(folder), verify=True) as (recipe, own):
        unwanted = set(names)
        known = {image.name for image in recipe.images}
        if not unwanted or unwanted == known:
            raise InputError(f"names: expected 1 to {len(known) - 1} of {len(known)} images, got {len(unwanted)}")
        if unknown := sorted(unwanted - known):
            raise InputError(f"names: expected images of {folder}, got {unknown[0]!r:.100}")
        kept = [index for index, image in enumerate(recipe.images) if image.name not in unwanted]
        return _rewrite(recipe, own, kept, (), 0, calibrate=calibrate)


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
        The folder can't be written, or the disk is full; the recipe is as before, or, where no more than the last of
        all failed, making the switch durable, the new one.
    RecipeError
        Not a recipe, a damaged one, of another generation by now, or another process is writing.
    """
    with _changing(Path(folder)) as (recipe, _):
        if generation not in (None, recipe.generation):
            raise RecipeError(
                f"{folder}: expected generation {generation}, which the thresholds were made from, "
                f"got {recipe.generation}: images were added or removed meanwhile; calibrate again"
            )
        settings = recipe.with_settings(settings or recipe.settings).settings
        return _commit(recipe.folder, recipe.changed(calibration=calibration, settings=settings))


def update_codes(folder: str | os.PathLike[str]) -> Recipe:
    """Make the matcher's codes for a recipe that has none, or codes of another version; else nothing changes.

    Only recipe.json and the codes are written: features, generation, thresholds and scores stay as they are. The
    features are verified first.

    Raises
    ------
    InputError
        Levels of too many channels for a code.
    OutputError
        The folder can't be written, or the disk is full; the recipe is as before, or, where no more than the last of
        all failed, making the switch durable, the new one.
    RecipeError
        Not a recipe, a damaged one, or another process is writing.
    """
    with _changing(Path(folder), verify=True) as (recipe, own):
        if recipe.codes is not None:
            return recipe
        if not can_have_codes(recipe.geometry):
            channels = ", ".join(str(shape[0]) for shape in recipe.level_shapes)
            raise InputError(f"{folder}: expected levels that can be encoded, got ones of {channels} channels")
        files = {role: file for role, file in recipe.files.items() if role not in code_roles(recipe.geometry)}
        bare = recipe.changed(files=files, codes_version=None)
        return _commit(recipe.folder, _with_codes(own, bare, next_generation(recipe.folder), recipe.levels))


def _made_with(recipe: Manifest) -> tuple[str, str]:
    return recipe.files[EXTRACTOR].sha256, recipe.settings.framing


def _rewrite(
    recipe: Recipe,
    own: Path,
    kept: Sequence[int],
    features: Iterable[tuple[ImageRecord, Features]],
    count: int,
    *,
    calibrate: Callable[[Recipe], Calibration] | None = None,
) -> Recipe:
    """Write the next generation: the kept images' rows as they are, then ``count`` further images."""
    folder, generation = recipe.folder, next_generation(recipe.folder)
    total, storage = len(kept) + count, recipe.settings.storage
    stored = dict(zip((EMBEDDINGS, *recipe.level_names), (recipe.embeddings, *recipe.levels), strict=True))
    with new_gallery(own, generation, recipe.geometry, count=total, storage=storage) as gallery:
        for index in kept:
            gallery.append_stored({role: array[index] for role, array in stored.items()})
        images = _append(gallery, features, images=tuple(recipe.images[index] for index in kept))
        files = gallery.finish()
    layouts = recipe.geometry.arrays(total, storage)
    levels = [StoredArray(own, files[name], layouts[name]) for name in recipe.level_names]
    files |= {role: recipe.files[role] for role in (EXTRACTOR, IGNORE) if role in recipe.files}
    manifest = recipe.changed(generation=generation, images=images, files=files, codes_version=None)
    old, kept = (recipe.codes, kept) if recipe.codes else ((), ())
    manifest = _with_codes(own, manifest, generation, levels, old=old, kept=kept)
    if calibrate is not None:
        written = replace(open_recipe(own, manifest, verify=False, kept_in=folder), folder=folder)
        manifest = manifest.changed(calibration=calibrate(written))
    return _commit(folder, manifest)


def _with_codes(
    own: Path,
    manifest: Manifest,
    generation: int,
    levels: Sequence[StoredArray],
    *,
    old: Sequence[StoredCodes] = (),
    kept: Sequence[int] = (),
) -> Manifest:
    """Write the codes of a gallery's levels into the writer's folder; as it is, if they can't be made."""
    if not can_have_codes(manifest.geometry):
        return manifest
    files = write_codes(own, generation, manifest.geometry, levels, old=old, kept=kept)
    return manifest.changed(files={**manifest.files, **files}, codes_version=CODES_VERSION)


def _append(
    gallery: GalleryWriter,
    features: Iterable[tuple[ImageRecord, Features]],
    *,
    images: tuple[ImageRecord, ...],
) -> tuple[ImageRecord, ...]:
    records = {image.name: image for image in images}
    for record, image_features in features:
        if record.name in records:
            raise InputError(f"image {record.name!r:.100}: expected a name of its own, got one that the recipe holds")
        gallery.append(record.name, image_features)
        records[record.name] = record
    return tuple(records.values())


@contextmanager
def _changing(folder: Path, *, verify: bool = False) -> Iterator[tuple[Recipe, Path]]:
    """Lock a recipe; yield it, and the folder to write new files into."""
    read_manifest(folder)  # before the lock, whose file has no place in a folder that isn't a recipe
    with only_writer(folder) as own:
        recipe = Recipe.load(folder, verify=verify)
        for name in (MANIFEST_NAME, *(file.name for file in recipe.files.values())):
            if (folder / name).is_symlink():  # into a cache, whose files are not ours to replace
                raise RecipeError(
                    f"{folder / name}: expected an ordinary file to change, got a link; "
                    f"change a copy that holds the files themselves: cp -rL {folder} NEW"
                )
        yield recipe, own


def _commit(folder: Path, manifest: Manifest) -> Recipe:
    switch(folder, manifest)
    return Recipe.load(folder)


def _spadeline_version() -> str:
    try:
        return metadata.version("spadeline")
    except metadata.PackageNotFoundError:
        return "uninstalled"  # run from a source tree
