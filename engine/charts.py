"""An evaluation's curves and histograms as SVG text that takes its colours from the page around it.

Every colour is a CSS variable of ``report.html``, so one drawing is legible in light and dark. Nothing is
computed here that a figure of the summary rests on.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .errors import DependencyError
from .metrics import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# matplotlib knows no CSS variables: it draws in these stand-ins, which are replaced in the SVG text.
_INK, _MUTED, _ACCENT, _NORMAL, _ABNORMAL = "#010101", "#020202", "#030303", "#040404", "#050505"
_VARIABLES = {
    _INK: "var(--ink)",
    _MUTED: "var(--muted)",
    _ACCENT: "var(--accent)",
    _NORMAL: "var(--normal)",
    _ABNORMAL: "var(--abnormal)",
}
_FONT = "DejaVu Sans"  # the one that matplotlib brings along; it sets the widths, the page's own font is shown
_STYLE = {
    "axes.edgecolor": _MUTED,
    "axes.labelcolor": _INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": _FONT,
    "font.size": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",
    "text.color": _INK,
    "xtick.color": _MUTED,
    "xtick.labelcolor": _INK,
    "ytick.color": _MUTED,
    "ytick.labelcolor": _INK,
}
_SIZE_INCHES = (4.6, 3.3)
_BINS = 40
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def roc_chart(curves: Mapping[str, Curve], points: Mapping[str, tuple[float, float]], *, what: str) -> str:
    """Draw ROC curves by name, and the operating points (false alarm rate, recall) of thresholds by name."""

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=_MUTED, linewidth=0.8, linestyle=":")
        for (name, curve), style in zip(curves.items(), ("-", "--"), strict=False):
            label = f"{name}: {curve.area():.3f}"
            axes.plot(*_thinned(curve, 1.0), style, color=_ACCENT, label=label)
        for (name, (x, y)), marker in zip(points.items(), "os", strict=False):
            axes.plot(x, y, marker, color=_ABNORMAL, label=f"at {name}", linestyle="none", clip_on=False)
        _rates(axes, f"false positive rate ({what})", f"true positive rate ({what})")

    return _svg(draw, f"ROC over {what}")


def pro_chart(curve: Curve, limits: Sequence[float]) -> str:
    """Draw the PRO curve up to the highest limit, the area up to each limit tinted."""
    highest = max(limits)

    def draw(axes: Axes) -> None:
        x, y = _thinned(curve, highest)
        axes.plot(x, y, color=_ACCENT)
        for limit in limits:
            axes.fill_between(
                x,
                y,
                where=(x <= limit).tolist(),
                color=_ACCENT,
                alpha=0.15,
                linewidth=0,
                label=f"to {limit}: {curve.area(limit):.3f}",
            )
        _rates(axes, "false positive rate (pixels)", "overlap per region")
        axes.set_xlim(0, highest)

    return _svg(draw, "PRO over pixels")


def histogram(
    normal: NDArray[np.float64], abnormal: NDArray[np.float64], threshold: float, *, what: str, symbol: str
) -> str:
    """Draw how many normal and abnormal images score how high, and the threshold."""

    def draw(axes: Axes) -> None:
        values = np.concatenate([normal, abnormal, [threshold]])
        low, high = float(values.min()), float(values.max())
        margin = 0.5 if low == high else 0.0
        edges = np.linspace(low - margin, high + margin, _BINS + 1)
        for scores, name, color in ((normal, "normal", _NORMAL), (abnormal, "abnormal", _ABNORMAL)):
            counts, _ = np.histogram(scores, edges)
            axes.stairs(counts, edges, fill=True, color=color, alpha=0.6, label=f"{name} ({scores.size})")
        axes.axvline(threshold, color=_INK, linestyle="--", linewidth=1.2, label=f"{symbol} = {threshold:.4g}")
        axes.set_xlabel(what)
        axes.set_ylabel("images")
        axes.locator_params(axis="y", integer=True)

    return _svg(draw, f"Histogram of the {what}")


def _thinned(curve: Curve, end: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the curve from 0 to ``end`` without the points that no eye could tell apart: at most some 2000."""
    inside = curve.false_positive_rate <= end
    x = np.append(curve.false_positive_rate[inside], end)
    y = np.append(curve.detection_rate[inside], np.interp(end, curve.false_positive_rate, curve.detection_rate))
    step = np.floor((x / end + y) * 1000)  # both only grow, so their sum is a way along the curve
    kept = np.append(np.diff(step, prepend=-1)[:-1] > 0, True)
    return x[kept], y[kept]


def _rates(axes: Axes, x_label: str, y_label: str) -> None:
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.grid(color=_MUTED, alpha=0.25, linewidth=0.6)


def _svg(draw: Callable[[Axes], None], label: str) -> str:
    """Draw on fresh axes, whatever style the process has set, and return one ``<svg>`` element."""
    try:
        from matplotlib import style  # noqa: PLC0415 - optional, and slow to import
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise DependencyError("matplotlib is not installed: pip install 'spadeline[eval]'") from error
    buffer = io.StringIO()
    with style.context(["default", {**_STYLE, "svg.hashsalt": label}]):
        figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        entries = len(axes.get_legend_handles_labels()[0])
        figure.legend(loc="outside upper left", ncols=2 if entries == 4 else 3)
        figure.savefig(buffer, format="svg", transparent=True, metadata=_NO_METADATA)
    text = buffer.getvalue()
    svg = text[text.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, variable)
    return re.sub(r'<g id="[^"]*">', "<g>", svg)  # every chart would bring the same ids into the page
