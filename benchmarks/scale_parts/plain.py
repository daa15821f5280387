"""What Ray is compared with: plain processes, each with one Detector, one thread and its share of the files."""

from __future__ import annotations

import multiprocessing
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import repeat
from pathlib import Path
from threading import BrokenBarrierError
from typing import Any, NamedTuple

from spadeline.engine import Detector
from spadeline.engine.images.decoding import decode, read_file
from spadeline.engine.result import Result
from spadeline.engine.settings import Need

from scale_parts.spans import Span

MOST_WAIT_S = 300.0  # for the other processes to open the recipe
WARM_UP = 3  # images
SIZES = {"resident_bytes": "Rss", "own_bytes": "Anonymous", "proportional_bytes": "Pss"}  # as smaps_rollup calls them
ROLLUP = Path("/proc/self/smaps_rollup")

_opened: dict[str, Any] = {}  # what a process keeps between its turns


class Verdict(NamedTuple):
    """What must be equal in each row: of an image, its label, scores and regions."""

    label: bool
    pred_score: float
    image_score: float
    map_score: float
    regions: tuple[tuple[int, tuple[int, ...], tuple[int, ...], float], ...]


class Inspected(NamedTuple):
    """An image that a plain process read and inspected: when, how long each stage took, and what came out."""

    path: str
    span: Span
    stages_s: dict[str, float]
    verdict: Verdict


def verdict_of(result: Result) -> Verdict:
    """Return the part of a result that a row holds, too."""
    regions = tuple((region.area, region.box, region.peak, region.score) for region in result.regions)
    return Verdict(result.pred_label, result.pred_score, result.image_score, result.map_score, regions)


class Plain:
    """Processes that live for the whole contest, and are idle between their turns. Open with :func:`plain`."""

    def __init__(self, pool: ProcessPoolExecutor, count: int) -> None:
        self._pool, self._count = pool, count

    def inspect(self, paths: Sequence[Path], need: Need) -> list[list[Inspected]]:
        """Inspect all files; return each process's own, in its order."""
        shares = [paths[first :: self._count] for first in range(self._count)]
        return list(self._pool.map(_inspect, shares, repeat(need)))

    def memory(self) -> list[dict[str, int]]:
        """Return what the only process holds of the memory."""
        return [self._pool.submit(memory).result()]


@contextmanager
def plain(recipe: Path, count: int) -> Iterator[Plain]:
    """Open a recipe in so many processes, and end them with the context."""
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(count)
    start = partial(ProcessPoolExecutor, mp_context=context, initializer=_open, initargs=(recipe, together))
    with start(max_workers=count) as pool:
        yield Plain(pool, count)


def _open(recipe: Path, together: Any) -> None:
    warnings.simplefilter("ignore", UserWarning)  # of fewer images than k_gallery: the document says how many
    _opened["detector"] = Detector.load(recipe, device="cpu", threads=1, gallery="mapped")
    _opened["together"] = together


def _inspect(paths: Sequence[Path], need: Need) -> list[Inspected]:
    detector, together = _opened["detector"], _opened["together"]
    for _ in _each(detector, paths[:WARM_UP], need):
        pass
    try:
        together.wait(MOST_WAIT_S)  # a process that takes one share can't take another one before all have begun
    except BrokenBarrierError:
        raise SystemExit("expected all plain processes to begin, but one didn't") from None
    return list(_each(detector, paths, need))


def _each(detector: Detector, paths: Iterable[Path], need: Need) -> Iterator[Inspected]:
    for path in paths:
        start = time.perf_counter()
        content = read_file(path)
        read = time.perf_counter()
        pixels, _ = decode(content, path)
        decoded = time.perf_counter()
        result = detector.predict(pixels, need=need)
        end = time.perf_counter()
        stages = {"read": read - start, "decode": decoded - read, **result.timings_s}
        stages["rest"] = end - start - sum(stages.values())
        yield Inspected(str(path), Span(start, end, 1), stages, verdict_of(result))


def memory() -> dict[str, int]:
    """Return this process's bytes: resident, of no file, and resident with shared pages divided by their users."""
    lines = (line.split() for line in ROLLUP.read_text().splitlines()[1:])
    kilobytes = {words[0].rstrip(":"): int(words[1]) for words in lines}
    return {name: 1024 * kilobytes[key] for name, key in SIZES.items()}
