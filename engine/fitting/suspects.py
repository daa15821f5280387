"""Suspect normal images of a recipe: a person should look at them before the thresholds are trusted.

An image that scores far above the others may show a defect: it raises the thresholds and, in the gallery, makes its
defect normal. An image that scores far below the others, or nearly equals another one, finds that other one even when
it is left out itself; many such images lower the thresholds. Nothing is left out here: thresholds stay until a person
removes images.

``docs/benchmarks/robustness.md`` has the figures that the rules were chosen by.
"""

from __future__ import annotations

import math
import shlex
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..recipe.recipe import Recipe
from ..recipe.records import Calibration
from ..settings import Settings
from .copies import MOST_NAMED, some

ScoreName = Literal["map_scores", "image_scores"]

# Four of five images score at most the usual score, one of five at most the low score. A score is far above if it is
# beyond the usual score by more than FAR_ABOVE times the distance between the two. It is far below if it is less than
# FAR_BELOW times the low score, in squared distances.
USUAL, LOW = 0.8, 0.2
FAR_ABOVE, FAR_BELOW = 2.0, 0.3
# Two images nearly equal each other if the squared distance of their coarsest features, position by position, is at
# most this share of the usual one between two images.
OF_USUAL = 0.15
_CANDIDATES = 3  # nearest images that an image is compared with
_USUAL_FROM = 8  # images whose distances give the usual one
_MOST_LOOKED_AT = 300  # images, evenly spread: enough to find out whether many nearly equal others
_BLOCK = 4096  # images whose embeddings are compared at once


class SuspectWarning(UserWarning):
    """Normal images should be looked at before a recipe's thresholds are trusted."""


@dataclass(frozen=True)
class Suspects:
    """The names of images to look at.

    Attributes
    ----------
    above
        Images that score far above the others, by a score that the label rule uses; highest first.
    below
        Images that score far below the others, or 0, and aren't among the near copies; lowest first.
    near_copies
        (image, earlier image of the gallery that it nearly equals).
    """

    above: tuple[str, ...]
    below: tuple[str, ...]
    near_copies: tuple[tuple[str, str], ...]


def find_suspects(recipe: Recipe) -> Suspects:
    """Return a recipe's suspects; scores whose images aren't known give none."""
    calibration, above, below = recipe.calibration, list[str](), list[str]()
    if calibration is not None and calibration.image_names is not None:
        for name in deciding_scores(recipe.settings):
            scores = np.array(getattr(calibration, name))
            above += [calibration.image_names[index] for index in far_above(scores)]
            below += [calibration.image_names[index] for index in far_below(scores, recipe.settings)]
    pairs = [(recipe.images[i].name, recipe.images[j].name) for i, j in near_copies(recipe)]
    paired = {name for pair in pairs for name in pair}
    below = [name for name in below if name not in paired]
    return Suspects(tuple(dict.fromkeys(above)), tuple(dict.fromkeys(below)), tuple(pairs))


def deciding_scores(settings: Settings) -> tuple[ScoreName, ...]:
    """Return the scores that make a frame anomalous by the recipe's rule."""
    by_rule: dict[str, tuple[ScoreName, ...]] = {"map": ("map_scores",), "image": ("image_scores",)}
    return by_rule.get(settings.label_rule, ("map_scores", "image_scores"))


def highest_scores(calibration: Calibration) -> dict[ScoreName, list[tuple[str, float]]]:
    """Return (name, score) of the highest images by each score, highest first; none if names aren't known."""
    highest: dict[ScoreName, list[tuple[str, float]]] = {}
    for score in get_args(ScoreName):
        named = zip(calibration.image_names or (), getattr(calibration, score), strict=False)
        highest[score] = sorted(named, key=lambda pair: -pair[1])[:MOST_NAMED]
    return highest


def usual_score(scores: NDArray[np.float64]) -> float:
    """Return the score that four of five images don't exceed."""
    return float(np.quantile(scores, USUAL, method="inverted_cdf"))


def far_above(scores: NDArray[np.float64]) -> list[int]:
    """Return the indices of scores far above the others, highest first."""
    usual = usual_score(scores)
    limit = usual + FAR_ABOVE * (usual - _low_score(scores))
    return [int(index) for index in np.argsort(-scores, kind="stable") if scores[index] > limit]


def far_below(scores: NDArray[np.float64], settings: Settings) -> list[int]:
    """Return the indices of scores far below the others, or 0, lowest first."""
    share = math.sqrt(FAR_BELOW) if settings.distance == "root" else FAR_BELOW
    limit = share * _low_score(scores)
    return [int(index) for index in np.argsort(scores, kind="stable") if scores[index] < limit or scores[index] == 0]


def near_copies(recipe: Recipe) -> list[tuple[int, int]]:
    """Return pairs of images of the gallery that nearly equal each other, the earlier one second.

    Turned images aren't looked at: turned to one angle, any two parts may nearly equal each other.
    """
    rows = np.array([family.start for family in recipe.families])
    coarsest, embeddings = recipe.levels[-1], np.asarray(recipe.embeddings)[rows]
    looked_at = _evenly(len(rows), _MOST_LOOKED_AT)
    usual_ones = {index: _flat(coarsest[rows[index]]) for index in _evenly(len(rows), _USUAL_FROM).tolist()}
    pairs = set()
    for image, nearest in zip(looked_at.tolist(), _nearest(embeddings, looked_at), strict=True):
        features = _flat(coarsest[rows[image]])
        others = [_squared(features, other) for index, other in usual_ones.items() if index != image]
        limit = OF_USUAL * np.median(others) if others else -1.0
        for other in nearest.tolist():
            if _squared(features, _flat(coarsest[rows[other]])) <= limit:
                pairs.add((int(rows[max(image, other)]), int(rows[min(image, other)])))
    return sorted(pairs)


def warn_of_suspects(recipe: Recipe) -> None:
    """Warn of images that should be looked at; the warning names the caller's caller's line."""
    for text in sentences(recipe):
        warnings.warn(text, SuspectWarning, stacklevel=3)


def sentences(recipe: Recipe) -> list[str]:
    """Return a sentence for each kind of suspect image, with what to do about it."""
    calibration, suspects, texts = recipe.calibration, find_suspects(recipe), []
    if calibration is None:
        return []
    for name in deciding_scores(recipe.settings):
        symbol, threshold = ("theta", calibration.theta) if name == "map_scores" else ("tau", calibration.tau)
        if threshold.value == 0:
            texts.append(f"{symbol} is 0: every frame that differs from the normal images at all is anomalous")
    look = f"look at them with spadeline info {shlex.quote(str(recipe.folder))} --html FILE --normal-images FOLDER"
    total = len(calibration.map_scores)
    if suspects.above:
        texts.append(
            f"{_images(len(suspects.above), total)} far above the others and may show defects, which then pass as "
            f"normal: {some(suspects.above)}; {look}, and {_remedy(recipe, suspects.above)}"
        )
    if suspects.below:
        texts.append(
            f"{_images(len(suspects.below), total)} far below the others, as copies do, and may make the thresholds "
            f"too low: {some(suspects.below)}; {look}, and {_remedy(recipe, suspects.below)}"
        )
    if suspects.near_copies:
        named = some([f"{image} and {other}" for image, other in suspects.near_copies])
        copies = list(dict.fromkeys(image for image, _ in suspects.near_copies))
        texts.append(
            f"{len(copies)} of {len(recipe.originals)} normal images nearly equal another, as two shots of one part "
            f"do, and may make the thresholds too low: {named}; {look}, and {_remedy(recipe, copies)}"
        )
    return texts


def removal_command(recipe: Recipe, names: Sequence[str]) -> str:
    """Return the command that takes images out of a recipe and makes its thresholds anew."""
    end = ["--"] if any(name.startswith("-") for name in names) else []
    return shlex.join(["spadeline", "remove", "--calibrate", str(recipe.folder), *end, *names])


def _remedy(recipe: Recipe, names: Sequence[str]) -> str:
    held = {image.name for image in recipe.images}
    if not held.intersection(names):
        if recipe.calibration is not None and recipe.calibration.method == "held-out":
            return "fit again without those that aren't normal"
        return f"since they are no longer in the recipe: spadeline calibrate {shlex.quote(str(recipe.folder))}"
    present = [name for name in names if name in held]
    command = (
        removal_command(recipe, present) if len(present) <= MOST_NAMED else removal_command(recipe, []) + " NAME …"
    )
    return f"take out what doesn't belong there: {command}"


def _images(count: int, total: int) -> str:
    return f"{count} of {total} images {'scores' if count == 1 else 'score'}"


def _low_score(scores: NDArray[np.float64]) -> float:
    return float(np.quantile(scores, LOW, method="inverted_cdf"))


def _nearest(embeddings: NDArray[np.float32], images: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the ids of the nearest other images, a row for each given image; embeddings are compared in blocks."""
    centre = embeddings.mean(axis=0, dtype=np.float64)
    rows = embeddings[images] - centre
    nearest, squared = np.zeros((len(images), 0), np.intp), np.zeros((len(images), 0))
    for start in range(0, len(embeddings), _BLOCK):
        block = embeddings[start : start + _BLOCK] - centre
        others = np.broadcast_to(np.arange(start, start + len(block)), (len(images), len(block)))
        distances = (
            np.square(block).sum(1) - 2 * rows @ block.T
        )  # without the rows' own squares, which are equal for all others
        nearest = np.hstack([nearest, others])
        squared = np.hstack([squared, np.where(others == images[:, None], np.inf, distances)])
        order = np.argsort(squared, axis=1, kind="stable")[:, : min(_CANDIDATES, len(embeddings) - 1)]
        nearest, squared = np.take_along_axis(nearest, order, 1), np.take_along_axis(squared, order, 1)
    return nearest


def _evenly(count: int, most: int) -> NDArray[np.intp]:
    """Return at most ``most`` of ``count`` indices, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.intp))


def _flat(features: NDArray[np.floating]) -> NDArray[np.float32]:
    return features.astype(np.float32).ravel()


def _squared(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float(np.square(a - b).sum(dtype=np.float64))
