"""The chapter of both doors: how many frames' verdicts are equal in Python and in the C library (doors.py)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from spadeline.engine.pages.sections import Cell, Section, Table

from page_parts.chapter import Chapter

PARTS = ("label", "reasons", "mask", "regions", "map", "neighbours", "scores")
HEAD = ("settings", "need", "frames", *PARTS, "largest difference of a map", "of a score")


def doors(document: Mapping[str, Any]) -> Chapter:
    """Return the frames that are equal, by network and settings, and by data set, too."""
    results = document["results"]
    sets = len({row["data"] for row in results})
    summed = Table(
        "Frames whose results are equal in Python and in C, to the last bit",
        ("network", *HEAD),
        [
            (network, *_row(settings, need, rows))
            for (network, settings, need), rows in _by(results, "network", "settings", "need").items()
        ],
        f"Sums over sets of images ({sets}). –: not exact for this need.",
    )
    each = Table(
        "The same, for each set of images",
        ("images", "network", *HEAD),
        [(row["data"], row["network"], *_row(row["settings"], row["need"], [row])) for row in results],
    )
    differing = sum(row["frames"] - min(row["equal"].values()) for row in results)
    frames = sum(row["frames"] for row in results)
    finding = f"Of {frames:,} inspections through both doors, {differing:,} differ in any bit."
    text = "Every frame went through Python and through the C library, with the same recipe and ONNX Runtime."
    return Chapter(finding, Section("Same verdict", text, document["command"], [summed, each]), {"verdicts": summed})


def _by(results: Iterable[Mapping[str, Any]], *keys: str) -> dict[tuple[str, ...], list[Mapping[str, Any]]]:
    """Return the rows in groups of equal values of these keys."""
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in results:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups


def _row(settings: str, need: str, rows: Sequence[Mapping[str, Any]]) -> tuple[Cell, ...]:
    """Return sums of frames, and the largest differences."""
    equal = (sum(row["equal"][part] for row in rows) if part in rows[0]["equal"] else None for part in PARTS)
    largest = [max(row["largest_difference"][kind] for row in rows) for kind in ("map", "score")]
    return (
        settings,
        need,
        sum(row["frames"] for row in rows),
        *equal,
        f"{largest[0]:.3g}" if need == "map" else None,
        f"{largest[1]:.3g}",
    )
