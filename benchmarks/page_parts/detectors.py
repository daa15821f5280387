"""The chapter of whole detectors: accuracy beside speed (detectors.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from spadeline.engine.bench.bench_report import milliseconds
from spadeline.engine.json_data import from_json
from spadeline.engine.pages.sections import Cell, Chart, Section, Table
from spadeline.engine.pages.speed_charts import latency_chart, tradeoff_chart
from spadeline.engine.units import Latency, duration

from page_parts.chapter import Chapter, left_out, side

GROUPS = ("good", "defective")


def detectors(document: Mapping[str, Any]) -> Chapter:
    """Return whole detectors, accuracy beside speed."""
    (result,) = document["results"]
    rows = result["rows"]
    text = (
        f"{result['backbone']}, {result['weights']} weights, input {side(result['input_size'])}, "
        f"{result['images']} normal images, {result['frames']} frames; all on the same images and threads, in turns, "
        f"each with its own maps and scores. SPADE searches {result['gallery_images']} images. {_details(result)}"
    )
    tables = {"detectors": _detectors(result), "brief": _brief(result)}
    names = {row["name"] for row in rows}
    ours = [name for name in names if name.startswith("spadeline")]
    latencies = {row["name"]: from_json(Latency, row["latency"]).percentiles_s() for row in rows}
    charts = [
        Chart(f"{what} against time", partial(_tradeoff, rows, key, what, ours), "Up and left is better.")
        for key, what in (("pixel_rocauc", "pixel ROCAUC"), ("image_rocauc", "image ROCAUC"))
        if any(row[key] is not None for row in rows)
    ]
    charts.append(
        Chart("Latency, median to maximum", partial(latency_chart, latencies, label="Latency of each detector"))
    )
    section = Section("Against other detectors", text, document["command"], [*charts, tables["detectors"]])
    return Chapter(_against(result), section, tables)


def _details(result: Mapping[str, Any]) -> str:
    """Say how many runs were timed, which detectors gave spadeline's results, and which versions the peers have."""
    rows = result["rows"]
    runs = ", ".join(f"{row['name']} {row['latency']['runs']:,}" for row in rows)
    equal = "".join(
        f" {row['name']}: maps and scores are spadeline's within {row['difference_to_spadeline']:.1e}."
        for row in rows
        if row["difference_to_spadeline"] is not None
    )
    versions = ", ".join(f"{name} {version}" for name, version in result["peers"].items())
    return f"Runs timed: {runs}.{equal}{_verdicts(rows)}{_turns(rows)}" + (f" Peers: {versions}." if versions else "")


def _verdicts(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say whose maps are bounds, and whose verdicts are therefore compared."""
    compared = [f"{row['name']} as {row['verdict_of']}" for row in rows if row.get("verdict_of")]
    return f" The same verdict for every frame: {', '.join(compared)}." if compared else ""


def _turns(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say which processes could not live side by side."""
    if not any("started_anew" in row for row in rows):
        return ""  # an older document: all lived side by side
    anew = [row["name"] for row in rows if row["started_anew"]]
    together = " Each detector answered alone; then all lived side by side and took turns, pass by pass."
    return f" Started anew for each of its turns, for lack of memory: {', '.join(anew)}." if anew else together


def _tradeoff(rows: Sequence[Mapping[str, Any]], key: str, what: str, ours: Sequence[str]) -> str:
    points = {row["name"]: (row["latency"]["p50_s"], row[key]) for row in rows if row[key] is not None}
    return tradeoff_chart(points, label=f"{what} against time", accuracy=what, ours=ours)


def _against(result: Mapping[str, Any]) -> str:
    """Put spadeline's pixel ROCAUC and times beside the fastest other detector's."""
    rows = result["rows"]
    own = next((row for row in rows if row["name"] == "spadeline"), None)
    others = [row for row in rows if not row["name"].startswith("spadeline")]
    if own is None or not others:
        return ""
    best = min(others, key=lambda row: row["latency"]["p50_s"])

    def said(row: Mapping[str, Any]) -> str:
        pixel = "" if row["pixel_rocauc"] is None else f" at a pixel ROCAUC of {row['pixel_rocauc']:.3f}"
        return f"{duration(row['latency']['p50_s'])} a frame{pixel}"

    label = next((row for row in rows if row["name"] == "spadeline (label)"), None)
    alone = "" if label is None else f", {duration(label['latency']['p50_s'])} for the label alone"
    where = f"With {result['backbone']}" + (f" on {result['data']}" if "data" in result else "")
    return f"{where} spadeline takes {said(own)}{alone}; {best['name']}, the fastest other, {said(best)}."


def _detectors(result: Mapping[str, Any]) -> Table:
    head = (
        "", "image ROCAUC", "by map", "by embedding", "pixel ROCAUC", "AU-PRO to 0.3", "p50, ms", "p95", "p99", "max",
        *(f"p50 of {group} frames" for group in _groups(result)), "frames/s", "model, MB", "memory, MB",
    )  # fmt: skip
    keys = ("image_rocauc", "image_rocauc_by_map", "image_rocauc_by_embedding", "pixel_rocauc", "aupro_0.3")
    rows: list[tuple[Cell, ...]] = []
    for row in result["rows"]:
        times = from_json(Latency, row["latency"])
        percentiles = map(milliseconds, (times.p50_s, times.p95_s, times.p99_s, times.max_s))
        sizes = (row["model_bytes"] / 1e6, row["peak_bytes"] / 1e6)
        figures = (None if row[key] is None else f"{row[key]:.3f}" for key in keys)
        medians = (milliseconds(row["median_s"][group]) for group in _groups(result))
        rows.append((row["name"], *figures, *percentiles, *medians, row["frames_per_s"], *sizes))
    return Table("Accuracy and speed", head, rows, (_notes(result) + left_out(result["left_out"])).strip())


def _groups(result: Mapping[str, Any]) -> Sequence[str]:
    """Return the groups of frames that have a median of their own: none in an older document."""
    return GROUPS if all("median_s" in row for row in result["rows"]) else ()


def _brief(result: Mapping[str, Any]) -> Table:
    """Return the few columns that README shows."""
    keys = ("image_rocauc", "pixel_rocauc", "aupro_0.3")
    rows = [
        (
            row["name"],
            *(None if row[key] is None else f"{row[key]:.3f}" for key in keys),
            1e3 * row["latency"]["p50_s"],
        )
        for row in result["rows"]
    ]
    head = ("", "image ROCAUC", "pixel ROCAUC", "AU-PRO to 0.3", "ms a frame, median")
    return Table("Accuracy and speed", head, rows, _notes(result).strip())


def _notes(result: Mapping[str, Any]) -> str:
    """Say which detectors compute in another number type than float32, and which ones' maps are bounds."""
    other = [row for row in result["rows"] if row.get("precision", "float32") != "float32"]
    bounds = any(row.get("verdict_of") for row in result["rows"])
    text = (
        "A row of a mask or a label has the verdicts of the map's row, and no accuracy of its own. " if bounds else ""
    )
    return text + "".join(f"{row['name']} computes in {row['precision']}. " for row in other)
