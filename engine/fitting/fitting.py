"""From a folder of normal images to a recipe with thresholds: fit, add, remove, calibrate.

Features stream to the disk. Memory doesn't grow with the number of images, apart from the prepared images that
``prepared.py`` keeps. Thresholds come from normal images alone (``thresholds.py``): each is scored with itself left out
of its own retrieval, which is exact since the gallery is stored image by image, or a share of them is held out of the
gallery.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..calibration import check_rate
from ..errors import InputError
from ..extract.extractor import Extractor
from ..extract.providers import Device
from ..folders.listing import Source
from ..folders.normal_images import NormalImages, normal_images
from ..images.frame_shape import mixed_proportions, sizes_text
from ..images.reading import read_mask
from ..images.resizing import any_under, as_rgb, place
from ..inspect.preparation import frame_shapes
from ..recipe.changes import add_images, check_free, create_recipe, remove_images, set_calibration
from ..recipe.recipe import Recipe
from ..recipe.records import Calibration
from ..settings import Framing, Settings
from .copies import find_copies, warn_of_copies
from .prepared import PreparedImage, Progress, extract, prepare_images, with_free_names
from .suspects import warn_of_suspects
from .thresholds import DEFAULT_RATE, from_fold, leave_one_out, rate_asked_for

Mask = str | os.PathLike[str] | NDArray[np.bool_] | NDArray[np.uint8]


def fit(
    source: Source | NormalImages,
    folder: str | os.PathLike[str],
    *,
    extractor: str | os.PathLike[str],
    settings: Settings | None = None,
    ignore: Mask | None = None,
    false_alarm_rate: float = DEFAULT_RATE,
    held_out: float = 0.0,
    device: Device = "auto",
    threads: int | None = None,
    overwrite: bool = False,
    on_progress: Progress | None = None,
) -> Recipe:
    """Make a recipe of normal images, thresholds included.

    Parameters
    ----------
    source
        A folder of normal images, its subfolders included, the images' paths, or what :func:`.normal_images` makes of
        either. Of a data set's folder, only train/good is taken. Any other folder is refused if the name of a folder in
        it says that abnormal images, test images or masks lie there. Exact copies of an image are left out with a
        warning: an image that is left out of its own comparison would still find its copy.
    folder
        The recipe to write.
    extractor
        An ONNX file that keeps the extractor's contract.
    settings
        Every setting that changes a score; the defaults of :class:`Settings`.
    ignore
        A mask of what is never scored, in these images and in every frame, such as a fixture or a label: an image file
        that is black elsewhere, or (h, w) bool or uint8 that is false or 0 elsewhere. It may be of any size in the
        frames' proportions, and is placed as a frame of that size. A pixel of the extractor's input is ignored if any
        part of it is. The image score still sees the whole frame, and features see beyond the mask's edge, so draw the
        mask with a margin.
    false_alarm_rate
        Largest share of normal frames that should be called anomalous. Each threshold is made at this rate; with the
        label rule "either" at half of it, since a frame may be above either threshold.
    held_out
        Share of the images to hold out of the gallery and take the thresholds from; 0: leave-one-out.
    device, threads
        As for :meth:`Detector.load`.
    overwrite
        Replace a recipe that is in the folder; the old one can be opened until the new one is complete.
    on_progress
        Called as ``on_progress(stage, done, total)``.

    Returns
    -------
    Recipe
        ``recipe.calibration.theta.supported`` tells whether there were enough images for the wanted rate.

    Raises
    ------
    InputError
        Fewer than two different images, an image that can't be read, a mask that leaves nothing to score, or a bad
        option; no recipe is written.
    ExtractorError, RecipeError, OutputError, DependencyError
        As :class:`Extractor` and :func:`create_recipe` raise them.
    """
    settings = settings or Settings()
    given = normal_images(source)
    check_rate(false_alarm_rate)  # a wrong option is refused before the work
    if not 0 <= held_out < 1:
        raise InputError(f"held_out: expected a share from 0 to below 1, got {held_out}")
    check_free(folder, overwrite=overwrite)
    opened = Extractor(extractor, device=device, threads=threads)
    ignored = None if ignore is None else _ignored(ignore, opened.input_size, settings.framing)
    images = prepare_images(given.named, opened.input_size, settings.framing, on_progress, ignore=ignored)
    firsts, copies = find_copies([image.record for image in images])
    warn_of_copies(copies, len(images))
    if len(firsts) < 2:
        raise InputError(f"{given.source}: expected at least 2 normal images, to compare one with the other, got 1")
    gallery, fold = _gallery_and_fold([images[index] for index in firsts], held_out)

    def calibrated(recipe: Recipe) -> Calibration:
        options: dict[str, Any] = {"false_alarm_rate": false_alarm_rate, "threads": threads, "on_progress": on_progress}
        if not fold:
            return leave_one_out(recipe, **options)
        features = extract(fold, opened, settings.framing, on_progress, ignore=ignored, stage="held out")
        return from_fold(recipe, features, len(fold), **options)

    recipe = create_recipe(
        folder,
        extractor_path=extractor,
        features=extract(gallery, opened, settings.framing, on_progress, ignore=ignored, angles=settings.angles),
        count=len(gallery) * settings.angles,
        settings=settings,
        level_names=opened.level_names,
        level_shapes=opened.level_shapes,
        input_size=opened.input_size,
        embedding_size=opened.embedding_size,
        ignore=ignored,
        calibrate=calibrated,
        overwrite=overwrite,
    )
    if mixed_proportions(recipe.frame_sizes or ()):
        warnings.warn(
            f"the images differ in their proportions ({sizes_text(recipe.frame_sizes or ())}): each is fitted into the "
            "extractor's input in its own way, and frames of each kind will be accepted",
            UserWarning,
            stacklevel=2,
        )
    warn_of_suspects(recipe)
    return recipe


def add(
    folder: str | os.PathLike[str],
    source: Source | NormalImages,
    *,
    rename: bool = False,
    device: Device = "auto",
    threads: int | None = None,
    on_progress: Progress | None = None,
) -> Recipe:
    """Add normal images to a recipe without fitting it again: a false alarm ends at once, and thresholds stay.

    Exact copies of images that the recipe holds are left out with a warning. If all are copies, the recipe stays as it
    is.

    Parameters
    ----------
    rename
        Whether an image whose name the recipe holds already gets the next free name, such as part-2.png; if not, it is
        refused.

    Raises
    ------
    InputError
        An image that can't be read, whose name the recipe holds already, or of other proportions than its images,
        unless its ``frame_shape`` allows it; nothing is added.
    ExtractorError, RecipeError, OutputError, DependencyError
        As :class:`Extractor` and :func:`add_images` raise them.
    """
    recipe = Recipe.load(folder)
    framing = recipe.settings.framing
    images = prepare_images(
        normal_images(source).named,
        recipe.input_size,
        framing,
        on_progress,
        ignore=recipe.ignore,
        shapes=frame_shapes(recipe),
    )
    firsts, copies = find_copies([image.record for image in images], among=recipe.images)
    warn_of_copies(copies, len(images))
    if not firsts:
        return recipe
    images = with_free_names([images[index] for index in firsts], recipe.images, rename=rename)
    opened = Extractor(recipe.extractor_file, device=device, threads=threads)
    angles = recipe.settings.angles
    features = extract(images, opened, framing, on_progress, ignore=recipe.ignore, angles=angles)
    return add_images(folder, features, len(images) * angles, made_for=recipe)


def calibrate(
    folder: str | os.PathLike[str],
    *,
    false_alarm_rate: float | None = None,
    changes: Mapping[str, Any] | None = None,
    threads: int | None = None,
    on_progress: Progress | None = None,
) -> Recipe:
    """Make a recipe's thresholds anew, leave-one-out, from its stored features; no image is needed.

    Images of which the recipe holds exact copies give no score: each would find its copy. A warning names them.

    Parameters
    ----------
    folder
        The recipe.
    false_alarm_rate
        As for :func:`fit`; None: the rate that the recipe's thresholds were made at, or 0.01 if it has none.
    threads, on_progress
        As for :func:`fit`.
    changes
        Settings to change along with the thresholds, by name: any but framing, angles and storage, on which the stored
        features depend.

    Raises
    ------
    InputError
        A rate outside (0, 1), a recipe of one image, or one of copies alone.
    RecipeError, OutputError, DependencyError
        As :func:`set_calibration` and :class:`Scorer` raise them; also a RecipeError if images were added or removed
        meanwhile.
    """
    recipe = Recipe.load(folder)
    if false_alarm_rate is None:
        false_alarm_rate = rate_asked_for(recipe)
    check_rate(false_alarm_rate)
    recipe = recipe.with_settings(replace(recipe.settings, **(changes or {})))
    calibration = leave_one_out(recipe, false_alarm_rate=false_alarm_rate, threads=threads, on_progress=on_progress)
    recipe = set_calibration(folder, calibration, settings=recipe.settings, generation=recipe.generation)
    warn_of_suspects(recipe)
    return recipe


def remove(
    folder: str | os.PathLike[str],
    names: Sequence[str],
    *,
    threads: int | None = None,
    on_progress: Progress | None = None,
) -> Recipe:
    """Remove normal images by name and make the thresholds anew from the images that are left, in one step.

    It does what :func:`remove_images` and then :func:`calibrate` do, at the rate that the thresholds were made at, but
    no detector can load the recipe between the two.

    Raises
    ------
    InputError
        As :func:`remove_images`, or if fewer than two images are left.
    RecipeError, OutputError, DependencyError
        As :func:`remove_images` and :class:`Scorer` raise them.
    """

    def calibrated(recipe: Recipe) -> Calibration:
        rate = rate_asked_for(recipe)
        return leave_one_out(recipe, false_alarm_rate=rate, threads=threads, on_progress=on_progress)

    recipe = remove_images(folder, names, calibrate=calibrated)
    warn_of_suspects(recipe)
    return recipe


def _gallery_and_fold(images: list[PreparedImage], held_out: float) -> tuple[list[PreparedImage], list[PreparedImage]]:
    """Split the images into those of the gallery and those that are held out for the thresholds."""
    count = round(held_out * len(images))
    if held_out > 0 and not 1 <= count <= len(images) - 1:
        raise InputError(
            f"held_out: expected a share that leaves images on both sides of {len(images)}, got {held_out}"
        )
    # A fixed permutation: neighbouring shots must not all be on one side, and a second fit must choose the same ones.
    order = np.random.default_rng(0).permutation(len(images))
    return [images[i] for i in sorted(order[count:])], [images[i] for i in sorted(order[:count])]


def _ignored(source: Mask, size: tuple[int, int], framing: Framing) -> NDArray[np.bool_]:
    """Return an ignore mask in the extractor's input size, (H, W) bool."""
    if isinstance(source, np.ndarray):
        if source.ndim != 2 or source.dtype not in (np.bool_, np.uint8):
            raise InputError(f"ignore: expected bool or uint8 (h, w), got {source.dtype} {source.shape}")
        mask = source != 0
    else:
        mask = read_mask(source)
    try:
        _, placement = place(as_rgb(mask.view(np.uint8)), size, framing=framing)
    except InputError as error:
        raise InputError(f"ignore: {error}") from None
    return any_under(mask, size, placement)
