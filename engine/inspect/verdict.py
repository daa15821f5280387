"""From a frame's scores to its verdict: thresholds, label rule and frame check of one recipe.

Scores come from :mod:`.scoring`; what a frame must be like, from :mod:`.frame_check` and :mod:`.frame_shape`.
"""

from __future__ import annotations

import math
import sys
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import RecipeError
from ..images.frame_facts import FrameFacts, frame_facts
from ..images.frame_shape import FrameShapes
from ..recipe.recipe import Recipe
from ..result import Reason
from .frame_check import FrameLimits, farthest_nearest
from .scoring import Scorer, Scores


class Verdict(NamedTuple):
    """What is said of a frame.

    Attributes
    ----------
    pred_score
        See :class:`.result.Result`: it is above its threshold if, and only if, there are reasons.
    reasons
        Why the frame is anomalous; none: it is normal.
    """

    pred_score: float
    reasons: tuple[Reason, ...]


class Judge:
    """A recipe's thresholds and what it knows of its frames. May be shared by threads.

    Attributes
    ----------
    tau, theta
        The thresholds.
    shapes
        The proportions that frames may have.
    limits
        Of the frame check; None: it is off, or the recipe doesn't know all of its images' facts.

    Raises
    ------
    RecipeError
        A recipe without thresholds.
    """

    def __init__(self, recipe: Recipe, scorer: Scorer) -> None:
        if recipe.calibration is None:
            raise RecipeError(f"{recipe.folder}: expected thresholds, got none; make them with: spadeline calibrate")
        self.tau = recipe.calibration.tau.value
        self.theta = recipe.calibration.theta.value
        self._rule = recipe.settings.label_rule
        self._ignore = recipe.ignore
        self.shapes = frame_shapes(recipe)
        self.limits: FrameLimits | None = None
        if recipe.settings.frame_check == "on" and recipe.frame_facts is not None:
            nearest = farthest_nearest(scorer.gallery.embeddings, scorer.retrieval) if recipe.ignore is None else None
            self.limits = FrameLimits.of(recipe.frame_facts, nearest)

    @property
    def info(self) -> dict[str, Any] | None:
        """The frame check's limits for JSON; None: there is no check."""
        return None if self.limits is None else asdict(self.limits)

    def facts(self, image: NDArray[np.uint8]) -> FrameFacts | None:
        """Return what the check looks at, of an image as the extractor takes it; None: there is no check."""
        return None if self.limits is None else frame_facts(image, self._ignore)

    def verdict(self, scores: Scores, facts: FrameFacts | None) -> Verdict:
        """Judge a frame by its scores and its facts; None: without the check."""
        reasons: list[Reason] = []
        if self._rule != "image" and scores.map_score > self.theta:
            reasons.append("map")
        if self._rule != "map" and scores.image_score > self.tau:
            reasons.append("image")
        score, threshold = self._score(scores)
        exceeded = {} if self.limits is None or facts is None else self.limits.exceeded(facts, scores.nearest_distance)
        if exceeded and not reasons:
            # As far above the threshold as the frame is beyond its limit: the score alone must tell, too.
            score = min(threshold * max(exceeded.values()), sys.float_info.max)
        reasons += exceeded
        if reasons:
            score = max(score, math.nextafter(threshold, math.inf))  # a threshold of 0, or a ratio that rounds to 1
        return Verdict(score, tuple(reasons))

    def _score(self, scores: Scores) -> tuple[float, float]:
        """Return the score that the label rule looks at, and its threshold."""
        if self._rule == "image":
            return scores.image_score, self.tau
        if self._rule == "map":
            return scores.map_score, self.theta
        # Either: both scores in units of their thresholds, so that the larger one decides.
        # A threshold of 0 must not make it one that JSON can't hold.
        least, most = sys.float_info.min, sys.float_info.max
        ratio = max(scores.image_score / max(self.tau, least), scores.map_score / max(self.theta, least))
        return min(ratio, most), 1.0


def frame_shapes(recipe: Recipe) -> FrameShapes:
    """Return the proportions that a recipe's frames may have; any, where it doesn't know all of its images' sizes."""
    prepared = recipe.input_size if recipe.settings.framing == "whole" else None
    return FrameShapes(recipe.frame_sizes or (), rule=recipe.settings.frame_shape, prepared=prepared)
