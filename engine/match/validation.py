"""What the matcher's arguments must be: path, weights, ignore mask, ids, gallery. One sentence where they aren't."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .. import _native
from ..checks import check_instance, check_integer, check_number, check_sequence, described, is_array
from ..errors import DeviceError, InputError
from ..settings import LARGEST_WEIGHT, SMALLEST_WEIGHT, Upsampling
from .codes import LevelCodes

MatcherPath = Literal["auto", "pruned", "dense", "reference"]


def checked_weights(weights: Sequence[float] | None, count: int) -> list[float]:
    """Return one weight for each of ``count`` levels; None: 1 each."""
    if weights is None:
        return [1.0] * count
    if not is_array(weights) or weights.ndim != 1:
        check_sequence("weights", weights, of="numbers")
    if len(weights) != count:
        raise InputError(f"weights: expected one for each of {count} levels, got {len(weights)}")
    for index, weight in enumerate(weights):
        check_number(f"weights[{index}]", weight, low=SMALLEST_WEIGHT, high=LARGEST_WEIGHT)
    return [float(weight) for weight in weights]


def checked_ignore(ignore: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return an ignore mask, C-contiguous, that is bool of this (h, w)."""
    if not is_array(ignore) or ignore.dtype != np.bool_ or ignore.shape != size:
        raise InputError(f"ignore: expected bool {size}, got {described(ignore)}")
    return np.ascontiguousarray(ignore)


def checked_ids(image_ids: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Return image ids as int64 (k,); which ids there are, the native matcher checks."""
    try:
        ids = np.asarray(image_ids)
    except (TypeError, ValueError):  # lists of unequal length
        raise InputError(f"image_ids: expected integers (k,), got {described(image_ids)}") from None
    if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu") or isinstance(image_ids, np.ma.MaskedArray):
        raise InputError(f"image_ids: expected integers (k,), got {described(ids)}")
    return np.require(ids, np.int64, ["C", "A"])


def checked_query(query: object, name: str) -> list[NDArray[np.floating]]:
    """Return a query's levels as the native matcher reads them; their types and shapes it checks."""
    check_sequence("query_levels", query, of="arrays")
    for index, level in enumerate(query):  # type: ignore[arg-type, var-annotated]
        if not is_array(level):
            raise InputError(f"{name} level {index}: expected an array (c, h, w), got {described(level)}")
    return [np.require(level, None, ["C", "A"]) for level in query]  # type: ignore[attr-defined]


def check_out(
    out: object, size: tuple[int, int], kappa: int, others: Iterable[NDArray[Any]]
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Return distances and neighbours to write to, which share no memory with each other or with ``others``."""
    if not isinstance(out, tuple | list) or len(out) != 2:
        came = f"{len(out)} of them" if isinstance(out, tuple | list) else described(out)
        raise InputError(f"out: expected a tuple of two arrays, distances and neighbours, got {came}")
    wanted = (("distances", np.float64, size), ("neighbours", np.int32, (*size, kappa, 3)))
    for array, (name, dtype, shape) in zip(out, wanted, strict=True):
        if is_array(array) and array.dtype == dtype and array.shape == shape and array.flags.carray:
            continue
        came = described(array)
        if isinstance(array, np.ndarray):
            came += "" if array.flags.c_contiguous else ", not C-contiguous"
            came += "" if array.flags.aligned else ", not aligned"
            came += "" if array.flags.writeable else ", read-only"
        raise InputError(f"out, {name}: expected C-contiguous writeable {np.dtype(dtype)} {shape}, got {came}")
    distances, neighbours = out
    for other in others:
        if np.may_share_memory(distances, other) or np.may_share_memory(neighbours, other):
            raise InputError("out: expected memory of its own, got some of the query's, the mask's or the gallery's")
    if np.may_share_memory(distances, neighbours):
        raise InputError("out: expected memory of their own for distances and neighbours, got some that both have")
    return distances, neighbours


def checked_cells(cells: object) -> list[NDArray[np.floating]]:
    """Return a gallery's levels in the cell-blocked layout; their types and shapes the native matcher checks."""
    check_sequence("cells", cells, of="arrays")
    levels: list[NDArray[np.floating]] = list(cells)  # type: ignore[call-overload]
    if not levels:
        raise InputError("cells: expected at least one level, got none")
    for index, level in enumerate(levels):
        if not is_array(level):
            raise InputError(f"cells[{index}]: expected an array, got {described(level)}")
    return levels


def checked_sizes(sizes: object, count: int) -> tuple[tuple[int, int], ...]:
    """Return the (height, width) of each of ``count`` levels."""
    check_sequence("sizes", sizes, of="(height, width)")
    pairs = list(sizes)  # type: ignore[call-overload]
    if len(pairs) != count:
        raise InputError(f"sizes: expected one for each of {count} levels, got {len(pairs)}")
    for index, size in enumerate(pairs):
        if not isinstance(size, tuple | list) or len(size) != 2:
            raise InputError(f"sizes[{index}]: expected (height, width), got {size!r:.100}")
        for side in size:
            check_integer(f"sizes[{index}]", side, low=1, high=2**31 - 1)
    return tuple((height, width) for height, width in pairs)


def check_codes(codes: object) -> None:
    """Raise InputError unless these are LevelCodes that hold arrays; what is in them the native matcher checks."""
    check_sequence("codes", codes, of="LevelCodes")
    for index, code in enumerate(codes):  # type: ignore[arg-type, var-annotated]
        check_instance(f"codes[{index}]", code, LevelCodes)
        for name, part in vars(code).items():
            if not is_array(part) and (part is not None or name == "basis"):
                raise InputError(f"codes[{index}], {name}: expected an array, got {described(part)}")


def check_gallery(levels: Sequence[NDArray[np.floating]]) -> None:
    """Raise InputError unless all levels are (n, c, h, w), of one float type, of the same n, and finite."""
    check_sequence("levels", levels, of="arrays")
    if not levels:
        raise InputError("levels: expected at least one, got none")
    for index, level in enumerate(levels):
        if not is_array(level):
            raise InputError(f"levels: expected arrays (n, c, h, w), got {described(level)} at level {index}")
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
    path: MatcherPath, upsampling: Upsampling, codes: Sequence[LevelCodes] | None
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
