"""More images of a part than were taken: other views are made of those that were."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def as_if_taken_again(image: NDArray[np.uint8], *, seed: int) -> NDArray[np.uint8]:
    """Return another view: shifted by up to 3 %, turned by 5 degrees, lit 10 % more or less, with noise of its own."""
    rng = np.random.default_rng(seed)
    height, width = image.shape[:2]
    turn = np.array(cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-5, 5), 1.0), np.float64)
    turn[:, 2] += rng.uniform(-0.03, 0.03, 2) * (width, height)
    moved = cv2.warpAffine(image, turn, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    lit = np.asarray(moved, np.float64) * rng.uniform(0.9, 1.1) + rng.normal(0, 2, moved.shape)
    return np.clip(np.rint(lit), 0, 255).astype(np.uint8)
