"""Our own contestants: matchers by storage, path and instruction set, each timed through its Python interface."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from spadeline.engine.match.cells import from_cells, level_shifts
from spadeline.engine.match.codes import LevelCodes, encode_gallery
from spadeline.engine.match.matcher import Match, Matcher

from matcher_parts.features import Case, Levels

Storage = Literal["float32", "float16"]
OurPath = Literal["dense", "pruned"]

BATCH = 8  # queries
SAME = 1e-9  # relative difference that two sums in float64 may have, at any number of channels


@dataclass(frozen=True, eq=False)
class Stored:
    """A gallery's first images as a recipe would hold them: features in their number type, and codes."""

    storage: Storage
    cells: list[NDArray[np.floating]]
    sizes: tuple[tuple[int, int], ...]
    codes: list[LevelCodes]

    @property
    def images(self) -> int:
        """The number of its images."""
        return len(self.cells[0])

    def bytes_held(self) -> dict[str, int]:
        """Return the bytes of the levels and of the codes."""
        arrays = [array for level in self.codes for array in (level.basis, level.projected, level.rotated)]
        codes = sum(array.nbytes for array in arrays if array is not None)
        return {"levels": sum(level.nbytes for level in self.cells), "codes": codes}

    def distance(self, query: Levels, pixel: tuple[int, int], neighbour: Sequence[int]) -> float:
        """Return D of a query pixel (y, x) and a gallery pixel (image, y, x), in float64."""
        (y, x), (image, gallery_y, gallery_x) = pixel, neighbour
        total = 0.0
        levels = zip(query, self.cells, self.sizes, level_shifts(self.sizes), strict=True)
        for level, cells, size, shift in levels:
            vector = from_cells(cells[image : image + 1], *size)[0, :, gallery_y >> shift, gallery_x >> shift]
            total += float(((level[:, y >> shift, x >> shift] - vector.astype(np.float64)) ** 2).sum())
        return total


def store(case: Case, images: int, storage: Storage) -> Stored:
    """Take the first images of a case, and make their codes."""
    cells: list[NDArray[np.floating]] = [level[:images].astype(storage, copy=False) for level in case.cells]
    return Stored(storage, cells, case.sizes, encode_gallery(cells))


class Ours:
    """One matcher, with the arrays that it writes to."""

    def __init__(self, stored: Stored, path: OurPath, instruction_set: str, threads: int) -> None:
        self.name = f"{path} {instruction_set}" + (" float16" if stored.storage == "float16" else "")
        self.stored, self.path, self.instruction_set = stored, path, instruction_set
        self._matcher = Matcher.from_cells(
            stored.cells, stored.sizes, codes=stored.codes, threads=threads, path=path, instruction_set=instruction_set
        )
        self._outs: dict[int, tuple[NDArray[np.float64], NDArray[np.int32]]] = {}

    def search(self, query: Levels, kappa: int) -> tuple[Match, float]:
        """Return the match, in arrays that the next search overwrites, and the seconds that it took."""
        height, width = self.stored.sizes[0]
        if kappa not in self._outs:
            self._outs[kappa] = (np.empty((height, width)), np.empty((height, width, kappa, 3), np.int32))
        start = time.perf_counter()
        match = self._matcher.match(query, range(self.stored.images), kappa=kappa, out=self._outs[kappa])
        return match, time.perf_counter() - start

    def batch(self, queries: list[Levels], kappa: int, repeats: int) -> dict[str, Any]:
        """Time ``match_batch`` against a loop of ``match``, in turns, after checking that both give the same bits."""
        queries = [queries[index % len(queries)] for index in range(BATCH)]
        ids = [range(self.stored.images)] * BATCH
        loop_s, batch_s = [], []
        for repeat in range(repeats + 1):  # the first repeat warms up
            start = time.perf_counter()
            one_by_one = [self._matcher.match(query, range(self.stored.images), kappa=kappa) for query in queries]
            middle = time.perf_counter()
            together = self._matcher.match_batch(queries, ids, kappa=kappa)
            end = time.perf_counter()
            for one, other in zip(one_by_one, together, strict=True):
                same = np.array_equal(one.distances, other.distances)
                if not (same and np.array_equal(one.neighbours, other.neighbours)):
                    raise SystemExit(f"{self.name}: match_batch and match differ; no time is worth reporting")
            if repeat > 0:
                loop_s.append(middle - start)
                batch_s.append(end - middle)
        loop, batch = statistics.median(loop_s), statistics.median(batch_s)
        return {"name": self.name, "queries": BATCH, "loop_s": loop, "batch_s": batch, "loop_per_batch": loop / batch}


def check_same(name: str, match: Match, truth: Match, stored: Stored, query: Levels) -> None:
    """End the benchmark unless distances agree, and neighbours too, except where two are equally far away."""
    worst = np.max(np.abs(match.distances - truth.distances) / np.maximum(truth.distances, 1e-12))
    if not worst <= SAME:  # true for NaN, which is no result
        raise SystemExit(f"{name}: distances differ by {worst:.2e}, allowed {SAME:.0e}; no time is worth reporting")
    for y, x, rank in np.argwhere((match.neighbours != truth.neighbours).any(axis=-1)):
        found, expected = (m.neighbours[y, x, rank].tolist() for m in (match, truth))
        one, other = (stored.distance(query, (y, x), neighbour) for neighbour in (found, expected))
        if abs(one - other) > SAME * max(one, other):
            raise SystemExit(f"{name}: neighbour {rank} of {(int(y), int(x))} is {found}, expected {expected}")
