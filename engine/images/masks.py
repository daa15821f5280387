"""From the picture of a mask to true and false.

A mask has two values, a background and a mark. The higher value is the mark, be it of a colour or of opacity. JPEG and
resampling spread both values, so the cut is halfway between them. Values that lie too far from the edge of a mark to
come from JPEG or resampling are a third population, such as another class in a map of labels. It is marked, too, and a
warning says so.
"""

from __future__ import annotations

import os
import warnings

import cv2
import numpy as np
from numpy.typing import NDArray

SPREAD = 0.25  # JPEG and resampling change a value by at most this share of the span between background and mark
# How many pixels the edge of a mark may reach from it, in masks enlarged up to 8 times, and its ripples: JPEG's blocks
# have 8 pixels, with colour 16.
EDGE_REACH = 4
RIPPLE_REACH = 16
POPULATION = 9  # pixels, 3 x 3: fewer are noise


def marked(picture: NDArray[np.uint8], path: str | os.PathLike[str]) -> NDArray[np.bool_]:
    """Return which pixels a mask marks.

    Parameters
    ----------
    picture
        (h, w) gray, (h, w, 3) RGB or (h, w, 4) RGBA, as :func:`.decoding.decode` returns it.
    path
        The mask's file, for warnings.

    Returns
    -------
    ndarray
        (h, w) bool. A mask of one value is marked where it isn't black.

    Warns
    -----
    UserWarning
        There are three populations or more, or nothing is marked, or everything.
    """
    plane = _plane(picture)
    counts = np.asarray(cv2.calcHist([plane], [0], None, [256], [0, 256])).ravel()
    levels = np.flatnonzero(counts)
    if len(levels) == 1:
        what = "everything" if levels[0] else "nothing"
        _warn(path, f"expected a mark and a background, got {levels[0]} in all {plane.size} pixels: {what} is marked")
        return np.full(plane.shape, levels[0] > 0)
    middle = (int(levels[0]) + int(levels[-1])) / 2
    background = int(counts[: int(middle) + 1].argmax())
    mark = int(middle) + 1 + int(counts[int(middle) + 1 :].argmax())
    certain: NDArray[np.bool_] = plane > (background + mark) / 2
    third = _unexplained(plane, background, mark) if len(levels) > 2 else None
    if third is None or np.count_nonzero(third) < POPULATION:
        return certain
    lowest, second = sorted({background, mark, int(plane[third].min()), int(plane[third].max())})[:2]
    mask = _regions_with(third | certain, plane > (lowest + second) / 2)
    _warn(
        path,
        f"expected two populations of values, got {background}, {mark} and others in {np.count_nonzero(third)} pixels: "
        f"all above {(lowest + second) / 2:g} is marked, {np.count_nonzero(mask)} of {plane.size} pixels",
    )
    return mask


def _plane(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the number of each pixel that tells marks from background: its visible brightness, or else its opacity."""
    if picture.ndim == 2:
        return picture
    red, green, blue = (picture[..., channel] for channel in range(3))
    brightest = np.maximum(np.maximum(red, green), blue)
    if picture.shape[2] == 3:
        return brightest
    alpha = np.ascontiguousarray(picture[..., 3])
    # A transparent pixel isn't seen, whatever colour it has.
    seen = np.asarray(cv2.multiply(brightest, alpha, scale=1 / 255), np.uint8)
    return next((plane for plane in (seen, brightest, alpha) if plane.min() < plane.max()), brightest)


def _unexplained(plane: NDArray[np.uint8], background: int, mark: int) -> NDArray[np.bool_]:
    """Return the pixels whose value comes neither from background or mark nor from an edge between the two."""
    spread = SPREAD * (mark - background)
    edges, ripples = (
        np.asarray(cv2.dilate(source.view(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))).view(np.bool_)
        for source, reach in ((plane >= mark - spread, EDGE_REACH), (plane > background + spread, RIPPLE_REACH))
    )
    between = (plane > background + spread) & (plane < mark - spread) & ~edges
    near_background = (plane != background) & (plane <= background + spread) & ~ripples
    return np.asarray(between | near_background)


def _regions_with(seeds: NDArray[np.bool_], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the mask's regions that hold a seed. The others are ripples, which a cut below the middle includes."""
    count, regions = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)
    kept = np.zeros(count, np.bool_)
    kept[regions[seeds & mask]] = True
    return np.asarray(kept[regions])


def _warn(path: str | os.PathLike[str], text: str) -> None:
    # All warnings come from this line, so that a mask that evaluation and report both read is warned of once.
    warnings.warn(f"{path}: {text}", UserWarning, stacklevel=2)
