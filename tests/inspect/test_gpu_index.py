"""faiss on a GPU, for which a module stands: how it is called, and that its order and rounding don't matter."""

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from spadeline.engine.errors import DeviceError
from spadeline.engine.inspect import scoring as scoring_module
from spadeline.engine.inspect.gpu_index import MOST_FOUND, SPARE, TEMPORARY_BYTES
from spadeline.engine.inspect.retrieval import Retrieval
from spadeline.engine.inspect.scoring import DeviceScorer, Scorer, open_matcher
from spadeline.engine.recipe.recipe import Recipe

faiss = pytest.importorskip("faiss")


class Gpu:
    """faiss's index on a GPU: it rounds grossly, returns ties backwards, and breaks if two threads are in it."""

    def __init__(self, calls, index):
        self.calls, self.ntotal, self.d = calls, index.ntotal, index.d
        self.values = faiss.rev_swig_ptr(index.get_xb(), index.ntotal * index.d).reshape(index.ntotal, index.d).copy()
        self.busy = threading.Lock()

    def search(self, queries, k):
        assert k <= MOST_FOUND
        assert self.busy.acquire(blocking=False)
        self.calls.append(k)
        rounded = np.round(((self.values - queries) ** 2).sum(axis=1) / 4).astype(np.float32)
        order = np.lexsort((-np.arange(self.ntotal), rounded))[:k]
        self.busy.release()
        return rounded[order][None], order[None]


@pytest.fixture
def gpu(monkeypatch):
    """Stand for a faiss with a GPU; it records its calls, and fails if the test says so."""
    state = SimpleNamespace(searches=[], temporary=[], resources=[], fails=None, gpus=1)

    class StandardGpuResources:
        def setTempMemory(self, size):  # noqa: N802 - faiss's
            state.temporary.append(size)

    def index_cpu_to_gpu(resources, device, index):
        if state.fails:
            raise RuntimeError(state.fails)
        assert isinstance(resources, StandardGpuResources)
        assert device == 0
        return Gpu(state.searches, index)

    def get_num_gpus():
        if state.gpus is None:
            raise RuntimeError("CUDA driver version is insufficient")
        return state.gpus

    module = SimpleNamespace(
        **vars(faiss) | {
            "StandardGpuResources": StandardGpuResources,
            "index_cpu_to_gpu": index_cpu_to_gpu,
            "get_num_gpus": get_num_gpus,
        }
    )  # fmt: skip
    monkeypatch.setattr("spadeline.engine.inspect.retrieval.imported", lambda *_: module)
    return state


def embeddings(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def assert_same(retrieval, images, k, *, queries=5, exclude=None):
    on_cpu = Retrieval(images)
    for query in embeddings(queries, images.shape[1], seed=1):
        for got, wanted in zip(
            retrieval.nearest(query, k, exclude=exclude), on_cpu.nearest(query, k, exclude=exclude), strict=True
        ):
            np.testing.assert_array_equal(got, wanted, strict=True)


def test_the_gpus_candidates_are_ordered_by_exact_distances(gpu):
    images = embeddings(300, 64)
    retrieval = Retrieval(images, gpu=True)
    assert retrieval.device == "gpu"
    assert gpu.temporary == [TEMPORARY_BYTES]
    assert_same(retrieval, images, 10)
    assert_same(retrieval, images, 10, exclude=7)
    assert gpu.searches == [10 + SPARE] * 5 + [11 + SPARE] * 5


@pytest.mark.parametrize(
    ("n", "k", "asked"),
    [
        (3, 1, [3]),
        (50, 50, [50]),
        (3000, MOST_FOUND - SPARE, [MOST_FOUND]),
        (3000, MOST_FOUND, [MOST_FOUND]),
        (3000, MOST_FOUND + 1, []),  # more than a GPU finds: all are wanted, so the CPU searches
    ],
)
def test_it_is_never_asked_for_more_than_it_can_find(gpu, n, k, asked):
    images = np.arange(n, dtype=np.float32)[:, None] * 10  # far apart: no rounding hides one
    retrieval = Retrieval(images, gpu=True)
    ids, _ = retrieval.nearest(np.zeros(1, np.float32), k)
    np.testing.assert_array_equal(ids, np.arange(k))
    assert gpu.searches == asked


def test_calls_from_several_threads_take_turns(gpu):
    images = embeddings(400, 32)
    retrieval = Retrieval(images, gpu=True)
    with ThreadPoolExecutor(8) as callers:
        list(callers.map(lambda _: assert_same(retrieval, images, 20, queries=10), range(8)))
    assert len(gpu.searches) == 80
    one = retrieval.on_one_thread()
    assert one.device == "gpu"
    assert_same(one, images, 20)


@pytest.mark.parametrize("what", ["not asked", "another index", "no GPU", "no driver", "a build without"])
def test_the_search_stays_on_the_cpu(gpu, monkeypatch, what):
    options = {"not asked": {}, "another index": {"gpu": True, "factory": "SQ8"}}.get(what, {"gpu": True})
    gpu.gpus = {"no GPU": 0, "no driver": None}.get(what, 1)
    if what == "a build without":
        monkeypatch.setattr("spadeline.engine.inspect.retrieval.imported", lambda *_: faiss)
        monkeypatch.delattr(faiss, "StandardGpuResources", raising=False)
    retrieval = Retrieval(embeddings(50, 16), **options)
    retrieval.nearest(embeddings(1, 16)[0], 5)
    assert (retrieval.device, gpu.searches, gpu.temporary) == ("cpu", [], [])


def test_an_index_that_does_not_fit_on_the_gpu_is_an_error(gpu):
    gpu.fails = "Error in virtual void* faiss::gpu::StandardGpuResourcesImpl::allocMemory(const AllocRequest&) at /a/b.cpp:460: Error: 'cudaSuccess == err' failed: out of\nmemory"
    with pytest.raises(DeviceError) as caught:
        Retrieval(embeddings(50, 16), gpu=True)
    text = "device: expected room for 50 embeddings of 16 numbers in faiss on the GPU, got: out of memory"
    assert str(caught.value) == text


def test_a_search_that_fails_on_the_gpu_is_an_error(gpu, monkeypatch):
    def fail(*_arguments):
        raise RuntimeError("CUDA error 719 unspecified launch failure")

    retrieval = Retrieval(embeddings(50, 16), gpu=True)
    monkeypatch.setattr(Gpu, "search", fail)
    with pytest.raises(DeviceError) as caught:
        retrieval.nearest(embeddings(1, 16)[0], 5)
    text = "device: expected faiss to search on the GPU, got: CUDA error 719 unspecified launch failure"
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("scorer", "k", "where"), [(DeviceScorer, 8, "gpu"), (Scorer, 8, "cpu"), (DeviceScorer, 10**6, "cpu")]
)
def test_a_scorer_searches_where_it_matches(gpu, recipe_folder, monkeypatch, scorer, k, where):
    """A matcher and an inspector stand for the GPU's."""
    monkeypatch.setattr(scoring_module, "open_matcher", lambda recipe, **_: open_matcher(recipe, threads=1))
    monkeypatch.setattr(scoring_module, "Inspector", lambda *_, **__: None)
    monkeypatch.setattr(scoring_module, "MOST_FOUND", 10)  # of 12 images
    recipe = Recipe.load(recipe_folder)
    recipe = recipe.with_settings(scoring_settings(recipe, k))
    assert scorer(recipe, threads=1).retrieval.device == where


def scoring_settings(recipe, k):
    from dataclasses import replace

    return replace(recipe.settings, k_gallery=k)


def test_info_says_where_it_searches(recipe_folder, monkeypatch):
    from spadeline.engine import Detector

    detector = Detector.load(recipe_folder, device="cpu", threads=1)
    assert detector.info["retrieval"] == "cpu"
    monkeypatch.setattr(detector._chain.scorer.retrieval, "device", "gpu")
    assert detector.info["retrieval"] == "gpu"
