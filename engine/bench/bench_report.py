"""A bench's document as sections, and these as a page and as text: is the takt met, what limits, what to do next.

The benchmarks of the project take the same parts. Nothing is measured here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from ..json_data import to_json
from ..pages.page import write_page
from ..pages.sections import Cell, Chart, Section, Table, plain
from ..pages.speed_charts import STAGES, bar_chart, latency_chart, stage_chart
from ..pages.terminal_text import terminal_text
from ..units import Latency, duration
from .documents import Advice, BenchDocument, FrameLatency, Start, StreamSplit, Throughput
from .takt import takt_sentence

_DRAWN = (
    "The frames were drawn, not taken by a camera: they look like no normal image, so that matching takes longer than "
    "it will. Give the command a folder of your own frames."
)


def write_bench_page(path: str | os.PathLike[str], document: BenchDocument) -> None:
    """Write what :func:`.bench.bench` measured as one self-contained HTML page; a file that is there is replaced.

    Raises
    ------
    OutputError
        The file can't be written; one that was there is as before.
    DependencyError
        jinja2 or matplotlib isn't installed.
    """
    write_page(
        path,
        title=f"Is {document.recipe.name} fast enough here?",
        lead=takt_sentence(document),
        sections=[*bench_sections(document), facts_section(document)],
        environment=to_json(document.environment),
        notices=[_DRAWN] if document.frames.drawn else [],
    )


def bench_text(document: BenchDocument) -> str:
    """Return the page's verdict and sections as text, without its complete lists of settings and versions."""
    notice = f"{_DRAWN}\n\n" if document.frames.drawn else ""
    return f"{notice}{takt_sentence(document)}\n\n{terminal_text(bench_sections(document))}"


def bench_sections(document: BenchDocument) -> list[Section]:
    """Return what was measured: latency, what limits it, throughput, start."""
    latencies = {f"from the {times.begins_at}": times for times in document.latency}
    limits = [*stage_parts(latencies), _advice(document.advice)]
    return [
        Section("Latency", _measured(document), document.command, latency_parts(latencies, takt_s=document.takt_s)),
        Section("What limits it, and what to do next", "", "", limits),
        Section("Throughput", "", "", throughput_parts(document.throughput)),
        Section("Start and memory", "", "", [start_table({"this recipe": document.start})]),
    ]


def facts_section(document: BenchDocument) -> Section:
    """Return all settings of the recipe, and all that the detector says of itself."""
    recipe = document.recipe
    known = {
        "recipe": recipe.name,
        "normal images": recipe.images,
        "input": _size(recipe.input_size),
        "backbone": recipe.backbone,
        "precision": recipe.precision,
        **to_json(recipe.settings),
        **{name: value for name, value in to_json(document.detector).items() if name != "recipe"},
    }
    rows = [(name.replace("_", " "), plain(value)) for name, value in known.items()]
    return Section("What was measured", "", "", [Table("Recipe, settings, detector", ("", ""), rows)])


def _measured(document: BenchDocument) -> str:
    """Return in a paragraph each what was inspected, by which recipe, on which machine."""
    recipe, detector, machine, frames = document.recipe, document.detector, document.environment, document.frames
    sizes = ", ".join(_size(size) for size in frames.sizes)
    place = "the GPU" if detector.matcher_device == "cuda" else "the processor"
    return (
        f"{frames.count} frames ({frames.source}) of {sizes}, one after the other, each timed to its result. "
        f"{_asked(document)}\n\n"
        f"{recipe.name}: {recipe.images} normal images, {recipe.backbone} in {recipe.precision}, "
        f"{_size(recipe.input_size)}, k_gallery {recipe.settings.k_gallery}, kappa {recipe.settings.kappa}.\n\n"
        f"{machine.processor}, {machine.cores} cores, {machine.threads} threads; {detector.extractor}; "
        f"matcher {detector.matcher} on {place} ({detector.instruction_set})."
    )


def _asked(document: BenchDocument) -> str:
    """Say what the results had to be exact in, and how many were not decided at the deadline."""
    exact_in = {"map": "everything", "mask": "label and mask", "label": "the label"}
    asked = f"They are exact in {exact_in.get(document.need, document.need)} (need {document.need})"
    if document.deadline_s is None:
        return f"{asked}."
    times = document.latency[0]
    share = f"{times.undecided:,} of {times.runs:,} runs were undecided"
    return f"{asked}, unless the deadline of {duration(document.deadline_s)} ended the search: {share}."


def latency_parts(latencies: Mapping[str, Latency], *, takt_s: float | None = None) -> list[Table | Chart]:
    """Return a chart and a table of percentiles by name."""
    percentiles = {name: times.percentiles_s() for name, times in latencies.items()}
    rows = [
        (
            name,
            *map(milliseconds, percentiles[name].values()),
            milliseconds(times.mean_s),
            milliseconds(times.std_s),
            times.runs,
        )
        for name, times in latencies.items()
    ]
    head = ["ms", *next(iter(percentiles.values()), {}), "mean", "deviation", "runs"]
    note = "–: too few runs for this percentile." if any(None in row for row in rows) else ""
    chart = partial(latency_chart, percentiles, label="Latency percentiles", takt_s=takt_s)
    return [Chart("Latency, median to maximum", chart), Table("Latency, ms", head, rows, note)]


def stage_parts(latencies: Mapping[str, FrameLatency]) -> list[Table | Chart]:
    """Return a chart and a table of the stages' medians."""
    medians = {
        name: {stage: taken.p50_s for stage, taken in times.stages_s.items()} for name, times in latencies.items()
    }
    stages = [stage for stage in STAGES if any(stage in taken for taken in medians.values())]
    rows = [
        (name, *(milliseconds(taken.get(stage)) for stage in stages), milliseconds(sum(taken.values())))
        for name, taken in medians.items()
    ]
    caption = "Time by stage, medians in ms"
    chart = partial(stage_chart, medians, label="Time by stage")
    return [Chart(caption, chart), Table(caption, ["", *stages, "sum"], rows)]


def throughput_parts(ways: Sequence[Throughput]) -> list[Table | Chart]:
    """Return a chart and a table of frames a second by each way to feed frames."""
    by_way = {way.name: way.frames_per_s for way in ways}
    rows = [
        (way.mode, way.batch, _split(way.split), way.depth, way.threads, way.frames_per_s, _undecided(way))
        for way in ways
    ]
    head = ("mode", "batch", "workers x threads", "depth", "threads", "frames/s", "undecided")
    chart = partial(bar_chart, by_way, label="Frames a second", unit="frames a second")
    return [Chart("Frames a second", chart), Table("Throughput", head, rows).without_empty_columns()]


def start_table(starts: Mapping[str, Start]) -> Table:
    """Return seconds from a process's start to its first result, and memory, by name."""
    head = ("", "import, s", "load, s", "first frame, s", "start to first result, s", "resident, MB", "peak, MB")
    rows = [
        (
            name,
            start.import_s,
            start.load_s,
            start.first_result_s,
            start.process_to_first_result_s,
            start.resident_bytes / 1e6,
            start.peak_bytes / 1e6,
        )
        for name, start in starts.items()
    ]
    return Table("From nothing to the first result", head, rows)


def milliseconds(seconds: float | None) -> Cell:
    """Return a time as a cell of a column in ms."""
    return None if seconds is None else 1e3 * seconds


def _advice(advice: Iterable[Advice]) -> Table:
    rows = [(tip.stage, None if tip.share is None else f"{100 * tip.share:.0f} %", tip.text) for tip in advice]
    return Table("What to do next", ("stage", "share", "what would make it faster"), rows)


def _undecided(way: Throughput) -> str | None:
    return f"{100 * way.undecided_share:.1f} %" if way.undecided_share else None


def _split(split: StreamSplit | None) -> str | None:
    """Return how a stream's workers share the processors, without the figures that chose it."""
    return None if split is None else f"{split.workers} x {split.threads_each}"


def _size(size: Sequence[int]) -> str:
    return "{} x {}".format(*size)
