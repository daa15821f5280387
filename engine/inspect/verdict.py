"""The label rule: from a frame's scores to its verdict and its Result, by a recipe's thresholds and frame check.

A map that isn't exact counts by its upper bound: what isn't proven to be normal is anomalous. But if the label is known
without the map, the map counts by its lower bound: what isn't known of it then tells nothing.

Scores come from :mod:`.scoring`; :mod:`.frame_check` says what a frame must be like. ``csrc/runtime/verdict.hpp`` has
the rule.
"""

from __future__ import annotations

import time
from dataclasses import asdict, astuple
from typing import Any, NamedTuple

from .. import _native
from ..errors import RecipeError
from ..images.frame_facts import FrameFacts
from ..recipe.recipe import Recipe
from ..result import Reason, Result
from ..settings import Need
from .chains import Scored
from .frame_check import FrameLimits, farthest_nearest
from .heatmap import find_regions
from .scores import Retrieved, Scores
from .scoring import BaseScorer


class Verdict(NamedTuple):
    """A frame's score and the reasons why it is anomalous.

    Attributes
    ----------
    pred_score
        See :class:`.result.Result`: it is above its threshold if, and only if, there is a reason.
    reasons
        Why the frame is anomalous; empty: it is normal.
    """

    pred_score: float
    reasons: tuple[Reason, ...]


class Judge:
    """Gives verdicts by a recipe's thresholds, label rule and frame check. May be shared by threads.

    Attributes
    ----------
    tau, theta
        The thresholds.
    limits
        The frame check's limits; None: it is off, or the recipe doesn't know all of its images' facts.

    Raises
    ------
    RecipeError
        A recipe without thresholds.
    """

    def __init__(self, recipe: Recipe, scorer: BaseScorer) -> None:
        if recipe.calibration is None:
            raise RecipeError(f"{recipe.folder}: expected thresholds, got none; make them with: spadeline calibrate")
        self.tau = recipe.calibration.tau.value
        self.theta = recipe.calibration.theta.value
        self.limits: FrameLimits | None = None
        if recipe.settings.frame_check == "on" and recipe.frame_facts is not None:
            nearest = None
            if recipe.ignore is None:
                nearest = farthest_nearest(scorer.gallery.embeddings, scorer.retrieval, recipe.families)
            self.limits = FrameLimits.of(recipe.frame_facts, nearest)
        self._native = _native.Judge(
            recipe.settings.label_rule,
            tau=self.tau,
            theta=self.theta,
            limits=None if self.limits is None else astuple(self.limits),
        )

    @property
    def info(self) -> dict[str, Any] | None:
        """The frame check's limits for JSON; None: there is no check."""
        return None if self.limits is None else asdict(self.limits)

    def result(self, scored: Scored, need: Need) -> Result:
        """Judge a frame and return all that is said of it: its scores, its verdict, its mask and regions.

        Parameters
        ----------
        need
            What was asked for.
        """
        start = time.perf_counter()
        scores = scored.scores
        label_alone = need == "label" and self.label_known(scores.retrieved, scored.facts)
        mask, regions = find_regions(
            scores.lower_map if label_alone else scores.anomaly_map,
            self.theta,
            placement=scored.placement,
            frame_size=scored.frame_size,
            mask=scores.mask,
        )
        verdict = self.verdict(scores, scored.facts)
        timings_s = scored.timings_s | {"retrieve": scores.retrieved.seconds} | scores.timings_s
        timings_s["map"] += time.perf_counter() - start
        return Result(
            pred_score=verdict.pred_score,
            pred_label=bool(verdict.reasons),
            image_score=scores.image_score,
            map_score=scores.map_score,
            anomaly_map=scores.anomaly_map,
            pred_mask=mask,
            regions=regions,
            neighbours=scores.neighbours,
            nearest_images=scores.retrieved.nearest_images,
            match_statistics=scores.match_statistics,
            timings_s=timings_s,
            reasons=verdict.reasons,
            need=need,
            decided=scores.decided,
            lower_map=scores.lower_map,
        )

    def label_known(self, retrieved: Retrieved, facts: FrameFacts | None) -> bool:
        """Return whether a frame's label is known without its map: it doesn't count, or there is another reason."""
        return self._native.label_known(retrieved.image_score, retrieved.nearest_distance, _plain(facts))

    def verdict(self, scores: Scores, facts: FrameFacts | None) -> Verdict:
        """Judge a frame by its scores and its facts; facts of None: without the frame check."""
        exact = scores.lower_map is scores.anomaly_map
        if exact or not self.label_known(scores.retrieved, facts):
            return self.exact_verdict(scores.retrieved, scores.map_score, facts)
        return self.exact_verdict(scores.retrieved, float(scores.lower_map.max()), facts)

    def exact_verdict(self, retrieved: Retrieved, map_score: float, facts: FrameFacts | None) -> Verdict:
        """Judge a frame by its map's maximum; facts of None: without the frame check."""
        return Verdict(
            *self._native.verdict(retrieved.image_score, retrieved.nearest_distance, map_score, _plain(facts))
        )


def _plain(facts: FrameFacts | None) -> tuple[float, float, float] | None:
    return None if facts is None else (facts.brightness, facts.contrast, facts.sharpness)
