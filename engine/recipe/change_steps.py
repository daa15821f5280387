"""The steps that changes of a recipe are made of: lock it, write the next generation and its codes, switch to it.

Which changes there are stands in :mod:`.changes`; how the switch survives kills and full disks, in :mod:`.generations`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ..errors import InputError, RecipeError
from ..features import Features
from ..match.codes import CODES_VERSION
from .arrays import StoredArray
from .gallery import EMBEDDINGS, GalleryWriter, new_gallery
from .generations import MANIFEST_NAME, next_generation, only_writer, read_manifest, switch
from .ignore import IGNORE
from .manifest import EXTRACTOR, Manifest
from .recipe import Recipe, open_recipe
from .records import Calibration, ImageRecord
from .stored_codes import StoredCodes, can_have_codes, write_codes


@contextmanager
def changing(folder: Path, *, verify: bool = False) -> Iterator[tuple[Recipe, Path]]:
    """Lock a recipe. Yield it, and the folder to write new files into."""
    read_manifest(folder)  # comes before the lock, whose file has no place in a folder that isn't a recipe
    with only_writer(folder) as own:
        recipe = Recipe.load(folder, verify=verify)
        for name in (MANIFEST_NAME, *(file.name for file in recipe.files.values())):
            if (folder / name).is_symlink():  # it leads into a cache, whose files are not ours to replace
                raise RecipeError(
                    f"{folder / name}: expected an ordinary file to change, got a link; "
                    f"change a copy that holds the files themselves: cp -rL {folder} NEW"
                )
        yield recipe, own


def write_generation(
    recipe: Recipe,
    own: Path,
    kept: Sequence[int],
    features: Iterable[tuple[ImageRecord, Features]],
    count: int,
    *,
    calibrate: Callable[[Recipe], Calibration] | None = None,
) -> Recipe:
    """Write the next generation and switch to it: the kept images' rows as they are, then ``count`` further images."""
    folder, generation = recipe.folder, next_generation(recipe.folder)
    total, storage = len(kept) + count, recipe.settings.storage
    stored = dict(zip((EMBEDDINGS, *recipe.level_names), (recipe.embeddings, *recipe.levels), strict=True))
    with new_gallery(own, generation, recipe.geometry, count=total, storage=storage) as gallery:
        for index in kept:
            gallery.append_stored({role: array[index] for role, array in stored.items()})
        images = append_images(gallery, features, images=tuple(recipe.images[index] for index in kept))
        files = gallery.finish()
    layouts = recipe.geometry.arrays(total, storage)
    levels = [StoredArray(own, files[name], layouts[name]) for name in recipe.level_names]
    files |= {role: recipe.files[role] for role in (EXTRACTOR, IGNORE) if role in recipe.files}
    manifest = recipe.changed(generation=generation, images=images, files=files, codes_version=None)
    if recipe.codes:
        manifest = with_codes(own, manifest, generation, levels, old=recipe.codes, kept=kept)
    else:
        manifest = with_codes(own, manifest, generation, levels)
    if calibrate is not None:
        written = replace(open_recipe(own, manifest, verify=False, kept_in=folder), folder=folder)
        manifest = manifest.changed(calibration=calibrate(written))
    return commit(folder, manifest)


def append_images(
    gallery: GalleryWriter,
    features: Iterable[tuple[ImageRecord, Features]],
    *,
    images: tuple[ImageRecord, ...],
) -> tuple[ImageRecord, ...]:
    """Append features to a gallery that holds ``images`` already; return the records of all of them."""
    records = {image.name: image for image in images}
    for record, image_features in features:
        if record.name in records:
            raise InputError(f"image {record.name!r:.100}: expected a name of its own, got one that the recipe holds")
        gallery.append(record.name, image_features)
        records[record.name] = record
    return tuple(records.values())


def with_codes(
    own: Path,
    manifest: Manifest,
    generation: int,
    levels: Sequence[StoredArray],
    *,
    old: Sequence[StoredCodes] = (),
    kept: Sequence[int] = (),
) -> Manifest:
    """Write the codes of a gallery's levels and return a manifest that names them.

    Where no codes can be made of such levels, the manifest is returned as it is.

    Parameters
    ----------
    own
        The folder to write into.
    manifest
        The manifest of the gallery, without codes.
    generation
        The number in the names of the files.
    levels
        The gallery's levels, finest first.
    old, kept
        As for :func:`.write_codes`.
    """
    if not can_have_codes(manifest.geometry):
        return manifest
    files = write_codes(own, generation, manifest.geometry, levels, old=old, kept=kept)
    return manifest.changed(files={**manifest.files, **files}, codes_version=CODES_VERSION)


def commit(folder: Path, manifest: Manifest) -> Recipe:
    """Make a manifest the live one and open the recipe."""
    switch(folder, manifest)
    return Recipe.load(folder)
