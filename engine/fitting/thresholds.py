"""Tau and theta of a recipe: its normal images are scored, each left out of its own retrieval, or a held-out fold is.

How a threshold follows from the scores, ``calibration.py`` computes; how an image is scored, ``inspect/scoring.py``.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence

from ..calibration import threshold
from ..errors import InputError
from ..features import Features
from ..inspect.scoring import Scorer, warn_of_clamping
from ..recipe.recipe import Recipe
from ..recipe.records import Calibration, ImageRecord, Method
from ..settings import Settings
from .copies import some, without_copies
from .prepared import Progress

DEFAULT_RATE = 0.01


def leave_one_out(
    recipe: Recipe, *, false_alarm_rate: float, threads: int | None = None, on_progress: Progress | None = None
) -> Calibration:
    """Make thresholds from the stored features, each image left out of its own retrieval.

    Images of which there are copies give no score: each would find its copy. A warning names them.

    Raises
    ------
    InputError
        A recipe of one image, or of copies alone.
    """
    single = single_images(recipe)
    scored = ((recipe.images[index], recipe.features(index), index) for index in single)
    return _calibration(recipe, "leave-one-out", scored, len(single), false_alarm_rate, threads, on_progress)


def from_fold(
    recipe: Recipe,
    fold: Iterable[tuple[ImageRecord, Features]],
    count: int,
    *,
    false_alarm_rate: float,
    threads: int | None = None,
    on_progress: Progress | None = None,
) -> Calibration:
    """Make thresholds from ``count`` normal images that the gallery doesn't hold."""
    scored = ((record, features, None) for record, features in fold)
    return _calibration(recipe, "held-out", scored, count, false_alarm_rate, threads, on_progress)


def rate_asked_for(recipe: Recipe) -> float:
    """Return the false-alarm rate of a frame that a recipe's thresholds were made at, or the default."""
    if recipe.calibration is None:
        return DEFAULT_RATE
    rate = recipe.calibration.theta.false_alarm_rate
    return 2 * rate if recipe.settings.label_rule == "either" else rate


def calibration_of(
    settings: Settings,
    method: Method,
    *,
    names: Sequence[str],
    image_scores: Sequence[float],
    map_scores: Sequence[float],
    false_alarm_rate: float,
) -> Calibration:
    """Make the thresholds of scores of normal images under these settings, in the order of their names."""
    each = _rate_of_each(settings, false_alarm_rate)
    return Calibration(
        tau=threshold(image_scores, false_alarm_rate=each),
        theta=threshold(map_scores, false_alarm_rate=each),
        method=method,
        image_scores=tuple(image_scores),
        map_scores=tuple(map_scores),
        image_names=tuple(names),
    )


def _rate_of_each(settings: Settings, false_alarm_rate: float) -> float:
    """Return the rate to make each threshold at: with the rule "either", a frame's rate is at most the sum of both."""
    return false_alarm_rate / 2 if settings.label_rule == "either" else false_alarm_rate


def _calibration(
    recipe: Recipe,
    method: Method,
    images: Iterable[tuple[ImageRecord, Features, int | None]],
    count: int,
    false_alarm_rate: float,
    threads: int | None,
    on_progress: Progress | None,
) -> Calibration:
    """Score images, each with the index of the gallery's image to leave out, and make the thresholds of the scores."""
    warn_of_clamping(recipe)
    scorer = Scorer(recipe, threads=threads)
    names, image_scores, map_scores = [], [], []
    for record, features, exclude in images:
        try:
            scores = scorer.score([level[0] for level in features.levels], features.embedding[0], exclude=exclude)
        except InputError as error:
            raise InputError(f"image {record.name!r:.100}: {error}") from error
        names.append(record.name)
        image_scores.append(scores.image_score)
        map_scores.append(scores.map_score)
        if on_progress:
            on_progress("calibrate", len(names), count)
    return calibration_of(
        recipe.settings,
        method,
        names=names,
        image_scores=image_scores,
        map_scores=map_scores,
        false_alarm_rate=false_alarm_rate,
    )


def single_images(recipe: Recipe) -> list[int]:
    """Return the indices of images without a copy in the recipe; warn of the others.

    Raises
    ------
    InputError
        A recipe of one image, or of copies alone.
    """
    if len(recipe.originals) < 2:
        raise InputError(f"{recipe.folder}: expected at least 2 images for leave-one-out thresholds, got 1")
    single = without_copies(recipe.images)
    if not single:
        raise InputError(f"{recipe.folder}: expected images without exact copies for thresholds, got copies alone")
    names = {recipe.images[index].name for index in single}
    if copied := [image.name for image in recipe.originals if image.name not in names]:
        text = (
            f"{len(copied)} of {len(recipe.originals)} images are exact copies of each other and give no thresholds: "
        )
        warnings.warn(text + f"{some(copied)}; spadeline remove takes images out", UserWarning, stacklevel=4)
    return single
