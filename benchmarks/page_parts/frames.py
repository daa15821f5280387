"""Chapters of whole frames: one recipe's (bench), sweeps (pipeline.py), and against other detectors (detectors.py)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from spadeline.engine.bench.bench_report import (
    bench_sections,
    facts_section,
    latency_parts,
    milliseconds,
    stage_parts,
    start_table,
    throughput_parts,
)
from spadeline.engine.bench.documents import BenchDocument, FrameLatency, Start, Throughput
from spadeline.engine.bench.takt import takt_sentence
from spadeline.engine.json_data import from_json
from spadeline.engine.pages.sections import Cell, Chart, Section, Table
from spadeline.engine.pages.speed_charts import latency_chart, tradeoff_chart
from spadeline.engine.units import Latency, duration, three_digits

from page_parts.chapter import Chapter, left_out, side


def bench(document: Mapping[str, Any]) -> Chapter:
    """Return the report of one recipe, in one section."""
    read = from_json(BenchDocument, document)
    sections = [*bench_sections(read), facts_section(read)]
    text = "\n\n".join(section.text for section in sections if section.text)
    parts = [part for section in sections for part in section.parts]
    name = read.recipe.name
    return Chapter(f"{name}: {takt_sentence(read)}", Section(f"Recipe {name}", text, read.command, parts))


def pipeline(document: Mapping[str, Any]) -> Chapter:
    """Return latency, stages, throughput, start and memory of every setting, and energy where it was measured."""
    results = document["results"]
    names = _names([result["setting"] for result in results])
    by_name = dict(zip(names, results, strict=True))
    times = {name: [from_json(FrameLatency, each) for each in result["latency"]] for name, result in by_name.items()}
    ways = {name: [from_json(Throughput, way) for way in result["throughput"]] for name, result in by_name.items()}
    latencies = {f"{name}, {each.begins_at}": each for name, both in times.items() for each in both}
    from_camera = {name: both[0] for name, both in times.items()}
    tables = {
        "latency": _of_parts(latency_parts(latencies)),
        "stages": _of_parts(stage_parts(from_camera)),
        "throughput": _throughput(ways),
        "start": start_table({name: from_json(Start, result["start"]) for name, result in by_name.items()}),
        "memory": _memory(by_name),
    }
    charts = [part for part in (*latency_parts(from_camera), *stage_parts(from_camera)) if isinstance(part, Chart)]
    charts += [part for part in throughput_parts(ways[names[0]]) if isinstance(part, Chart)]
    base = from_camera[names[0]]
    who, tail = ("the slowest", base.max_s) if base.p99_s is None else ("99 of 100", base.p99_s)
    finding = (
        f"A frame takes {duration(base.p50_s)} from the camera to the result, {who} at most {duration(tail)} "
        f"({names[0]})."
    )
    text = (
        f"The first setting is {_described(results[0]['setting'])}; each other setting is named by what "
        "differs. Charts show times from the camera's frame on; the chart of frames a second shows the first setting."
    )
    return Chapter(finding, Section("The whole chain", text, document["command"], [*charts, *tables.values()]), tables)


def _names(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name each setting by what it doesn't share with the first one."""
    base = settings[0]
    names = [f"{base['extractor']}, input {side(base['input_size'])}"]
    for setting in settings[1:]:
        changed = [key for key in setting if setting[key] != base[key]]
        names.append(", ".join(f"{key.replace('_', ' ')} {_value(setting[key])}" for key in changed) or names[0])
    return [name if names.index(name) == index else f"{name} ({index + 1})" for index, name in enumerate(names)]


def _described(setting: Mapping[str, Any]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {_value(value)}" for key, value in setting.items())


def _value(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], list):
        return " and ".join(side(size) for size in value)
    return side(value) if isinstance(value, list) else str(value)


def _of_parts(parts: Sequence[Table | Chart]) -> Table:
    return next(part for part in parts if isinstance(part, Table))


def _throughput(ways: Mapping[str, Iterable[Throughput]]) -> Table:
    rates = {name: {way.name: way.frames_per_s for way in of_setting} for name, of_setting in ways.items()}
    columns = list(dict.fromkeys(way for of_setting in rates.values() for way in of_setting))
    rows = [(name, *(of_setting.get(way) for way in columns)) for name, of_setting in rates.items()]
    return Table("Frames a second", ("", *columns), rows)


def _memory(by_name: Mapping[str, Mapping[str, Any]]) -> Table:
    rows, reasons = [], {}
    for name, result in by_name.items():
        memory, energy = result["memory"], result["energy"]
        if "not_measured" in energy:
            reasons[energy["not_measured"]] = None
        sizes = (memory["gallery_bytes"] / 1e6, memory["recipe_bytes"] / 1e6, result["start"]["peak_bytes"] / 1e6)
        rows.append((name, result["setting"]["gallery_images"], *sizes, _energy(energy)))
    head = ("", "gallery images", "gallery, MB", "recipe, MB", "process's peak, MB", "energy, J/frame")
    note = " ".join(f"Energy wasn't measured: {reason}." for reason in reasons)
    return Table("Memory and energy", head, rows, note)


def _energy(energy: Mapping[str, Any]) -> str | None:
    if "joules_per_frame" not in energy:
        return None
    return f"{three_digits(energy['joules_per_frame'])} at {energy['watts']:.1f} W"


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
    return Chapter(_against(rows), section, tables)


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
    return f"Runs timed: {runs}.{equal}" + (f" Peers: {versions}." if versions else "")


def _tradeoff(rows: Sequence[Mapping[str, Any]], key: str, what: str, ours: Sequence[str]) -> str:
    points = {row["name"]: (row["latency"]["p50_s"], row[key]) for row in rows if row[key] is not None}
    return tradeoff_chart(points, label=f"{what} against time", accuracy=what, ours=ours)


def _against(rows: Sequence[Mapping[str, Any]]) -> str:
    """Put spadeline's pixel ROCAUC and time beside the fastest other detector's."""
    own = next((row for row in rows if row["name"] == "spadeline"), None)
    others = [row for row in rows if not row["name"].startswith("spadeline")]
    if own is None or not others:
        return ""
    best = min(others, key=lambda row: row["latency"]["p50_s"])

    def said(row: Mapping[str, Any]) -> str:
        pixel = "" if row["pixel_rocauc"] is None else f" at a pixel ROCAUC of {row['pixel_rocauc']:.3f}"
        return f"{duration(row['latency']['p50_s'])} a frame{pixel}"

    return (
        f"On the same backbone and images spadeline takes {said(own)}; {best['name']}, the fastest other, {said(best)}."
    )


def _detectors(result: Mapping[str, Any]) -> Table:
    head = (
        "", "image ROCAUC", "by map", "by embedding", "pixel ROCAUC", "AU-PRO to 0.3", "p50, ms", "p95", "p99", "max",
        "frames/s", "model, MB", "memory, MB",
    )  # fmt: skip
    keys = ("image_rocauc", "image_rocauc_by_map", "image_rocauc_by_embedding", "pixel_rocauc", "aupro_0.3")
    rows: list[tuple[Cell, ...]] = []
    for row in result["rows"]:
        times = from_json(Latency, row["latency"])
        percentiles = map(milliseconds, (times.p50_s, times.p95_s, times.p99_s, times.max_s))
        sizes = (row["model_bytes"] / 1e6, row["peak_bytes"] / 1e6)
        figures = (None if row[key] is None else f"{row[key]:.3f}" for key in keys)
        rows.append((row["name"], *figures, *percentiles, row["frames_per_s"], *sizes))
    return Table("Accuracy and speed", head, rows, (_precisions(result) + left_out(result["left_out"])).strip())


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
    return Table("Accuracy and speed", head, rows, _precisions(result).strip())


def _precisions(result: Mapping[str, Any]) -> str:
    """Say which detectors compute in another number type than float32."""
    other = [row for row in result["rows"] if row.get("precision", "float32") != "float32"]
    return "".join(f"{row['name']} computes in {row['precision']}. " for row in other)
