"""The chapter of the matcher on the processor (matcher.py)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from spadeline.engine.pages.sections import Cell, Chart, Section, Table
from spadeline.engine.pages.speed_charts import bar_chart, growth_chart
from spadeline.engine.units import duration

from page_parts.chapter import Chapter, left_out, times
from page_parts.matcher_details import matcher_details

SWEPT = ("features", "size", "kappa")  # fixed in one chart


def matcher(document: Mapping[str, Any]) -> Chapter:
    """Return times against the peers, growth with K, the worst case, memory."""
    results = document["results"]
    tables = {"times": _times(results)}
    if (brief := _brief(results)).rows:
        tables["brief"] = brief
    defeated = [result for result in results if result["features"] != "real"]
    if any("per_dense" in row for result in defeated for row in result["rows"]):
        tables["worst-case"] = _worst_case(defeated)
    if any("memory" in result for result in results):
        tables["memory"] = _memory(results)
    charts = _growth(document["growth"]) or _bars(results)
    text = (
        "Each pixel of a query is compared with all pixels of K images, and the kappa nearest by squared L2 are found. "
        f"All results were first checked to be equal. {_drawn(results)}"
    )
    shown = [table for name, table in tables.items() if name != "brief"]
    section = Section("The matcher", text, document["command"], [*charts, *shown, *matcher_details(document)])
    return Chapter(_finding(results), section, tables)


def _finding(results: Sequence[Mapping[str, Any]]) -> str:
    """Say how fast our fastest matcher is on real features, at the largest gallery that the yardstick searched."""
    fitting = [result for result in results if "yardstick" in result and result["features"] == "real"]
    if not fitting:
        return ""
    result = max(fitting, key=lambda result: (result["images"], -result["kappa"]))
    best = min(result["rows"], key=lambda row: row["median_s"])
    source = f" ({result['source']})" if result.get("source") else ""  # an older document doesn't name it
    return (
        f"The matcher finds the nearest of all pixels of {result['images']} images{source} in "
        f"{duration(best['median_s'])}, {times(best['against_yardstick'])} the speed of {result['yardstick']}, "
        "with the same distances."
    )


def _times(results: Sequence[Mapping[str, Any]]) -> Table:
    """Return a column for each setting, a row for each contestant, and a row for a pruned one's slowest query."""
    names = list(dict.fromkeys(row["name"] for result in results for row in result["rows"]))
    varying = [key for key in ("features", "size") if len({result[key] for result in results}) > 1]
    head = ["", *(", ".join(_setting(result, varying)) for result in results)]
    contestants = [{row["name"]: row for row in result["rows"]} for result in results]
    rows = []
    for name in names:
        rows.append((name, *(_time(by_name.get(name), slowest=False) for by_name in contestants)))
        if "pruned" in name:
            rows.append(
                (f"{name}, slowest query", *(_time(by_name.get(name), slowest=True) for by_name in contestants))
            )
    yardsticks = {result["yardstick"] for result in results if "yardstick" in result}
    note = f"×: speed relative to {' or '.join(sorted(yardsticks))}. " if yardsticks else ""
    reasons = {name: why for result in results for name, why in result["left_out"].items()}
    note += f"Medians over {results[0]['queries']} queries. {left_out(reasons)}"
    return Table("Time a query", head, rows, note.strip())


def _brief(results: Sequence[Mapping[str, Any]]) -> Table:
    """Return the few rows that README shows: the best of each path and the yardstick, on real features, kappa = 1."""
    shown = [
        result for result in results if "yardstick" in result and result["features"] == "real" and result["kappa"] == 1
    ]
    rows = []
    for path in ("pruned", "dense"):
        best = [
            min((row for row in result["rows"] if row["name"].startswith(path)), key=_median, default=None)
            for result in shown
        ]
        if any(best):
            rows.append((f"spadeline, {path} path", *(_time(row, slowest=False) for row in best)))
    yardsticks = [next(row for row in result["rows"] if row["name"] == result["yardstick"]) for result in shown]
    if rows:
        names = " or ".join(sorted({row["name"] for row in yardsticks}))
        rows.append((names, *(_time(row, slowest=False) for row in yardsticks)))
    return Table("Time a query", ["", *(f"K = {result['images']}" for result in shown)], rows)


def _median(row: Mapping[str, Any]) -> float:
    return float(row["median_s"])


def _setting(result: Mapping[str, Any], varying: Sequence[str]) -> list[str]:
    return [f"K = {result['images']}", f"kappa = {result['kappa']}", *(f"{key} {result[key]}" for key in varying)]


def _time(row: Mapping[str, Any] | None, *, slowest: bool) -> Cell:
    if row is None or (slowest and row["queries"] < 2):
        return None
    of = row["worst"] if slowest else row
    ratio = of.get("against_yardstick")
    return duration(of["median_s"]) + (f", {times(ratio)}" if ratio is not None else "")


def _worst_case(results: Sequence[Mapping[str, Any]]) -> Table:
    rows = [
        (
            result["features"],
            result["images"],
            result["kappa"],
            row["name"],
            duration(row["median_s"]),
            row["per_dense"],
            row["worst"]["per_dense"],
        )
        for result in results
        for row in result["rows"]
        if "per_dense" in row
    ]
    head = ("features", "K", "kappa", "matcher", "time", "of the dense path's", "its slowest query")
    return Table("Where pruning fails: pruned / dense", head, rows, "Features made so that no pair can be ruled out.")


def _memory(results: Sequence[Mapping[str, Any]]) -> Table:
    rows = [
        (
            f"K = {result['images']}, kappa = {result['kappa']}",
            result["memory"]["name"],
            result["memory"]["imported_bytes"] / 1e6,
            result["memory"]["peak_bytes"] / 1e6,
            result["memory"]["grown_bytes"] / 1e6,
        )
        for result in results
        if "memory" in result
    ]
    head = ("", "matcher", "before the gallery, MB", "peak, MB", "added after the first match, MB")
    return Table("Memory of a process that does nothing else", head, rows)


def _growth(lines: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Return a chart for each kind of features, size and kappa that has several K."""
    charts = []
    ordered = sorted(lines, key=lambda line: tuple(line[key] for key in SWEPT))
    for fixed, members in itertools.groupby(ordered, key=lambda line: tuple(line[key] for key in SWEPT)):
        swept = {
            line["name"]: {float(images): seconds for images, seconds in line["median_s"].items()}
            for line in members
            if len(line["median_s"]) > 1
        }
        if swept:
            features, size, kappa = fixed
            title = f"Time against K: {features} features, input {size}, kappa = {kappa}"
            charts.append(Chart(title, partial(growth_chart, swept, label=title, against="K, gallery images")))
    return charts


def _bars(results: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Return a chart for each setting."""
    charts = []
    for result in results:
        title = "K = {images}, kappa = {kappa}, {features} features, input {size}".format(**result)
        bars = {row["name"]: 1e3 * row["median_s"] for row in result["rows"]}
        charts.append(Chart(title, partial(bar_chart, bars, label=f"Time: {title}", unit="ms a query, median")))
    return charts


def _drawn(results: Sequence[Mapping[str, Any]]) -> str:
    made = max(result["images"] - result["real_images"] for result in results)
    if all(result["real_images"] == 0 for result in results):
        return "The features are drawn."
    return f"Up to {made} images are other images shifted, turned and dimmed, as if taken again." if made else ""
