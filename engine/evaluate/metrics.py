"""How well scores separate normal from anomalous: exact ROC, PRO, confusion and F1 of arrays.

ROC and PRO are one curve with different weights. Lowering the threshold over all scores, x is the share
of normal samples above it and y the weight of anomalous samples above it: in ROC every anomalous sample
weighs the same, in PRO (per-region overlap) a pixel weighs 1 / area of its region. Samples of equal score
enter together: ties give a slanted piece, and the order of the input never matters.

No threshold is chosen here: thresholds come from normal images alone (``calibration.py``). A figure that the input
doesn't define (one class only, no anomalous pixel) is an InputError with the reason, never a NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import trapezoid

from ..errors import InputError


@dataclass(frozen=True, eq=False)
class Curve:
    """A monotone curve of detection over false positives, from (0, 0) to (1, 1).

    Attributes
    ----------
    false_positive_rate
        (m,) float64, ascending: share of the normal samples above a threshold.
    detection_rate
        (m,) float64, ascending: true positive rate (ROC) or mean overlap of the regions (PRO).
    """

    false_positive_rate: NDArray[np.float64]
    detection_rate: NDArray[np.float64]

    def area(self, limit: float = 1.0) -> float:
        """Integral from 0 to ``limit`` of the false positive rate, divided by ``limit``; 1 is perfect.

        The curve is cut at ``limit`` by linear interpolation between the two points around it.
        """
        if not 0 < limit <= 1:
            raise InputError(f"limit: expected a false positive rate in (0, 1], got {limit}")
        inside = int(np.searchsorted(self.false_positive_rate, limit, side="right"))
        end = np.interp(limit, self.false_positive_rate, self.detection_rate)
        x = np.append(self.false_positive_rate[:inside], limit)
        y = np.append(self.detection_rate[:inside], end)
        return float(trapezoid(y, x) / limit)


@dataclass(frozen=True)
class Confusion:
    """Counts of one decision over all samples; positive means anomalous."""

    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int

    @property
    def recall(self) -> float | None:
        """Share of anomalous samples that were flagged; None if there are none."""
        return _share(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def false_alarm_rate(self) -> float | None:
        """Share of normal samples that were flagged; None if there are none."""
        return _share(self.false_positives, self.false_positives + self.true_negatives)

    @property
    def f1(self) -> float | None:
        """``2 tp / (2 tp + fp + fn)``; None if no sample is anomalous and none was flagged."""
        hits = 2 * self.true_positives
        return _share(hits, hits + self.false_positives + self.false_negatives)


@dataclass(frozen=True)
class TunedF1:
    """The best F1 that any threshold reaches on these very labels: an upper bound, not a result.

    Attributes
    ----------
    f1
        F1 at that threshold.
    threshold
        A score above it is anomalous. It was chosen by the test labels: don't deploy it.
    """

    f1: float
    threshold: float


def roc(labels: ArrayLike, scores: ArrayLike) -> Curve:
    """Return the receiver operating characteristic; its ``area()`` is the ROCAUC.

    The area equals P(anomalous score > normal score) + P(equal) / 2 over all pairs.

    Parameters
    ----------
    labels
        (n,) bool, true where anomalous.
    scores
        (n,) finite; higher is more anomalous.

    Raises
    ------
    InputError
        Shapes differ, a score isn't finite, or only one class is there.

    Examples
    --------
    >>> roc([False, False, True, True], [0.1, 0.3, 0.3, 0.9]).area()
    0.875
    """
    anomalous, values = _two_classes(labels, scores)
    (curve,) = _curves(values[~anomalous], values[anomalous], np.ones((1, np.count_nonzero(anomalous))))
    return curve


def pixel_curves(
    masks: Sequence[ArrayLike], maps: Sequence[ArrayLike], *, ignore: NDArray[np.bool_] | None = None
) -> tuple[Curve, Curve]:
    """Return the pixels' ROC and PRO curves over all images; both come from one sort of the normal pixels.

    PRO(t) = mean over all regions of (pixels of the region above t / its area), against the
    share of all images' normal pixels above t (Bergmann et al., "The MVTec Anomaly Detection Dataset",
    IJCV 2021). ``area(0.3)`` of the second curve is AU-PRO at the limit 0.3.

    Parameters
    ----------
    masks
        One (h, w) per image, all false or 0 for a normal image. Bool: true where anomalous; regions are 8-connected.
        Integers: the number of each pixel's region, 0 where normal. They are for resampled masks, in which a thin
        region may fall apart: without numbers each part would weigh as much as a whole region.
    maps
        One (h, w) finite anomaly map per image; sizes may differ between images.
    ignore
        (h, w) bool: pixels that don't count in any image, neither as normal ones nor in a region's area. All maps must
        then be of this size.

    Raises
    ------
    InputError
        A mask doesn't fit its map or ``ignore``, a value isn't finite, or there is no anomalous or no normal pixel.
    """
    if len(masks) != len(maps):
        raise InputError(f"masks: expected one per anomaly map ({len(maps)}), got {len(masks)}")
    empty: NDArray[np.floating] = np.zeros(0, np.float32)
    normal, anomalous, overlaps = [empty], [empty], [np.zeros(0)]
    for index, (labels, scores) in enumerate(zip(masks, maps, strict=True)):
        mask, values = _checked(f"masks[{index}]", labels, f"maps[{index}]", scores, ndim=2)
        counted = np.ones_like(mask) if ignore is None else ~ignore
        if counted.shape != mask.shape:
            raise InputError(f"ignore: expected the shape of maps[{index}] {mask.shape}, got {counted.shape}")
        normal.append(values[~mask & counted])
        anomalous.append(values[mask & counted])
        overlaps.append(_overlap_weights(np.asarray(labels), mask & counted))
    negatives, positives, overlap = (
        np.concatenate(normal),
        np.concatenate(anomalous),
        np.concatenate(overlaps),
    )
    if positives.size == 0 or negatives.size == 0:
        missing = "anomalous" if positives.size == 0 else "normal"
        raise InputError(f"masks: expected normal and anomalous pixels, got no {missing} one")
    roc_curve, pro_curve = _curves(negatives, positives, np.stack([np.ones(positives.size), overlap]))
    return roc_curve, pro_curve


def confusion(labels: ArrayLike, flagged: ArrayLike) -> Confusion:
    """Compare a decision with the labels: both are (n,) bool, true for anomalous."""
    actual, predicted = np.asarray(labels, dtype=bool), np.asarray(flagged, dtype=bool)
    if actual.shape != predicted.shape:
        raise InputError(f"flagged: expected one per label {actual.shape}, got {predicted.shape}")
    return Confusion(
        true_positives=int(np.count_nonzero(actual & predicted)),
        false_positives=int(np.count_nonzero(~actual & predicted)),
        true_negatives=int(np.count_nonzero(~actual & ~predicted)),
        false_negatives=int(np.count_nonzero(actual & ~predicted)),
    )


def f1_max_tuned_on_test_labels(labels: ArrayLike, scores: ArrayLike) -> TunedF1:
    """Return the highest F1 over all thresholds, chosen with the labels: for comparison, never to deploy.

    Of equally good thresholds the highest is returned. It takes and raises the same as :func:`roc`.
    """
    anomalous, values = _two_classes(labels, scores)
    order = np.argsort(-values, kind="stable")
    descending, hits = values[order], np.cumsum(anomalous[order])
    last_of_tie = np.append(np.flatnonzero(np.diff(descending)), descending.size - 1)
    f1 = 2 * hits[last_of_tie] / (last_of_tie + 1 + hits[-1])
    best = int(np.argmax(f1))
    lowest_flagged = descending[last_of_tie[best]]
    just_below = np.nextafter(lowest_flagged, lowest_flagged.dtype.type(-np.inf))
    return TunedF1(f1=float(f1[best]), threshold=float(just_below))


def _curves(
    negatives: NDArray[np.floating], positives: NDArray[np.floating], weights: NDArray[np.float64]
) -> list[Curve]:
    """Return one curve per row of ``weights`` (m, positives), with two points per distinct anomalous score.

    One point lies before the samples of exactly that score enter, the other after. From one score's points to the
    next one's the curve is horizontal, so the many other normal scores add no vertex.
    """
    ordered = np.sort(negatives)
    distinct, group = np.unique(positives, return_inverse=True)
    levels = distinct[::-1]
    above = ordered.size - np.searchsorted(ordered, levels, side="right")
    at_least = ordered.size - np.searchsorted(ordered, levels, side="left")
    x = np.concatenate([[0.0], np.column_stack([above, at_least]).ravel() / ordered.size, [1.0]])
    curves = []
    for weight in weights:
        total = np.cumsum(np.bincount(group, weights=weight)[::-1])
        after = total / total[-1]
        before = np.append(0.0, after[:-1])
        y = np.concatenate([[0.0], np.column_stack([before, after]).ravel(), [1.0]])
        curves.append(Curve(false_positive_rate=x, detection_rate=y))
    return curves


def _overlap_weights(mask: NDArray[Any], counted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return 1 / counted area of the region of each counted pixel, in the order of ``mask[counted]``.

    A defect stays one region even if pixels that don't count cut it in two.
    """
    if np.issubdtype(mask.dtype, np.integer):
        regions = mask
    else:
        _, regions = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    _, members = np.unique(regions[counted], return_inverse=True)
    weights: NDArray[np.float64] = 1.0 / np.bincount(members)[members]
    return weights


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _two_classes(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.floating]]:
    anomalous, values = _checked("labels", labels, "scores", scores, ndim=1)
    if anomalous.all() or not anomalous.any():
        got = f"{np.count_nonzero(~anomalous)} normal and {np.count_nonzero(anomalous)} anomalous"
        raise InputError(f"labels: expected samples of both classes, got {got}")
    return anomalous, values


def _checked(
    labels_name: str, labels: ArrayLike, scores_name: str, scores: ArrayLike, *, ndim: int
) -> tuple[NDArray[np.bool_], NDArray[np.floating]]:
    """Return both as arrays of one shape; float32 stays float32, since a data set's maps may fill the memory."""
    actual, values = np.asarray(labels, dtype=bool), np.asarray(scores)
    if values.ndim != ndim:
        raise InputError(f"{scores_name}: expected {ndim} dimension(s), got shape {values.shape}")
    if actual.shape != values.shape:
        raise InputError(f"{labels_name}: expected the shape of {scores_name} {values.shape}, got {actual.shape}")
    if not np.issubdtype(values.dtype, np.floating):
        values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise InputError(f"{scores_name}: expected finite scores, got NaN or infinity")
    return actual, values
