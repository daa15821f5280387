"""Sections as one self-contained HTML page: a verdict first, then text, charts and tables with their commands.

The page loads nothing and runs nothing. Whatever comes from outside is escaped, except a chart's drawing, which
:mod:`.drawing` made.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from ..files import replace_file
from ..optional import imported
from .sections import Chart, Section, Table, cell_text, environment_table, paragraphs

_FOLDER = Path(__file__).parent
_IDS = re.compile(r'(\bid="|url\(#|href="#)')


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
        An :class:`.Environment` as JSON, or several in one. A value that is a mapping is shown with its keys.
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
        filters={
            "cell": cell_text,
            "numeric": Table.numeric_columns,
            "paragraphs": paragraphs,
            "drawing": _drawings(),
        },
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


def _drawings() -> Callable[[Chart], str]:
    """Return a filter that gives out each chart's drawing with ids that no other one has."""
    numbers = count(1)
    return lambda chart: _IDS.sub(rf"\g<1>c{next(numbers)}-", chart.draw())
