"""The cell-blocked layout against its definition, position by position."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spadeline.engine.errors import InputError
from spadeline.engine.match.cells import from_cells, level_shifts, to_cells


def morton(y, x, depth):
    return sum(((y >> bit & 1) << (2 * bit + 1)) | ((x >> bit & 1) << (2 * bit)) for bit in range(depth))


@settings(deadline=None, max_examples=80)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 3), st.integers(1, 3), st.integers(1, 2))
def test_every_position_lies_where_the_layout_says(height, width, depth, channels, n):
    level = np.arange(1, 1 + n * channels * height * width, dtype=np.float32).reshape(n, channels, height, width)
    cells = to_cells(level, depth)
    assert cells.shape == (n, -(-height >> depth), -(-width >> depth), 4**depth, channels)
    assert cells.flags.c_contiguous
    for y in range(height):
        for x in range(width):
            block = morton(y, x, depth)
            np.testing.assert_array_equal(cells[:, y >> depth, x >> depth, block], level[:, :, y, x])
    assert np.count_nonzero(cells) == level.size  # the padding is zero
    np.testing.assert_array_equal(from_cells(cells, height, width), level)


@pytest.mark.parametrize(
    ("sizes", "shifts"),
    [
        (((56, 56), (28, 28), (14, 14)), (0, 1, 2)),
        (((64, 80), (32, 40), (16, 20), (8, 10)), (0, 1, 2, 3)),
        (((56, 56), (14, 14)), (0, 2)),
        (((7, 5), (4, 3), (2, 2), (1, 1)), (0, 1, 2, 3)),
        (((1, 1), (1, 1)), (0, 1)),
        (((9, 9),), (0,)),
    ],
)
def test_shifts(sizes, shifts):
    assert level_shifts(sizes) == shifts


def test_a_level_that_is_no_halving_is_named():
    with pytest.raises(InputError, match=r"level 2: expected the size of level 1 \(4 x 4\) halved .* got 3 x 2"):
        level_shifts(((8, 8), (4, 4), (3, 2)))
