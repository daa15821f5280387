"""Evaluations' curves and histograms, normal images' scores as SVG text; :mod:`.drawing` gives the page's colours.

Nothing is computed here that a figure of the summary rests on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .drawing import ABNORMAL, ACCENT, INK, MUTED, NORMAL, draw_svg, printable
from .metrics import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BINS = 40
_MOST_LABELS, _LONGEST_LABEL, _LABEL_HEIGHT = 4, 28, 0.06  # the height as a share of the axis


def roc_chart(curves: Mapping[str, Curve], points: Mapping[str, tuple[float, float]], *, what: str) -> str:
    """Draw ROC curves by name, and the operating points (false alarm rate, recall) of thresholds by name."""

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=":")
        for (name, curve), style in zip(curves.items(), ("-", "--"), strict=False):
            label = f"{name}: {curve.area():.3f}"
            axes.plot(*_thinned(curve, 1.0), style, color=ACCENT, label=label)
        for (name, (x, y)), marker in zip(points.items(), "os", strict=False):
            axes.plot(x, y, marker, color=ABNORMAL, label=f"at {name}", linestyle="none", clip_on=False)
        _rates(axes, f"false positive rate ({what})", f"true positive rate ({what})")

    return draw_svg(draw, f"ROC over {what}")


def pro_chart(curve: Curve, limits: Sequence[float]) -> str:
    """Draw the PRO curve up to the highest limit, the area up to each limit tinted."""
    highest = max(limits)

    def draw(axes: Axes) -> None:
        axes.plot(*_thinned(curve, highest), color=ACCENT)
        for limit in limits:
            label = f"to {limit}: {curve.area(limit):.3f}"
            axes.fill_between(*_thinned(curve, limit), color=ACCENT, alpha=0.15, linewidth=0, label=label)
        _rates(axes, "false positive rate (pixels)", "overlap per region")
        axes.set_xlim(0, highest)

    return draw_svg(draw, "PRO over pixels")


def histogram(
    normal: NDArray[np.float64], abnormal: NDArray[np.float64], threshold: float, *, what: str, symbol: str
) -> str:
    """Draw how many normal and abnormal images score how high, and the threshold."""

    def draw(axes: Axes) -> None:
        values = np.concatenate([normal, abnormal, [threshold]])
        low, high = float(values.min()), float(values.max())
        margin = 0.5 if low == high else 0.0
        edges = np.linspace(low - margin, high + margin, _BINS + 1)
        for scores, name, color in ((normal, "normal", NORMAL), (abnormal, "abnormal", ABNORMAL)):
            counts, _ = np.histogram(scores, edges)
            axes.stairs(counts, edges, fill=True, color=color, alpha=0.6, label=f"{name} ({scores.size})")
        axes.axvline(threshold, color=INK, linestyle="--", linewidth=1.2, label=f"{symbol} = {threshold:.4g}")
        axes.set_xlabel(what)
        axes.set_ylabel("images")
        axes.locator_params(axis="y", integer=True)

    return draw_svg(draw, f"Histogram of the {what}")


def sorted_scores(
    scores: NDArray[np.float64], names: Sequence[str], far: Sequence[int], threshold: float, *, what: str, symbol: str
) -> str:
    """Draw the normal images' scores from the lowest to the highest, and the threshold.

    Parameters
    ----------
    far
        Indices of scores to mark, the highest first; a few of those by name.
    """
    order = np.argsort(scores, kind="stable")
    rank = np.empty(scores.size, int)
    rank[order] = np.arange(1, scores.size + 1)

    def draw(axes: Axes) -> None:
        others = np.setdiff1d(np.arange(scores.size), far)
        axes.plot(rank[others], scores[others], ".", color=NORMAL, markersize=5, label="images")
        if len(far):
            axes.plot(
                rank[list(far)], scores[list(far)], "D", color=ABNORMAL, markersize=5, label="far from the others"
            )
        top, lowest = max(float(scores.max()), threshold), np.inf
        for index in [index for index in far if rank[index] > scores.size / 2][:_MOST_LABELS]:
            lowest = min(scores[index] - _LABEL_HEIGHT * top / 2, lowest - _LABEL_HEIGHT * top)  # one below the other
            axes.text(rank[index] - scores.size / 50, lowest, _short(names[index]), fontsize=8, ha="right", va="center")
        axes.axhline(threshold, color=INK, linestyle="--", linewidth=1.2, label=f"{symbol} = {threshold:.4g}")
        axes.set_xlabel("normal images, the lowest score first")
        axes.set_ylabel(what)
        axes.set_ylim(bottom=0)
        axes.set_xlim(0, scores.size + 1)
        axes.locator_params(axis="x", integer=True)
        axes.grid(visible=True, axis="y")

    return draw_svg(draw, f"The normal images' scores by {what}")


def _short(name: str) -> str:
    name = printable(name)
    return name if len(name) <= _LONGEST_LABEL else "…" + name[1 - _LONGEST_LABEL :]


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
    axes.grid(visible=True)
