"""What the matcher's arguments must be: path, weights, ignore mask, ids, gallery. One sentence where they aren't."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from . import _native
from .checks import check_number
from .codes import LevelCodes
from .errors import DeviceError, InputError
from .settings import LARGEST_WEIGHT, SMALLEST_WEIGHT, Upsampling

Path = Literal["auto", "pruned", "dense", "reference"]


def checked_weights(weights: Sequence[float] | None, count: int) -> list[float]:
    """Return one weight for each of ``count`` levels; None: 1 each."""
    if weights is None:
        return [1.0] * count
    if len(weights) != count:
        raise InputError(f"weights: expected one for each of {count} levels, got {len(weights)}")
    for index, weight in enumerate(weights):
        check_number(f"weights[{index}]", weight, low=SMALLEST_WEIGHT, high=LARGEST_WEIGHT)
    return [float(weight) for weight in weights]


def checked_ignore(ignore: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return an ignore mask, C-contiguous, that is bool of this (h, w)."""
    if not isinstance(ignore, np.ndarray) or ignore.dtype != np.bool_ or ignore.shape != size:
        came = f"{ignore.dtype} {ignore.shape}" if isinstance(ignore, np.ndarray) else type(ignore).__name__
        raise InputError(f"ignore: expected bool {size}, got {came}")
    return np.ascontiguousarray(ignore)


def checked_ids(image_ids: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Return image ids as int64 (k,); which ids there are, the native matcher checks."""
    ids = np.asarray(image_ids)
    if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
        raise InputError(f"image_ids: expected integers (k,), got {ids.dtype} {ids.shape}")
    return np.ascontiguousarray(ids, np.int64)


def check_gallery(levels: Sequence[NDArray[np.floating]]) -> None:
    """Raise InputError unless all levels are (n, c, h, w), of one float type, of the same n, and finite."""
    if not levels:
        raise InputError("levels: expected at least one, got none")
    for index, level in enumerate(levels):
        if not isinstance(level, np.ndarray):
            raise InputError(f"levels: expected arrays (n, c, h, w), got {type(level).__name__} at level {index}")
        if level.ndim != 4 or level.dtype not in (np.float32, np.float16) or level.dtype != levels[0].dtype:
            raise InputError(
                f"levels: expected (n, c, h, w) arrays, all float32 or all float16, got {level.dtype} "
                f"{level.shape} at level {index}"
            )
        if level.size == 0 or len(level) != len(levels[0]):
            raise InputError(
                f"levels: expected {len(levels[0])} images at every level, at least one, none empty, got "
                f"{level.shape} at level {index}"
            )
        if not np.isfinite(level).all():
            place = tuple(int(i) for i in np.argwhere(~np.isfinite(level))[0])
            raise InputError(
                f"level {index}: expected finite features, got {level[place]} at (image, channel, y, x) = {place}"
            )


def resolved_path(
    path: Path, upsampling: Upsampling, codes: Sequence[LevelCodes] | None
) -> Literal["pruned", "dense", "reference"]:
    """Return the path to take, from facts that no query changes."""
    possible = upsampling == "nearest" and codes is not None
    if path == "pruned" and not possible:
        raise InputError(
            f"path: expected codes of the gallery and nearest upsampling for 'pruned', got upsampling {upsampling!r} "
            f"and {'no ' if codes is None else ''}codes"
        )
    if path == "auto":
        return "pruned" if possible else "dense"
    return path


def check_cuda(path: str) -> None:
    """Raise DeviceError without a matcher for GPUs, InputError for a path that it doesn't offer."""
    if not _native.CUDA:
        raise DeviceError(
            "device: expected a spadeline that was built with CUDA for 'cuda', got one without: install it anew on a "
            "machine where nvcc is on the PATH"
        )
    if path == "reference":
        raise InputError(f"device: expected the pruned or the dense path for 'cuda', got {path!r:.100}")
