"""The chapter of the C++ door: C++ beside Python, inspectors side by side, allocations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spadeline.engine.pages.sections import Cell, Section, Table
from spadeline.engine.units import duration

from page_parts.chapter import Chapter, side

_KEYS = ("p50_s", "p95_s", "p99_s", "max_s")
_SUBJECT = ("images", "network", "need", "frames")


def embed(document: Mapping[str, Any]) -> Chapter:
    """Return latency and stages of both doors, throughput and memory of inspectors side by side, and allocations."""
    results = document["results"]
    tables = {
        "latency": _latency(results),
        "stages": _stages(results),
        "throughput": _throughput(results),
        "allocations": _allocations(results),
    }
    setting = document["environment"]
    text = (
        "A C++ program inspects frames in memory through libspadeline.so; Python's Detector.predict inspects the same "
        f"frames in turns with it, both with {setting['threads']} threads. Before, labels and what else each need asks "
        "for were found equal, bit by bit, for all frames."
    )
    section = Section("From C++", text, document["command"], [*tables.values()])
    return Chapter(_finding(results), section, tables)


def _finding(results: Any) -> str:
    result = results[0]
    row = result["rows"][0]
    ours, pythons = (row["contestants"][name]["latency"]["p50_s"] for name in ("C++", "Python"))
    subject = f"{result['data']}, {result['network']}, {side(result['input_size'])}, {row['group']} frames"
    return f"From C++ a frame's {row['need']} takes {duration(ours)}, from Python {duration(pythons)} ({subject})."


def _rows(results: Any) -> list[tuple[tuple[str, str, str, str], Mapping[str, Any]]]:
    """Return each row with what names it."""
    return [
        ((result["data"], result["network"], row["need"], row["group"]), row)
        for result in results
        for row in result["rows"]
    ]


def _latency(results: Any) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for subject, row in _rows(results):
        for name, figures in row["contestants"].items():
            times = figures["latency"]
            p50, p95, p99, most = (None if times[key] is None else 1e3 * times[key] for key in _KEYS)
            spread = None if times["p99_s"] is None else f"{times['p99_s'] / times['p50_s']:.2f}"
            rows.append((*subject, name, p50, p95, p99, most, spread, f"{times['runs']:,}"))
    head = (*_SUBJECT, "", "p50, ms", "p95, ms", "p99, ms", "max, ms", "p99 / p50", "runs")
    return Table("Latency", head, rows, "The backbone alone is ONNX Runtime's call from Python.")


def _stages(results: Any) -> Table:
    rows: list[tuple[Cell, ...]] = []
    stages: list[str] = []
    for subject, row in _rows(results):
        for name, figures in row["contestants"].items():
            if "stages_s" in figures:
                stages = list(figures["stages_s"])
                rows.append((*subject, name, *(f"{1e3 * taken:.3f}" for taken in figures["stages_s"].values())))
    note = (
        "Medians in ms. Regions and verdict belong to the map's stage. The rest is what a call takes beside its stages."
    )
    return Table("Stages", (*_SUBJECT, "", *stages), rows, note)


def _throughput(results: Any) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            result["data"],
            result["network"],
            row["need"],
            row["inspectors"],
            row["frames_per_s"],
            f"{row['resident_bytes'] / 1e6:,.0f}",
        )
        for result in results
        for row in result["throughput"]
    ]
    head = ("images", "network", "need", "inspectors", "frames a second", "resident memory, MB")
    note = "Good and defective frames in turn; each inspector has one thread. The memory includes the frames."
    return Table("Inspectors that share a recipe", head, rows, note)


def _allocations(results: Any) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (result["data"], result["network"], need, f"{counted['all']:,.1f}", f"{counted['library']:,.1f}")
        for result in results
        for need, counted in result["allocations"].items()
    ]
    head = ("images", "network", "need", "of the whole process", "of libspadeline.so")
    return Table("Allocations a frame", head, rows, "Those that aren't libspadeline.so's are ONNX Runtime's.")
