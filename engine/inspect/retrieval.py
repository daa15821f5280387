"""Retrieval: the normal images whose embeddings are nearest to a frame's, found by faiss.

faiss finds candidates with the index that the recipe names. Their distances are then computed from the embeddings
themselves, ``sum((e - q)**2)``, so that no index's compression changes a score; ``csrc/runtime/retrieval.hpp`` computes
and ranks them. With the index "Flat" on the CPU, the nearest images are proven to be among the candidates.
"""

from __future__ import annotations

import copy
import re
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from .. import _native
from ..checks import check_instance, check_integer, described, is_array
from ..errors import InputError
from ..optional import RUNTIME, imported
from ..resources import MOST_THREADS
from .gpu_index import MOST_FOUND, GpuIndex, faiss_reason, offers_gpu

# Candidates that a flat index is asked for beyond those wanted: with as many, few queries need to be asked again.
SPARE = 16


class Retrieval:
    """An index over the normal images' embeddings; an image's id is its row.

    Queries go to faiss one at a time: for 20 or more at once it takes an algorithm that rounds differently.

    Parameters
    ----------
    embeddings
        (n, d) float32, copied. An index other than "Flat" keeps them in another form, so they take memory twice.
    factory
        faiss ``index_factory`` description. "Flat" is exact. An index that needs training is trained on the embeddings,
        and what it finds is approximate.
    threads
        faiss's number of threads; None leaves faiss's setting as it is. faiss keeps this setting for each thread that
        calls it, so every call sets it.
    gpu
        Search on the GPU for up to ``MOST_FOUND`` images, if the factory is "Flat" and this faiss offers a GPU: see
        :class:`.gpu_index.GpuIndex` for the memory it takes. What is found is the same, in the same order.

    Attributes
    ----------
    device : str
        Where it searches: "cpu" or "gpu".

    Raises
    ------
    InputError
        Embeddings of another dtype or shape, none, or with a number beyond :func:`.gallery.largest_embedding`; a
        factory that faiss can't make of them.
    DeviceError
        faiss offers a GPU, and the index can't be put there.
    DependencyError
        faiss is not installed.
    """

    def __init__(
        self, embeddings: NDArray[np.float32], *, factory: str = "Flat", threads: int | None = None, gpu: bool = False
    ) -> None:
        if not is_array(embeddings) or embeddings.dtype != np.float32 or embeddings.ndim != 2 or 0 in embeddings.shape:
            raise InputError(f"embeddings: expected float32 (n, d), got {described(embeddings)}")
        check_instance("factory", factory, str)
        embeddings = np.ascontiguousarray(embeddings)
        _check_range("embeddings", embeddings)
        if threads is not None:
            check_integer("threads", threads, low=1, high=MOST_THREADS)
        self._faiss = imported("faiss", RUNTIME)
        self._threads = threads
        self._set_threads()
        self._index = _build(self._faiss, embeddings, factory)
        self._embeddings = _in_memory(self._faiss, self._index, embeddings)
        self._inverted = self._faiss.try_extract_index_ivf(self._index)  # None: an index without lists to probe
        self._gpu: GpuIndex | None = None
        if gpu and factory == "Flat" and offers_gpu(self._faiss):
            self._gpu = GpuIndex(self._faiss, self._index)
        self._proven = factory == "Flat" and self._gpu is None
        self.device: Literal["cpu", "gpu"] = "cpu" if self._gpu is None else "gpu"

    def on_one_thread(self) -> Self:
        """Return a retrieval over the same index that searches in its caller's thread alone."""
        other = copy.copy(self)
        other._threads = 1  # noqa: SLF001 - our own
        return other

    def nearest(
        self, embedding: NDArray[np.float32], k: int, *, exclude: int | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Find the k nearest images; those of equal distance are sorted by id.

        Parameters
        ----------
        embedding
            (d,) float32.
        k
            Clamped to the number of images. In an index with inverted lists, more lists are searched until k images
            are found; HNSW may find fewer.
        exclude
            An image to leave out, such as a normal image that must not find itself.

        Returns
        -------
        ids : ndarray
            (k,) int64, nearest first.
        squared_distances : ndarray
            (k,) float32, in squared units of the embedding.

        Raises
        ------
        InputError
            Another dtype or shape, or a number beyond :func:`.gallery.largest_embedding`.
        DeviceError
            The GPU fails.
        """
        size = self._embeddings.shape[1]
        if not is_array(embedding) or embedding.dtype != np.float32 or embedding.shape != (size,):
            raise InputError(f"embedding: expected float32 ({size},), got {described(embedding)}")
        embedding = np.ascontiguousarray(embedding)
        _check_range("embedding", embedding)
        check_integer("k", k, low=1, high=2**31 - 1)
        if exclude is not None:
            check_integer("exclude", exclude, low=0, high=2**63 - 1)
        count = len(self._embeddings)
        reach = min((k if exclude is None else k + 1) + (SPARE if self._proven else 0), count)
        self._set_threads()
        while True:
            distances, found = self._candidates(embedding[None], reach)
            ids, squared = _native.nearest_of(
                self._embeddings, embedding, found if exclude is None else found[found != exclude], k=k
            )
            if not self._proven or reach == count or squared[-1] < _least_beyond(float(distances[-1]), size):
                return ids, squared
            reach = min(2 * reach, count)

    def _candidates(self, query: NDArray[np.float32], reach: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return at least ``reach`` images near a query (1, d), or all that the index finds: its distances, and ids."""
        if self._gpu is not None and reach <= MOST_FOUND:
            return _found(self._gpu.search(query, reach))
        if self._inverted is None:
            return _found(self._index.search(query, reach))
        probes = 1
        while True:
            probing = params = self._faiss.SearchParametersIVF(nprobe=probes)
            if isinstance(self._index, self._faiss.IndexPreTransform):
                params = self._faiss.SearchParametersPreTransform(index_params=probing)
            found = _found(self._index.search(query, reach, params=params))
            if len(found[1]) >= reach or probes >= self._inverted.nlist:
                return found
            probes *= 2

    def _set_threads(self) -> None:
        if self._threads is not None:
            self._faiss.omp_set_num_threads(self._threads)


def _least_beyond(distance: float, size: int) -> float:
    """Return a bound that the squared distance of an image that a flat index didn't return is at least.

    The index returns the images whose distances are smallest as it computes them: in float32, ``size`` squares of
    differences and their sum in any order. So each is within ``(size + 2) * 2**-24`` of itself, to first order, but for
    terms too small for normal numbers. ``nearest_of`` rounds a few times more.

    Parameters
    ----------
    distance
        The largest one that the index returned.
    """
    return distance * (1 - 1.01 * (size + 8) * 2.0**-24) - size * 2.0**-125


def _check_range(name: str, values: NDArray[np.float32]) -> None:
    try:
        _native.check_embeddings(name, values, size=values.shape[-1])
    except ValueError as error:
        raise InputError(str(error)) from None


def _build(faiss: Any, embeddings: NDArray[np.float32], factory: str) -> Any:
    lists = re.search(r"IVF(\d+)", factory)
    if lists and int(lists[1]) > len(embeddings):  # faiss would first allocate all the lists
        raise InputError(
            f"factory: expected at most {len(embeddings)} lists for as many embeddings, got {factory!r:.100}"
        )
    try:
        index = faiss.index_factory(embeddings.shape[1], factory, faiss.METRIC_L2)
        index.train(embeddings)
        index.add(embeddings)
    except (RuntimeError, MemoryError) as error:
        raise InputError(
            f"factory: expected a faiss index for {len(embeddings)} embeddings of {embeddings.shape[1]} numbers, "
            f"got {factory!r:.100}: {faiss_reason(error)}"
        ) from error
    return index


def _in_memory(faiss: Any, index: Any, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the embeddings in memory: those in a flat index itself, else a copy."""
    if isinstance(index, faiss.IndexFlat):
        own: NDArray[np.float32] = faiss.rev_swig_ptr(index.get_xb(), embeddings.size)
        return own.reshape(embeddings.shape)
    return np.array(embeddings)


def _found(answer: tuple[NDArray[np.float32], NDArray[np.int64]]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    distances, ids = answer[0][0], answer[1][0]
    known = ids >= 0  # faiss returns -1 in the places of images that it didn't find
    return distances[known], ids[known]
