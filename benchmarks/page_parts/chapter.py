"""What a benchmark's document becomes, and the few ways in which all of them write figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from spadeline.engine.pages.page import Section, Table


@dataclass(frozen=True)
class Chapter:
    """A document's part of the page.

    Attributes
    ----------
    finding
        Its outcome in one sentence, for the page's first lines; empty: none.
    section
        Charts and tables.
    tables
        Those of its tables that README and docs/ may take, by name.
    """

    finding: str
    section: Section
    tables: Mapping[str, Table] = field(default_factory=dict)


def times(ratio: float) -> str:
    """Return a ratio: three digits, no more."""
    return f"{ratio:,.0f} ×" if ratio >= 100 else f"{ratio:#.2g}".rstrip(".") + " ×"


def left_out(reasons: Mapping[str, str]) -> str:
    """Say who isn't in a table, and why."""
    return " ".join(f"{name}: left out, {reason.rstrip('.')}." for name, reason in reasons.items())


def side(size: tuple[int, int] | list[int]) -> str:
    """Return a height and a width."""
    return f"{size[0]} × {size[1]}"
