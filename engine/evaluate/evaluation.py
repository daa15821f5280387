"""Run a detector over a labelled test set, and compare its verdicts with the labels.

The thresholds are the recipe's own, from normal images alone. One figure is tuned on the test labels, and its name says
so. ``folders/dataset.py`` finds the test set's files, ``metrics.py`` has the figures' formulas, and ``report.py`` turns
an Evaluation into a page.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal, Protocol, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from ..calibration import Threshold
from ..environment import environment
from ..errors import InputError
from ..folders.dataset import Dataset, LabelledImage
from ..images.reading import read_image
from ..json_data import to_json
from ..recipe.recipe import Recipe
from ..recipe.records import Calibration, ImageRecord
from ..result import Reason, Result
from ..settings import Need
from ..units import latency
from .metrics import Curve, confusion, f1_max_tuned_on_test_labels, pixel_curves, roc
from .truth import true_regions

PRO_LIMITS = (0.3, 0.05)  # false positive rates that published tables integrate to
TIMES = ("p50", "p95", "p99", "max")

Score = Literal["image_score", "map_score"]
SCORES: tuple[Score, ...] = ("image_score", "map_score")
T = TypeVar("T")


class EvaluatedDetector(Protocol):
    """The part of a Detector that an evaluation uses."""

    @property
    def recipe(self) -> Recipe:
        """Settings, thresholds, ignore mask and the normal images' names."""

    @property
    def info(self) -> Mapping[str, Any]:
        """What runs where, fit for JSON."""

    def predict(self, frame: NDArray[np.uint8], *, need: Need) -> Result:
        """Inspect one frame."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """The detector's result for one test image, and the truth.

    Attributes
    ----------
    image
        The image and its label.
    pred_score, pred_label, reasons, image_score, map_score, anomaly_map
        See :class:`~.result.Result`.
    regions
        (H, W) int32, the true defects in the anomaly map's geometry: see :func:`.truth.true_regions`. None for an
        abnormal image without a mask, which the pixel figures leave out.
    nearest_normal
        The normal image whose embedding is nearest.
    timings_s
        Seconds by stage, and "total": the seconds of the whole call.
    """

    image: LabelledImage
    pred_score: float
    pred_label: bool
    reasons: tuple[Reason, ...] = ()
    image_score: float
    map_score: float
    anomaly_map: NDArray[np.float32]
    regions: NDArray[np.int32] | None
    nearest_normal: ImageRecord
    timings_s: Mapping[str, float]


def evaluate(
    detector: EvaluatedDetector, dataset: Dataset, *, on_progress: Callable[[str, int, int], None] | None = None
) -> Evaluation:
    """Inspect every test image once, one after the other.

    Parameters
    ----------
    detector
        A Detector.
    dataset
        From :func:`~.dataset.find_dataset`.
    on_progress
        Called as ``on_progress("evaluate", done, total)``.

    Raises
    ------
    InputError
        No test images; an image or a mask that can't be used; scores that aren't finite; a recipe without
        thresholds.
    """
    dataset.check_test()
    if detector.recipe.calibration is None:
        raise InputError("detector: expected a recipe with thresholds, got one without")
    outcomes = []
    for image in dataset.test:
        outcomes.append(_inspect(detector, image))
        if on_progress is not None:
            on_progress("evaluate", len(outcomes), len(dataset.test))
    return Evaluation(
        dataset=dataset,
        outcomes=tuple(outcomes),
        recipe=detector.recipe,
        calibration=detector.recipe.calibration,
        info=dict(detector.info),
        environment=to_json(environment(detector.info["threads"])),
    )


@dataclass(frozen=True)
class Missing:
    """Stands for a figure that this test set doesn't define, and gives the reason."""

    reason: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """All outcomes on a test set, and the figures that follow from them.

    Attributes
    ----------
    dataset
        Where the test images come from.
    outcomes
        One per test image, in the data set's order.
    recipe
        The recipe in use.
    calibration
        Its thresholds.
    info
        What ran where, as the detector's ``info`` tells.
    environment
        The machine and the versions: see :func:`.environment.environment`.
    """

    dataset: Dataset
    outcomes: tuple[Outcome, ...]
    recipe: Recipe
    calibration: Calibration
    info: Mapping[str, Any]
    environment: Mapping[str, Any]

    @cached_property
    def labels(self) -> NDArray[np.bool_]:
        """(n,) true where the image is abnormal."""
        return np.array([outcome.image.label for outcome in self.outcomes], dtype=bool)

    @cached_property
    def scores(self) -> dict[Score, NDArray[np.float64]]:
        """Each score as (n,)."""
        return {
            name: np.array([getattr(outcome, name) for outcome in self.outcomes], dtype=np.float64) for name in SCORES
        }

    @property
    def thresholds(self) -> dict[Score, float]:
        """The threshold that belongs to each score: tau and theta."""
        return {"image_score": self.calibration.tau.value, "map_score": self.calibration.theta.value}

    @cached_property
    def decisions(self) -> dict[str, NDArray[np.bool_]]:
        """Which images are called anomalous, (n,) each: above tau, above theta, and by the recipe's rule."""
        return {
            "tau": self.scores["image_score"] > self.calibration.tau.value,
            "theta": self.scores["map_score"] > self.calibration.theta.value,
            "pred_label": np.array([outcome.pred_label for outcome in self.outcomes], dtype=bool),
        }

    @cached_property
    def image_rocs(self) -> dict[Score, Curve | Missing]:
        """ROC over the images, by each score."""
        return {name: _or_missing(roc, self.labels, scores) for name, scores in self.scores.items()}

    @cached_property
    def pixel_curves(self) -> tuple[Curve, Curve] | Missing:
        """ROC and PRO over the scored pixels of all images, except abnormal images without a mask."""
        if not any(outcome.image.mask_paths for outcome in self.outcomes):
            return Missing("masks: expected one for at least one abnormal image, got none")
        known = [(outcome.regions, outcome.anomaly_map) for outcome in self.outcomes if outcome.regions is not None]
        regions, maps = [regions for regions, _ in known], [scores for _, scores in known]
        return _or_missing(pixel_curves, regions, maps, ignore=self.recipe.ignore)

    def summary(self) -> dict[str, Any]:
        """Return every figure as a dict that strict JSON can hold.

        A figure that the test set doesn't define is None, and ``not_computed`` has the reason under its name.
        The first image's time is included, though caches are still cold then.
        """
        figures = self._figures()
        return {
            "dataset": {
                "folder": str(self.dataset.folder),
                "layout": self.dataset.layout,
                "taken": [asdict(taken) for taken in self.dataset.taken],
            },
            "images": {
                "total": len(self.outcomes),
                "normal": int(np.count_nonzero(~self.labels)),
                "abnormal": int(np.count_nonzero(self.labels)),
                "abnormal_with_mask": sum(bool(outcome.image.mask_paths) for outcome in self.outcomes),
            },
            **{name: None if isinstance(figure, Missing) else figure for name, figure in figures.items()},
            "not_computed": {name: f.reason for name, f in figures.items() if isinstance(f, Missing)},
            "confusion": self._confusions(),
            "reasons": self._reasons(),
            "by_kind": self._by_kind(),
            "timings_s": self._timings(),
            "settings": asdict(self.recipe.settings),
            "calibration": {
                "method": self.calibration.method,
                "tau": _threshold(self.calibration.tau),
                "theta": _threshold(self.calibration.theta),
            },
            "info": dict(self.info),
            "environment": dict(self.environment),
        }

    def _figures(self) -> dict[str, float | dict[str, float] | Missing]:
        figures: dict[str, float | dict[str, float] | Missing] = {}
        for name, curve in self.image_rocs.items():
            figures[f"image_rocauc_by_{name}"] = curve if isinstance(curve, Missing) else curve.area()
        pixels = self.pixel_curves
        figures["pixel_rocauc"] = pixels if isinstance(pixels, Missing) else pixels[0].area()
        for limit in PRO_LIMITS:
            figures[f"aupro_{limit}"] = pixels if isinstance(pixels, Missing) else pixels[1].area(limit)
        for name, scores in self.scores.items():
            best = _or_missing(f1_max_tuned_on_test_labels, self.labels, scores)
            key = f"f1_max_tuned_on_test_labels_by_{name}"
            figures[key] = best if isinstance(best, Missing) else asdict(best)
        return figures

    def _confusions(self) -> dict[str, dict[str, float | None]]:
        """Compare each decision with the labels; pred_label has no threshold of its own."""
        thresholds = {"tau": self.calibration.tau.value, "theta": self.calibration.theta.value}
        table: dict[str, dict[str, float | None]] = {}
        for name, flagged in self.decisions.items():
            counts = confusion(self.labels, flagged)
            table[name] = {
                "threshold": thresholds.get(name),
                **asdict(counts),
                "recall": counts.recall,
                "false_alarm_rate": counts.false_alarm_rate,
                "f1": counts.f1,
            }
        return table

    def _reasons(self) -> dict[str, dict[str, int]]:
        """Count the images that were flagged for each reason; an image may have several."""
        table: dict[str, dict[str, int]] = {}
        for reason in get_args(Reason):
            flagged = np.array([reason in outcome.reasons for outcome in self.outcomes], dtype=bool)
            table[reason] = {
                "normal": int(np.count_nonzero(flagged & ~self.labels)),
                "abnormal": int(np.count_nonzero(flagged & self.labels)),
            }
        return table

    def _by_kind(self) -> dict[str, dict[str, Any]]:
        """Count each kind's flagged images by each decision; their share is its recall or its false alarm rate."""
        kinds: dict[str, dict[str, Any]] = {}
        for kind in dict.fromkeys(outcome.image.kind for outcome in self.outcomes):
            inside = np.array([outcome.image.kind == kind for outcome in self.outcomes])
            abnormal = bool(self.labels[inside][0])
            kinds[kind] = {
                "abnormal": abnormal,
                "images": int(np.count_nonzero(inside)),
                "flagged": {name: int(np.count_nonzero(flagged[inside])) for name, flagged in self.decisions.items()},
                "recall" if abnormal else "false_alarm_rate": {
                    name: float(np.mean(flagged[inside])) for name, flagged in self.decisions.items()
                },
            }
        return kinds

    def _timings(self) -> dict[str, dict[str, float | None]]:
        """Return percentiles of each stage's seconds, in the stages' order; None if too few images lie above one."""
        timings = {}
        for stage in self.outcomes[0].timings_s:
            seconds = [outcome.timings_s[stage] for outcome in self.outcomes]
            percentiles = latency(seconds).percentiles_s()
            timings[stage] = {name: percentiles[name] for name in TIMES}
        return timings


def _inspect(detector: EvaluatedDetector, image: LabelledImage) -> Outcome:
    frame = read_image(image.path)
    start = time.perf_counter()
    try:
        result = detector.predict(frame, need="map")  # figures are of exact scores, whatever the recipe needs
    except InputError as error:
        raise InputError(f"{image.path}: {error}") from error
    total_s = time.perf_counter() - start
    scores = (result.image_score, result.map_score, result.pred_score)
    if not (np.isfinite(scores).all() and np.isfinite(result.anomaly_map).all()):
        raise InputError(f"{image.path}: expected finite scores, got NaN or infinity")
    size = (result.anomaly_map.shape[0], result.anomaly_map.shape[1])
    return Outcome(
        image=image,
        pred_score=float(result.pred_score),
        pred_label=bool(result.pred_label),
        reasons=result.reasons,
        image_score=float(result.image_score),
        map_score=float(result.map_score),
        anomaly_map=result.anomaly_map,
        regions=true_regions(image, frame, size, framing=detector.recipe.settings.framing),
        nearest_normal=detector.recipe.images[int(result.nearest_images[0])],
        timings_s={**result.timings_s, "total": total_s},
    )


def _threshold(threshold: Threshold) -> dict[str, float | bool]:
    return {**asdict(threshold), "supported": threshold.supported}


def _or_missing(figure: Callable[..., T], *arguments: object, **options: object) -> T | Missing:
    try:
        return figure(*arguments, **options)
    except InputError as error:
        return Missing(str(error))
