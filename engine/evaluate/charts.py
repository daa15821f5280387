"""ROC and PRO curves of an evaluation as SVG text; ``pages/drawing.py`` has the colours.

The curves are only drawn here: the summary's figures are computed in ``metrics.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..pages.drawing import ABNORMAL, ACCENT, MUTED, draw_svg
from .metrics import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def roc_chart(curves: Mapping[str, Curve], points: Mapping[str, tuple[float, float]], *, what: str) -> str:
    """Draw named ROC curves, and the named thresholds' operating points (false alarm rate, recall)."""

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


def _thinned(curve: Curve, end: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the curve from 0 to ``end`` with at most about 2000 points: more would look the same."""
    inside = curve.false_positive_rate <= end
    x = np.append(curve.false_positive_rate[inside], end)
    y = np.append(curve.detection_rate[inside], np.interp(end, curve.false_positive_rate, curve.detection_rate))
    step = np.floor((x / end + y) * 1000)  # both only grow, so their sum grows along the curve
    kept = np.append(np.diff(step, prepend=-1)[:-1] > 0, True)
    return x[kept], y[kept]


def _rates(axes: Axes, x_label: str, y_label: str) -> None:
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.grid(visible=True)
