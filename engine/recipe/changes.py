"""The changes of a recipe's folder: create it, add and remove images, set thresholds, replace the extractor.

A change of features or codes writes new files beside the old ones and then switches to them. Its steps stand in
:mod:`.change_steps`. How the switch survives kills and full disks stands in :mod:`.generations`. Each change that
writes features also writes the codes of all of them, if they can be encoded.

Recipes are read by :mod:`.recipe`: a reader never waits for a writer, and holds the files that it opened. No image is
read or scored in this module.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..checks import check_instances, check_integer
from ..errors import InputError, RecipeError
from ..features import Features
from ..files import copy_file, writing
from ..settings import MOST_IMAGES, Settings
from .arrays import write_array
from .change_steps import append_images, changing, commit, with_codes, write_generation
from .gallery import Geometry, new_gallery
from .generations import MANIFEST_NAME, next_generation, only_writer, stray_files
from .ignore import IGNORE, check_ignore
from .manifest import EXTRACTOR, Manifest, check_level_weights, extractor_name
from .recipe import Recipe, open_recipe
from .records import Calibration, ImageRecord
from .stored_codes import can_have_codes, code_roles
from .tuning_record import TuningRecord


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
        It is made if it doesn't exist. Other files in it are left alone. A warning names those that may belong to a
        recipe whose recipe.json is gone or damaged.
    extractor_path
        The ONNX file, copied into the recipe.
    features
        The features of exactly ``count`` images, taken one by one: levels (1, c, h, w), finest first, and embedding
        (1, d).
    count
        Number of images.
    settings
        Every setting that changes a score.
    level_names, level_shapes, input_size, embedding_size
        The extractor's, see :class:`~.gallery.Geometry`.
    ignore
        (H, W) bool at ``input_size``: a pixel that is True is not scored. None: every pixel is scored.
    calibrate
        Makes the thresholds from the complete recipe, before it goes live. None: the recipe has no thresholds yet.
    overwrite
        Replace a recipe that is in the folder, also a damaged one. It stays live until the new one is complete.

    Raises
    ------
    InputError
        Features that aren't finite, don't fit the shapes or the number type, or are more or fewer than
        ``count``; two images of one name; an extractor that can't be read; weights for another number of levels; a
        mask of another shape or type, or one that leaves nothing to score.
    OutputError
        The folder can't be written, or the disk is full. What was there is as before. Only where the very last step
        failed, which makes the switch durable, the new recipe is live.
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
            images = append_images(gallery, features, images=())
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
        manifest = with_codes(own, manifest, generation, written.levels)
        if calibrate is not None:
            manifest = manifest.changed(calibration=calibrate(open_recipe(own, manifest, verify=False)))
        strays = stray_files(folder)
        recipe = commit(folder, manifest)
    if strays:
        text = f"{folder}: holds {len(strays)} files of a recipe's kind that no readable recipe.json named, such as "
        text += f"{strays[0]}: they were left alone; delete them unless they are wanted"
        warnings.warn(text, UserWarning, stacklevel=2)
    return recipe


def check_free(folder: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Raise RecipeError if there is a recipe in the folder that must not be replaced."""
    if os.path.lexists(Path(folder) / MANIFEST_NAME) and not overwrite:
        raise RecipeError(f"{folder}: expected no recipe, got one; overwrite it, or create elsewhere")


def add_images(
    folder: str | os.PathLike[str],
    features: Iterable[tuple[ImageRecord, Features]],
    count: int,
    *,
    made_for: Recipe | None = None,
) -> Recipe:
    """Add normal images behind those of the recipe, without a refit.

    The thresholds stay as they are, so that an image that was added to end a false alarm takes effect at once.
    ``calibration.tau.images`` still says how many images they come from. The old files are verified first, so that
    damage to them doesn't get a hash of its own.

    Parameters
    ----------
    folder
        The recipe.
    features, count
        As for :func:`create_recipe`.
    made_for
        The recipe whose extractor and framing the features were made with. Another one may have replaced it in the
        folder since. None: the live one.

    Raises
    ------
    InputError
        As for :func:`create_recipe`, or a name that the recipe already holds.
    OutputError
        As :func:`create_recipe`, except that a recipe of before stays.
    RecipeError
        Not a recipe, a damaged one, one that now has another extractor or framing, or another process is writing.
    """
    check_integer("count", count, low=1, high=MOST_IMAGES)
    with changing(Path(folder), verify=True) as (recipe, own):
        if made_for is not None and _made_with(made_for) != _made_with(recipe):
            raise RecipeError(
                f"{folder}: expected the extractor and the framing that the features were made with, "
                "got others: the recipe was replaced meanwhile; add the images again"
            )
        return write_generation(recipe, own, range(len(recipe.images)), features, count)


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
        Makes the thresholds from the images that are left, before the change goes live. None: they stay as they are.

    Raises
    ------
    InputError
        No names, one unknown name, or all names: a recipe can't be empty.
    OutputError
        As :func:`create_recipe`, except that a recipe of before stays.
    RecipeError
        Not a recipe, a damaged one, or another process is writing.
    """
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise InputError(f"names: expected several names, got {names!r:.100}")
    check_instances("names", names := tuple(names), str)
    with changing(Path(folder), verify=True) as (recipe, own):
        unwanted = set(names)
        known = {image.name for image in recipe.images}
        if not unwanted or unwanted == known:
            raise InputError(f"names: expected 1 to {len(known) - 1} of {len(known)} images, got {len(unwanted)}")
        if unknown := sorted(unwanted - known):
            raise InputError(f"names: expected images of {folder}, got {unknown[0]!r:.100}")
        kept = [index for index, image in enumerate(recipe.images) if image.name not in unwanted]
        return write_generation(recipe, own, kept, (), 0, calibrate=calibrate)


def set_calibration(
    folder: str | os.PathLike[str],
    calibration: Calibration | None,
    *,
    settings: Settings | None = None,
    generation: int | None = None,
    tuning: TuningRecord | None = None,
) -> Recipe:
    """Set the thresholds and the settings that they were made for. Only recipe.json changes.

    Parameters
    ----------
    folder
        The recipe.
    calibration
        The thresholds. None: the recipe has none any more.
    settings
        The settings to change to, as :meth:`.Recipe.with_settings` allows. None: they stay as they are.
    generation
        The generation whose images the thresholds come from. None: the live one.
    tuning
        Why these settings were chosen. None: the recipe's own record stays if its settings stay, else it goes.

    Raises
    ------
    InputError
        Settings that would need other features.
    OutputError
        As :func:`create_recipe`, except that a recipe of before stays.
    RecipeError
        Not a recipe, a damaged one, one that now has another generation, or another process is writing.
    """
    with changing(Path(folder)) as (recipe, _):
        _check_generation(recipe, generation)
        settings = recipe.with_settings(settings or recipe.settings).settings
        kept = recipe.tuning if settings == recipe.settings else None
        return commit(recipe.folder, recipe.changed(calibration=calibration, settings=settings, tuning=tuning or kept))


def replace_extractor(
    folder: str | os.PathLike[str],
    fitted: Recipe,
    *,
    calibration: Calibration,
    generation: int,
    tuning: TuningRecord,
) -> Recipe:
    """Replace extractor, features, codes, settings and thresholds: the next generation holds those of another recipe.

    Parameters
    ----------
    folder
        The recipe.
    fitted
        A recipe in another folder, of the same normal images. Its files are copied.
    calibration
        The thresholds, of its features and settings.
    generation
        The generation of the recipe whose images it was made of.
    tuning
        Why the extractor was replaced.

    Raises
    ------
    OutputError
        As :func:`create_recipe`, except that a recipe of before stays.
    RecipeError
        Not a recipe, one that now has another generation, or another process is writing; or a file of ``fitted`` is
        damaged.
    """
    with changing(Path(folder)) as (recipe, own):
        _check_generation(recipe, generation)
        number = next_generation(recipe.folder)
        files = {}
        for role, file in fitted.files.items():
            source = fitted.folder / file.name
            files[role] = copied = copy_file(source, own / f"{role}-{number}{source.suffix}")
            if copied.sha256 != file.sha256:
                raise RecipeError(
                    f"{source}: expected SHA-256 {file.sha256}, got {copied.sha256}: its content was changed"
                )
        manifest = recipe.changed(
            generation=number,
            settings=fitted.settings,
            geometry=fitted.geometry,
            files=files,
            codes_version=fitted.codes_version,
            calibration=calibration,
            tuning=tuning,
            images=fitted.images,
        )
        return commit(recipe.folder, manifest)


def update_codes(folder: str | os.PathLike[str]) -> Recipe:
    """Make the matcher's codes for a recipe that has none, or codes of another version. Otherwise nothing changes.

    Only recipe.json and the codes are written. Features, generation, thresholds and scores stay as they are. The
    features are verified first.

    Raises
    ------
    InputError
        Levels of too many channels for a code.
    OutputError
        As :func:`create_recipe`, except that a recipe of before stays.
    RecipeError
        Not a recipe, a damaged one, or another process is writing.
    """
    with changing(Path(folder), verify=True) as (recipe, own):
        if recipe.codes is not None:
            return recipe
        if not can_have_codes(recipe.geometry):
            channels = ", ".join(str(shape[0]) for shape in recipe.level_shapes)
            raise InputError(f"{folder}: expected levels that can be encoded, got ones of {channels} channels")
        files = {role: file for role, file in recipe.files.items() if role not in code_roles(recipe.geometry)}
        bare = recipe.changed(files=files, codes_version=None)
        return commit(recipe.folder, with_codes(own, bare, next_generation(recipe.folder), recipe.levels))


def _check_generation(recipe: Recipe, generation: int | None) -> None:
    """Raise RecipeError if thresholds were made from another generation than the live one."""
    if generation not in (None, recipe.generation):
        raise RecipeError(
            f"{recipe.folder}: expected generation {generation}, which the thresholds were made from, "
            f"got {recipe.generation}: images were added or removed meanwhile; calibrate again"
        )


def _made_with(recipe: Manifest) -> tuple[str, str]:
    return recipe.files[EXTRACTOR].sha256, recipe.settings.framing


def _spadeline_version() -> str:
    try:
        return metadata.version("spadeline")
    except metadata.PackageNotFoundError:
        return "uninstalled"  # run from a source tree
