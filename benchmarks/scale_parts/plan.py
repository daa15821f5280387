"""The plan on paper: what a million images an hour take, from what a few take on this machine.

Cores are rented by their number, so they limit nothing but the cost. What all images must pass through does: the link
that the files come by, and the one process that takes and writes the rows.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

IMAGES_PER_HOUR = 1_000_000
HOUR_S = 3600
BITS = 8
SEARCH = ("retrieve", "match", "map")
READING, WRITING, DRIVER = "the link that brings the files", "the link that takes the rows", "the process that writes"
WITH_MAPS = f"{WRITING}, with maps"


def plans(result: Mapping[str, Any], *, link_gbit: float, price: float | None) -> list[dict[str, Any]]:
    """Return a plan for each need, from a result's rates, stages, archive and driver."""
    needs = dict.fromkeys(row["need"] for row in result["rates"])
    return [_plan(result, need, link_gbit, price) for need in needs]


def _plan(result: Mapping[str, Any], need: str, link_gbit: float, price: float | None) -> dict[str, Any]:
    rates = [row for row in result["rates"] if row["need"] == need]
    alone = rate(rates, "plain", 1)
    workers = max(row["workers"] for row in rates if row["kind"] == "Ray")
    rays = rate(rates, "Ray", workers)
    share = efficiency(rays, alone, workers)
    core_s = 1 / statistics.median(alone["images_per_s"])
    (stages,) = (row["seconds"] for row in result["stages"] if row["need"] == need)
    whole_s = sum(stages.values())
    cores = IMAGES_PER_HOUR / HOUR_S * core_s / share
    parts = {
        "decoding": stages["read"] + stages["decode"],
        "backbone": stages["extract"],
        "search": sum(stages[stage] for stage in SEARCH),
    }
    link = link_gbit * 1e9 / BITS  # bytes a second
    driver = result["driver"]
    each = {  # seconds of each resource that an image takes
        READING: result["archive"]["bytes_per_image"] / link,
        WRITING: statistics.median(rays["written_bytes_per_image"]) / link,
        WITH_MAPS: driver["map_bytes_per_image"] / link,
        DRIVER: 1 / driver["images_per_s"],
    }
    return {
        "need": need,
        "workers": workers,
        "core_s_per_image": core_s,
        "efficiency": share,
        "cores": cores,
        "own_bytes": _own_bytes(result["memory"], math.ceil(cores)),
        "cores_by_part": {name: cores * taken / whole_s for name, taken in parts.items()},
        "link_gbit": link_gbit,
        "resources": [
            {"name": name, "s_per_image": taken, "used": taken * IMAGES_PER_HOUR / HOUR_S, "full_at": HOUR_S / taken}
            for name, taken in each.items()
        ],
        "first": max((name for name in each if name != WITH_MAPS), key=lambda name: each[name]),
        "price": price,
        "cost": None if price is None else cores * price,
    }


def _own_bytes(memory: Mapping[str, Any] | None, workers: int) -> int | None:
    """Return what so many workers with a mapped gallery hold for themselves; the gallery comes once a machine."""
    if memory is None:
        return None
    rows = (row for row in memory["rows"] if (row["kind"], row["gallery"]) == ("Ray", "mapped"))
    largest: int = max(worker["own_bytes"] for row in rows for worker in row["each"])
    return workers * largest


def rate(rates: Sequence[Mapping[str, Any]], kind: str, workers: int) -> Mapping[str, Any]:
    """Return the row of a contestant with so many workers."""
    return next(row for row in rates if (row["kind"], row["workers"]) == (kind, workers))


def efficiency(row: Mapping[str, Any], alone: Mapping[str, Any], workers: int) -> float:
    """Return the median over repeats of rate / (workers x the rate of one process alone in the same repeat)."""
    return statistics.median(efficiencies(row, alone, workers))


def efficiencies(row: Mapping[str, Any], alone: Mapping[str, Any], workers: int) -> list[float]:
    """Return the same for each repeat."""
    return [own / (workers * one) for own, one in zip(row["images_per_s"], alone["images_per_s"], strict=True)]
