"""What the inspection of one frame returns: plain data, without behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .settings import Need

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
    """What the matcher had to compute for one frame; it explains why one frame takes longer than another.

    Attributes
    ----------
    path
        The path that was taken. Only ``"pruned"`` counts; on the others all the following are 0.
    pairs
        Pairs of the coarsest level's pixels within the window; a bound was computed for each.
    passed
        Pairs of each level's pixels, finest first, that no bound ruled out; they were examined further.
    exact
        Pairs of the finest level's pixels whose distance was computed in float64 while pruning.
    guarded_cells
        The coarsest level's pixels in the query that were too costly to prune; the dense path finished them.
    passes
        How often some of the query's pixels were searched: 1 if all distances were asked for, more if the first few
        images didn't decide, 0 if no distance was asked for.
    """

    path: Literal["pruned", "dense", "reference"]
    pairs: int
    passed: tuple[int, ...]
    exact: int
    guarded_cells: int
    passes: int = 1


@dataclass(frozen=True, eq=False)
class Result:
    """One frame's verdict and its explanation.

    A decided result is exact in what ``need`` says. ``"map"``: everything. ``"mask"``: pred_label, reasons, pred_mask,
    and area and box of the regions. ``"label"``: pred_label. image_score and nearest_images are always exact. The rest
    follows from an upper bound of the map, so that what isn't proven to be normal counts as anomalous.

    Attributes
    ----------
    pred_score
        The score that the recipe's label rule compares with a threshold; a higher one is more anomalous. If the frame
        check alone flags the frame, the score is as many times the threshold as the frame is beyond its limit. So it is
        above its threshold exactly when ``pred_label`` is true. It is always finite. A map that isn't exact counts by
        its upper bound; but by its lower bound if the label is known without the map.
    pred_label
        True: anomalous by the recipe's rule and thresholds, or by the frame check.
    image_score
        Mean squared distance to the k_score nearest normal embeddings; anomalous above tau.
    map_score
        Maximum of the anomaly map; anomalous above theta.
    anomaly_map
        (H, W) float32 at the extractor's input size, smoothed; 0 where the recipe ignores it. An upper bound of each
        pixel, unless need is ``"map"`` and the result is decided. Where nothing was searched, it is the largest value
        that a map can have.
    pred_mask
        (H, W) bool: anomaly_map > theta. If need is ``"label"`` and the label is known without the map, nothing is
        searched and the mask is empty.
    regions
        The mask's connected regions, highest score first, in the frame's own pixels. Score and peak are those of
        anomaly_map, so the order is, too.
    neighbours
        (h, w, kappa, 3) int32 as (image, y, x): the normal pixels that each pixel of the finest level matched; -1
        where all input pixels under it are ignored, and where none was searched. Unless the map is exact, they are the
        nearest that were found.
    nearest_images
        (k_gallery,) int64: the retrieved normal images, nearest first.
    match_statistics
        What the matcher had to compute for this frame; all 0 if it searched nothing.
    timings_s
        Seconds by stage: prepare, extract, retrieve, match, map. Match is 0 if nothing was searched.
    reasons
        Why the frame is anomalous; empty if it isn't. By the label rule: ``"map"``, the map is above theta;
        ``"image"``, the image score is above tau. By the frame check, compared with the range of the normal images:
        ``"exposure"``, far darker or brighter; ``"contrast"``, far less contrast, as of a frame without a part;
        ``"sharpness"``, far less sharp; ``"unlike"``, the embedding is far from every normal image's. If another reason
        settles the label, ``"map"`` stands beside it only where it is proven.
    need
        What the result was asked to be exact in.
    decided
        Whether it is. False: a deadline ended the search, and the frame was judged by the upper bound.
    lower_map
        (H, W) float32: a lower bound of each pixel of the anomaly map; equal to anomaly_map where that is exact.
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
    need: Need = "map"
    decided: bool = True
    lower_map: NDArray[np.float32] = None  # type: ignore[assignment] # the map itself, if it isn't given

    def __post_init__(self) -> None:
        if self.lower_map is None:
            object.__setattr__(self, "lower_map", self.anomaly_map)
