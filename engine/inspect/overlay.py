"""The overlay: a frame with its anomaly map's colours, its contours and boxes, and hatching where it is ignored.

Colours depend on theta alone, never on the image's own range: two frames' pictures can be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from .. import _native
from ..errors import InputError
from ..images.resizing import Placement
from ..result import Region

# The overlay's colours start at the first of these multiples of theta, and no longer change from the second on.
_VISIBLE_FROM = 0.5
_FULL_SCALE = 2.0
_STRONGEST = 0.6  # the largest weight of a colour over the frame: a defect must remain visible
_SMALLEST_THETA = 1e-30  # identical normal images calibrate to 0
_CONTOUR_RGB = (255, 255, 255)
_BOX_RGB = (255, 0, 0)
_HATCH_LIGHT = 64  # grey levels between a bright and a dark stripe of the hatching, on any background
_HATCH_WIDTH = 4  # of a stripe, in line widths


def overlay(
    frame_rgb: NDArray[np.uint8],
    anomaly_map: NDArray[np.float32],
    theta: float,
    *,
    placement: Placement,
    regions: Sequence[Region] = (),
    ignore: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint8]:
    """Draw the anomaly map, its contour at theta and the regions' boxes onto a copy of the frame.

    Colours stand for multiples of theta, from half of it to twice. Ignored pixels are darkened and hatched. Pixels that
    the map doesn't cover stay as they are.

    Parameters
    ----------
    frame_rgb
        (h, w, 3) uint8.
    anomaly_map
        (H, W) float32.
    placement
        Where the map lies in the frame.
    ignore
        (H, W) bool: the map's pixels that aren't scored; None: all are.

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
    top, left, bottom, right = _native.frame_box(
        (0, 0, rows, columns), placement=placement, frame_size=picture.shape[:2]
    )
    ratio = np.clip(anomaly_map / np.float64(max(theta, _SMALLEST_THETA)), 0, _FULL_SCALE)
    covered = (right - left, bottom - top)
    ratio = np.asarray(cv2.resize(ratio.astype(np.float32), covered, interpolation=cv2.INTER_LINEAR))
    _blend(picture[top:bottom, left:right], ratio)
    thickness = max(1, round(min(picture.shape[:2]) / 256))
    if ignore is not None:
        ignored = cv2.resize(ignore.view(np.uint8), covered, interpolation=cv2.INTER_NEAREST_EXACT) > 0
        _hatch(picture[top:bottom, left:right], ignored, _HATCH_WIDTH * thickness)
    outlines, _ = cv2.findContours((ratio > 1).view(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, outlines, -1, _CONTOUR_RGB, thickness, offset=(left, top))
    for region in regions:
        top, left, bottom, right = region.box
        cv2.rectangle(picture, (left, top), (right - 1, bottom - 1), _BOX_RGB, thickness)
    return picture


def _blend(picture: NDArray[np.uint8], ratio: NDArray[np.floating]) -> None:
    """Mix the colours of multiples of theta into the picture, in place, from ``_VISIBLE_FROM`` on."""
    visible = ratio > _VISIBLE_FROM
    shown = ratio[visible]
    colours = _colours()[(shown * (255 / _FULL_SCALE)).astype(np.uint8)]
    weight = _STRONGEST * np.minimum((shown - _VISIBLE_FROM) / (1 - _VISIBLE_FROM), 1)[:, None]
    picture[visible] = np.rint(picture[visible] * (1 - weight) + colours * weight).astype(np.uint8)


def _hatch(picture: NDArray[np.uint8], ignored: NDArray[np.bool_], width: int) -> None:
    """Halve the brightness of ignored pixels and lay diagonal stripes over them, in place."""
    y, x = np.nonzero(ignored)
    stripes = ((y + x) // width % 2 * _HATCH_LIGHT).astype(np.uint8)
    picture[y, x] = picture[y, x] // 2 + stripes[:, None]


@cache
def _colours() -> NDArray[np.uint8]:
    """Return the 256 RGB colours of the scale from 0 to ``_FULL_SCALE`` times theta."""
    bgr = cv2.applyColorMap(np.arange(256, dtype=np.uint8), cv2.COLORMAP_TURBO)
    return np.asarray(bgr, np.uint8).reshape(256, 3)[:, ::-1]
