"""Resizes camera frames to the extractor's uint8 RGB input, and maps positions back to the frame's pixels.

A frame's colours are decided by its declaration, dtype and shape, never by its content. Nothing is normalised: that
happens inside the extractor's graph. Files are decoded in :mod:`.decoding`.
"""

from __future__ import annotations

import functools
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from .. import _native
from ..checks import check_choice
from ..errors import InputError
from ..resources import asked_instruction_set
from ..settings import Framing
from .decoding import MIN_SIDE

Color = Literal["auto", "gray", "rgb", "bgr", "rgba", "bgra"]


_CHANNELS = {"auto": (1, 3, 4), "gray": (1,), "rgb": (3,), "bgr": (3,), "rgba": (4,), "bgra": (4,)}
_BY_CHANNELS = {1: "gray", 3: "rgb", 4: "rgba"}
_CONVERSIONS = {
    "gray": cv2.COLOR_GRAY2RGB,
    "bgr": cv2.COLOR_BGR2RGB,
    "rgba": cv2.COLOR_RGBA2RGB,
    "bgra": cv2.COLOR_BGRA2RGB,
}


def as_rgb(frame: NDArray[np.uint8], *, color: Color = "auto") -> NDArray[np.uint8]:
    """Bring a camera frame to RGB.

    Parameters
    ----------
    frame
        (h, w), (h, w, 1), (h, w, 3) or (h, w, 4) uint8, any strides.
    color
        The meaning of the channels. "auto" decides by their number: gray, RGB or RGBA. BGR must be declared. Alpha is
        ignored.

    Returns
    -------
    ndarray
        (h, w, 3) uint8, C-contiguous. This is the frame itself if it has that form.

    Raises
    ------
    InputError
        Another dtype, a shape that doesn't fit the declared colour, or a side below ``MIN_SIDE``.
    """
    meaning = _meaning(frame, color)
    return _converted(np.ascontiguousarray(frame), meaning)


class FrameResizer:
    """Brings camera frames to the extractor's input. May be shared by threads.

    A side that shrinks is averaged over area, one that grows is interpolated linearly. The bytes are those of OpenCV's
    ``INTER_AREA`` and ``INTER_LINEAR`` on x86-64; ``csrc/runtime/frame.hpp`` computes them, on any processor. The frame
    is resized first, as fewer pixels are then brought to RGB.

    Parameters
    ----------
    size
        (H, W) of the extractor's input.
    framing
        "whole": the whole frame is used, each side scaled on its own. "paper": the frame's proportions are kept, the
        relatively shorter side becomes 8/7 of the input's, and the centre is cut out, rounded as in torchvision's
        Resize(256) and CenterCrop(224). The border of the frame isn't seen, 23 % of a square frame.
    threads
        Of the team that shrinks a large frame. The caller's thread alone shrinks a small one, and any frame while the
        team shrinks another one. They don't change the result.

    Attributes
    ----------
    native
        What prepares the frames.

    Raises
    ------
    InputError
        An unknown framing, a number of threads below 1, or an instruction set, named by ``SPADELINE_INSTRUCTION_SET``,
        that this machine lacks.
    """

    def __init__(self, size: tuple[int, int], *, framing: Framing, threads: int) -> None:
        check_choice("framing", framing, ("whole", "paper"))
        self.size = size
        try:
            self.native = _native.Preparation(
                size, framing=framing, threads=threads, instruction_set=asked_instruction_set()
            )
        except ValueError as error:
            raise InputError(str(error)) from None

    def prepare(self, frame: NDArray[np.uint8], *, color: Color = "auto") -> tuple[NDArray[np.uint8], Placement]:
        """Bring a frame to (H, W, 3) uint8 RGB, and return where that lies in the frame.

        Parameters
        ----------
        frame, color
            As for :func:`as_rgb`. Rows may lie apart, as in a cut-out of a frame. With other strides the pixels are
            copied first.

        Raises
        ------
        InputError
            What :func:`as_rgb` refuses, a frame too long and thin for the paper's framing, or a fork of the process
            that made a team of several threads.
        """
        meaning = _meaning(frame, color)
        pixels = frame[..., 0] if frame.ndim == 3 and frame.shape[2] == 1 else frame
        rows_are_whole = pixels.strides[0] >= pixels[0].nbytes and pixels[0].flags.c_contiguous
        if not rows_are_whole:
            pixels = np.ascontiguousarray(pixels)
        prepared = np.empty((*self.size, 3), np.uint8)
        try:
            placement = self.native.prepare(pixels, color=meaning, out=prepared)
        except (ValueError, RuntimeError) as error:
            raise InputError(str(error)) from None
        return prepared, Placement(*placement)


def _meaning(frame: NDArray[np.uint8], color: Color) -> str:
    """Check a frame, and return what its channels mean."""
    check_choice("color", color, tuple(_CHANNELS))
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8:
        came = frame.dtype if isinstance(frame, np.ndarray) else type(frame).__name__
        raise InputError(f"frame: expected a uint8 array, got {came}")
    channels = 1 if frame.ndim == 2 else frame.shape[2] if frame.ndim == 3 else 0
    if channels not in _CHANNELS[color]:
        wanted = " or ".join("(h, w) or (h, w, 1)" if n == 1 else f"(h, w, {n})" for n in _CHANNELS[color])
        raise InputError(f"frame: expected {wanted} for color {color!r:.100}, got {frame.shape}")
    if min(frame.shape[:2]) < MIN_SIDE:
        raise InputError(
            f"frame: expected sides of at least {MIN_SIDE} pixels, got {frame.shape[0]} x {frame.shape[1]}"
        )
    return _BY_CHANNELS[channels] if color == "auto" else color


def _converted(pixels: NDArray[np.uint8], meaning: str) -> NDArray[np.uint8]:
    if meaning == "rgb":
        return pixels
    return np.asarray(cv2.cvtColor(pixels, _CONVERSIONS[meaning]), np.uint8)


class Placement(NamedTuple):
    """Where the extractor's input lies in the frame: ``frame = (input + 0.5) * scale + offset - 0.5``.

    Coordinates are those of pixel centres: the first pixel spans -0.5 to 0.5.

    Attributes
    ----------
    scale_y, scale_x
        Frame pixels per input pixel.
    top, left
        The input's upper left corner in the frame, in frame pixels from the frame's own corner.
    """

    scale_y: float
    scale_x: float
    top: float
    left: float

    def to_frame(self, y: float, x: float) -> tuple[float, float]:
        """Return where the input's point (y, x) lies in the frame."""
        return (y + 0.5) * self.scale_y + self.top - 0.5, (x + 0.5) * self.scale_x + self.left - 0.5

    def to_input(self, y: float, x: float) -> tuple[float, float]:
        """Return where the frame's point (y, x) lies in the input."""
        return (y + 0.5 - self.top) / self.scale_y - 0.5, (x + 0.5 - self.left) / self.scale_x - 0.5


def place(rgb: NDArray[np.uint8], size: tuple[int, int], *, framing: Framing) -> tuple[NDArray[np.uint8], Placement]:
    """Resize a frame of :func:`as_rgb` to the extractor's input on the caller's thread: see :class:`FrameResizer`."""
    return _callers_thread(size, framing).prepare(rgb, color="rgb")


@functools.lru_cache(maxsize=8)  # few sizes are in use at a time
def _callers_thread(size: tuple[int, int], framing: Framing) -> FrameResizer:
    return FrameResizer(size, framing=framing, threads=1)


def any_under(mask: NDArray[np.bool_], size: tuple[int, int], placement: Placement) -> NDArray[np.bool_]:
    """Bring a frame's mask to the input's geometry: true where a frame pixel that the input pixel touches is true.

    Parameters
    ----------
    mask
        (h, w) bool, of the frame's size.
    size
        (H, W) of the input.
    placement
        Where the input lies in the frame, as :func:`place` returns it.

    Returns
    -------
    ndarray
        (H, W) bool.
    """
    return _native.any_under(np.ascontiguousarray(mask), size, placement)
