"""A mask's picture to true and false: a drawn one as it is drawn, a photographed or resampled one cut in the middle.

Two values, whichever they are, are background and mark: the higher one is the mark, be it a colour or opacity. JPEG and
resampling spread both, so the cut is halfway between lowest and highest. A value between them that belongs to no mark's
edge is a third population, such as another class in a map of labels: it is marked, too, and said.
"""

from __future__ import annotations

import os
import warnings

import cv2
import numpy as np
from numpy.typing import NDArray

# Values that a drawing program writes; more are a photograph's or a resampled picture's, whose values spread.
DRAWN_LEVELS = 16
# Share of the span that JPEG and overshooting resampling reach around a level, away from any edge.
SPREAD = 0.25
EDGE_PIXELS = 4  # within them of a mark a value between is its edge: enough for masks enlarged 8 times


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
        Three populations or more, nothing marked, or everything.
    """
    plane = _plane(picture)
    lowest, highest = int(plane.min()), int(plane.max())
    if lowest == highest:
        what = "everything" if highest else "nothing"
        _warn(path, f"expected a mark and a background, got {highest} in all {plane.size} pixels: {what} is marked")
        return np.full(plane.shape, highest > 0)
    cut = (lowest + highest) / 2
    if (between := _third_population(plane, lowest, highest)) is not None:
        count, value = int(np.count_nonzero(between)), int(plane[between].min())
        cut = min(cut, (lowest + value) / 2)
        mask: NDArray[np.bool_] = plane > cut
        _warn(
            path,
            f"expected two populations of values, got a third between {lowest} and {highest}, from {value} on in "
            f"{count} pixels: all above {cut:g} is marked, {np.count_nonzero(mask)} of {plane.size} pixels",
        )
        return mask
    return np.asarray(plane > cut)


def _plane(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the one number of each pixel that tells marks from background: brightness as seen, or else opacity."""
    if picture.ndim == 2:
        return picture
    brightest = np.asarray(picture[..., :3].max(axis=2), np.uint8)
    if picture.shape[2] == 3:
        return brightest
    alpha = np.ascontiguousarray(picture[..., 3])
    # What is transparent isn't seen, whatever colour the program left there.
    seen = np.asarray(np.rint(brightest * (alpha / 255)), np.uint8)
    return next((plane for plane in (seen, brightest, alpha) if plane.min() < plane.max()), brightest)


def _third_population(plane: NDArray[np.uint8], lowest: int, highest: int) -> NDArray[np.bool_] | None:
    """Return the pixels of neither population; None where each value between them is at the edge of a mark."""
    levels = int(np.count_nonzero(np.bincount(plane.ravel(), minlength=256)))
    if levels == 2:
        return None
    spread = 0.0 if levels <= DRAWN_LEVELS else SPREAD * (highest - lowest)
    high = (plane >= highest - spread).view(np.uint8)
    reach = np.ones((2 * EDGE_PIXELS + 1,) * 2, np.uint8)
    between = (plane > lowest + spread) & (np.asarray(cv2.dilate(high, reach)) == 0)
    return between if between.any() else None


def _warn(path: str | os.PathLike[str], text: str) -> None:
    warnings.warn(f"{path}: {text}", UserWarning, stacklevel=4)
