"""Charts of image scores as SVG text: histograms, and the normal images' scores in order.

The charts only show figures: no figure of a summary is computed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .drawing import ABNORMAL, INK, NORMAL, draw_svg, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BINS = 40
_MOST_LABELS, _LONGEST_LABEL, _LABEL_HEIGHT = 4, 28, 0.06  # the height as a share of the axis


def histogram(
    normal: NDArray[np.float64], abnormal: NDArray[np.float64], threshold: float, *, what: str, symbol: str
) -> str:
    """Draw a histogram of the normal and abnormal images' scores, and the threshold."""

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
        Indices of scores to mark, the highest first; a few of them are named.
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
            lowest = min(
                scores[index] - _LABEL_HEIGHT * top / 2, lowest - _LABEL_HEIGHT * top
            )  # names stand one below the other
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
