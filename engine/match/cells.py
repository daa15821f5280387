"""The cell-blocked layout: (n, c, h, w) feature maps to (n, rows, columns, block, c) and back.

A *cell* is one position of the coarsest level. All finer vectors of a cell lie together, in Morton (Z) order, so
that position i of any level belongs to position ``i >> 2`` of a level half its size: one shift replaces all index
arithmetic in the matcher. Levels whose size isn't a whole number of cells are padded with zeros; the matcher never
returns a padded position. This file is the layout's definition; ``csrc/README.md`` describes it for C++ readers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError


def level_shifts(sizes: tuple[tuple[int, int], ...]) -> tuple[int, ...]:
    """Return how often each level's size has been halved, relative to the finest.

    ``cell_l(y, x) = (y >> shift, x >> shift)`` for a finest-level position (y, x).

    Parameters
    ----------
    sizes
        (h, w) of each level, finest first.

    Raises
    ------
    InputError
        A level isn't ``ceil(finest / 2**shift)`` in both directions for a shift above the one before.
    """
    (height, width), shifts = sizes[0], [0]
    for index, size in enumerate(sizes[1:], start=1):
        fitting = (s for s in range(shifts[-1] + 1, 16) if size == (-(-height >> s), -(-width >> s)))
        shift = next(fitting, None)
        if shift is None:
            raise InputError(
                f"level {index}: expected the size of level {index - 1} ({sizes[index - 1][0]} x "
                f"{sizes[index - 1][1]}) halved once or more, rounded up, got {size[0]} x {size[1]}"
            )
        shifts.append(shift)
    return tuple(shifts)


def to_cells(level: NDArray[np.floating], depth: int) -> NDArray[np.floating]:
    """Reorder feature maps into the cell-blocked layout.

    Parameters
    ----------
    level
        (n, c, h, w).
    depth
        Halvings between this level and the coarsest one; a cell holds ``4**depth`` of its positions.

    Returns
    -------
    ndarray
        (n, ceil(h / 2**depth), ceil(w / 2**depth), 4**depth, c), same dtype, C-contiguous.
    """
    n, channels, height, width = level.shape
    side = 1 << depth
    rows, columns = -(-height // side), -(-width // side)
    pad = ((0, 0), (0, 0), (0, rows * side - height), (0, columns * side - width))
    bits = np.pad(level, pad).reshape(n, channels, rows, *[2] * depth, columns, *[2] * depth)
    y_bits, x_bits = range(3, 3 + depth), range(4 + depth, 4 + 2 * depth)
    morton = [axis for pair in zip(y_bits, x_bits, strict=True) for axis in pair]
    ordered = bits.transpose(0, 2, 3 + depth, *morton, 1)
    return np.ascontiguousarray(ordered).reshape(n, rows, columns, side * side, channels)


def from_cells(cells: NDArray[np.floating], height: int, width: int) -> NDArray[np.floating]:
    """Undo :func:`to_cells`: (n, rows, columns, 4**depth, c) to (n, c, height, width), C-contiguous."""
    n, rows, columns, block, channels = cells.shape
    depth = (block.bit_length() - 1) // 2
    bits = cells.reshape(n, rows, columns, *[2] * (2 * depth), channels)
    y_bits, x_bits = range(3, 3 + 2 * depth, 2), range(4, 4 + 2 * depth, 2)
    maps = bits.transpose(0, 3 + 2 * depth, 1, *y_bits, 2, *x_bits)
    maps = maps.reshape(n, channels, rows << depth, columns << depth)
    return np.ascontiguousarray(maps[:, :, :height, :width])
