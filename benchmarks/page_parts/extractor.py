"""The extractor's chapter: time by precision, and what int8 costs (extractor.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spadeline.engine.pages.page import Chart, Section, Table
from spadeline.engine.pages.speed_charts import latency_chart
from spadeline.engine.units import duration

from page_parts.chapter import Chapter, side, times


def extractor(document: Mapping[str, Any]) -> Chapter:
    """Return latency by network, precision and threads, and int8's cost in maps and ROCAUC."""
    results = document["results"]
    tables = {"times": _times(results), "cost": _cost(results)}
    named = {f"{_network(row)}, {row['precision']}, {row['threads']} threads": row["latency"] for row in results}
    chart = Chart("Latency, median to maximum", latency_chart(named, label="Latency of each extractor", takt_s=None))
    text = "The extractor alone, one image at a time; each network's precisions run in turns."
    section = Section("The extractor", text, document["command"], [chart, *tables.values()])
    return Chapter(_finding(results), section, tables)


def _network(row: Mapping[str, Any]) -> str:
    return Path(row["network"]).stem


def _finding(results: Sequence[Mapping[str, Any]]) -> str:
    most = max(row["threads"] for row in results)
    ratios = [
        f"{_network(row)} {duration(row['latency']['p50_s'])}, {times(row['float32_per_this'])}"
        for row in results
        if row["precision"] == "int8" and row["threads"] == most
    ]
    return f"In int8 on {most} threads, against float32: {'; '.join(ratios)}." if ratios else ""


def _times(results: Sequence[Mapping[str, Any]]) -> Table:
    head = ("network", "precision", "threads", "input", "p50, ms", "p95", "p99", "ratio", "file, MB", "provider")
    rows = [
        (
            _network(row),
            row["precision"],
            row["threads"],
            side(row["input_size"]),
            *(None if (taken := row["latency"][key]) is None else 1e3 * taken for key in ("p50_s", "p95_s", "p99_s")),
            times(row["float32_per_this"]),
            row["file_bytes"] / 1e6,
            row["provider"],
        )
        for row in results
    ]
    return Table("Time an image", head, rows, "Ratio: so many times as fast as float32, by medians.")


def _cost(results: Sequence[Mapping[str, Any]]) -> Table:
    costs = {_network(row): row for row in results if row["precision"] == "int8"}
    names = list(dict.fromkeys(name for row in costs.values() for name in row["rocauc"]))
    head = ("network", "calibrated on", "map correlation, least", *(name.replace("_", " ") for name in names))
    rows = [
        (
            network,
            row["calibration_images"],
            f"{row['map_correlation']:.4f}",
            *(_pair(row["rocauc"].get(name)) for name in names),
        )
        for network, row in costs.items()
    ]
    return Table("What int8 costs: float32 → int8", head, rows)


def _pair(pair: Mapping[str, float] | None) -> str | None:
    return None if pair is None else f"{pair['float32']:.4f} → {pair['int8']:.4f}"
