"""Three numbers of each normal image that a recipe keeps, so that a frame can be compared with them.

Which numbers a frame may have is decided in :mod:`.frame_check`.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..checks import check_number

MOST_SHARPNESS = 1e9  # if the steps sum up to hardly more than rounding makes, their ratio may be any number
# Variance that rounding adds to a gray level: 1/12 by its own rounding, and about half as much by that of the colours
# before. If it were left in, more blur would make a picture sharper, from a blur of some eight pixels on.
ROUNDING = 1 / 8


@dataclass(frozen=True)
class FrameFacts:
    """Three numbers of an image, in gray and at the size of the extractor's input.

    Attributes
    ----------
    brightness
        Mean gray level, 0 to 255.
    contrast
        Standard deviation of the gray levels.
    sharpness
        Mean squared Laplacian, divided by the sum of the mean squared steps to the next pixel in y and in x, each
        without the part that rounding adds. Exposure and contrast cancel out. White noise has 5, a sharp picture about
        2, a blurred one less than 1, a constant one 0.
    """

    brightness: float
    contrast: float
    sharpness: float

    def __post_init__(self) -> None:
        check_number("brightness", self.brightness, low=0, high=255)
        check_number("contrast", self.contrast, low=0, high=255)
        check_number("sharpness", self.sharpness, low=0, high=MOST_SHARPNESS)


def frame_facts(image: NDArray[np.uint8], ignore: NDArray[np.bool_] | None = None) -> FrameFacts:
    """Return an image's facts, to six digits.

    Parameters
    ----------
    image
        (H, W, 3) uint8 RGB, as the extractor takes it.
    ignore
        (H, W) bool: pixels that are left out. None: all pixels count.
    """
    gray = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
    laplacian = np.asarray(cv2.Laplacian(gray, cv2.CV_16S), np.int16)
    counted, mask_y, mask_x, pixels = None, None, None, gray.size
    if ignore is not None:
        counted = np.where(ignore, np.uint8(0), np.uint8(1))
        inner = np.asarray(
            cv2.erode(counted, np.ones((3, 3), np.uint8)), np.uint8
        )  # pixels all of whose neighbours count
        mask_y, mask_x, pixels = inner[1:], inner[:, 1:], max(cv2.countNonZero(inner), 1)
        laplacian *= inner
    mean, deviation = cv2.meanStdDev(gray, mask=counted)
    steps = _squares(gray[1:], gray[:-1], mask_y) + _squares(gray[:, 1:], gray[:, :-1], mask_x)
    # The Laplacian's weights are 1, 1, 1, 1 and -4, so rounding adds 20 times its variance to it. The two steps, each
    # between two gray levels, get 4 times the variance.
    curved, stepped = cv2.norm(laplacian, cv2.NORM_L2SQR) / pixels - 20 * ROUNDING, steps / pixels - 4 * ROUNDING
    sharpness = min(curved / stepped, MOST_SHARPNESS) if curved > 0 and stepped > 0 else 0.0
    return FrameFacts(*(float(f"{value:.6g}") for value in (mean[0, 0], deviation[0, 0], sharpness)))


def _squares(a: NDArray[np.uint8], b: NDArray[np.uint8], mask: NDArray[np.uint8] | None) -> float:
    return cv2.norm(a, b, cv2.NORM_L2SQR, mask)
