"""Tables in GitHub's Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .sections import Table, cell_text

_MARKS = re.compile(r"[\\|*_`<\[]")  # Markdown reads them as more than themselves


def markdown(table: Table) -> str:
    """Return a table with its note in a paragraph below; the surrounding text says what the table shows."""
    alignment = ["---:" if numeric else "---" for numeric in table.numeric_columns()]
    rows = [list(table.head), *([cell_text(cell) for cell in row] for row in table.rows)]
    head, *body = (_line(_escaped(text) for text in row) for row in rows)
    note = f"\n\n{_escaped(table.note)}" if table.note else ""
    return "\n".join([head, _line(alignment), *body]) + note


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    return _MARKS.sub(r"\\\g<0>", " ".join(text.split()))
