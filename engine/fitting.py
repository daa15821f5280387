"""From a folder of normal images to a recipe with thresholds: fit, add, calibrate.

Images stream through: memory doesn't grow with their number. Thresholds come from normal images alone, each scored
with itself left out of its own retrieval (exact, since the gallery is per image), or from a fold held out of it.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .calibration import threshold
from .decoding import Picture, file_digest, read_picture
from .errors import InputError
from .extractor import Extractor, Features
from .frame_facts import frame_facts
from .frame_shape import FrameShapes, Size, mixed_proportions, sizes_text
from .images import Framing, any_under, as_rgb, place, read_mask
from .judging import frame_shapes
from .listing import Source
from .normal_images import NormalImages, normal_images
from .recipe import Calibration, ImageRecord, Recipe, Settings, add_images, create_recipe, set_calibration
from .scoring import Scorer, Scores, warn_of_clamping
from .session import Device

# Called with a stage's name, what is done and what there is to do.
Progress = Callable[[str, int, int], None]
DEFAULT_RATE = 0.01
Mask = str | os.PathLike[str] | NDArray[np.bool_] | NDArray[np.uint8]

MOST_NAMED = 5  # images in a warning


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
        A folder of normal images (searched below, too), the images' paths, or what :func:`.normal_images` makes of
        either. Of a data set's folder, train/good alone is taken; any other in which abnormal images, test images or
        masks lie by a folder's name is refused. Exact copies of an image are left out with a warning: left out of its
        own comparison, an image would still find its copy.
    folder
        The recipe to write.
    extractor
        An ONNX file that keeps the extractor's contract.
    settings
        Every setting that changes a score; the defaults of :class:`Settings`.
    ignore
        What is never scored, such as a fixture or a label, here and in every frame to come: an image file that is black
        elsewhere, or (h, w) bool or uint8, false or 0 elsewhere. It may be of any size in the frames' proportions: it
        is placed as a frame of that size is. A pixel of the extractor's input is ignored if any part of it is. The
        image score still sees the whole frame, and features see beyond the mask's edge: draw it with some room.
    false_alarm_rate
        Wanted share of normal frames called anomalous, at most. Each threshold is made at it; with the label rule
        "either" at half of it, since a frame may be above one or the other.
    held_out
        Share of the images to keep out of the gallery and take the thresholds from; 0: leave-one-out.
    device, threads
        As for :meth:`Detector.load`.
    overwrite
        Replace a recipe that is in the folder; it stays live until the new one is complete.
    on_progress
        Called as ``on_progress(stage, done, total)``.

    Returns
    -------
    Recipe
        ``recipe.calibration.theta.supported`` tells whether so many images support the wanted rate.

    Raises
    ------
    InputError
        Fewer than two different images, an image that can't be read, a mask that leaves nothing to score, or a bad
        option; no recipe is written.
    ExtractorError, RecipeError, OutputError, DependencyError
        As :class:`Extractor` and :func:`create_recipe` raise them.
    """
    settings = settings or Settings()
    images = normal_images(source)
    named = _without_copies(list(images.named))
    if len(named) < 2:
        raise InputError(f"{images.source}: expected at least 2 normal images, to hold one against the other, got 1")
    threshold([0.0], false_alarm_rate=false_alarm_rate)  # a bad rate is known before the work
    gallery, fold = _split(named, held_out)
    opened = Extractor(extractor, device=device, threads=threads)
    ignored = None if ignore is None else _ignored(ignore, opened.input_size, settings.framing)

    def calibrated(recipe: Recipe) -> Calibration:
        held = _extract(fold, opened, settings, on_progress, "held out", ignore=ignored) if fold else None
        return _calibrate(recipe, held, len(fold), false_alarm_rate, threads, on_progress)

    recipe = create_recipe(
        folder,
        extractor_path=extractor,
        features=_extract(gallery, opened, settings, on_progress, "extract", ignore=ignored),
        count=len(gallery),
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
    return recipe


def add(
    folder: str | os.PathLike[str],
    source: Source | NormalImages,
    *,
    device: Device = "auto",
    threads: int | None = None,
    on_progress: Progress | None = None,
) -> Recipe:
    """Add normal images to a recipe: no refit, thresholds as they were, so that a false alarm ends at once.

    Raises
    ------
    InputError
        An image that can't be read, whose name the recipe holds already, or of other proportions than its images,
        unless its ``frame_shape`` allows it; nothing is added.
    ExtractorError, RecipeError, OutputError, DependencyError
        As :class:`Extractor` and :func:`add_images` raise them.
    """
    recipe = Recipe.load(folder)
    named = normal_images(source).named
    opened = Extractor(recipe.extractor_file, device=device, threads=threads)
    shapes = frame_shapes(recipe)
    features = _extract(named, opened, recipe.settings, on_progress, "extract", ignore=recipe.ignore, shapes=shapes)
    return add_images(folder, features, len(named), made_for=recipe)


def calibrate(
    folder: str | os.PathLike[str],
    *,
    false_alarm_rate: float | None = None,
    changes: Mapping[str, Any] | None = None,
    threads: int | None = None,
    on_progress: Progress | None = None,
) -> Recipe:
    """Make a recipe's thresholds anew, leave-one-out, from its stored features; no image is needed.

    Images of which the recipe holds exact copies give no score, with a warning: a copy would always be found.

    Parameters
    ----------
    folder
        The recipe.
    false_alarm_rate
        As for :func:`fit`; None: the one that the recipe's thresholds were made at, or 0.01 if it has none.
    threads, on_progress
        As for :func:`fit`.
    changes
        Settings to change along with the thresholds, by name: all but framing and storage, which are built into the
        stored features.

    Raises
    ------
    InputError
        A rate outside (0, 1), a recipe of one image, or one of copies alone.
    RecipeError, OutputError, DependencyError
        As :func:`set_calibration` and :class:`Scorer` raise them; a RecipeError, too, where images came or went
        meanwhile.
    """
    recipe = Recipe.load(folder)
    if false_alarm_rate is None:
        false_alarm_rate = _rate_asked_for(recipe)
    threshold([0.0], false_alarm_rate=false_alarm_rate)
    recipe = recipe.with_settings(replace(recipe.settings, **(changes or {})))
    calibration = _calibrate(recipe, None, 0, false_alarm_rate, threads, on_progress)
    return set_calibration(folder, calibration, settings=recipe.settings, generation=recipe.generation)


def _without_copies(named: list[tuple[str, Path]]) -> list[tuple[str, Path]]:
    """Leave out files that equal an earlier one byte by byte, and warn."""
    first: dict[tuple[int, str], str] = {}
    kept, copies = [], []
    sizes = [_file_size(path) for _, path in named]
    of_size = Counter(sizes)
    for (name, path), size in zip(named, sizes, strict=True):
        original = name
        if size is not None and of_size[size] > 1:  # only these can be equal: the others needn't be read here
            original = first.setdefault((size, file_digest(path)), name)
        if original == name:
            kept.append((name, path))
        else:
            copies.append(f"{name} of {original}")
    if copies:
        text = f"{len(copies)} of {len(named)} images are exact copies and left out: {_some(copies)}"
        warnings.warn(text, UserWarning, stacklevel=3)
    return kept


def _file_size(path: Path) -> int | None:
    """Return a file's bytes; None where it can't be read: whoever reads the image says so."""
    return path.stat().st_size if path.is_file() and os.access(path, os.R_OK) else None


def _some(texts: Sequence[str]) -> str:
    return ", ".join(texts[:MOST_NAMED]) + (", …" if len(texts) > MOST_NAMED else "")


def _rate_asked_for(recipe: Recipe) -> float:
    """Return the false-alarm rate that a recipe's thresholds were made at, of a frame: see :func:`_rate_of_each`."""
    if recipe.calibration is None:
        return DEFAULT_RATE
    rate = recipe.calibration.theta.false_alarm_rate
    return 2 * rate if recipe.settings.label_rule == "either" else rate


def _rate_of_each(settings: Settings, false_alarm_rate: float) -> float:
    """Return the rate of each threshold: where either one makes a frame anomalous, their rates add up at the most."""
    return false_alarm_rate / 2 if settings.label_rule == "either" else false_alarm_rate


def _split(named: list[tuple[str, Path]], held_out: float) -> tuple[list[tuple[str, Path]], list[tuple[str, Path]]]:
    if not 0 <= held_out < 1:
        raise InputError(f"held_out: expected a share from 0 to below 1, got {held_out}")
    count = round(held_out * len(named))
    if held_out > 0 and not 1 <= count <= len(named) - 1:
        raise InputError(f"held_out: expected a share that leaves images on both sides of {len(named)}, got {held_out}")
    # A fixed permutation: neighbouring shots must not all land on one side, and a refit must agree.
    order = np.random.default_rng(0).permutation(len(named))
    return [named[i] for i in sorted(order[count:])], [named[i] for i in sorted(order[:count])]


def _extract(
    named: Sequence[tuple[str, Path]],
    extractor: Extractor,
    settings: Settings,
    on_progress: Progress | None,
    stage: str,
    *,
    ignore: NDArray[np.bool_] | None,
    shapes: FrameShapes | None = None,
) -> Iterator[tuple[ImageRecord, Features]]:
    turned = []
    for index, (name, path) in enumerate(named):
        picture = read_picture(path)
        if picture.turned:
            turned.append(name)
        image = _input_image(picture, path, extractor.input_size, settings.framing)
        frame_size = (picture.pixels.shape[0], picture.pixels.shape[1])
        if shapes is not None:
            _check_shape(shapes, path, frame_size)
        record = ImageRecord(name, picture.sha256, size=frame_size, facts=frame_facts(image, ignore))
        yield record, extractor.extract(image[None])
        if on_progress:
            on_progress(stage, index + 1, len(named))
    if turned:
        text = f"{len(turned)} of {len(named)} images have an EXIF orientation and were turned as a viewer shows them: "
        warnings.warn(text + f"{_some(turned)}; a camera's arrays must stand the same way", UserWarning, stacklevel=3)


def _input_image(picture: Picture, path: Path, size: Size, framing: Framing) -> NDArray[np.uint8]:
    try:
        return place(as_rgb(picture.pixels), size, framing=framing)[0]
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _check_shape(shapes: FrameShapes, path: Path, frame_size: Size) -> None:
    try:
        shapes.check(frame_size)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _ignored(source: Mask, size: tuple[int, int], framing: Framing) -> NDArray[np.bool_]:
    """Bring an ignore mask to the extractor's input."""
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


def _calibrate(
    recipe: Recipe,
    held: Iterable[tuple[ImageRecord, Features]] | None,
    held_count: int,
    false_alarm_rate: float,
    threads: int | None,
    on_progress: Progress | None,
) -> Calibration:
    if held is None and len(recipe.images) < 2:
        raise InputError(f"{recipe.folder}: expected at least 2 images for leave-one-out thresholds, got 1")
    warn_of_clamping(recipe)
    scorer = Scorer(recipe, threads=threads)
    single = _without_copy(recipe) if held is None else []
    total = held_count or len(single)

    def score(image: ImageRecord, features: Features, exclude: int | None) -> Scores:
        try:
            return scorer.score([level[0] for level in features.levels], features.embedding[0], exclude=exclude)
        except InputError as error:
            raise InputError(f"image {image.name!r}: {error}") from error

    scored = (
        (score(recipe.images[index], recipe.features(index), index) for index in single)
        if held is None
        else (score(image, features, None) for image, features in held)
    )
    image_scores, map_scores = [], []
    for index, scores in enumerate(scored):
        image_scores.append(scores.image_score)
        map_scores.append(scores.map_score)
        if on_progress:
            on_progress("calibrate", index + 1, total)
    each = _rate_of_each(recipe.settings, false_alarm_rate)
    return Calibration(
        tau=threshold(image_scores, false_alarm_rate=each),
        theta=threshold(map_scores, false_alarm_rate=each),
        method="leave-one-out" if held is None else "held-out",
        image_scores=tuple(image_scores),
        map_scores=tuple(map_scores),
    )


def _without_copy(recipe: Recipe) -> list[int]:
    """Return the images of which the recipe holds no exact copy; warn of the others."""
    count = Counter(image.sha256 for image in recipe.images)
    count[None] = 0  # of no file
    copied = [image.name for image in recipe.images if count[image.sha256] > 1]
    if len(copied) == len(recipe.images):
        raise InputError(f"{recipe.folder}: expected images without exact copies for thresholds, got copies alone")
    if copied:
        text = f"{len(copied)} of {len(recipe.images)} images are exact copies of each other and give no thresholds: "
        warnings.warn(text + f"{_some(copied)}; spadeline remove takes images out", UserWarning, stacklevel=3)
    return [index for index, image in enumerate(recipe.images) if count[image.sha256] <= 1]
