"""Shrinks pictures: each pixel becomes the average of the area that it covers.

The bytes are those of OpenCV's ``INTER_AREA`` on x86-64. ``csrc/images/area.hpp`` computes them, on any processor.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from .. import _native
from ..errors import InputError
from ..resources import asked_instruction_set


class AreaResizer:
    """Shrinks pictures, with a team of threads of its own. May be shared by threads.

    Parameters
    ----------
    threads
        Of the team, which shrinks a large picture. The caller's thread alone shrinks a small one, and any picture while
        the team shrinks another one.

    Attributes
    ----------
    native
        What shrinks the pictures.

    Raises
    ------
    InputError
        A number of threads below 1, or an instruction set, named by ``SPADELINE_INSTRUCTION_SET``, that this machine
        lacks.
    """

    def __init__(self, *, threads: int) -> None:
        try:
            self.native = _native.AreaResizer(threads=threads, instruction_set=asked_instruction_set())
        except ValueError as error:
            raise InputError(str(error)) from None

    def shrink(self, pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
        """Shrink a picture to a new one.

        Parameters
        ----------
        pixels
            (h, w), (h, w, 3) or (h, w, 4) uint8; a fourth channel is left out. Rows may lie apart, as in a cut-out of a
            frame. With other strides the pixels are copied first.
        size
            (H, W), neither side larger than the picture's.

        Raises
        ------
        InputError
            Another dtype or shape, a larger side, or a fork of the process that made a team of several threads.
        """
        rows_are_whole = pixels.size > 0 and pixels.strides[0] >= pixels[0].nbytes and pixels[0].flags.c_contiguous
        if not rows_are_whole:
            pixels = np.ascontiguousarray(pixels)
        shrunk = np.empty((*size, 3) if pixels.ndim == 3 else size, np.uint8)
        try:
            self.native.shrink(pixels, out=shrunk)
        except (ValueError, RuntimeError) as error:
            raise InputError(str(error)) from None
        return shrunk


@functools.cache
def callers_thread() -> AreaResizer:
    """Return what shrinks pictures on its caller's thread, for all who have no threads of their own."""
    return AreaResizer(threads=1)
