"""Codes as engine/match/codes.py makes them; their bounds are tests/cpp/test_codes.cpp's, what matches by them test_pruned.py's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spadeline.engine import _native
from spadeline.engine.match.cells import to_cells
from spadeline.engine.match.codes import GROUP, LANES, PANEL, SAMPLE, code_layout, encode, encode_gallery, make_basis

CELL_ROWS, CELL_COLUMNS = 3, 5


def cells_of(channels, *, block=1, images=2, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((images, CELL_ROWS, CELL_COLUMNS, block, channels)).astype(dtype)


def layout_of(cells, *, finest=False, coarsest=False):
    _, rows, columns, block, channels = cells.shape
    return code_layout(channels, rows * columns, block, finest=finest, coarsest=coarsest)


def unpacked(records, group):
    """(n, groups, record) to codes (n, vectors, dims) and terms (n, vectors, 4): scale, norm, error, residual."""
    images, groups, record = records.shape
    dims = record // group - 16
    codes = records[:, :, : dims * group].reshape(images, groups, dims // 4, group, 4).astype(np.int16) - 128
    terms = np.ascontiguousarray(records[:, :, dims * group :]).view(np.float32).reshape(images, groups, 4, group)
    return (
        codes.transpose(0, 1, 3, 2, 4).reshape(images, groups * group, dims),
        terms.transpose(0, 1, 3, 2).reshape(images, groups * group, 4),
    )


@settings(deadline=None, max_examples=60)
@given(
    channels=st.integers(1, 70),
    finest=st.booleans(),
    coarsest=st.booleans(),
    depth=st.integers(1, 2),
    images=st.integers(1, 3),
    dtype=st.sampled_from([np.float32, np.float16]),
)
def test_codes_have_the_layouts_shapes(channels, finest, coarsest, depth, images, dtype):
    cells = cells_of(channels, block=1 if coarsest else 4**depth, images=images, dtype=dtype)
    layout = layout_of(cells, finest=finest, coarsest=coarsest)
    basis = make_basis(cells, layout)
    assert (basis.shape, basis.dtype) == (layout.basis, np.float32)
    codes = encode(cells, basis, layout, coarsest=coarsest)
    for records, expected in ((codes.projected, layout.projected), (codes.rotated, layout.rotated)):
        assert (records is None) == (expected is None)
        if records is not None:
            assert (records.shape, records.dtype) == ((images, *expected), np.uint8)
            codes_of_all, _ = unpacked(records, PANEL if coarsest else GROUP)
            assert np.abs(codes_of_all).max() <= 127


@pytest.mark.parametrize("channels", [1, 15, 16, 17, 64, 100])
@pytest.mark.parametrize("coarsest", [False, True])
def test_terms_describe_the_vectors(channels, coarsest):
    cells = cells_of(channels, block=1 if coarsest else 4)
    layout = layout_of(cells, coarsest=coarsest)
    basis = make_basis(cells, layout)
    kept = layout.basis[0] - 1
    codes = encode(cells, basis, layout, coarsest=coarsest)
    centred = cells.reshape(2, -1, channels) - basis[0]
    bytes_of, terms = unpacked(codes.projected, PANEL if coarsest else GROUP)
    count = centred.shape[1]
    scale, norm, error, residual = np.moveaxis(terms[:, :count].astype(np.float64), -1, 0)
    decoded = scale[..., None] * bytes_of[:, :count]
    np.testing.assert_allclose(norm, (decoded**2).sum(axis=-1), rtol=1e-5)
    lengths = np.linalg.norm(centred, axis=-1)
    np.testing.assert_allclose(np.sqrt(norm + residual**2), lengths, atol=error.max())
    assert (error < 0.05 * lengths).all()
    assert (np.abs(bytes_of[:, :count]).max(axis=-1) == 127).all()
    if kept:
        projection = centred.astype(np.float64) @ basis[1:].T.astype(np.float64)
        assert (np.linalg.norm(projection - decoded, axis=-1) <= error).all()
        left = np.linalg.norm(centred - projection @ basis[1:], axis=-1)
        assert (np.abs(left - residual) <= error).all()
    else:
        assert (residual == 0).all()
    assert np.isinf(terms[:, count:, 1]).all()  # what fills the last group up is infinitely far away


def test_float16_is_encoded_as_the_float32_of_the_same_values():
    halves = cells_of(40, block=4, dtype=np.float16)
    layout = layout_of(halves)
    basis = make_basis(halves, layout)
    np.testing.assert_array_equal(basis, make_basis(halves.astype(np.float32), layout))
    for kind in ("projected", "rotated"):
        records = getattr(encode(halves, basis, layout, coarsest=False), kind)
        np.testing.assert_array_equal(
            records, getattr(encode(halves.astype(np.float32), basis, layout, coarsest=False), kind)
        )


def test_making_codes_twice_gives_the_same():
    rng = np.random.default_rng(0)
    levels = [rng.standard_normal((3, c, *size), np.float32) for c, size in ((20, (8, 6)), (70, (4, 3)))]
    cells = [to_cells(levels[0], 1), to_cells(levels[1], 0)]
    for first, second in zip(encode_gallery(cells), encode_gallery(cells), strict=True):
        for kind in ("basis", "projected", "rotated"):
            np.testing.assert_array_equal(getattr(first, kind), getattr(second, kind))


def test_a_basis_keeps_the_directions_of_the_largest_variance():
    rng = np.random.default_rng(0)
    span, _ = np.linalg.qr(rng.standard_normal((70, LANES)))
    vectors = rng.standard_normal((4, 20, 20, 1, LANES)) * 10 @ span.T + 5
    cells = (vectors + rng.standard_normal(vectors.shape) * 0.01).astype(np.float32)
    basis = make_basis(cells, layout_of(cells, coarsest=True))
    assert basis.shape == (1 + LANES, 70)
    np.testing.assert_allclose(np.linalg.norm(basis[1:] @ span, axis=0), 1, atol=1e-4)  # the same span
    variances = ((cells.reshape(-1, 70) - basis[0]) @ basis[1:].T).var(axis=0)
    assert variances.max() < 2 * variances.min()  # spread evenly: bytes of one scale suit them all


@pytest.mark.parametrize("value", [0, 3, 1e30])
def test_a_gallery_without_variance_has_a_basis(value):
    cells = np.full((2, CELL_ROWS, CELL_COLUMNS, 1, 40), value, np.float32)
    layout = layout_of(cells, coarsest=True)
    basis = make_basis(cells, layout)
    np.testing.assert_allclose(basis[1:] @ basis[1:].T, np.eye(LANES), atol=1e-6)
    assert encode(cells, basis, layout, coarsest=True).projected.shape == (2, *layout.projected)


def test_a_large_gallery_is_sampled_evenly():
    cells = np.zeros((4, SAMPLE // 2, 1, 1, 1), np.float32)
    cells[2:] = 1  # half of all vectors
    np.testing.assert_allclose(make_basis(cells, layout_of(cells, finest=True)), [[0.5]])


BASIS = np.concatenate([np.zeros((1, 20)), np.eye(20)[:16]]).astype(np.float32)


@pytest.mark.parametrize(
    ("cells", "basis", "text"),
    [
        (cells_of(20)[0], BASIS, "cells: expected C-contiguous float32 or float16 (n, rows, columns, block, channels), got float32 (3, 5, 1, 20)"),
        (cells_of(20).astype(np.float64), BASIS, "cells: expected C-contiguous float32 or float16 (n, rows, columns, block, channels), got float64 (2, 3, 5, 1, 20)"),
        (cells_of(20)[:, ::2], BASIS, "got float32 (2, 2, 5, 1, 20), not C-contiguous"),
        (cells_of(20), BASIS[0], "basis: expected C-contiguous float32 (1 + directions, 20), got float32 (20,)"),
        (cells_of(20), BASIS[:, :19].copy(), "basis: expected C-contiguous float32 (1 + directions, 20), got float32 (17, 19)"),
        (cells_of(20), BASIS[:0], "basis: expected C-contiguous float32 (1 + directions, 20), got float32 (0, 20)"),
        (cells_of(20), BASIS.astype(np.float64), "basis: expected C-contiguous float32 (1 + directions, 20), got float64 (17, 20)"),
        (cells_of(20), BASIS[:, ::-1], "got float32 (17, 20), not C-contiguous"),
        (cells_of(20), BASIS[:9].copy(), "codes: expected a multiple of 16 orthonormal directions, got 8, off by 0.000000"),
        (cells_of(20), BASIS * 2, "codes: expected a multiple of 16 orthonormal directions, got 16, off by 12.000000"),
        (cells_of(20), BASIS * np.nan, "codes: expected a multiple of 16 orthonormal directions, got 16, off by nan"),
        (np.zeros((1, 1, 1, 1, 40000), np.float32), np.zeros((1, 40000), np.float32), "codes: expected at most 32768 channels, got 40000"),
    ],
)  # fmt: skip
def test_what_cannot_be_encoded_is_named(cells, basis, text):
    with pytest.raises(ValueError, match="expected") as error:
        _native.encode(cells, basis, coarsest=False)
    assert text in str(error.value)
