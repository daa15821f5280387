"""faiss's flat search on a GPU: candidates, whose exact distances ``retrieval.py`` computes.

A GPU's search computes ``|q|^2 + |g|^2 - 2 qg`` and rounds accordingly, so its order is not exact. So ``SPARE`` more
candidates are asked for than wanted. An image could be missed only if more than ``SPARE`` images differed from it by
less than that rounding.
"""

from __future__ import annotations

import re
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DeviceError

MOST_FOUND = 2048  # faiss's limit of k on a GPU
SPARE = 32  # further candidates
TEMPORARY_BYTES = 64 << 20  # faiss's default is 1.5 GB; one query against 100,000 embeddings needs less than 1 MB


def offers_gpu(faiss: Any) -> bool:
    """Whether this faiss was built for GPUs and finds one."""
    if not hasattr(faiss, "StandardGpuResources"):
        return False
    try:
        return bool(faiss.get_num_gpus() > 0)
    except RuntimeError:  # no driver
        return False


class GpuIndex:
    """A flat index copied to the first GPU that CUDA shows, which is the matcher's GPU, too.

    In the GPU's memory it takes as much as the embeddings, 64 MB for faiss, and what CUDA and cuBLAS load for it. Calls
    from several threads take turns: faiss's resources serve one call at a time.

    Raises
    ------
    DeviceError
        The index can't be copied to the GPU, or can't be searched there.
    """

    def __init__(self, faiss: Any, index: Any) -> None:
        self._turn = threading.Lock()
        try:
            self._resources = faiss.StandardGpuResources()  # kept here: the index only refers to them
            self._resources.setTempMemory(TEMPORARY_BYTES)
            self._index = faiss.index_cpu_to_gpu(self._resources, 0, index)
        except RuntimeError as error:
            size = f"{index.ntotal} embeddings of {index.d} numbers"
            raise DeviceError(
                f"device: expected room for {size} in faiss on the GPU, got: {faiss_reason(error)}"
            ) from error

    def search(self, queries: NDArray[np.float32], reach: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find ``reach + SPARE`` candidates, or as many as there are; distances are approximate."""
        candidates = min(reach + SPARE, self._index.ntotal, MOST_FOUND)
        try:
            with self._turn:
                distances, ids = self._index.search(queries, candidates)
        except RuntimeError as error:
            raise DeviceError(f"device: expected faiss to search on the GPU, got: {faiss_reason(error)}") from error
        return distances, ids


def faiss_reason(error: Exception) -> str:
    """Return the part of faiss's message that gives the reason, without places in faiss's source."""
    # faiss writes all or some of: Error in <function> at <file>:<line>: Error: '<condition>' failed: <reason>
    text = re.sub(r"^.*? at \S+:\d+: (Error: '.*' failed: )?", "", " ".join(str(error).split()))
    return text.strip()[:300] or type(error).__name__
