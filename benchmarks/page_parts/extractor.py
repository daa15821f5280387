"""The extractor's chapter: time by precision, and what int8 costs (extractor.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from spadeline.engine.bench.bench_report import milliseconds
from spadeline.engine.json_data import from_json
from spadeline.engine.pages.sections import Chart, Section, Table
from spadeline.engine.pages.speed_charts import latency_chart
from spadeline.engine.units import Latency, duration

from page_parts.chapter import Chapter, side, times


def extractor(document: Mapping[str, Any]) -> Chapter:
    """Return latency by network, precision and threads, and int8's cost in maps and ROCAUC."""
    results = document["results"]
    tables = {"times": _times(results), "cost": _cost(results)}
    named = {_name(row): _percentiles_s(row) for row in results}
    draw = partial(latency_chart, named, label="Latency of each extractor")
    chart = Chart("Latency, median to maximum", draw)
    text = "The extractor alone, one image at a time; each network's precisions run in turns."
    text += "".join(f"\n\n{_chosen(row)}" for row in results if row["provider_times_s"])
    section = Section("The extractor", text, document["command"], [chart, *tables.values()])
    return Chapter(_finding(results), section, tables)


def _name(row: Mapping[str, Any]) -> str:
    return f"{_network(row)}, {row['precision']}, {row['threads']} threads"


def _percentiles_s(row: Mapping[str, Any]) -> dict[str, float | None]:
    return from_json(Latency, row["latency"]).percentiles_s()


def _chosen(row: Mapping[str, Any]) -> str:
    """Say how long each provider took at load: the fastest one was chosen."""
    taken = ", ".join(f"{provider} {duration(seconds)}" for provider, seconds in row["provider_times_s"].items())
    return f"{_name(row)}: at load an image took {taken}."


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
            *(milliseconds(_percentiles_s(row)[name]) for name in ("p50", "p95", "p99")),
            times(row["float32_per_this"]),
            row["file_bytes"] / 1e6,
            row["provider"],
        )
        for row in results
    ]
    return Table("Time an image", head, rows, "Ratio: speed relative to float32, by medians.")


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
