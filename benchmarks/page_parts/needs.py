"""Chapters of map, mask and label side by side: in the matcher and in the chain (the option --data of both)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from spadeline.engine.pages.sections import Cell, Section, Table
from spadeline.engine.units import duration, three_digits

from page_parts.chapter import Chapter, side

GROUPS = ("good", "defective")
NEEDS = ("map", "mask", "label")
SUBJECT = ("images", "network", "input")
DENSE, BACKBONE = "dense path", "backbone alone"  # other contestants


def matcher_needs(document: Mapping[str, Any]) -> Chapter:
    """Return what a verdict costs in the matcher, and how that grows with the input."""
    text = (
        "From a frame's features to the verdict: the whole map, its mask, or the label alone. The network's time isn't "
        "among these."
    )
    return _chapter(document, "Verdicts in the matcher", text)


def pipeline_needs(document: Mapping[str, Any]) -> Chapter:
    """Return what a verdict costs from the camera's frame on, beside the backbone alone."""
    text = "From the camera's frame to the result: the whole map, its mask, or the label alone."
    return _chapter(document, "Verdicts in the chain", text)


def _chapter(document: Mapping[str, Any], title: str, text: str) -> Chapter:
    results = document["results"]
    tables = {"needs": _needs(results), "tails": _tails(results), "brief": _brief(results)}
    if any("stages_s" in row.get("good", {}) and "extract" in row["good"]["stages_s"] for _, row in _rows(results)):
        tables["stages"] = _stages(results)
    if (growth := _growth(results)).rows:
        tables["growth"] = growth
    text += (
        " Mask and label were first checked to be those of the map, for every frame. Recipes have default settings, "
        "thresholds are made by leaving one out, and the test images are apart: good ones and defective ones."
    )
    shown = [table for name, table in tables.items() if name != "brief"]
    section = Section(title, text, document["command"], [*shown, _contestants(results)])
    return Chapter(_finding(results), section, tables)


def _finding(results: Sequence[Mapping[str, Any]]) -> str:
    """Say what good frames take, from the fastest to the slowest of the sets and networks."""
    spans = []
    for need in NEEDS:
        medians = [row["good"]["median_s"] for _, row in _rows(results) if row["name"] == need and "good" in row]
        if not medians:
            return ""
        low, high = duration(min(medians)), duration(max(medians))
        spans.append(f"the {need} takes {low}" if low == high else f"the {need} takes {low} to {high}")
    which = ", ".join(_subject(results[0])) if len(results) == 1 else f"{len(results)} pairs of images and network"
    return f"Good frames, {which}, medians: {', '.join(spans)}."


def _needs(results: Sequence[Mapping[str, Any]]) -> Table:
    """Return a row for each set and network: what each contestant takes, and how much bounds can rule out."""
    others = [name for name in (DENSE, BACKBONE) if any(row["name"] == name for _, row in _rows(results))]
    head = (
        *SUBJECT, "K", *(f"{name}, ms" for name in (*NEEDS, *others)), "label's p99", "label, of the backbone's",
        "defects found", "false alarms", "guarded cells", "nearest / random",
    )  # fmt: skip
    rows = []
    for result in results:
        by_name = {row["name"]: row for row in result["rows"]}
        rows.append(
            (
                *_subject(result),
                result["images"],
                *(_pair(by_name.get(name), "median_s", _milliseconds) for name in (*NEEDS, *others)),
                _number(by_name["label"]["latency"]["p99_s"]),
                _of_backbone(by_name),
                *_verdicts(by_name["map"]),
                _guarded(by_name["map"], result["cells"]),
                _both([_three(result["nearest_per_random"].get(group)) for group in GROUPS]),
            )
        )
    note = (
        "Good / defective frames: medians over frames of the medians over runs; p99 over all runs of all frames. "
        "Guarded cells: those that the map's search gave up bounding. Nearest / random: the mean squared distance "
        "of the nearest pixels, as a part of that of random ones."
    )
    return Table("Map, mask and label", head, rows, note).without_empty_columns()


def _brief(results: Sequence[Mapping[str, Any]]) -> Table:
    """Return the few columns that README shows."""
    rows = []
    for result in results:
        by_name = {row["name"]: row for row in result["rows"]}
        rows.append((*_subject(result), *(_pair(by_name.get(need), "median_s", _milliseconds) for need in NEEDS)))
    head = (*SUBJECT, *(f"{need}, ms" for need in NEEDS))
    return Table("Map, mask and label", head, rows, "Good / defective frames, medians.")


def _tails(results: Sequence[Mapping[str, Any]]) -> Table:
    """Return the slowest frames, and percentiles over all runs of all frames."""
    head = (
        *SUBJECT, "need", "slowest good frame, ms", "slowest defective frame, ms", "its guarded cells",
        "p95 of all frames", "p99", "max", "runs",
    )  # fmt: skip
    rows: list[tuple[Cell, ...]] = []
    for result, row in _rows(results):
        if row["name"] not in NEEDS:
            continue
        times = row["latency"]
        slowest = [row[group]["slowest_s"] if group in row else None for group in GROUPS]
        guarded = max((row[group] for group in GROUPS if group in row), key=lambda group: float(group["slowest_s"]))
        percentiles = (times["p95_s"], times["p99_s"], times["max_s"])
        rows.append(
            (
                *_subject(result),
                row["name"],
                *map(_number, slowest),
                guarded["slowest_guarded_cells"],
                *map(_number, percentiles),
                times["runs"],
            )
        )
    return Table("The slowest frames", head, rows, "The guarded cells are those of the slower of the two frames.")


def _stages(results: Sequence[Mapping[str, Any]]) -> Table:
    """Return the stages' medians, of good and of defective frames."""
    shown = [(result, row) for result, row in _rows(results) if row["name"] in NEEDS]
    stages = list(dict.fromkeys(stage for _, row in shown for stage in _group(row)["stages_s"]))
    rows = [
        (
            *_subject(result),
            row["name"],
            *(
                _both([_milliseconds(row[group]["stages_s"][stage]) if group in row else None for group in GROUPS])
                for stage in stages
            ),
        )
        for result, row in shown
    ]
    return Table("Stages, ms: good / defective frames", (*SUBJECT, "need", *stages), rows)


def _growth(results: Sequence[Mapping[str, Any]]) -> Table:
    """Return a row for each input size of a set and network that has several, and how times grow with the pixels."""

    def subject(result: Mapping[str, Any]) -> tuple[str, str]:
        return result["data"], result["network"]

    rows: list[tuple[Cell, ...]] = []
    for (data, network), members in itertools.groupby(sorted(results, key=subject), key=subject):
        sizes = sorted(members, key=_pixels)
        if len(sizes) < 2:
            continue
        for result in sizes:
            by_name = {row["name"]: row for row in result["rows"]}
            cells = (_pair(by_name.get(need), "median_s", _milliseconds) for need in NEEDS)
            each = _pair(by_name.get("label"), "median_s", lambda s, r=result: _milliseconds(s / (_pixels(r) / 1e6)))
            rows.append((*_subject(result), _pixels(result), *cells, each))
        exponents = (_exponents(sizes, need) for need in NEEDS)
        rows.append((data, network, "as pixels to the power of", None, *exponents, None))
    head = (*SUBJECT, "pixels", *(f"{need}, ms" for need in NEEDS), "label, ms per megapixel")
    return Table("Growth with the input", head, rows, "Good / defective frames, medians.")


def _exponents(sizes: Sequence[Mapping[str, Any]], need: str) -> str | None:
    """Return the exponents from the smallest to the largest input, of good / defective frames."""
    ends = [next(row for row in result["rows"] if row["name"] == need) for result in (sizes[0], sizes[-1])]
    grown = math.log(_pixels(sizes[-1]) / _pixels(sizes[0]))
    return _both(
        [
            f"{math.log(ends[1][group]['median_s'] / ends[0][group]['median_s']) / grown:.2f}"
            if group in ends[0]
            else None
            for group in GROUPS
        ]
    )


def _contestants(results: Sequence[Mapping[str, Any]]) -> Table:
    """Return a row for each contestant and group: how it was measured."""
    rows = [
        (
            *_subject(result),
            row["name"],
            group,
            row[group]["frames"],
            row[group].get("anomalous"),
            row[group]["runs"],
            _number(row[group]["median_s"]),
            _number(row[group]["slowest_s"]),
            row[group]["slowest_frame"],
            row[group].get("guarded_cells"),
        )
        for result, row in _rows(results)
        for group in GROUPS
        if group in row
    ]
    head = (
        *SUBJECT, "contestant", "frames", "", "called anomalous", "runs", "median, ms", "slowest frame, ms",
        "which", "guarded cells, median",
    )  # fmt: skip
    return Table("All contestants", head, rows)


def _rows(results: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Yield each result with each of its contestants' rows."""
    return ((result, row) for result in results for row in result["rows"])


def _subject(result: Mapping[str, Any]) -> tuple[str, str, str]:
    return result["data"], result["network"], side(result["input_size"])


def _pixels(result: Mapping[str, Any]) -> int:
    height, width = result["input_size"]
    return int(height * width)


def _group(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the figures of a row's good frames, or of its defective ones where there are no others."""
    group: Mapping[str, Any] = row["good"] if "good" in row else row["defective"]
    return group


def _milliseconds(seconds: float) -> str:
    return three_digits(1e3 * seconds)


def _number(seconds: float | None) -> float | None:
    return None if seconds is None else 1e3 * seconds


def _three(value: float | None) -> str | None:
    return None if value is None else f"{value:.2f}"


def _both(cells: Sequence[str | None]) -> str | None:
    """Write the cells of good and defective frames into one."""
    return None if cells == [None, None] else " / ".join(cell or "–" for cell in cells)


def _pair(row: Mapping[str, Any] | None, key: str, write: Any) -> str | None:
    if row is None:
        return None
    return _both([write(row[group][key]) if group in row else None for group in GROUPS])


def _of_backbone(by_name: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return the label's time as a multiple of the backbone's alone."""
    if BACKBONE not in by_name:
        return None
    label, alone = by_name["label"], by_name[BACKBONE]
    return _both(
        [f"{label[group]['median_s'] / alone[group]['median_s']:.2f}" if group in label else None for group in GROUPS]
    )


def _verdicts(row: Mapping[str, Any]) -> tuple[Cell, Cell]:
    """Return how many defective frames were found, and how many good ones were called anomalous."""
    found, alarms = (
        f"{row[group]['anomalous']} of {row[group]['frames']}" if group in row else None for group in reversed(GROUPS)
    )
    return found, alarms


def _guarded(row: Mapping[str, Any], cells: int) -> str | None:
    def write(count: float) -> str:
        return f"{count:g}"

    return f"{_pair(row, 'guarded_cells', write)} of {cells:,}"
