"""Measurements as one self-contained HTML page: a verdict, then sections of charts and tables with their commands.

The page loads nothing and runs nothing. Whatever comes from outside is escaped, but a chart's drawing, which
:mod:`.drawing` made. No figure is made here: cells come in the units in which they are shown. :func:`markdown` writes
the same tables for a README.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import replace_file
from ..optional import imported
from ..units import three_digits

Cell = str | int | float | None

_FOLDER = Path(__file__).parent
_MARKS = re.compile(r"[\\|*_`<\[]")  # what Markdown would take for more than itself
_IDS = re.compile(r'(\bid="|url\(#|href="#)')


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
        Each as long as the head. None stands for what there is not; floats are shown with three digits.
    note
        A remark that belongs below it.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.head):
                raise InputError(f"rows: expected {len(self.head)} cells, got {len(row)}: {list(row)}")


@dataclass(frozen=True)
class Chart:
    """One ``<svg>`` element, as :mod:`.charts` and :mod:`.speed_charts` make them, with a title and a remark."""

    title: str
    svg: str
    note: str = ""


@dataclass(frozen=True)
class Section:
    """What one command measured: ``text``'s paragraphs (empty lines part them), the command, tables and charts."""

    title: str
    text: str
    command: str
    parts: Sequence[Table | Chart]


def write_page(
    path: str | os.PathLike[str],
    *,
    title: str,
    lead: str,
    sections: Sequence[Section],
    environment: Mapping[str, Any],
    notices: Sequence[str] = (),
) -> None:
    """Write the page, all of it or none; folders on the way are made.

    Parameters
    ----------
    path
        The HTML file; one that is there is replaced.
    lead
        What the reader came for, in a sentence or a few.
    environment
        As :func:`.environment.environment` makes it. A value that is a mapping is shown with its keys.
    notices
        Sentences that nobody should miss, shown first.

    Raises
    ------
    OutputError
        The file can't be written; one that was there is as before.
    DependencyError
        jinja2 isn't installed.
    """
    page = render(
        "page.html",
        filters={"cell": cell_text, "numeric": _numeric, "paragraphs": _paragraphs, "drawing": _drawings()},
        title=title,
        lead=lead,
        sections=sections,
        environment=environment_table(environment),
        notices=notices,
    )
    replace_file(Path(path), page)


def render(template: str, *, filters: Mapping[str, Callable[..., Any]], **values: Any) -> bytes:
    """Fill in one of this folder's templates; every value is escaped. DependencyError without jinja2."""
    jinja2 = imported("jinja2", "pip install 'spadeline[eval]'")
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FileSystemLoader(_FOLDER),
    )
    environment.filters.update(filters)
    page: str = environment.get_template(template).render(**values)
    return page.encode("utf-8", errors="replace")  # a file name may hold undecodable bytes


def markdown(table: Table) -> str:
    """Return a table in GitHub's Markdown, its note in a paragraph below; the caption is the surrounding text's."""
    alignment = ["---:" if numeric else "---" for numeric in _numeric(table)]
    rows = [list(table.head), *([cell_text(cell) for cell in row] for row in table.rows)]
    head, *body = (_line(_escaped(text) for text in row) for row in rows)
    note = f"\n\n{_escaped(table.note)}" if table.note else ""
    return "\n".join([head, _line(alignment), *body]) + note


def environment_table(environment: Mapping[str, Any]) -> Table:
    """Return the machine and the versions as a table."""
    rows = []
    for key, value in environment.items():
        name = key.removesuffix("_bytes")
        rows.append((name.replace("_", " "), plain(value) if name == key else _gigabytes(value)))
    return Table("What this was measured on", ("", ""), rows)


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


def _numeric(table: Table) -> list[bool]:
    """Say which columns hold no text but numbers and their units; the first one has names, whatever they look like."""
    columns = [[cell for cell in column if cell is not None] for column in zip(*table.rows, strict=True)]
    numeric = [all(re.match(r"[<≤≥+−-]?\d", cell_text(cell)) for cell in column) for column in columns]
    return [False, *numeric[1:]] if columns else [False] * len(table.head)


def _paragraphs(text: str) -> list[str]:
    return [paragraph for paragraph in re.split(r"\n\s*\n", text) if paragraph.strip()]


def _drawings() -> Callable[[Chart], str]:
    """Return a filter that gives out each chart's drawing with ids that no other one has."""
    numbers = count(1)
    return lambda chart: _IDS.sub(rf"\g<1>c{next(numbers)}-", chart.svg)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    return _MARKS.sub(r"\\\g<0>", " ".join(text.split()))
