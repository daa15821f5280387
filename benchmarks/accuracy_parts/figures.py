"""The figures of a class, from scores and maps of its test images and from scores of normal images.

All detectors get theirs here. Thresholds are made from the normal images' scores alone, by the engine's own rule, and
then the test images above them are counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from spadeline.engine.calibration import threshold
from spadeline.engine.errors import InputError
from spadeline.engine.evaluate.evaluation import PRO_LIMITS
from spadeline.engine.evaluate.metrics import pixel_curves, roc
from spadeline.engine.folders.dataset import LabelledImage

RATES = (0.01, 0.05)  # of false alarms, which the thresholds are asked to keep
SCORES = ("image_score", "map_score")


def recall(score: str, rate: float) -> str:
    """Return the name of a figure: the share of defective test images that are found."""
    return f"recall_by_{score}_at_{rate}"


def false_alarms(score: str, rate: float) -> str:
    """Return the name of a figure: the share of good test images that are called anomalous."""
    return f"false_alarms_by_{score}_at_{rate}"


PIXEL_FIGURES = ("pixel_rocauc", *(f"aupro_{limit}" for limit in PRO_LIMITS))
FIGURES = (
    *(f"image_rocauc_by_{score}" for score in SCORES),
    *PIXEL_FIGURES,
    *(name(score, rate) for score in SCORES for rate in RATES for name in (recall, false_alarms)),
)


@dataclass(frozen=True, eq=False)
class Answers:
    """What a detector says of a class.

    Attributes
    ----------
    image_scores, maps
        Of each test image: the detector's own score, and (H, W) the anomaly map. A map's maximum is the other score.
    normal_scores
        By "image_score" and "map_score": those of normal images that the detector hadn't seen when it scored them.
    """

    image_scores: Sequence[float]
    maps: Sequence[NDArray[np.floating]]
    normal_scores: Mapping[str, Sequence[float]]


def class_figures(
    tests: Sequence[LabelledImage], masks: Sequence[NDArray[np.int32] | None], answers: Answers
) -> dict[str, dict[str, float | None] | dict[str, str]]:
    """Return the figures by name, None with a reason where one isn't defined."""
    figures: dict[str, float | None] = dict.fromkeys(FIGURES)
    reasons: dict[str, str] = {}
    labels = np.array([image.label for image in tests])
    of_tests = {
        "image_score": np.array(answers.image_scores),
        "map_score": np.array([values.max() for values in answers.maps]),
    }
    for score, values in of_tests.items():
        try:
            figures[f"image_rocauc_by_{score}"] = roc(labels, values).area()
        except InputError as error:
            reasons[f"image_rocauc_by_{score}"] = str(error)
        for rate in RATES:
            names = {recall(score, rate): values[labels], false_alarms(score, rate): values[~labels]}
            for name, part in names.items():
                try:
                    figures[name] = _share_above(part, answers.normal_scores[score], rate)
                except InputError as error:
                    reasons[name] = str(error)
    try:
        figures |= _pixel_figures(tests, answers.maps, masks)
    except InputError as error:
        reasons |= dict.fromkeys(PIXEL_FIGURES, str(error))
    return {"figures": figures, "not_computed": reasons}


def _share_above(values: NDArray[np.floating], normal_scores: Sequence[float], rate: float) -> float:
    """Return the share of scores above the threshold that the normal images' scores give."""
    if len(normal_scores) == 0:
        raise InputError("thresholds: expected at least 2 different normal images, got fewer")
    if len(values) == 0:
        raise InputError("labels: expected test images of both kinds, got one kind")
    return float(np.mean(values > threshold(normal_scores, false_alarm_rate=rate).value))


def _pixel_figures(
    tests: Sequence[LabelledImage], maps: Sequence[NDArray[np.floating]], masks: Sequence[NDArray[np.int32] | None]
) -> dict[str, float]:
    if not any(image.mask_paths for image in tests):
        raise InputError("masks: expected one for at least one abnormal image, got none")
    known = [(mask, values) for mask, values in zip(masks, maps, strict=True) if mask is not None]
    pixels, regions = pixel_curves([mask for mask, _ in known], [values for _, values in known])
    areas = (pixels.area(), *(regions.area(limit) for limit in PRO_LIMITS))
    return dict(zip(PIXEL_FIGURES, areas, strict=True))
