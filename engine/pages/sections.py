"""Measurements as sections of text, tables and charts: what an HTML page, a terminal and Markdown are made from.

Each has one renderer: :mod:`.page`, :mod:`.terminal_text`, :mod:`.markdown`. No figure is computed here: cells come in
the units in which they are shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from ..units import three_digits

Cell = str | int | float | None


@dataclass(frozen=True)
class Table:
    """Rows of cells below a head; a row's first cell names it.

    Attributes
    ----------
    caption
        What the table shows.
    head
        Name of each column, with its unit.
    rows
        Each as long as the head. None stands for a figure that doesn't exist; floats are shown with three digits.
    note
        A remark that is shown below the table.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.head):
                raise InputError(f"rows: expected {len(self.head)} cells, got {len(row)}: {list(row)}")

    def without_empty_columns(self) -> Table:
        """Return the table without the columns in which every cell is None."""
        kept = [index for index in range(len(self.head)) if any(row[index] is not None for row in self.rows)]
        head, rows = [self.head[i] for i in kept], [[row[i] for i in kept] for row in self.rows]
        return Table(self.caption, head, rows, self.note)

    def numeric_columns(self) -> list[bool]:
        """Say which columns hold numbers, with their units or without; the first column holds names."""
        columns = [[cell for cell in column if cell is not None] for column in zip(*self.rows, strict=True)]
        numeric = [all(re.match(r"[<≤≥+−-]?\d", cell_text(cell)) for cell in column) for column in columns]
        return [False, *numeric[1:]] if columns else [False] * len(self.head)


@dataclass(frozen=True)
class Chart:
    """A drawing with a title and a remark; its figures stand in tables, too, so that text can go without it.

    Attributes
    ----------
    draw
        Returns one ``<svg>`` element, as :mod:`.speed_charts` makes them. It is called for HTML alone, since text needs
        no matplotlib.
    """

    title: str
    draw: Callable[[], str]
    note: str = ""


@dataclass(frozen=True)
class Section:
    """What one command measured: paragraphs (parted by empty lines), the command, tables and charts."""

    title: str
    text: str
    command: str
    parts: Sequence[Table | Chart]


def environment_table(environment: Mapping[str, Any]) -> Table:
    """Return the machine and the versions as a table; ``environment`` is an :class:`.Environment` as JSON."""
    rows = []
    for key, value in environment.items():
        name = key.removesuffix("_bytes")
        rows.append((name.replace("_", " "), plain(value) if name == key else _gigabytes(value)))
    return Table("What this was measured on", ("", ""), rows)


def paragraphs(text: str) -> list[str]:
    """Return a text's paragraphs, which empty lines part."""
    return [paragraph for paragraph in re.split(r"\n\s*\n", text) if paragraph.strip()]


def cell_text(cell: Cell) -> str:
    """Return a cell as it is shown."""
    if cell is None:
        return "–"
    if isinstance(cell, float):
        return three_digits(cell)
    return cell if isinstance(cell, str) else f"{cell:,}"


def plain(value: Any) -> str:
    """Return a setting or a fact as it is shown: parts in a row, those of a part in parentheses, four digits."""
    if isinstance(value, Mapping):
        parts = [f"{str(key).replace('_', ' ')}: {_as_part(part)}" for key, part in value.items()]
    elif isinstance(value, list | tuple):
        parts = [_as_part(part) for part in value]
    elif value is None:
        return "–"
    elif isinstance(value, bool):
        return "yes" if value else "no"
    else:
        return f"{value:.4g}" if isinstance(value, float) else str(value)
    return ", ".join(parts) or "–"


def _as_part(value: Any) -> str:
    return f"({plain(value)})" if isinstance(value, Mapping | list | tuple) and value else plain(value)


def _gigabytes(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_gigabytes(part)}" for key, part in value.items())
    return f"{value / 1e9:.1f} GB"
