"""The ignore mask: which pixels of the extractor's input are not scored. It is a .npy file, (H, W) bool, or missing.

It belongs to the view of the product, not to the normal images. Adding and removing images doesn't touch its file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, RecipeError
from ..files import StoredFile
from .arrays import StoredArray

IGNORE = "ignore"  # the role of the mask, in recipe.json and in its file name


def check_ignore(ignore: NDArray[np.bool_], input_size: tuple[int, int]) -> None:
    """Raise InputError unless a mask is (H, W) bool and leaves at least one pixel to score."""
    if not isinstance(ignore, np.ndarray) or ignore.shape != input_size or ignore.dtype != np.bool_:
        got = f"{ignore.dtype} {ignore.shape}" if isinstance(ignore, np.ndarray) else type(ignore).__name__
        raise InputError(f"ignore: expected bool {input_size}, the extractor's input size, got {got}")
    if ignore.all():
        raise InputError("ignore: expected a pixel or more that is scored, got a mask that ignores all")


def open_ignore(folder: Path, stored: StoredFile, input_size: tuple[int, int]) -> NDArray[np.bool_]:
    """Read the mask. RecipeError if it isn't the one that was stored, or isn't a mask at all."""
    ignore: NDArray[np.bool_] = StoredArray(folder, stored, (input_size, np.dtype(np.bool_))).in_memory()
    if (largest := int(ignore.view(np.uint8).max())) > 1:
        raise RecipeError(f"{folder / stored.name}: expected bytes of 0 and 1, got {largest}")
    try:
        check_ignore(ignore, input_size)
    except InputError as error:
        raise RecipeError(f"{folder / stored.name}: {error}") from None
    return ignore
