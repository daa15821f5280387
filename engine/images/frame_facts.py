"""Three numbers of each normal image that a recipe keeps, so that a frame can be compared with them.

Which numbers a frame may have is decided in :mod:`.frame_check`. ``csrc/runtime/frame_facts.hpp`` computes them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .. import _native
from ..checks import check_number
from ..resources import asked_instruction_set

MOST_SHARPNESS = 1e9  # of csrc/runtime/frame_facts.cpp


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
    ignore = None if ignore is None else np.ascontiguousarray(ignore)
    facts = _native.frame_facts(np.ascontiguousarray(image), ignore, instruction_set=asked_instruction_set())
    return FrameFacts(*facts)
