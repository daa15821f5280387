"""``spadeline bench``'s document as a page: does the recipe meet the takt here, what limits it, what to do next.

The parts serve the page of the project's own benchmarks, too. Nothing is measured here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..pages.page import Cell, Chart, Section, Table, plain, write_page
from ..pages.speed_charts import STAGES, bar_chart, latency_chart, stage_chart
from .takt import verdict

PERCENTILES = ("p50_s", "p95_s", "p99_s", "p99.9_s", "max_s")
_DRAWN = (
    "The frames were drawn, not taken by a camera: they look like no normal image, so that matching takes longer than "
    "it will. Give the command a folder of your own frames."
)


def write_bench_page(path: str | os.PathLike[str], document: Mapping[str, Any]) -> None:
    """Write what :func:`.bench.bench` measured as one self-contained HTML page.

    Parameters
    ----------
    path
        The HTML file; one that is there is replaced.
    document
        As :func:`.bench.bench` returns it; its ``command``, where it has one, stands on the page.

    Raises
    ------
    OutputError
        The file can't be written; one that was there is as before.
    DependencyError
        jinja2 or matplotlib isn't installed.
    """
    write_page(
        path,
        title=f"Is {document['recipe']['name']} fast enough here?",
        lead=verdict(document),
        sections=bench_sections(document),
        environment=document["environment"],
        notices=[_DRAWN] if document["frames"]["drawn"] else [],
    )


def bench_sections(document: Mapping[str, Any]) -> list[Section]:
    """Return the page's sections: latency, what limits it, throughput, start, what was measured."""
    latencies = {f"from the {figures['from']}": figures for figures in document["latency"]}
    frames = document["frames"]
    sizes = ", ".join(f"{height} x {width}" for height, width in frames["sizes"])
    text = f"{frames['count']} frames ({frames['source']}) of {sizes}, one after the other, each timed to its result."
    return [
        Section("Latency", text, document.get("command", ""), latency_parts(latencies, takt_s=document.get("takt_s"))),
        Section("What limits it, and what to do next", "", "", [*stage_parts(latencies), _advice(document["advice"])]),
        Section("Throughput", "", "", throughput_parts(document["throughput"])),
        Section("Start and memory", "", "", [start_table({"this recipe": document["start"]})]),
        Section("What was measured", "", "", [_facts(document)]),
    ]


def latency_parts(latencies: Mapping[str, Mapping[str, Any]], *, takt_s: float | None = None) -> list[Table | Chart]:
    """Return a chart and a table of percentiles; ``latencies`` are :func:`.units.latency`'s figures by name."""
    head = ["ms", *(key.removesuffix("_s") for key in PERCENTILES), "mean", "deviation", "runs"]
    rows = [
        (name, *(_milliseconds(figures[key]) for key in (*PERCENTILES, "mean_s", "std_s")), figures["runs"])
        for name, figures in latencies.items()
    ]
    note = "–: too few runs for this percentile." if any(None in row for row in rows) else ""
    chart = latency_chart(latencies, label="Latency percentiles", takt_s=takt_s)
    return [Chart("Latency, median to maximum", chart), Table("Latency, ms", head, rows, note)]


def stage_parts(latencies: Mapping[str, Mapping[str, Any]]) -> list[Table | Chart]:
    """Return a chart and a table of the stages' medians."""
    medians = {
        name: {stage: taken["p50_s"] for stage, taken in figures["stages_s"].items()}
        for name, figures in latencies.items()
    }
    stages = [stage for stage in STAGES if any(stage in taken for taken in medians.values())]
    rows = [
        (name, *(_milliseconds(taken.get(stage)) for stage in stages), _milliseconds(sum(taken.values())))
        for name, taken in medians.items()
    ]
    chart = stage_chart(medians, label="Time by stage")
    return [
        Chart("Time by stage, ms", chart, "Medians of each stage."),
        Table("Time by stage, ms", ["", *stages, "sum"], rows),
    ]


def throughput_parts(ways: Sequence[Mapping[str, Any]]) -> list[Table | Chart]:
    """Return a chart and a table of frames a second by each way to feed them."""
    by_way = {way_name(way): way["frames_per_s"] for way in ways}
    rows = [
        (
            way["mode"],
            way.get("batch"),
            _split(way.get("split")),
            way.get("depth"),
            way["threads"],
            way["frames_per_s"],
        )
        for way in ways
    ]
    head = ("mode", "batch", "workers x threads", "depth", "threads", "frames/s")
    chart = bar_chart(by_way, label="Frames a second", unit="frames a second")
    return [Chart("Frames a second", chart), _without_empty_columns(Table("Throughput", head, rows))]


def way_name(way: Mapping[str, Any]) -> str:
    """Return a name for a way to feed frames."""
    parts = [f"{name} {way[name]}" for name in ("batch", "depth") if way.get(name)]
    return ", ".join([str(way["mode"]), *parts])


def start_table(starts: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return seconds from a process's start to its first result, and memory, by name."""
    head = ("", "import, s", "load, s", "first frame, s", "start to first result, s", "resident, MB", "peak, MB")
    rows = [
        (
            name,
            *(start[key] for key in ("import_s", "load_s", "first_result_s", "process_to_first_result_s")),
            *(start[key] / 1e6 for key in ("resident_bytes", "peak_bytes")),
        )
        for name, start in starts.items()
    ]
    return Table("From nothing to the first result", head, rows)


def _advice(advice: Iterable[Mapping[str, Any]]) -> Table:
    rows = [
        (tip["stage"], None if tip["share"] is None else f"{100 * tip['share']:.0f} %", tip["text"]) for tip in advice
    ]
    return Table("What to do next", ("stage", "share", "what would make it faster"), rows)


def _facts(document: Mapping[str, Any]) -> Table:
    recipe, detector = document["recipe"], document["detector"]
    known = {
        "recipe": recipe["name"],
        "normal images": recipe["images"],
        "input": "{} x {}".format(*recipe["input_size"]),
        "backbone": recipe["backbone"],
        "precision": recipe["precision"],
        **recipe["settings"],
        **{name: value for name, value in detector.items() if name != "recipe"},
    }
    rows = [(name.replace("_", " "), plain(value)) for name, value in known.items()]
    return Table("Recipe, settings, detector", ("", ""), rows)


def _split(split: Mapping[str, Any] | None) -> str | None:
    """Return how a stream's workers share the processors, without the figures that chose it."""
    return None if split is None else f"{split['workers']} x {split['threads_each']}"


def _without_empty_columns(table: Table) -> Table:
    kept = [index for index in range(len(table.head)) if any(row[index] is not None for row in table.rows)]
    return Table(
        table.caption, [table.head[i] for i in kept], [[row[i] for i in kept] for row in table.rows], table.note
    )


def _milliseconds(seconds: float | None) -> Cell:
    return None if seconds is None else 1e3 * seconds
