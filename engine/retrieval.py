"""Nearest normal images by their embeddings, in faiss.

faiss finds the candidates with whatever index the recipe names; their distances are then computed from the
embeddings themselves, ``sum((e - q)**2)``, so that no index's compression gets into a score.
"""

from __future__ import annotations

import copy
import re
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .checks import check_integer
from .errors import DependencyError, InputError
from .session import MOST_THREADS


class Retrieval:
    """An index over the normal images' embeddings; an image's id is its row.

    Queries go to faiss one at a time: from 20 on it changes to an algorithm that rounds differently.

    Parameters
    ----------
    embeddings
        (n, d) float32. Copied into the index, and kept for the distances: a memory map stays on the disk.
    factory
        faiss ``index_factory`` description. "Flat" is exact; an index that needs training gets it from the
        embeddings, and what it finds is approximate.
    threads
        Of faiss, which keeps a setting for each thread that calls it: set by every call. None leaves it as it is.

    Raises
    ------
    InputError
        Embeddings of another dtype or shape, none, or not finite; a factory that faiss can't make of them.
    DependencyError
        faiss is not installed.
    """

    def __init__(self, embeddings: NDArray[np.float32], *, factory: str = "Flat", threads: int | None = None) -> None:
        if embeddings.dtype != np.float32 or embeddings.ndim != 2 or 0 in embeddings.shape:
            raise InputError(f"embeddings: expected float32 (n, d), got {embeddings.dtype} {embeddings.shape}")
        if not np.isfinite((embeddings.min(), embeddings.max())).all():
            raise InputError("embeddings: expected finite numbers, got NaN or infinity")
        if threads is not None:
            check_integer("threads", threads, low=1, high=MOST_THREADS)
        self._embeddings = embeddings
        self._faiss = _imported()
        self._threads = threads
        self._set_threads()
        self._index = _build(self._faiss, embeddings, factory)

    def on_one_thread(self) -> Self:
        """Return the same index, searched by its caller's thread alone."""
        other = copy.copy(self)
        other._threads = 1  # noqa: SLF001 - our own
        return other

    def nearest(
        self, embedding: NDArray[np.float32], k: int, *, exclude: int | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Find the k nearest images, equal distances by id.

        Parameters
        ----------
        embedding
            (d,) float32.
        k
            Clamped to the images that there are; an approximate index may find fewer still.
        exclude
            An image to leave out: a normal image must not find itself.

        Returns
        -------
        ids : ndarray
            (k,) int64, nearest first.
        squared_distances : ndarray
            (k,) float32, in squared units of the embedding.

        Raises
        ------
        InputError
            Another dtype or shape, or not finite.
        """
        if embedding.dtype != np.float32 or embedding.shape != self._embeddings.shape[1:]:
            wanted = f"float32 ({self._embeddings.shape[1]},)"
            raise InputError(f"embedding: expected {wanted}, got {embedding.dtype} {embedding.shape}")
        if not np.isfinite(embedding).all():
            raise InputError("embedding: expected finite numbers, got NaN or infinity")
        check_integer("k", k, low=1, high=2**31 - 1)
        reach = min(k if exclude is None else k + 1, len(self._embeddings))
        self._set_threads()
        _, found = self._index.search(np.ascontiguousarray(embedding)[None], reach)
        ids: NDArray[np.int64] = found[0][found[0] >= 0]  # an approximate index fills up with -1
        if exclude is not None:
            ids = ids[ids != exclude]
        squared = ((self._embeddings[ids] - embedding) ** 2).sum(axis=1, dtype=np.float32)
        order = np.lexsort((ids, squared))[:k]
        return ids[order], squared[order]

    def _set_threads(self) -> None:
        if self._threads is not None:
            self._faiss.omp_set_num_threads(self._threads)


def _imported() -> Any:
    try:
        import faiss  # noqa: PLC0415 - optional
    except ImportError as error:
        raise DependencyError(
            "faiss is not installed: pip install 'spadeline[cpu]' (or 'spadeline[gpu]' on a machine with an NVIDIA GPU)"
        ) from error
    return faiss


def _build(faiss: Any, embeddings: NDArray[np.float32], factory: str) -> Any:
    try:
        index = faiss.index_factory(embeddings.shape[1], factory, faiss.METRIC_L2)
        index.train(embeddings)
        index.add(embeddings)
    except RuntimeError as error:
        # "Error in <function> at <file>:<line>: Error: '<condition>' failed: <reason>", partly or in full
        reason = re.sub(r"^.*? at \S+:\d+: (Error: '.*' failed: )?", "", " ".join(str(error).split()))
        raise InputError(
            f"factory: expected a faiss index for {len(embeddings)} embeddings of {embeddings.shape[1]} numbers, "
            f"got {factory!r:.100}: {reason.strip()[:300]}"
        ) from error
    return index
