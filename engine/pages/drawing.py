"""matplotlib's drawings as SVG text that takes its colours from the page around it.

Every colour is a CSS variable of ``style.css``, so one drawing is legible in light, in dark and on paper. Charts are
drawn by :mod:`.score_charts`, :mod:`.speed_charts` and :mod:`.charts`.
"""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..optional import imported

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# matplotlib knows no CSS variables: it draws in these stand-ins, which are replaced in the SVG text.
INK, MUTED, ACCENT, NORMAL, ABNORMAL, PANEL, ON_SERIES = (f"#0{digit}0{digit}0{digit}" for digit in range(1, 8))
SERIES = tuple(f"#1{digit}1{digit}1{digit}" for digit in range(1, 7))
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    ACCENT: "var(--accent)",
    NORMAL: "var(--normal)",
    ABNORMAL: "var(--abnormal)",
    PANEL: "var(--panel)",
    ON_SERIES: "var(--on-series)",
} | {color: f"var(--series-{number})" for number, color in enumerate(SERIES, start=1)}
FONT = "DejaVu Sans"  # matplotlib includes it; it sets the widths, while a browser shows the page's own font
FONT_SIZE = 9  # points
_STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": FONT,
    "font.size": FONT_SIZE,
    "grid.alpha": 0.25,
    "grid.color": MUTED,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",
    "text.color": INK,
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
}
SIZE_INCHES = (4.6, 3.3)
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def draw_svg(
    draw: Callable[[Axes], None],
    label: str,
    *,
    size_inches: tuple[float, float] = SIZE_INCHES,
    columns: int | None = None,
) -> str:
    """Draw on new axes in the pages' style, not the process's, and return one ``<svg>`` element.

    Parameters
    ----------
    label
        What the drawing shows, as screen readers say it.
    columns
        Columns of the legend above the drawing; None: as many as suit short names.

    Raises
    ------
    DependencyError
        matplotlib isn't installed.
    """
    style, figures = (imported(f"matplotlib.{name}", "pip install 'spadeline[eval]'") for name in ("style", "figure"))
    buffer = io.StringIO()
    with style.context(["default", {**_STYLE, "svg.hashsalt": label}]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a browser shows the page's own font
        figure = figures.Figure(figsize=size_inches, layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        entries = len(axes.get_legend_handles_labels()[0])
        if entries:
            figure.legend(loc="outside upper left", ncols=columns or (2 if entries == 4 else 3))
        figure.savefig(buffer, format="svg", transparent=True, metadata=_NO_METADATA)
    text = buffer.getvalue()
    opening = f'<svg role="img" aria-label="{html.escape(label)}"'
    svg = text[text.index("<svg") :].replace("<svg", opening, 1)
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, variable)
    return re.sub(r'<g id="[^"]*"', "<g", svg)  # every chart would have the same ids


def printable(name: str) -> str:
    """Return a name without characters that UTF-8 can't hold, such as a file name's undecodable bytes."""
    return name.encode("utf-8", errors="replace").decode("utf-8")
