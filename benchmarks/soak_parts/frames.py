"""Frames from a camera: good ones, scratched ones, other layouts, and whatever a broken camera may send."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from spadeline.engine import Detector, FrameError, Result, SpadelineError

from shared_parts.again import as_if_taken_again


@dataclass(frozen=True, eq=False)
class Sent:
    """A frame, and whether it must be refused; None: it may be refused or inspected, but always in the same way."""

    name: str
    frame: Any
    refused: bool | None


def pool(images: Sequence[NDArray[np.uint8]]) -> tuple[list[Sent], list[Sent]]:
    """Return frames that must be inspected, and frames of a broken camera."""
    good = [Sent(f"image {index}", image, False) for index, image in enumerate(images)]
    again = [as_if_taken_again(image, seed=index) for index, image in enumerate(images)]
    good += [Sent(f"image {index} again", frame, False) for index, frame in enumerate(again)]
    scratched = [Sent(f"image {index} scratched", _scratched(frame), False) for index, frame in enumerate(again)]
    first = images[0]
    layouts = [
        Sent("gray", first[..., 1].copy(), False),
        Sent("with alpha", np.dstack([first, first[..., :1]]), False),
        Sent("with gaps", np.repeat(np.repeat(first, 2, 0), 2, 1)[::2, ::2], False),
        Sent("read-only", np.frombuffer(first.tobytes(), np.uint8).reshape(first.shape), False),
    ]
    bad = [
        Sent("None", None, True),
        Sent("text", "frame", True),
        Sent("float32", first.astype(np.float32), True),
        Sent("NaN", np.full(first.shape, np.nan), True),
        Sent("int8", first.view(np.int8), True),
        Sent("objects", np.full(first.shape, None), True),
        Sent("two channels", first[..., :2], True),
        Sent("one dimension", first.reshape(-1), True),
        Sent("a batch", first[None], True),
        Sent("tiny", first[:2, :2], True),
        Sent("empty", first[:0], True),
        Sent("black", np.zeros_like(first), None),
        Sent("white", np.full_like(first, 255), None),
        Sent("a line of pixels", np.resize(first, (8, 500, 3)), None),
    ]
    return good + scratched + layouts, bad


def _scratched(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = frame.shape[:2]
    changed = frame.copy()
    changed[height // 3 : height // 3 + max(height // 12, 1), width // 4 : width // 2] = 250
    return changed


def resized(image: NDArray[np.uint8], size: tuple[int, int] | None) -> NDArray[np.uint8]:
    """Return an image at (height, width); None: as it is."""
    if size is None:
        return image
    return np.asarray(cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA), np.uint8)


def outcome(result: Result | FrameError) -> str:
    """Return a text that holds all of a result, bit by bit, or of a frame's error, to be compared."""
    if isinstance(result, FrameError):
        return f"{type(result.error).__name__}: {result.error}"
    digest = hashlib.blake2b(digest_size=16)
    for array in (result.anomaly_map, result.pred_mask, result.neighbours, result.nearest_images):
        digest.update(np.ascontiguousarray(array))
    scores = (result.pred_label, result.pred_score, result.image_score, result.map_score, result.regions)
    return f"{scores} {digest.hexdigest()}"


def expected(detector: Detector, sent: Sequence[Sent]) -> list[str]:
    """Return each frame's outcome by predict, one after the other.

    Raises
    ------
    SpadelineError
        A frame that must be refused was inspected, or one that must be inspected was refused.
    """
    outcomes = []
    for one in sent:
        made: Result | FrameError
        try:
            made = detector.predict(one.frame)
        except SpadelineError as error:
            made = FrameError(0, error)
        refused = isinstance(made, FrameError)
        if one.refused not in (None, refused):
            what = "refused" if one.refused else "inspected"
            raise SpadelineError(f"frame {one.name}: expected one that is {what}, got {outcome(made)}")
        outcomes.append(outcome(made))
    return outcomes
