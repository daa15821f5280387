"""How answers are judged: figures of accuracy from maps and scores, and how far they are from spadeline's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from spadeline.engine.evaluate.metrics import pixel_curves, roc

from detectors_parts.process import Answer

PRO_LIMIT = 0.3
AUPRO = f"aupro_{PRO_LIMIT}"


@dataclass(frozen=True)
class Truth:
    """The true labels and defects of the frames.

    Attributes
    ----------
    labels
        (n,) bool, true for an abnormal frame.
    masks
        (H, W) of the maps' size: the number of a defect's region, or 0; None for a frame without a mask.
    size
        (H, W).
    """

    labels: NDArray[np.bool_]
    masks: Sequence[NDArray[np.int32] | None]
    size: tuple[int, int]


def accuracy(answers: Sequence[Answer], truth: Truth) -> dict[str, float | None]:
    """Return how well maps and scores tell defects apart, by ``engine/evaluate/metrics.py``."""
    embedding = [answer.embedding_score for answer in answers]
    known = [(mask, answer.anomaly_map) for mask, answer in zip(truth.masks, answers, strict=True) if mask is not None]
    pixels = regions = None
    if any(mask.any() for mask, _ in known):
        pixels, regions = pixel_curves([mask for mask, _ in known], [scores for _, scores in known])
    return {
        "image_rocauc": roc(truth.labels, [answer.score for answer in answers]).area(),
        "image_rocauc_by_map": roc(truth.labels, [float(answer.anomaly_map.max()) for answer in answers]).area(),
        "image_rocauc_by_embedding": None if None in embedding else roc(truth.labels, embedding).area(),
        "pixel_rocauc": pixels and pixels.area(),
        AUPRO: regions and regions.area(PRO_LIMIT),
    }


def no_accuracy() -> dict[str, float | None]:
    """Return the figures of a detector whose maps are bounds: none. Its verdicts are those of the whole map."""
    names = ("image_rocauc", "image_rocauc_by_map", "image_rocauc_by_embedding", "pixel_rocauc", AUPRO)
    return dict.fromkeys(names)


def differing_verdict(answers: Sequence[Answer], expected: Sequence[Answer], *, masks: bool) -> str:
    """Return which frame's label, or mask where masks count, isn't as expected; an empty text: all are."""
    for index, (found, truth) in enumerate(zip(answers, expected, strict=True)):
        if found.label != truth.label:
            return f"frame {index} has the label {found.label}, expected {truth.label}"
        if masks and not np.array_equal(found.mask, truth.mask):
            return f"frame {index} has another mask"
    return ""


def difference_of(answers: Sequence[Answer], ours: Sequence[Answer]) -> float:
    """Return the largest difference of maps and scores, each as a share of the largest of ours over all frames.

    The largest is taken over all frames: float16 rounds a share of each feature, and beside that a good part's
    distances may be tiny.
    """
    shares = [
        np.abs(np.subtract(found, expected)).max() / np.max(expected)
        for found, expected in (
            ([answer.anomaly_map for answer in answers], [answer.anomaly_map for answer in ours]),
            ([answer.score for answer in answers], [answer.score for answer in ours]),
            *_embedding_scores(answers, ours),
        )
    ]
    return float(max(shares))


def _embedding_scores(
    answers: Sequence[Answer], ours: Sequence[Answer]
) -> list[tuple[list[float | None], list[float | None]]]:
    pair = [answer.embedding_score for answer in answers], [answer.embedding_score for answer in ours]
    return [] if None in (*pair[0], *pair[1]) else [pair]
