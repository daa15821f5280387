"""Turns a picture about its centre, for parts that lie at any angle; a recipe's settings say at how many angles."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def degrees_of(angles: int) -> list[float]:
    """Return the degrees of so many angles, equal parts of a full circle, without 0."""
    return [360 * number / angles for number in range(1, angles)]


def turned(rgb: NDArray[np.uint8], degrees: float) -> NDArray[np.uint8]:
    """Turn a picture about its centre; it keeps its size.

    What lies outside of the picture is its mirror image at the edge. Between pixels, values are interpolated linearly.

    Parameters
    ----------
    rgb
        (h, w, 3) uint8.
    degrees
        Counter-clockwise.
    """
    height, width = rgb.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    turn = cv2.warpAffine(rgb, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(turn, np.uint8)
