"""What one frame's inspection returns. Plain data: no behaviour, no reference to the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Reason = Literal["map", "image", "exposure", "contrast", "sharpness", "unlike"]


@dataclass(frozen=True)
class Region:
    """One 8-connected anomalous area.

    Attributes
    ----------
    area
        Pixels of the anomaly map in it.
    box
        (top, left, bottom, right) in pixels of the frame, half-open.
    peak
        (y, x) of its highest score, in pixels of the frame.
    score
        The anomaly map's value there.
    """

    area: int
    box: tuple[int, int, int, int]
    peak: tuple[int, int]
    score: float


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What one match had to compute: why a frame took longer than another.

    Attributes
    ----------
    path
        The one taken. On others than ``"pruned"`` there is nothing to count: all the following are 0.
    pairs
        Pairs of the coarsest level's pixels within the window: all were bounded.
    passed
        Pairs of each level's pixels, finest first, that no bound ruled out: they were looked into.
    exact
        Pairs of the finest level's pixels whose distance was computed in float64 while pruning.
    guarded_cells
        The coarsest level's pixels in the query that were too costly to prune, and that the dense path finished.
    """

    path: Literal["pruned", "dense", "reference"]
    pairs: int
    passed: tuple[int, ...]
    exact: int
    guarded_cells: int


@dataclass(frozen=True, eq=False)
class Result:
    """One frame's verdict and its explanation.

    Attributes
    ----------
    pred_score
        The score that the recipe's label rule looks at; a higher one is more anomalous. Of a frame that the frame check
        alone flags it is as many times the threshold as the frame is beyond its limit. So it is above its threshold
        exactly when ``pred_label`` is true.
    pred_label
        True: anomalous by the recipe's rule and thresholds, or by the frame check.
    image_score
        Mean squared distance to the k_score nearest normal embeddings; anomalous above tau.
    map_score
        Maximum of the anomaly map; anomalous above theta.
    anomaly_map
        (H, W) float32 at the extractor's input size, smoothed; 0 where the recipe ignores it.
    pred_mask
        (H, W) bool: anomaly_map > theta.
    regions
        The mask's connected regions, highest score first, in the frame's own pixels.
    neighbours
        (h, w, kappa, 3) int32 as (image, y, x): which normal pixels each pixel of the finest level matched; -1
        where nothing under it is scored.
    nearest_images
        (k_gallery,) int64: the retrieved normal images, nearest first.
    match_statistics
        What the matcher had to compute: why this frame took longer than another.
    timings_s
        Seconds by stage: prepare, extract, retrieve, match, map.
    reasons
        Why it is anomalous; empty if it isn't. ``"map"``: above theta; ``"image"``: above tau, as the label rule has
        it. By the frame check, against what the normal images span: ``"exposure"``, far darker or brighter;
        ``"contrast"``, far less of it, as where nothing is in view; ``"sharpness"``, far less of it; ``"unlike"``, the
        embedding is far from every normal image's.
    """

    pred_score: float
    pred_label: bool
    image_score: float
    map_score: float
    anomaly_map: NDArray[np.float32]
    pred_mask: NDArray[np.bool_]
    regions: tuple[Region, ...]
    neighbours: NDArray[np.int32]
    nearest_images: NDArray[np.int64]
    match_statistics: Statistics
    timings_s: Mapping[str, float]
    reasons: tuple[Reason, ...] = ()
