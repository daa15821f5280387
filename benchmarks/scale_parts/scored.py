"""``score`` itself, with workers that note beside each row when they scored it, or how much memory they hold."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spadeline.engine.recipe.held import GalleryPlace
from spadeline.engine.scale import run as score_run
from spadeline.engine.scale.addresses import pyarrow
from spadeline.engine.scale.written import read_rows
from spadeline.engine.settings import Need

from scale_parts.plain import SIZES, Verdict, memory
from scale_parts.spans import Span

VERDICT = ("label", "pred_score", "image_score", "map_score", "regions")
TIMES = ("worker", "start_s", "end_s")


class Timed(score_run.Worker):
    """``score``'s worker, with columns more: its process, and when it began and ended the batch."""

    def __call__(self, batch: Any) -> Any:
        """Return a batch's rows."""
        start = time.perf_counter()
        rows = super().__call__(batch)
        return _with_columns(rows, {"worker": os.getpid(), "start_s": start, "end_s": time.perf_counter()})


class Weighed(Timed):
    """The same, with its memory after the batch. Reading that takes time, so it isn't done where rates are measured."""

    def __call__(self, batch: Any) -> Any:
        """Return a batch's rows."""
        return _with_columns(super().__call__(batch), memory())


def _with_columns(rows: Any, facts: Mapping[str, float]) -> Any:
    for name, value in facts.items():
        rows = rows.append_column(name, pyarrow().array([value] * len(rows)))
    return rows


@dataclass(frozen=True, eq=False)
class Run:
    """One call of ``score``, by the machine's clock.

    Attributes
    ----------
    start_s, end_s
        Of the call.
    rows
        By column, as written.
    written_bytes
        Of the Parquet files.
    """

    start_s: float
    end_s: float
    rows: Mapping[str, Sequence[Any]]
    written_bytes: int
    verdicts: Mapping[str, Verdict] = field(init=False)
    spans: Mapping[int, Sequence[Span]] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "verdicts", dict(zip(self.rows["path"], self._verdicts(), strict=True)))
        object.__setattr__(self, "spans", self._spans())

    def _verdicts(self) -> Iterator[Verdict]:
        for label, *scores, regions in zip(*(self.rows[name] for name in VERDICT), strict=True):
            kept = ((part["area"], tuple(part["box"]), tuple(part["peak"]), part["score"]) for part in regions or ())
            yield Verdict._make((label, *scores, tuple(kept)))

    def _spans(self) -> Mapping[int, Sequence[Span]]:
        images: dict[tuple[int, float, float], int] = {}
        for batch in zip(*(self.rows[name] for name in TIMES), strict=True):
            images[batch] = images.get(batch, 0) + 1
        spans: dict[int, list[Span]] = {}
        for (worker, start, end), count in sorted(images.items()):
            spans.setdefault(worker, []).append(Span(start, end, count))
        return spans


def run(
    recipe: Path,
    source: Path,
    *,
    workers: int,
    need: Need,
    worker: type[Timed] = Timed,
    gallery: GalleryPlace = "mapped",
) -> Run:
    """Score a folder with so many workers of one thread each, in a Ray of its own."""
    with tempfile.TemporaryDirectory(prefix="spadeline-scale-") as folder, _workers_of(worker):
        start = time.perf_counter()
        score_run.score(recipe, source, folder, workers=workers, need=need, gallery=gallery)
        end = time.perf_counter()
        (written,) = (path for path in Path(folder).iterdir() if path.is_dir())
        columns = ["path", *VERDICT, *TIMES, *(SIZES if worker is Weighed else ())]
        rows = read_rows(written, columns).to_pydict()
        size = sum(path.stat().st_size for path in written.iterdir())
    return Run(start, end, rows, size)


@contextmanager
def _workers_of(kind: type[Timed]) -> Iterator[None]:
    """Let ``score`` run this kind of worker: the rows' own columns tell of an image's time, not of a batch's."""
    own = score_run.Worker
    score_run.Worker = kind  # type: ignore[misc]
    try:
        yield
    finally:
        score_run.Worker = own  # type: ignore[misc]
