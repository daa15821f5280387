"""The chapter of archives: Ray's workers beside plain processes, memory of a shared gallery, and the plan on paper."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from spadeline.engine.pages.sections import Cell, Section, Table

from page_parts.chapter import Chapter, left_out
from scale_parts.plan import IMAGES_PER_HOUR, efficiencies, rate

HOUR_S = 3600
_SUBJECT = ("images", "network", "need")


def scale(document: Mapping[str, Any]) -> Chapter:
    """Return rates and overhead by workers, stages of an image, memory, and what a million images an hour take."""
    results = document["results"]
    tables = {
        "rates": _rates(results),
        "overhead": _overhead(results),
        "stages": _stages(results),
        "memory": _memory(results),
        "plan": _plan(results),
        "resources": _resources(results),
    }
    kept = {name: table for name, table in tables.items() if table.rows}
    archive = results[0]["archive"]
    text = (
        f"{archive['images']:,} image files, {100 * archive['bad_share']:g} % of them defective, by spadeline score "
        "and by plain processes with a Detector each, one thread each, in turns. Before, all rows were found equal to "
        "Detector.predict's, to the last bit."
    )
    section = Section("Archives", text, document["command"], [*kept.values()])
    return Chapter(_finding(document), section, kept)


def _finding(document: Mapping[str, Any]) -> str:
    result = document["results"][0]
    plan = result["plans"][0]
    return (
        f"{IMAGES_PER_HOUR:,} images an hour take {plan['cores']:.1f} cores of {document['environment']['processor']} "
        f"({result['data']}, {result['network']}, {plan['need']}), at an efficiency of {plan['efficiency']:.2f} with "
        f"{plan['workers']} workers here. What is full first is {plan['first']}, at {_full(plan):,.0f} images an hour."
    )


def _full(plan: Mapping[str, Any]) -> float:
    return next(float(row["full_at"]) for row in plan["resources"] if row["name"] == plan["first"])


def _turns(results: Any) -> Iterator[tuple[tuple[str, str, str], int, Sequence[Mapping[str, Any]]]]:
    """Yield what names a row, its workers, and the rows of one process alone, of plain processes and of Ray."""
    for result in results:
        for need in dict.fromkeys(row["need"] for row in result["rates"]):
            own = [row for row in result["rates"] if row["need"] == need]
            for workers in (row["workers"] for row in own if row["kind"] == "Ray"):
                found = (rate(own, "plain", 1), rate(own, "plain", workers), rate(own, "Ray", workers))
                yield (result["data"], result["network"], need), workers, found


def _rates(results: Any) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for subject, workers, (alone, plain, rays) in _turns(results):
        beside = [ours / theirs for ours, theirs in zip(rays["images_per_s"], plain["images_per_s"], strict=True)]
        shares = (efficiencies(row, alone, workers) for row in (plain, rays))
        hourly = (f"{HOUR_S * statistics.median(row['images_per_s']):,.0f}" for row in (plain, rays))
        rows.append((*subject, workers, *hourly, *map(_spread, shares), _spread(beside)))
    head = (
        *_SUBJECT,
        "workers",
        "plain processes, images an hour",
        "Ray, images an hour",
        "efficiency, plain",
        "efficiency, Ray",
        "Ray / plain",
    )
    note = (
        "Steady rates, while all workers are busy. Efficiency: rate / (workers × the rate of one plain process). "
        "Medians of the repeats, and the lowest to the highest."
    )
    return Table("Rates", head, rows, note)


def _spread(values: Sequence[float]) -> str:
    median = f"{statistics.median(values):.2f}"
    return median if len(values) == 1 else f"{median} ({min(values):.2f}–{max(values):.2f})"


def _overhead(results: Any) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for subject, workers, (alone, plain, rays) in _turns(results):
        one, processes, with_ray = (
            1e3 * count / statistics.median(row["images_per_s"])
            for count, row in ((1, alone), (workers, plain), (workers, rays))
        )
        times = (f"{value:.2f}" for value in (one, processes - one, with_ray - processes))
        before, after, whole = (statistics.median(rays[name]) for name in ("before_s", "after_s", "whole_images_per_s"))
        rows.append((*subject, workers, *times, before, after, f"{HOUR_S * whole:,.0f}"))
    head = (
        *_SUBJECT,
        "workers",
        "alone, ms",
        "more by the machine, ms",
        "more by Ray, ms",
        "before the first batch, s",
        "after the last one, s",
        "whole run, images an hour",
    )
    note = (
        "Worker-milliseconds an image: what n processes side by side take more than one alone, and what Ray's workers "
        "take more than these. Below 0: Ray's workers read the next image while they inspect one. The whole run "
        "includes Ray's start and end."
    )
    return Table("Overhead", head, rows, note)


def _stages(results: Any) -> Table:
    rows: list[tuple[Cell, ...]] = []
    names: list[str] = []
    for result in results:
        for row in result["stages"]:
            names = list(row["seconds"])
            times = [f"{1e3 * seconds:.2f}" for seconds in row["seconds"].values()]
            rows.append((result["data"], result["network"], row["need"], *times, 1e3 * sum(row["seconds"].values())))
    return Table("An image alone", (*_SUBJECT, *names, "all"), rows, "Means in ms, of one plain process.")


def _memory(results: Any) -> Table:
    rows: list[tuple[Cell, ...]] = []
    missing: dict[str, str] = {}
    for result in results:
        memory = result["memory"]
        for row in memory["rows"] if memory else ():
            each = row["each"]
            resident, own, proportional = (
                [worker[name] / 1e6 for worker in each]
                for name in ("resident_bytes", "own_bytes", "proportional_bytes")
            )
            sizes = [max(resident), max(own), max(resident) - max(own), sum(proportional)]
            rows.append(
                (
                    result["data"],
                    result["network"],
                    f"{memory['gallery_images']:,}",
                    row["gallery"],
                    "Ray" if row["kind"] == "Ray" else "a plain process",
                    row["workers"],
                    *(f"{size:,.0f}" for size in sizes),
                )
            )
        missing |= memory["left_out"] if memory else {}
    head = (
        "images",
        "network",
        "gallery images",
        "gallery",
        "",
        "workers",
        "resident, MB a worker",
        "own, MB a worker",
        "files, MB a worker",
        "all workers together, MB",
    )
    note = (
        "Own: what belongs to no file. Files: pages of mapped files, the gallery among them, which all workers of a "
        "machine share. Together: a page that several share counts once. " + left_out(missing)
    ).strip()
    return Table("Memory", head, rows, note)


def _plan(results: Any) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for result in results:
        for plan in result["plans"]:
            parts = (f"{cores:.2f}" for cores in plan["cores_by_part"].values())
            cost = None if plan["cost"] is None else f"{plan['cost']:,.2f}"
            numbers = (f"{1e3 * plan['core_s_per_image']:.2f}", f"{plan['efficiency']:.2f}", f"{plan['cores']:.2f}")
            own = None if plan["own_bytes"] is None else f"{plan['own_bytes'] / 1e9:.1f}"
            rows.append((result["data"], result["network"], plan["need"], *numbers, *parts, own, cost))
    head = (
        *_SUBJECT,
        "core-ms an image",
        "efficiency",
        "cores",
        "of these reading and decoding",
        "backbone",
        "search",
        "their workers' own memory, GB",
        "cost",
    )
    note = (
        f"For {IMAGES_PER_HOUR:,} images an hour. Cores: images a second × core-seconds an image / efficiency. They "
        "are also the core-hours that these images take, whatever the number of cores; times the price of a core-hour "
        "(--price) they are the cost. Each machine needs the mapped gallery's memory once more."
    )
    return Table("A million images an hour", head, rows, note).without_empty_columns()


def _resources(results: Any) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            result["data"],
            result["network"],
            plan["need"],
            row["name"],
            f"{1e6 * row['s_per_image']:,.1f}",
            f"{100 * row['used']:.2f}%",
            f"{row['full_at']:,.0f}",
        )
        for result in results
        for plan in result["plans"]
        for row in plan["resources"]
    ]
    link = results[0]["plans"][0]["link_gbit"]
    head = (*_SUBJECT, "what all images share", "an image takes, µs", "used by a million an hour", "full at, an hour")
    driver = results[0]["driver"]
    own, writing = (f"{1e6 * driver[name]:,.0f}" for name in ("own_s_per_image", "writing_s_per_image"))
    note = (
        f"The link has {link:g} Gbit/s (--link). The process that writes is one, whatever the number of workers. An "
        f"image takes {own} µs of its processor time, all of its threads together, and {writing} µs of its main "
        "thread's time to write Parquet files; the rest of the time above is spent on taking rows, and on waiting for "
        "them."
    )
    return Table("What is full first", head, rows, note)
