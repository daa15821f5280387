"""From the matcher's distance map to what a person looks at: anomaly map, mask, regions and overlay picture.

``anomaly_map = Gaussian(sigma) of the bilinearly enlarged distances``. Nothing is rescaled by an image's own
range: two frames' maps and pictures can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from .errors import InputError
from .images import Placement
from .result import Region

# The overlay's colours, in multiples of theta: they set in at the first and stay the same from the second on.
_VISIBLE_FROM = 0.5
_FULL_SCALE = 2.0
_STRONGEST = 0.6  # the most that colour hides of the frame: a defect must still be seen
_SMALLEST_THETA = 1e-30  # identical normal images calibrate to 0
_CONTOUR_RGB = (255, 255, 255)
_BOX_RGB = (255, 0, 0)
# Absorbs the rounding of a scale such as 1024 / 224, by which an edge that lies on a whole pixel may miss it.
_EDGE_ROUNDING = 1e-6


def anomaly_map(distances: NDArray[np.floating], size: tuple[int, int], *, sigma: float) -> NDArray[np.float32]:
    """Enlarge a distance map to the extractor's input size and smooth it.

    Bilinear between pixel centres, edges held. The Gaussian reaches ``int(4 * sigma + 0.5)`` pixels far and
    mirrors the map at its border with the edge pixel repeated, which scipy calls ``reflect``.

    Parameters
    ----------
    distances
        (h, w) float32 or float64.
    size
        (H, W), neither smaller than the map's.
    sigma
        Standard deviation in pixels of the input; 0 leaves the enlarged map as it is.

    Returns
    -------
    ndarray
        (H, W) float32.
    """
    enlarged = cv2.resize(distances.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)
    if sigma > 0:
        side = 2 * int(4 * sigma + 0.5) + 1
        enlarged = cv2.GaussianBlur(enlarged, (side, side), sigma, borderType=cv2.BORDER_REFLECT)
    return np.asarray(enlarged, np.float32)


def find_regions(
    anomaly_map: NDArray[np.float32], theta: float, *, placement: Placement, frame_size: tuple[int, int]
) -> tuple[NDArray[np.bool_], tuple[Region, ...]]:
    """Return the mask ``anomaly_map > theta`` and its 8-connected regions, highest score first.

    Parameters
    ----------
    anomaly_map
        (H, W) float32.
    placement
        Where the map lies in the frame.
    frame_size
        (height, width) of the frame: boxes are rounded outwards to its whole pixels and don't leave it.

    Returns
    -------
    mask : ndarray
        (H, W) bool.
    regions : tuple of Region
        Equal scores go by the peak's position, row by row; so do equal peaks within a region.
    """
    mask = anomaly_map > theta
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    inside = np.flatnonzero(mask)
    scores, label = anomaly_map.ravel()[inside], np.asarray(labels, np.int32).ravel()[inside]
    best = np.full(count, -np.inf, np.float32)
    np.maximum.at(best, label, scores)
    highest = scores == best[label]
    peaks = np.empty(count, np.int64)
    peaks[label[highest][::-1]] = inside[highest][::-1]  # backwards: the first of equals is written last
    order = np.lexsort((peaks[1:], -best[1:])) + 1  # label 0 is what lies outside
    width = anomaly_map.shape[1]
    regions = tuple(
        Region(
            area=int(stats[i, cv2.CC_STAT_AREA]),
            box=_frame_box(stats[i], placement, frame_size),
            peak=_frame_pixel(divmod(int(peaks[i]), width), placement, frame_size),
            score=float(best[i]),
        )
        for i in order
    )
    return mask, regions


def overlay(
    frame_rgb: NDArray[np.uint8],
    anomaly_map: NDArray[np.float32],
    theta: float,
    *,
    placement: Placement,
    regions: Sequence[Region] = (),
) -> NDArray[np.uint8]:
    """Draw the anomaly map, its contour at theta and the regions' boxes onto a copy of the frame.

    Colours stand for multiples of theta, from half of it to twice. What the map doesn't cover stays as it is.

    Parameters
    ----------
    frame_rgb
        (h, w, 3) uint8.
    anomaly_map
        (H, W) float32.
    placement
        Where the map lies in the frame.

    Returns
    -------
    ndarray
        (h, w, 3) uint8.

    Raises
    ------
    InputError
        The frame has another dtype or shape.
    """
    if frame_rgb.dtype != np.uint8 or frame_rgb.ndim != 3 or frame_rgb.shape[2] != 3:
        raise InputError(f"frame_rgb: expected uint8 (h, w, 3), got {frame_rgb.dtype} {frame_rgb.shape}")
    picture = np.array(frame_rgb, order="C")
    rows, columns = anomaly_map.shape
    top, left, bottom, right = _frame_box((0, 0, columns, rows), placement, picture.shape[:2])
    ratio = np.clip(anomaly_map / np.float64(max(theta, _SMALLEST_THETA)), 0, _FULL_SCALE)
    covered = (right - left, bottom - top)
    ratio = np.asarray(cv2.resize(ratio.astype(np.float32), covered, interpolation=cv2.INTER_LINEAR))
    _blend(picture[top:bottom, left:right], ratio)
    thickness = max(1, round(min(picture.shape[:2]) / 256))
    outlines, _ = cv2.findContours((ratio > 1).view(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, outlines, -1, _CONTOUR_RGB, thickness, offset=(left, top))
    for region in regions:
        top, left, bottom, right = region.box
        cv2.rectangle(picture, (left, top), (right - 1, bottom - 1), _BOX_RGB, thickness)
    return picture


def _blend(picture: NDArray[np.uint8], ratio: NDArray[np.floating]) -> None:
    """Mix the colours of multiples of theta into the picture, in place, where there is any to see."""
    visible = ratio > _VISIBLE_FROM
    shown = ratio[visible]
    colours = _colours()[(shown * (255 / _FULL_SCALE)).astype(np.uint8)]
    weight = _STRONGEST * np.minimum((shown - _VISIBLE_FROM) / (1 - _VISIBLE_FROM), 1)[:, None]
    picture[visible] = np.rint(picture[visible] * (1 - weight) + colours * weight).astype(np.uint8)


@cache
def _colours() -> NDArray[np.uint8]:
    """Return the 256 RGB colours of the scale from 0 to ``_FULL_SCALE`` times theta."""
    bgr = cv2.applyColorMap(np.arange(256, dtype=np.uint8), cv2.COLORMAP_TURBO)
    return np.asarray(bgr, np.uint8).reshape(256, 3)[:, ::-1]


def _frame_box(
    stats: Sequence[int] | NDArray[np.int32], placement: Placement, frame_size: tuple[int, ...]
) -> tuple[int, int, int, int]:
    """Turn (left, top, width, height, ...) in the map into (top, left, bottom, right) in the frame."""
    left, top, width, height = (int(value) for value in stats[:4])
    first = placement.to_frame(top - 0.5, left - 0.5)
    last = placement.to_frame(top + height - 0.5, left + width - 0.5)
    begin = [max(math.floor(centre + 0.5 + _EDGE_ROUNDING), 0) for centre in first]
    end = [math.ceil(centre + 0.5 - _EDGE_ROUNDING) for centre in last]
    return begin[0], begin[1], min(end[0], frame_size[0]), min(end[1], frame_size[1])


def _frame_pixel(point: tuple[int, int], placement: Placement, frame_size: tuple[int, int]) -> tuple[int, int]:
    """Return the frame's pixel that holds the centre of the map's pixel (y, x)."""
    y, x = (math.floor(value + 0.5) for value in placement.to_frame(*point))
    return min(max(y, 0), frame_size[0] - 1), min(max(x, 0), frame_size[1] - 1)
