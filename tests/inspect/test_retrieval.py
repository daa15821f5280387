"""Retrieval: exact distances compared with float64, ties, leaving an image out, refused embeddings."""

import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spadeline.engine import _native
from spadeline.engine.errors import DependencyError, InputError
from spadeline.engine.inspect.retrieval import SPARE, Retrieval
from spadeline.engine.recipe.gallery import largest_embedding

faiss = pytest.importorskip("faiss")

RANGE = "expected numbers from -1.63e+18 to 1.63e+18, whose squared distances float32 holds"


def embeddings(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def nearest_by_definition(images, query, k, exclude=None):
    """Return ids sorted by (distance, id), and float64 distances."""
    squared = ((images.astype(np.float64) - query.astype(np.float64)) ** 2).sum(axis=1)
    ids = np.lexsort((np.arange(len(images)), squared))
    ids = ids[ids != exclude][:k] if exclude is not None else ids[:k]
    return ids, squared[ids]


@settings(deadline=None, max_examples=80)
@given(st.integers(1, 150), st.sampled_from([1, 2, 7, 64, 513]), st.integers(1, 160), st.booleans(), st.integers(0, 99))
def test_flat_is_exact(n, d, k, leave_out, seed):
    images = embeddings(n, d, seed) * 3 + 10  # an offset, as pooled activations have
    query = images[seed % n] if leave_out else embeddings(1, d, seed + 1)[0] * 3 + 10
    exclude = seed % n if leave_out else None
    ids, squared = Retrieval(images).nearest(query, k, exclude=exclude)
    expected_ids, expected = nearest_by_definition(images, query, k, exclude)
    assert (ids.dtype, squared.dtype) == (np.int64, np.float32)
    np.testing.assert_allclose(squared, expected, rtol=1e-5)
    # Where the order differs, the float64 distances must be too close for float32 to tell.
    own = ((images[ids].astype(np.float64) - query) ** 2).sum(axis=1)
    np.testing.assert_allclose(own, expected, rtol=1e-6)
    assert len(set(ids)) == len(expected_ids)
    assert exclude not in ids


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 400), st.integers(1, 400), st.booleans(), st.integers(0, 99))
def test_ties_go_to_the_smaller_id(n, k, leave_out, seed):
    images = np.random.default_rng(seed).integers(0, 2, (n, 3)).astype(np.float32)  # eight different ones
    exclude = seed % n if leave_out else None
    ids, squared = Retrieval(images).nearest(images[seed % n], k, exclude=exclude)
    expected_ids, expected = nearest_by_definition(images, images[seed % n], k, exclude)
    np.testing.assert_array_equal(ids, expected_ids)
    np.testing.assert_array_equal(squared, expected)


def test_an_image_finds_itself_at_distance_zero():
    images = embeddings(30, 2048)
    for row in (0, 13, 29):
        ids, squared = Retrieval(images).nearest(images[row], 3)
        assert (ids[0], squared[0]) == (row, 0)


def test_leaving_out_an_image_is_the_same_as_not_having_it():
    images = embeddings(30, 16)
    for row in range(30):
        ids, squared = Retrieval(images).nearest(images[row], 5, exclude=row)
        without = Retrieval(np.delete(images, row, axis=0))
        other_ids, other_squared = without.nearest(images[row], 5)
        np.testing.assert_array_equal(ids, other_ids + (other_ids >= row))
        np.testing.assert_array_equal(squared, other_squared)


def test_k_is_clamped_to_the_number_of_images():
    images = embeddings(4, 8)
    retrieval = Retrieval(images)
    assert len(retrieval.nearest(images[0], 100)[0]) == 4
    assert len(retrieval.nearest(images[0], 100, exclude=2)[0]) == 3
    assert len(retrieval.nearest(images[0], 4, exclude=99)[0]) == 4  # not there: nothing to leave out
    ids, squared = Retrieval(images[:1]).nearest(images[0], 5, exclude=0)
    assert (ids.shape, squared.shape) == ((0,), (0,))
    assert (ids.dtype, squared.dtype) == (np.int64, np.float32)


def test_queries_do_not_depend_on_each_other_or_on_threads():
    images, queries = embeddings(300, 128), embeddings(40, 128, seed=1)
    answers = [
        [retrieval.nearest(query, 20) for query in queries]
        for retrieval in (Retrieval(images, threads=1), Retrieval(images, threads=2))
    ]
    for (ids, squared), (other_ids, other_squared) in zip(*answers, strict=True):
        np.testing.assert_array_equal(ids, other_ids)
        np.testing.assert_array_equal(squared, other_squared)


def test_threads_of_none_leave_faisss_setting():
    before = faiss.omp_get_max_threads()
    try:
        Retrieval(embeddings(4, 8), threads=3)
        assert faiss.omp_get_max_threads() == 3
        Retrieval(embeddings(4, 8))
        assert faiss.omp_get_max_threads() == 3
    finally:
        faiss.omp_set_num_threads(before)


def test_memory_maps_and_strided_embeddings_are_read_correctly(tmp_path):
    images = embeddings(60, 32)
    np.save(tmp_path / "embeddings.npy", images)
    mapped = np.load(tmp_path / "embeddings.npy", mmap_mode="r")
    expected = Retrieval(images[::2]).nearest(images[1], 9)
    for source, query in ((images[::2], images[1]), (mapped[::2], np.repeat(images[1], 2)[::2])):
        for got, wanted in zip(Retrieval(source).nearest(query, 9), expected, strict=True):
            np.testing.assert_array_equal(got, wanted)


# --- other indexes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factory", ["HNSW16", "SQ8", "IVF4,Flat", "PCA8,Flat", "LSH"])
def test_distances_are_true_whatever_the_index(factory, capfd):
    images = embeddings(600, 32)
    retrieval, exact = Retrieval(images, factory=factory), Retrieval(images)
    hits = 0
    for row in range(20):
        query = images[row] + 0.1
        ids, squared = retrieval.nearest(query, 10, exclude=row)
        assert row not in ids
        assert len(ids) == 10
        np.testing.assert_allclose(squared, ((images[ids].astype(np.float64) - query) ** 2).sum(axis=1), rtol=1e-5)
        assert (np.diff(squared) >= 0).all()
        hits += len(np.intersect1d(ids, exact.nearest(query, 10, exclude=row)[0]))
    # Ten out of 600 at random would hit 3 of the 200; a quarter of the dimensions of noise (PCA8) hits ten times that.
    assert hits > 15
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("factory", ["IVF4,Flat", "PCA3,IVF4,SQ8"])
def test_lists_are_searched_until_k_images_are_found(factory):
    centres = np.repeat(np.eye(4, dtype=np.float32) * 100, 50, axis=0)
    images = centres + embeddings(200, 4)  # a list each
    retrieval, exact = Retrieval(images, factory=factory), Retrieval(images)
    for k in (50, 51, 120, 200):
        ids, squared = retrieval.nearest(images[0], k)
        assert len(ids) == len(squared) == k
        assert set(ids[:50]) == set(range(50))
    np.testing.assert_array_equal(ids, exact.nearest(images[0], 200)[0])
    assert len(retrieval.nearest(images[0], 200, exclude=0)[0]) == 199


@pytest.mark.parametrize("factory", ["Flat", "IVF2,Flat", "SQ8", "HNSW8", "LSH", "PCA4,Flat"])
def test_the_largest_embeddings_have_finite_distances(factory):
    images = np.full((9, 8), largest_embedding(8), np.float32)
    images[:4] *= -1
    ids, squared = Retrieval(images, factory=factory).nearest(images[0], 9)
    assert len(ids) == 9
    assert np.isfinite(squared).all()


@pytest.mark.parametrize("value", [1e30, -1e30, 2e18])
def test_embeddings_whose_distances_overflow_are_refused(value):
    text = f"{RANGE}, got {value:.3g}"
    with pytest.raises(InputError) as caught:
        Retrieval(with_value(value))
    assert str(caught.value) == f"embeddings: {text}"
    with pytest.raises(InputError) as caught:
        Retrieval(embeddings(9, 8)).nearest(with_value(value)[3], 3)
    assert str(caught.value) == f"embedding: {text}"


def test_an_index_that_takes_all_memory_is_an_error(monkeypatch):
    def fail(*_arguments):
        raise MemoryError("std::bad_alloc")

    monkeypatch.setattr(faiss, "index_factory", fail)
    text = "factory: expected a faiss index for 9 embeddings of 8 numbers, got 'HNSW999': std::bad_alloc"
    with pytest.raises(InputError) as caught:
        Retrieval(embeddings(9, 8), factory="HNSW999")
    assert str(caught.value) == text


def squared_by_definition(images, query):
    """Sum every eighth square by itself, then add these sums in pairs."""
    sums = np.zeros((len(images), 8))
    for c in range(images.shape[1]):
        sums[:, c % 8] += (images[:, c] - query[c]).astype(np.float64) ** 2
    for half in (4, 2, 1):
        sums[:, :half] += sums[:, half : 2 * half]
    return sums[:, 0].astype(np.float32)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 60), st.sampled_from([1, 7, 64, 1024, 2048]), st.integers(1, 60), st.integers(0, 99))
def test_distances_are_summed_in_a_fixed_order(n, d, k, seed):
    images, query = embeddings(n, d, seed) + 1, embeddings(1, d, seed + 1)[0]
    for factory in ("Flat", "SQ8"):
        ids, squared = Retrieval(images, factory=factory).nearest(query, k)
        np.testing.assert_array_equal(squared, squared_by_definition(images[ids], query), strict=True)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(20, 300), st.sampled_from([1, 16, 300]), st.integers(1, 30), st.sampled_from([0, 1, 3, 6]), st.data()
)
def test_a_flat_index_finds_the_nearest_of_all(n, d, k, digits, data):
    """Images so close to each other that faiss's rounding can't tell them apart."""
    seed = data.draw(st.integers(0, 99))
    images = np.float32(1) + np.round(embeddings(n, d, seed), 1) * np.float32(10.0**-digits)
    exclude = data.draw(st.none() | st.integers(0, n - 1))
    ids, squared = Retrieval(images).nearest(images[seed % n], k, exclude=exclude)
    everyone = np.delete(np.arange(n), [] if exclude is None else exclude)
    wanted = _native.nearest_of(images, images[seed % n], everyone, k=k)
    np.testing.assert_array_equal(ids, wanted[0])
    np.testing.assert_array_equal(squared, wanted[1])


def test_more_candidates_are_asked_for_until_the_nearest_are_proven(monkeypatch):
    images = embeddings(400, 16)
    retrieval, asked = Retrieval(images), []
    search = retrieval._index.search
    monkeypatch.setattr(retrieval, "_index", SimpleNamespace(search=lambda q, k: (asked.append(k), search(q, k))[1]))
    retrieval.nearest(images[0], 10)
    assert asked == [10 + SPARE]
    images[:] = images[0]
    retrieval, asked[:] = Retrieval(images), []
    search = retrieval._index.search
    monkeypatch.setattr(retrieval, "_index", SimpleNamespace(search=lambda q, k: (asked.append(k), search(q, k))[1]))
    ids, _ = retrieval.nearest(images[0], 10)
    assert asked == [26, 52, 104, 208, 400]
    np.testing.assert_array_equal(ids, np.arange(10))


def test_the_image_score_is_the_mean_in_float64():
    squared = np.array([1e8, 1, 1], np.float32)
    assert _native.image_score(squared, root=False) == (1e8 + 2) / 3
    assert _native.image_score(squared, root=True) == math.sqrt((1e8 + 2) / 3)


def test_embeddings_are_read_where_the_flat_index_has_them():
    images = embeddings(60, 32)
    flat, other = Retrieval(images), Retrieval(images, factory="SQ8")
    assert not flat._embeddings.flags.owndata
    expected = [flat.nearest(images[1], 9), other.nearest(images[1], 9)]
    images[:] = 0
    for retrieval, (ids, squared) in zip((flat, other), expected, strict=True):
        again = retrieval.nearest(embeddings(60, 32)[1], 9)
        np.testing.assert_array_equal(again[0], ids)
        np.testing.assert_array_equal(again[1], squared)


@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        ("Flatt", "could not parse index string Flatt"),
        ("", "could not parse index string"),
        (
            "PQ5",
            "The dimension of the vector (d) should be a multiple of the number of subquantizers (M)",
        ),
        ("IDMap,Flat", "add does not make sense with IndexIDMap, use add_with_ids"),
    ],
)
def test_a_factory_that_faiss_refuses_is_an_error(factory, reason):
    with pytest.raises(InputError) as caught:
        Retrieval(embeddings(50, 16), factory=factory)
    expected = "factory: expected a faiss index for 50 embeddings of 16 numbers"
    assert str(caught.value) == f"{expected}, got {factory!r}: {reason}"


# --- bad input -------------------------------------------------------------------------------------------------------


def with_value(value, row=3):
    images = embeddings(9, 8)
    images[row, 5] = value
    return images


@pytest.mark.parametrize(
    ("images", "text"),
    [
        (embeddings(9, 8).astype(np.float64), "expected float32 (n, d), got float64 (9, 8)"),
        (embeddings(9, 8)[0], "expected float32 (n, d), got float32 (8,)"),
        (embeddings(0, 8), "expected float32 (n, d), got float32 (0, 8)"),
        (with_value(np.nan), f"{RANGE}, got nan"),
        (with_value(np.inf), f"{RANGE}, got inf"),
        (with_value(-np.inf), f"{RANGE}, got -inf"),
    ],
)
def test_embeddings_of_another_kind_are_refused(images, text):
    with pytest.raises(InputError) as caught:
        Retrieval(images)
    assert str(caught.value) == f"embeddings: {text}"


@pytest.mark.parametrize(
    ("query", "text"),
    [
        (embeddings(1, 8)[0].astype(np.float64), "expected float32 (8,), got float64 (8,)"),
        (embeddings(1, 8), "expected float32 (8,), got float32 (1, 8)"),
        (embeddings(1, 9)[0], "expected float32 (8,), got float32 (9,)"),
        (with_value(np.nan)[3], f"{RANGE}, got nan"),
        (with_value(np.inf)[3], f"{RANGE}, got inf"),
    ],
)
def test_queries_of_another_kind_are_refused(query, text):
    with pytest.raises(InputError) as caught:
        Retrieval(embeddings(9, 8)).nearest(query, 3)
    assert str(caught.value) == f"embedding: {text}"


def test_k_and_threads_are_checked():
    with pytest.raises(InputError) as caught:
        Retrieval(embeddings(9, 8)).nearest(embeddings(1, 8)[0], 0)
    assert str(caught.value) == "k: expected an integer from 1 to 2147483647, got 0"
    with pytest.raises(InputError) as caught:
        Retrieval(embeddings(9, 8), threads=0)
    assert str(caught.value) == "threads: expected an integer from 1 to 1024, got 0"


def test_faiss_is_optional(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(DependencyError) as caught:
        Retrieval(embeddings(9, 8))
    assert str(caught.value) == (
        "faiss is not installed: pip install 'spadeline[cpu]' (or 'spadeline[gpu]' on a machine with an NVIDIA GPU)"
    )
