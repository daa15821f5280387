"""Good frames, spoiled: what a faulty camera delivers, or one with nothing in front of it."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]

BLURS = (2, 4, 8)  # standard deviations, in pixels of the extractor's input
NOISE = 3.0  # gray levels, of an empty scene


def spoiled(frame: Frame, input_size: tuple[int, int]) -> Iterator[tuple[str, Frame]]:
    """Yield (what happened, (h, w, 3) uint8 frame)."""
    rng = np.random.default_rng(0)
    yield "black", np.zeros_like(frame)
    yield "white", np.full_like(frame, 255)
    yield "a tenth of the exposure", exposed(frame, 0.1)
    yield "half of the exposure", exposed(frame, 0.5)
    for sigma in BLURS:
        scales = [side / extent for side, extent in zip(frame.shape, input_size, strict=False)]
        blurred = cv2.GaussianBlur(frame, (0, 0), sigmaX=sigma * scales[1], sigmaY=sigma * scales[0])
        yield f"blurred by {sigma} pixels", np.asarray(blurred, np.uint8)
    empty = np.broadcast_to(_border_colour(frame), frame.shape) + rng.normal(0, NOISE, frame.shape)
    yield "empty, the border's colour", np.clip(empty, 0, 255).astype(np.uint8)
    yield "empty, filled in from the border", _filled_in(frame)


def exposed(frame: Frame, factor: float) -> Frame:
    """Return a frame at another exposure."""
    return np.clip(frame * factor, 0, 255).astype(np.uint8)


def _border_colour(frame: Frame) -> NDArray[np.floating]:
    rows = np.concatenate([frame[:4].reshape(-1, 3), frame[-4:].reshape(-1, 3)])
    columns = np.concatenate([frame[:, :4].reshape(-1, 3), frame[:, -4:].reshape(-1, 3)])
    return np.median(np.concatenate([rows, columns]), axis=0)


def _filled_in(frame: Frame, side: int = 128) -> Frame:
    """Keep the border, and fill the inside smoothly from it by inpainting."""
    small = cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA)
    inside = np.zeros((side, side), np.uint8)
    inside[side // 16 : -side // 16, side // 16 : -side // 16] = 255
    filled = cv2.inpaint(small, inside, 3, cv2.INPAINT_TELEA)
    return np.asarray(cv2.resize(filled, frame.shape[1::-1], interpolation=cv2.INTER_LINEAR), np.uint8)
