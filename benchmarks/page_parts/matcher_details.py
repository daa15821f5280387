"""Tables of what else matcher.py measured: runs, pruning, memory of the gallery, batches, growth, instructions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from spadeline.engine.pages.sections import Cell, Table
from spadeline.engine.units import duration

from page_parts.chapter import times

STEADY = 1.25  # the yardstick does the same work each time: beyond this, something else had the processors
SETTING = ("features", "input", "K", "kappa")


def matcher_details(document: Mapping[str, Any]) -> list[Table]:
    """Return the tables that have rows."""
    results = document["results"]
    made = (
        runs_table(results),
        _pruning(results),
        _held(results),
        _batches(results),
        _growth(document["growth"]),
        _instructions(document.get("instructions", [])),
    )
    return [table for table in made if table.rows]


def runs_table(results: Sequence[Mapping[str, Any]]) -> Table:
    """Return a row for each setting and contestant: median, spread, runs, ratio, and the slowest query."""
    rows = [
        (
            *_setting(result),
            row["name"],
            duration(row["median_s"]),
            duration(row["min_s"]),
            duration(row["max_s"]),
            row["runs"],
            _ratio(row),
            *_slowest(row),
        )
        for result, row in _rows(results)
    ]
    head = (*SETTING, "matcher", "median", "smallest", "largest", "runs", "ratio", "slowest query", "", "ratio")
    yardsticks = sorted({result["yardstick"] for result in results if "yardstick" in result})
    note = f"Ratio: speed relative to {' or '.join(yardsticks)}. " if yardsticks else ""
    queries = sorted({result["queries"] for result in results})
    note += f"{' or '.join(map(str, queries))} queries. "
    if taken := max(result["real_images"] for result in results):
        note += f"At most {taken} images are as taken. "
    if any(row["name"] == result.get("yardstick") and _is_unsteady(row) for result, row in _rows(results)):
        note += "The yardstick's times spread widely: its ratios mean little; measure again on a machine without load."
    return Table("Runs", head, rows, note.strip()).without_empty_columns()


def _is_unsteady(row: Mapping[str, Any]) -> bool:
    return bool(row["max_s"] > STEADY * row["min_s"])


def _pruning(results: Sequence[Mapping[str, Any]]) -> Table:
    """Return what the slowest query had to compute, where a time was compared with the dense path's."""
    rows = []
    for result, row in _rows(results):
        if "per_dense" in row:
            counts = row["worst"]["statistics"]
            passed = ", ".join(f"{count:,}" for count in reversed(counts["passed"]))
            ratios = (row["per_dense"], row["worst"]["per_dense"])
            work = (counts["pairs"], passed, counts["exact"], counts["guarded_cells"])
            rows.append((*_setting(result), row["name"], *ratios, *work))
    head = (
        *SETTING, "matcher", "time / dense", "slowest query's", "coarse pairs", "passed, coarse to fine", "exact",
        "guarded cells",
    )  # fmt: skip
    return Table("What pruning left to compute for the slowest query", head, rows)


def _held(results: Sequence[Mapping[str, Any]]) -> Table:
    rows = {
        (result["size"], result["images"], storage, held["levels"] / 1e6, held["codes"] / 1e6): None
        for result in results
        for storage, held in result["bytes"].items()
    }
    return Table("Memory of the gallery", ("input", "K", "storage", "levels, MB", "codes, MB"), list(rows))


def _batches(results: Sequence[Mapping[str, Any]]) -> Table:
    rows = []
    for result in results:
        if "batch" in result:
            batch = result["batch"]
            seconds = (duration(batch["loop_s"]), duration(batch["batch_s"]))
            rows.append((*_setting(result), batch["name"], batch["queries"], *seconds, times(batch["loop_per_batch"])))
    head = (*SETTING, "matcher", "queries", "loop of match", "match_batch", "ratio")
    return Table("Many queries at once", head, rows)


def _growth(lines: Sequence[Mapping[str, Any]]) -> Table:
    """Return the exponents of K where there are several K."""
    rows = [
        (
            line["features"],
            line["size"],
            line["kappa"],
            line["name"],
            f"{line['slope']:.2f}",
            line.get("from_50_to_200"),
        )
        for line in lines
        if "slope" in line
    ]
    head = ("features", "input", "kappa", "matcher", "time grows as K to the power of", "time at K = 200 / K = 50")
    return Table("Growth with K", head, rows).without_empty_columns()


def _instructions(counts: Sequence[Mapping[str, Any]]) -> Table:
    keys = ("features", "size", "images", "kappa", "name", "instructions")
    return Table(
        "Instructions", (*SETTING, "matcher", "a query"), [tuple(count[key] for key in keys) for count in counts]
    )


def _rows(results: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Yield each result with each of its contestants' rows."""
    return ((result, row) for result in results for row in result["rows"])


def _setting(result: Mapping[str, Any]) -> tuple[Cell, ...]:
    return tuple(result[key] for key in ("features", "size", "images", "kappa"))


def _ratio(row: Mapping[str, Any]) -> str | None:
    return times(row["against_yardstick"]) if "against_yardstick" in row else None


def _slowest(row: Mapping[str, Any]) -> tuple[Cell, Cell, Cell]:
    if row["queries"] < 2:
        return None, None, None
    return row["worst"]["query"], duration(row["worst"]["median_s"]), _ratio(row["worst"])
