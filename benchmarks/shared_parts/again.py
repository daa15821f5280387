"""More images of a part than were taken: other views are made of those that were."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from spadeline.engine import Recipe
from spadeline.engine.extract.extractor import Extractor
from spadeline.engine.images.frame_facts import frame_facts
from spadeline.engine.images.reading import read_image
from spadeline.engine.images.resizing import as_rgb, place
from spadeline.engine.recipe.changes import add_images
from spadeline.engine.recipe.records import ImageRecord


def as_if_taken_again(image: NDArray[np.uint8], *, seed: int) -> NDArray[np.uint8]:
    """Return another view: shifted by up to 3 %, turned by 5 degrees, lit 10 % more or less, with noise of its own."""
    rng = np.random.default_rng(seed)
    height, width = image.shape[:2]
    turn = np.array(cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-5, 5), 1.0), np.float64)
    turn[:, 2] += rng.uniform(-0.03, 0.03, 2) * (width, height)
    moved = cv2.warpAffine(image, turn, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    lit = np.asarray(moved, np.float64) * rng.uniform(0.9, 1.1) + rng.normal(0, 2, moved.shape)
    return np.clip(np.rint(lit), 0, 255).astype(np.uint8)


def add_again(recipe: Recipe, paths: Sequence[Path], count: int, *, opened: Extractor) -> Recipe:
    """Add images to a recipe until it holds so many: other views of those at ``paths``, extracted by ``opened``."""
    held = len(recipe.images)
    if count <= held:
        return recipe

    def again() -> Iterator[tuple[ImageRecord, Any]]:
        for index in range(held, count):
            image, _ = place(as_rgb(read_image(paths[index % len(paths)])), opened.input_size, framing="whole")
            image = as_if_taken_again(image, seed=index)
            # Without facts the recipe would have no frame check, which is part of a frame's time.
            yield ImageRecord(f"again-{index}", facts=frame_facts(image)), opened.extract(image[None])

    return add_images(recipe.folder, again(), count - held)
