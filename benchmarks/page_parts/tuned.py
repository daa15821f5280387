"""The table of what tuned settings find beside those that a recipe had, on test images that didn't choose them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from spadeline.engine.pages.sections import Table

from accuracy_parts.figures import RATES
from accuracy_parts.knobs import label
from page_parts.recall import who

SIDES = ("before", "after")
COUNTS = (("found", "abnormal"), ("false_alarms", "good"))


def tuned_tables(document: Mapping[str, Any]) -> dict[str, Table]:
    """Return a table for each data set that was tuned on, by name."""
    rows = document.get("tuned", [])
    return {f"{data}-tuned": _table(data, rows, document) for data in dict.fromkeys(row["data"] for row in rows)}


def _table(data: str, rows: Sequence[Mapping[str, Any]], document: Mapping[str, Any]) -> Table:
    members = [row for row in rows if row["data"] == data]
    lines = [line for row in members for line in _of_class(row, document)]
    for extractor in dict.fromkeys(row["extractor"] for row in members):
        lines += _of_all([row for row in members if row["extractor"] == extractor], document)
    heads = [f"{what} at {RATES[0]:.0%}".replace("%", " %") for what in ("found", "false alarms")]
    caption = f"{data}: default and tuned settings, on the half of the test images that had no part in the choice"
    return Table(caption, ("class", "detector", "settings", "image ROCAUC", *heads), lines)


def _of_class(row: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[tuple[str | None, ...]]:
    detector, settings = who(row, document)
    changed = ", ".join(f"{name} {_value(value)}" for name, value in row["changed"].items())
    for side, text in zip(SIDES, (settings, f"tuned: {changed or 'no change'}"), strict=True):
        figures = row["final"][side]
        counts = (f"{figures[count]} of {figures[images]}" for count, images in COUNTS)
        yield (row["class"], detector, text, f"{figures['image_rocauc']:.3f}", *counts)


def _of_all(rows: Sequence[Mapping[str, Any]], document: Mapping[str, Any]) -> Iterator[tuple[str | None, ...]]:
    """Yield sums over all classes: so few images have no other meaning than all together."""
    detector, settings = who(rows[0], document)
    for side, text in zip(SIDES, (settings, "tuned"), strict=True):
        total = {name: sum(row["final"][side][name] for row in rows) for pair in COUNTS for name in pair}
        yield ("all", detector, text, None, *(f"{total[count]} of {total[images]}" for count, images in COUNTS))


def _value(value: Any) -> str:
    return label(tuple(value) if isinstance(value, list) else value)
