"""A chapter of the page, made from a benchmark's document, and how all chapters write figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from spadeline.engine.pages.sections import Section, Table
from spadeline.engine.pages.terminal_text import terminal_text


@dataclass(frozen=True)
class Chapter:
    """A document's part of the page.

    Attributes
    ----------
    finding
        Its outcome in one sentence, for the page's first lines; empty if there is none.
    section
        Charts and tables.
    tables
        Those of its tables that README and docs/ may take, by name.
    """

    finding: str
    section: Section
    tables: Mapping[str, Table] = field(default_factory=dict)

    def text(self) -> str:
        """Return finding and section as text for a terminal."""
        return "\n\n".join(filter(None, [self.finding, terminal_text([self.section])]))


def times(ratio: float) -> str:
    """Return a ratio with two digits, or with all of those before the point."""
    return f"{ratio:,.0f} ×" if ratio >= 100 else f"{ratio:#.2g}".rstrip(".") + " ×"


def left_out(reasons: Mapping[str, str]) -> str:
    """Say which contestants are missing in a table, and why."""
    return " ".join(f"{name}: left out, {reason.rstrip('.')}." for name, reason in reasons.items())


def side(size: tuple[int, int] | list[int]) -> str:
    """Return a height and a width."""
    return f"{size[0]} × {size[1]}"
