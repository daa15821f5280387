"""The frame check's chapter: what it finds beside the thresholds, and its false alarms (frame_check.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spadeline.engine.pages.sections import Section, Table

from page_parts.chapter import Chapter

RULES = ("map", "either", "check")


def frame_check(document: Mapping[str, Any]) -> Chapter:
    """Return spoiled frames found by each rule, and the share of normal images that the check flags."""
    tables = {"false_alarms": _false_alarms(document["false_alarms"])}
    if document["found"]:
        tables = {"found": _found(document["found"])} | tables
    text = (
        "Good frames were spoiled and inspected with default settings. Normal images were split at random into those "
        "to learn from and the others, which were then checked."
    )
    details = [
        table for table in (_each_product(document["found"]), _each_reason(document["false_alarms"])) if table.rows
    ]
    return Chapter("", Section("The frame check", text, document["command"], [*tables.values(), *details]), tables)


def _found(found: Sequence[Mapping[str, Any]]) -> Table:
    rows = []
    for kind in dict.fromkeys(row["frame"] for row in found):
        of_kind = [row for row in found if row["frame"] == kind]
        frames = sum(row["frames"] for row in of_kind)
        rows.append((kind, frames, *(sum(row[rule] for row in of_kind) for rule in RULES)))
    head = ("a good frame, …", "frames", "above theta", "above theta or tau", "by the frame check")
    sets, networks = (len({row[of] for row in found}) for of in ("images", "extractor"))
    return Table("Frames that are flagged", head, rows, f"Sums over products ({sets}) and networks ({networks}).")


def _false_alarms(alarms: Sequence[Mapping[str, Any]]) -> Table:
    counts = sorted({row["learnt_from"] for row in alarms})
    shares = {(row["images"], row["extractor"], row["learnt_from"]): row["share"]["any"] for row in alarms}
    networks = dict.fromkeys((row["images"], row["extractor"]) for row in alarms)
    rows = [
        (
            f"{images}, {extractor}",
            *(
                None if (share := shares.get((images, extractor, count))) is None else f"{share:.2%}"
                for count in counts
            ),
        )
        for images, extractor in networks
    ]
    head = ("normal images that the check flags", *(f"learnt from {count}" for count in counts))
    return Table("False alarms of the frame check", head, rows)


def _each_product(found: Sequence[Mapping[str, Any]]) -> Table:
    """Return what was found of each product by each network, and the check's reasons."""
    rows = []
    for row in found:
        reasons = ", ".join(f"{reason} {count}" for reason, count in row["reasons"].items() if count)
        counts = (row["frames"], *(row[rule] for rule in RULES))
        rows.append((f"{row['images']}, {row['extractor']}", row["frame"], *counts, reasons or None))
    head = ("product, network", "a good frame, …", "frames", "theta", "theta or tau", "frame check", "its reasons")
    return Table("Frames that are flagged, by product and network", head, rows)


def _each_reason(alarms: Sequence[Mapping[str, Any]]) -> Table:
    """Return the false alarms for each reason."""
    reasons = list(dict.fromkeys(reason for row in alarms for reason in row["share"]))
    rows = [
        (
            f"{row['images']}, {row['extractor']}",
            row["learnt_from"],
            row["normal_images"],
            *(f"{row['share'][reason]:.2%}" if reason in row["share"] else None for reason in reasons),
        )
        for row in alarms
    ]
    head = ("normal images, network", "learnt from", "of", *reasons)
    return Table("False alarms, by reason", head, rows)
