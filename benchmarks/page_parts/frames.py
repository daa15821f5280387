"""Chapters of whole frames: one recipe's (bench), and sweeps (pipeline.py)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from spadeline.engine.bench.bench_report import (
    bench_sections,
    facts_section,
    latency_parts,
    stage_parts,
    start_table,
    throughput_parts,
)
from spadeline.engine.bench.documents import BenchDocument, FrameLatency, Start, Throughput
from spadeline.engine.bench.takt import takt_sentence
from spadeline.engine.json_data import from_json
from spadeline.engine.pages.sections import Chart, Section, Table
from spadeline.engine.units import duration, three_digits

from page_parts.chapter import Chapter, side


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
    what = ", ".join(filter(None, [names[0], results[0]["setting"].get("images"), "whole maps"]))
    finding = (
        f"A frame takes {duration(base.p50_s)} from the camera to the result, {who} at most {duration(tail)} ({what})."
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
