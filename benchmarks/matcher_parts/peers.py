"""The peers: exact nearest neighbours from other libraries, each in a process of its own.

Each does what a user of the library would do to find, for each pixel of a query, the kappa nearest of all pixels of K
images. It gets concatenated features, and only the search is timed. It has a process of its own because a BLAS picks
its kernels when it is loaded, and because the threads of several libraries would disturb each other.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spadeline.engine.match.matcher import instruction_sets

Vectors = NDArray[np.float32]
Search = Callable[[Vectors, int], NDArray[np.floating]]  # (queries, kappa) to (queries, kappa) squared distances

YARDSTICKS = ("faiss.knn, tuned BLAS", "faiss.knn, as installed")  # in order of preference
BLOCK = 256  # queries at once, where a matrix of all pairs would take gigabytes
WARM_UP = 64  # queries: enough to load kernels, start threads and touch the gallery
# A BLAS's threads wait for more work in a busy loop, and would take processors from the next contestant.
COOL_DOWN_S = 0.2


def _faiss(gallery: Vectors, threads: int) -> Search:
    import faiss

    faiss.omp_set_num_threads(threads)
    return lambda queries, kappa: faiss.knn(queries, gallery, kappa)[0]


def _torch(gallery: Vectors, threads: int) -> Search:
    import torch

    torch.set_num_threads(threads)
    everything = torch.from_numpy(gallery)
    gallery_norms = everything.square().sum(1)

    def search(queries: Vectors, kappa: int) -> NDArray[np.floating]:
        found = []
        for start in range(0, len(queries), BLOCK):
            block = torch.from_numpy(queries[start : start + BLOCK])
            # |b|^2 - 2ab, since cdist would compute a root of each distance for nothing.
            distances = torch.addmm(gallery_norms, block, everything.T, alpha=-2)
            least = distances.min(1, keepdim=True) if kappa == 1 else distances.topk(kappa, largest=False)
            found.append(least.values + block.square().sum(1, keepdim=True))
        return np.asarray(torch.cat(found).numpy())

    return search


def _sklearn(gallery: Vectors, threads: int) -> Search:  # noqa: ARG001 - OMP_NUM_THREADS sets them
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(algorithm="brute", metric="sqeuclidean").fit(gallery)
    return lambda queries, kappa: index.kneighbors(queries, kappa)[0]


def _numpy(gallery: Vectors, threads: int) -> Search:  # noqa: ARG001 - OMP_NUM_THREADS sets them
    gallery_norms = np.einsum("ic,ic->i", gallery, gallery)

    def search(queries: Vectors, kappa: int) -> NDArray[np.floating]:
        found = np.empty((len(queries), kappa), np.float32)
        for start in range(0, len(queries), BLOCK):
            block = queries[start : start + BLOCK]
            distances = gallery_norms - 2 * (block @ gallery.T)
            nearest = np.argpartition(distances, kappa - 1, axis=1)[:, :kappa]
            block_norms = np.einsum("ic,ic->i", block, block)[:, None]
            found[start : start + BLOCK] = np.take_along_axis(distances, nearest, 1) + block_norms
        return found

    return search


@dataclass(frozen=True)
class _Kind:
    prepare: Callable[[Vectors, int], Search]
    package: str  # to install
    environment: dict[str, str]


def tuned_blas(available: Sequence[str]) -> dict[str, str]:
    """Return the environment variable that makes OpenBLAS take the fastest kernels for these instruction sets.

    The OpenBLAS in faiss's wheel falls back to slow kernels on recent processors. Its kernels for AVX-512 end the
    process on a processor without it.
    """
    if any("avx512" in name for name in available):
        return {"OPENBLAS_CORETYPE": "SkylakeX"}
    return {"OPENBLAS_CORETYPE": "Haswell"} if "avx2" in available else {}


_KINDS = {
    YARDSTICKS[0]: _Kind(_faiss, "faiss-cpu", tuned_blas(instruction_sets())),
    YARDSTICKS[1]: _Kind(_faiss, "faiss-cpu", {}),
    "torch addmm + min or topk": _Kind(_torch, "torch", {}),
    "scikit-learn brute": _Kind(_sklearn, "scikit-learn", {}),
    "NumPy matmul": _Kind(_numpy, "numpy", {}),
}
NAMES = {
    "faiss": YARDSTICKS,
    "torch": ("torch addmm + min or topk",),
    "sklearn": ("scikit-learn brute",),
    "numpy": ("NumPy matmul",),
}


class PeerError(Exception):
    """A peer can't take part; the text says why."""


class Peer:
    """One peer in its own process, on the first images of a gallery.

    Parameters
    ----------
    name
        One of the values of ``NAMES``.
    gallery, queries
        Files: (n * pixels, c) and (queries, pixels, c) float32.
    threads
        How many it may use.
    """

    def __init__(self, name: str, gallery: Path, queries: Path, threads: int) -> None:
        self.name = name
        self._pipe, child_pipe = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        arguments = (child_pipe, name, gallery, queries, threads)
        with _environment(_KINDS[name].environment | {"OMP_NUM_THREADS": str(threads)}), _interrupts_wait():
            self._process = context.Process(target=_serve, args=arguments, daemon=True)
            self._process.start()
        child_pipe.close()

    def open(self, images: int) -> None:
        """Prepare the search of the gallery's first images; raises PeerError."""
        self._ask(images)

    def search(self, query: int, kappa: int) -> tuple[NDArray[np.float64], float]:
        """Return (pixels,) mean distances, and the seconds that the search took."""
        answer: tuple[NDArray[np.float64], float] = self._ask((query, kappa))
        return answer

    def warm_up(self, kappa: int) -> None:
        """Search for a few pixels."""
        self._ask((None, kappa))

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join()

    def _ask(self, request: object) -> Any:
        try:
            self._pipe.send(request)
            answer = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            raise PeerError(f"its process ended with code {self._process.exitcode}") from None
        if isinstance(answer, str):
            raise PeerError(answer)
        return answer


@contextmanager
def _environment(changes: dict[str, str]) -> Iterator[None]:
    saved = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(saved)


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    # If a process is interrupted before it has told its child what to do, the child prints a traceback.
    came: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = [signal.signal(number, lambda number, _: came.append(number)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, handlers, strict=True):
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt


def _serve(pipe: Connection, name: str, gallery_path: Path, queries_path: Path, threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the benchmark handles it, and ends this process
    # Mapped copy-on-write: some libraries ask for writeable arrays; all processes share the pages until one writes.
    gallery, queries = (np.asarray(np.load(path, mmap_mode="c")) for path in (gallery_path, queries_path))
    search: Search | None = None
    while True:
        try:
            request = pipe.recv()
        except EOFError:  # the benchmark has ended
            return
        answer: object = None
        try:
            if isinstance(request, int):
                search = None  # frees the memory of the last search
                search = _KINDS[name].prepare(gallery[: request * queries.shape[1]], threads)
            elif search is not None:
                query, kappa = request
                answer = _timed(search, queries[0, :WARM_UP] if query is None else queries[query], kappa)
        except ModuleNotFoundError:
            answer = f"{_KINDS[name].package} is not installed"
        except ImportError as error:
            answer = f"{_KINDS[name].package} can't be imported: {error}"
        except MemoryError:
            answer = "it ran out of memory"
        time.sleep(COOL_DOWN_S)
        pipe.send(answer)


def _timed(search: Search, queries: Vectors, kappa: int) -> tuple[NDArray[np.float64], float]:
    start = time.perf_counter()
    distances = search(queries, kappa)
    seconds = time.perf_counter() - start
    return distances.mean(axis=1, dtype=np.float64), seconds
