"""One trial: settings, the thresholds that normal images give under them, and what they find on labelled images.

Thresholds are those of ``spadeline calibrate``, verdicts those of a detector.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import NamedTuple

from ..fitting.prepared import Progress
from ..fitting.thresholds import calibration_of
from ..inspect.scoring import Scorer
from ..inspect.verdict import Judge
from ..recipe.recipe import Recipe
from ..recipe.records import Calibration
from ..settings import Settings
from .image_scores import ImageScore, ImageScores
from .labelled import LabelledQuery

FASTER = 0.8  # times another's time: a smaller difference may be the machine's


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What settings find on labelled images.

    Attributes
    ----------
    abnormal, good
        The number of images.
    found
        How many of the abnormal ones are called anomalous.
    false_alarms
        How many of the good ones are.
    image_rocauc
        By the score that the label rule looks at, without the frame check.
    """

    abnormal: int
    good: int
    found: int
    false_alarms: int
    image_rocauc: float


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Settings that were tried.

    Attributes
    ----------
    settings
        The settings.
    extractor
        The extractor's file; None: the one that the recipe had.
    calibration
        The thresholds that the normal images give, leave-one-out.
    figures
        On the half that the choice is made on.
    allowed
        The most false alarms of settings that may be chosen: the bound of the thresholds' rate times the number of good
        images, rounded up.
    separation
        Image ROCAUC of the abnormal images against the good and the normal ones together: it tells settings apart that
        find equally many.
    match_s
        Median time of matching one image, in seconds.
    """

    settings: Settings
    extractor: Path | None = None
    calibration: Calibration
    figures: Figures
    allowed: int
    separation: float
    match_s: float

    @property
    def eligible(self) -> bool:
        """Whether the settings may be chosen: their false alarms are no more than the rate's bound allows."""
        return self.figures.false_alarms <= self.allowed

    def is_better(self, other: Trial) -> bool:
        """Whether these settings may be chosen, and find more; or as many, and separate more; or all equal, faster."""
        own, others = ((trial.figures.found, trial.separation) for trial in (self, other))
        return self.eligible and (own > others or (own == others and self.match_s < FASTER * other.match_s))


class _Judged(NamedTuple):
    """Verdicts of labelled images, and the scores that the label rule looks at."""

    labels: list[bool]
    flagged: list[bool]
    scores: list[float]

    def figures(self) -> Figures:
        pairs = list(zip(self.labels, self.flagged, strict=True))
        return Figures(
            abnormal=self.labels.count(True),
            good=self.labels.count(False),
            found=pairs.count((True, True)),
            false_alarms=pairs.count((False, True)),
            image_rocauc=_rocauc(self.labels, self.scores),
        )


class Trials:
    """Tries settings on the half that the choice is made on. It never sees the other half.

    Parameters
    ----------
    recipe
        The recipe.
    extractor
        Its extractor's file; None: the one that the recipe had before tuning.
    normal
        Its normal images without copies, each left out of its own retrieval.
    names
        Their names.
    labelled
        The half's images.
    sigmas
        All that will be tried.
    false_alarm_rate
        The rate that thresholds are made at.
    threads, on_progress
        As for :func:`.tune`.
    """

    def __init__(
        self,
        recipe: Recipe,
        normal: ImageScores,
        names: Sequence[str],
        labelled: Sequence[LabelledQuery],
        *,
        extractor: Path | None = None,
        sigmas: Sequence[float],
        false_alarm_rate: float,
        threads: int | None,
        on_progress: Progress | None,
    ) -> None:
        self._recipe, self._names, self._labelled = recipe, names, labelled
        self._extractor = extractor
        self._normal = normal
        self._scores = ImageScores(recipe, [image.query for image in labelled], sigmas=sigmas, threads=threads)
        self._scorer = Scorer(recipe, threads=threads)
        self._rate, self._on_progress = false_alarm_rate, on_progress
        self._done: dict[Settings, Trial] = {}

    @property
    def done(self) -> tuple[Trial, ...]:
        """All trials so far, the first one first."""
        return tuple(self._done.values())

    def possible(self, settings: Settings) -> bool:
        """Whether every pixel reaches enough gallery pixels, also when a normal image is left out."""
        images = min(settings.k_gallery, len(self._recipe.images) - 1)
        return settings.kappa <= images * self._scorer.matcher.reachable(settings.window)

    def run(self, settings: Settings, stage: str) -> Trial:
        """Try settings; those that were tried already aren't tried again. ``stage`` names the trial in the progress."""
        if settings not in self._done:
            advance = self._advance(stage if self._extractor is None else f"{self._extractor.name}: {stage}")
            normal = self._normal.scores(settings, advance)
            labelled = self._scores.scores(settings, advance)
            calibration = calibration_of(
                settings,
                "leave-one-out",
                names=self._names,
                image_scores=[score.retrieved.image_score for score in normal],
                map_scores=[score.map_score for score in normal],
                false_alarm_rate=self._rate,
            )
            judge = judge_of(self._recipe, settings, calibration, self._scorer)
            judged = _judged(judge, self._labelled, labelled)
            others = [_score(judge, score) for score in normal]
            seconds = self._normal.match_seconds(settings) + self._scores.match_seconds(settings)
            figures = judged.figures()
            self._done[settings] = Trial(
                settings=settings,
                extractor=self._extractor,
                calibration=calibration,
                figures=figures,
                allowed=math.ceil(_bound(settings, calibration) * figures.good),
                separation=_rocauc([*judged.labels, *(False for _ in others)], [*judged.scores, *others]),
                match_s=median(seconds),
            )
        return self._done[settings]

    def _advance(self, stage: str) -> Callable[[], None]:
        total, done = len(self._normal) + len(self._scores), 0

        def advance() -> None:
            nonlocal done
            done += 1
            if self._on_progress:
                self._on_progress(stage, done, total)

        return advance


def final_figures(
    recipe: Recipe, trial: Trial, labelled: Sequence[LabelledQuery], *, threads: int | None, advance: Callable[[], None]
) -> Figures:
    """Return what a trial's settings and thresholds find on images that had no part in the choice."""
    queries = [image.query for image in labelled]
    scores = ImageScores(recipe, queries, sigmas=[trial.settings.sigma], threads=threads)
    judge = judge_of(recipe, trial.settings, trial.calibration, Scorer(recipe, threads=threads))
    return _judged(judge, labelled, scores.scores(trial.settings, advance)).figures()


def judge_of(recipe: Recipe, settings: Settings, calibration: Calibration, scorer: Scorer) -> Judge:
    """Return the judge of a recipe with these settings and thresholds."""
    return Judge(replace(recipe.with_settings(settings), calibration=calibration), scorer)


def _judged(judge: Judge, labelled: Sequence[LabelledQuery], scores: Sequence[ImageScore]) -> _Judged:
    flagged = [
        bool(judge.exact_verdict(score.retrieved, score.map_score, image.facts).reasons)
        for image, score in zip(labelled, scores, strict=True)
    ]
    return _Judged([image.label for image in labelled], flagged, [_score(judge, score) for score in scores])


def _score(judge: Judge, score: ImageScore) -> float:
    return judge.exact_verdict(score.retrieved, score.map_score, None).pred_score


def _rocauc(labels: Sequence[bool], scores: Sequence[float]) -> float:
    from ..evaluate.metrics import roc  # noqa: PLC0415 - it imports scipy, which takes long, and inspecting needs none

    return roc(labels, scores).area()


def _bound(settings: Settings, calibration: Calibration) -> float:
    """Return the bound of a frame's false-alarm rate: with the rule "either", the sum of both thresholds' bounds."""
    bounds = {"map": calibration.theta.bound, "image": calibration.tau.bound}
    return bounds.get(settings.label_rule, min(1.0, sum(bounds.values())))
