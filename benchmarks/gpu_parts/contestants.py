"""Contestants on the GPU: ours, and torch's exact searches as peers; how they are timed, and the device's own rates.

The host's clock times a whole call: ours goes from arrays in the host's memory to arrays there, torch's from queries on
the device to answers on the host. CUDA's events time the ``device_part``. Torch's part ends with the answers on the
device. Our part is what the chain does with a frame: from features on the device to neighbours and anomaly map on the
host, one frame after the other.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from spadeline.engine.match.gpu import Inspection, Inspector
from spadeline.engine.match.matcher import Match, Matcher

from matcher_parts.features import Case, gallery_pixels, pixels
from matcher_parts.ours import OurPath, Stored
from matcher_parts.peers import PeerError

TorchSearch = Literal["fp16", "fp32", "cdist"]

YARDSTICK = "torch fp16"
# Rounding, as a share of |a|^2 + |b|^2: float16 rounds every number, every sum of products and every norm.
ROUNDING = {"fp16": 4e-3, "fp32": 1e-5, "cdist": 1e-5}
LARGEST_HALF = 60000.0
MATRIX_SHARE = 0.1  # of the device's memory, for the distances of a block of queries to all of the gallery
MATRIX_BYTES = 1 << 28  # for the same on a processor
RATE_RUNS = 20
SIGMA = 4.0  # a recipe's default


class Work(NamedTuple):
    """The work of one call: operations on tensor cores, if it uses these, and the least bytes that it must move."""

    tensor_operations: float | None
    bytes: float


class TorchAnswer(NamedTuple):
    """One query's: (h * w,) float64 mean distances, (h * w, kappa) positions among all of the gallery's."""

    distances: NDArray[np.float64]
    nearest: NDArray[np.int64]


class OnGpu:
    """Our matcher. With torch, which holds the queries on the device, it has a device part, too."""

    def __init__(self, case: Case, stored: Stored, path: OurPath, torch: ModuleType | None, torch_device: str) -> None:
        self.name, self._stored, self._case = path, stored, case
        self._matcher = Matcher.from_cells(stored.cells, stored.sizes, codes=stored.codes, path=path, device="cuda")
        self._inspectors: dict[int, Inspector] = {}  # by kappa
        self._on_device: dict[str, list[Any]] = {}
        if torch is not None:
            self._on_device = {
                name: [torch.from_numpy(level).to(torch_device) for level in levels]
                for name, levels in case.queries.items()
            }
            if torch_device == "cuda":
                torch.cuda.synchronize()  # another stream reads the queries

    def answer(self, names: Sequence[str], kappa: int) -> list[Match]:
        """Match the queries of these names."""
        queries, ids = [self._case.queries[name] for name in names], range(self._stored.images)
        if len(queries) == 1:
            return [self._matcher.match(queries[0], ids, kappa=kappa)]
        return self._matcher.match_batch(queries, [ids] * len(queries), kappa=kappa)

    def device_part(self, names: Sequence[str], kappa: int) -> list[Inspection]:
        """Match queries that lie on the device, and make their maps."""
        ids = np.arange(self._stored.images)
        inspector = self._inspector(kappa)
        levels = [[level.data_ptr() for level in self._on_device[name]] for name in names]
        return [inspector.inspect(addresses, ids, half=False) for addresses in levels]

    def stream(self, kappa: int) -> int | None:
        """Return the address of the CUDA stream of the device part."""
        return self._inspector(kappa).stream.address

    def _inspector(self, kappa: int) -> Inspector:
        if kappa not in self._inspectors:
            side = self._case.size
            self._inspectors[kappa] = Inspector(
                self._matcher, images=self._stored.images, kappa=kappa, window=None, size=(side, side), sigma=SIGMA,
                root=False, theta=np.inf, ignore=None, ignored_distances=None,
            )  # fmt: skip
        return self._inspectors[kappa]

    def work(self, batch: int) -> Work:
        """Dense: all pairs at each level's own resolution, rows in float16. Pruned: the coarsest level's codes."""
        stored = self._stored
        if self.name == "pruned":
            coarsest = stored.codes[-1].projected
            return Work(None, 0 if coarsest is None else batch * coarsest.nbytes)
        levels = [(h * w, cells.shape[-1]) for (h, w), cells in zip(stored.sizes, stored.cells, strict=True)]
        operations = sum(2 * positions * positions * channels for positions, channels in levels)
        rows = sum(2 * positions * channels for positions, channels in levels)
        return Work(batch * stored.images * operations, batch * stored.images * rows)


class TorchGallery:
    """Concatenated features on torch's device in one number type; a power of two scales float16 to keep sums finite."""

    def __init__(self, torch: ModuleType, device: str, case: Case, images: int, *, half: bool) -> None:
        with _out_of_memory_named(torch):
            self._fill(torch, device, case, images, half=half)

    def _fill(self, torch: ModuleType, device: str, case: Case, images: int, *, half: bool) -> None:
        most = sum(float(np.einsum("...c,...c->...", level, level).max()) for level in case.cells)
        rows = {name: pixels(levels) for name, levels in case.queries.items()}
        longest = max(float(np.square(row).sum(axis=1).max()) for row in rows.values())
        largest = most + 2 * (most * longest) ** 0.5  # of |b|^2 - 2ab
        self.scale = float(2.0 ** np.floor(np.log2(LARGEST_HALF / largest) / 2)) if half else 1.0
        dtype = torch.float16 if half else torch.float32
        size, channels = next(iter(rows.values())).shape
        self.rows = torch.empty((images * size, channels), dtype=dtype, device=device)
        self.norms = torch.empty(images * size, dtype=dtype, device=device)
        for image in range(images):
            exact = torch.from_numpy(np.ascontiguousarray(gallery_pixels(case, image))).to(device) * self.scale
            self.rows[image * size : (image + 1) * size] = exact
            self.norms[image * size : (image + 1) * size] = exact.square().sum(1)
        on_device = {name: torch.from_numpy(np.ascontiguousarray(row)).to(device) for name, row in rows.items()}
        self.query_norms = {name: row.square().sum(1) for name, row in on_device.items()}
        self.queries = {name: (row * self.scale).to(dtype) for name, row in on_device.items()}


class OnTorch:
    """An exact search with torch on a gallery; making the gallery and the queries isn't timed.

    ``"fp16"``, ``"fp32"``: ``|b|^2 - 2ab`` by one ``addmm`` a block of queries, then ``min``, or ``topk`` for several.
    ``"cdist"``: ``torch.cdist`` and ``topk``, in float32.
    """

    def __init__(self, torch: ModuleType, search: TorchSearch, gallery: TorchGallery) -> None:
        self.name, self.rounding = f"torch {search}", ROUNDING[search]
        self._torch, self._kind, self._gallery = torch, search, gallery
        device = gallery.rows.device
        total = torch.cuda.get_device_properties(device).total_memory * MATRIX_SHARE if device.type == "cuda" else 0
        column_bytes = len(gallery.rows) * gallery.rows.element_size()
        self._block = max(int(total or MATRIX_BYTES) // column_bytes, 1)

    def answer(self, names: Sequence[str], kappa: int) -> list[TorchAnswer]:
        """Search for the queries of these names, and bring the answers to the host."""
        distances, nearest = (part.cpu().numpy() for part in self.device_part(names, kappa))
        parts = zip(np.split(distances, len(names)), np.split(nearest, len(names)), strict=True)
        return [TorchAnswer(*part) for part in parts]

    def stream(self, kappa: int) -> None:
        """Return None: the device part uses torch's own stream."""

    def device_part(self, names: Sequence[str], kappa: int) -> tuple[Any, Any]:
        """Enqueue the search: mean distances, and positions of the nearest, on the device."""
        with self._torch.inference_mode(), _out_of_memory_named(self._torch):
            queries = self._torch.cat([self._gallery.queries[name] for name in names])
            norms = self._torch.cat([self._gallery.query_norms[name] for name in names])
            blocks = zip(queries.split(self._block), norms.split(self._block), strict=True)
            find = self._cdist if self._kind == "cdist" else self._matmul
            found = [find(*block, kappa) for block in blocks]
            distances, nearest = (self._torch.cat(parts) for parts in zip(*found, strict=True))
            return distances.mean(1, dtype=self._torch.float64), nearest

    def _matmul(self, queries: Any, norms: Any, kappa: int) -> tuple[Any, Any]:
        distances = self._torch.addmm(self._gallery.norms, queries, self._gallery.rows.T, alpha=-2)
        least = distances.min(1, keepdim=True) if kappa == 1 else distances.topk(kappa, largest=False)
        return least.values.float() / self._gallery.scale**2 + norms[:, None], least.indices

    def _cdist(self, queries: Any, norms: Any, kappa: int) -> tuple[Any, Any]:  # noqa: ARG002 - cdist computes the norms itself
        distances = self._torch.cdist(queries, self._gallery.rows, compute_mode="use_mm_for_euclid_dist")
        least = distances.topk(kappa, largest=False)
        return least.values.square(), least.indices

    def work(self, batch: int) -> Work:
        """Return the work of all pairs of concatenated features; their matrix is written and read again."""
        rows = self._gallery.rows
        pairs = batch * len(next(iter(self._gallery.queries.values()))) * len(rows)
        operations = 2 * pairs * rows.shape[1] if rows.dtype == self._torch.float16 else None
        return Work(operations, (len(rows) * rows.shape[1] + 2 * pairs) * rows.element_size())


@contextmanager
def _out_of_memory_named(torch: ModuleType) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        raise PeerError("it ran out of the device's memory") from None


def wall_seconds(call: Callable[[], object]) -> float:
    """Return a call's seconds by the host's clock; the call must end with the answer on the host."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def device_seconds(torch: ModuleType, call: Callable[[], object], stream: int | None = None) -> float:
    """Return a call's seconds between two CUDA events, on torch's stream or on the stream of this address.

    Without CUDA the host's clock is taken: an emulated device works at once.
    """
    if not torch.cuda.is_available():
        return wall_seconds(call)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    measured_stream = torch.cuda.current_stream() if stream is None else torch.cuda.ExternalStream(stream)
    start.record(measured_stream)
    call()
    end.record(measured_stream)
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3


def measure_rates(torch: ModuleType, device: str) -> dict[str, float]:
    """Measure the device: float16 operations a second in a large matrix product, bytes a second in a large copy."""
    side, size = (8192, 1 << 30) if device == "cuda" else (256, 1 << 20)
    a, b = (torch.randn((side, side), device=device).half() for _ in range(2))
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def seconds(call: Callable[[], object]) -> float:
        call()
        return statistics.median(device_seconds(torch, call) for _ in range(RATE_RUNS))

    return {
        "fp16_operations_per_s": 2 * side**3 / seconds(lambda: torch.mm(a, b)),
        "copied_bytes_per_s": 2 * size / seconds(lambda: target.copy_(source)),  # each byte is read and written
    }
