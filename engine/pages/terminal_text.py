"""Sections as text for a terminal: paragraphs, and tables in columns. Charts are left out, commands too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .sections import Cell, Section, Table, cell_text, paragraphs

_GAP = "  "
_NOTHING = "-"  # in place of the dash of pages, which not every terminal's encoding has


def terminal_text(sections: Iterable[Section]) -> str:
    """Return the sections as text of several lines, with an empty line between two of them."""
    return "\n\n".join("\n".join(_section(section)) for section in sections)


def table_text(table: Table) -> str:
    """Return one table: caption, head, rows, note."""
    return "\n".join(_table(table))


def _section(section: Section) -> Iterator[str]:
    yield section.title
    yield from (_in_one_line(paragraph) for paragraph in paragraphs(section.text))
    for part in section.parts:
        if isinstance(part, Table) and part.rows:
            yield from _table(part, heading=section.title)


def _table(table: Table, *, heading: str = "") -> Iterator[str]:
    """Yield a table's lines: numbers stand at the right of their columns, names and texts at the left."""
    if table.caption != heading:
        yield f"{table.caption}:"
    numeric = table.numeric_columns()
    rows = [[_in_one_line(name) for name in table.head], *([_cell(cell) for cell in row] for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if not any(table.head):
        del rows[0]
    for row in rows:
        cells = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ]
        yield f"{_GAP}{_GAP.join(cells)}".rstrip()
    if table.note:
        yield _GAP + _in_one_line(table.note.replace("–:", f"{_NOTHING}:"))


def _cell(cell: Cell) -> str:
    return _NOTHING if cell is None else _in_one_line(cell_text(cell))


def _in_one_line(text: str) -> str:
    return " ".join(text.split())
