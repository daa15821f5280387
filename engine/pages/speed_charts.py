"""Measurements of speed as SVG text: growth, stages, percentiles, throughput, and accuracy beside them.

Charts are narrow, so that text stays legible on a telephone's screen. Names and figures stand beside what they belong
to, so a chart can be read without its colours. Nothing is measured or averaged here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..units import duration, three_digits
from .drawing import FONT, FONT_SIZE, INK, MUTED, ON_SERIES, PANEL, SERIES, draw_svg, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

STAGES = ("prepare", "extract", "retrieve", "match", "map")  # in a frame's order
_STAGE_COLORS = dict(zip(STAGES, (SERIES[4], SERIES[0], SERIES[3], SERIES[1], SERIES[2]), strict=True))
_PERCENTILES = {"p50": "o", "p95": "D", "p99": "s", "p99.9": "^", "max": "|"}  # each with its marker
_WIDTH_INCHES = 4.1
_ROW_INCHES = 0.52  # height of a bar with its name above it
_LEGIBLE = 0.085  # share of the axis that three letters within a bar need
_DASHES = ("-", "--", "-.", ":")
_MARKERS = "osD^vP"
_LOG_FROM = 20  # ratio of largest to smallest: above it a linear scale would hide the small ones
_GAP = 0.075  # share of the axis between two names above one another
_ROW_POINTS = 72 * (_WIDTH_INCHES - 0.2)  # width of the axes of charts with rows
_SCATTER_INCHES = 2.9  # height of a scatter with its axes' texts, without the legend
_SCATTER_POINTS = (72 * (_WIDTH_INCHES - 0.9), 72 * (_SCATTER_INCHES - 0.7))  # about the size of its axes
_APART_POINTS = 11  # distance of a number's centre from other numbers and from points


def growth_chart(times_s: Mapping[str, Mapping[float, float]], *, label: str, against: str) -> str:
    """Draw seconds against a count, both logarithmic; the legend has the slopes and the order in which lines end.

    Parameters
    ----------
    times_s
        By name, seconds by count.
    """
    names = sorted(times_s, key=lambda name: -times_s[name][max(times_s[name])])

    def draw(axes: Axes) -> None:
        for name, (color, dash, marker) in zip(names, _looks(), strict=False):
            counts = sorted(times_s[name])
            seconds = [times_s[name][count] for count in counts]
            text = printable(name) + _slope(counts, seconds)
            axes.plot(counts, seconds, dash, color=color, marker=marker, markersize=5, label=text)
        axes.set_xscale("log")
        axes.set_yscale("log")
        ticks = sorted({count for by_count in times_s.values() for count in by_count})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        _label_seconds(axes.yaxis)
        axes.set_xlabel(against)
        axes.grid(visible=True)

    height = 3.0 + 0.19 * len(names)
    return draw_svg(draw, label, size_inches=(_WIDTH_INCHES, height), columns=1)


def stage_chart(stages_s: Mapping[str, Mapping[str, float]], *, label: str) -> str:
    """Draw a bar for each name: its stages' seconds one after the other, in a frame's order."""
    longest = max(sum(stages.values()) for stages in stages_s.values())

    def draw(axes: Axes) -> None:
        for row, (name, stages) in enumerate(stages_s.items()):
            start = 0.0
            for stage in (*(known for known in STAGES if known in stages), *(stages.keys() - set(STAGES))):
                seconds, color = stages[stage], _STAGE_COLORS.get(stage, SERIES[5])
                known = None if row else stage
                axes.barh(row, seconds, 0.5, left=start, color=color, edgecolor=PANEL, linewidth=1, label=known)
                text = three_digits(1e3 * seconds)
                if seconds > _LEGIBLE * longest * len(text) / 3:
                    axes.text(start + seconds / 2, row, text, ha="center", va="center", color=ON_SERIES)
                start += seconds
            _name_above(axes, row, name, f"{duration(start)}")
        _rows(axes, len(stages_s), longest)
        _label_seconds(axes.xaxis)

    return draw_svg(draw, label, size_inches=_tall(len(stages_s), legend=2), columns=3)


def latency_chart(
    percentiles_s: Mapping[str, Mapping[str, float | None]], *, label: str, takt_s: float | None = None
) -> str:
    """Draw each name's percentiles on one line, from the median to the maximum, and the takt across it.

    Parameters
    ----------
    percentiles_s
        By name, what :meth:`.Latency.percentiles_s` returns; those that are None are left out.
    """
    known = {
        name: {key: value for key, value in percentiles.items() if value is not None}
        for name, percentiles in percentiles_s.items()
    }
    values = [value for percentiles in known.values() for value in percentiles.values()]
    values += [] if takt_s is None else [takt_s]
    highest, lowest = max(values), min(values)

    def draw(axes: Axes) -> None:
        for row, (name, percentiles) in enumerate(known.items()):
            axes.plot([min(percentiles.values()), max(percentiles.values())], [row, row], color=MUTED, linewidth=1.2)
            for key, value in percentiles.items():
                axes.plot(value, row, **_look(key), markersize=10 if key == "max" else 6)
            _name_above(axes, row, name, f"{duration(percentiles['p50'])} to {duration(percentiles['max'])}")
        for key in dict.fromkeys(key for key in _PERCENTILES if any(key in row for row in known.values())):
            axes.plot([], [], **_look(key), label=key)
        if takt_s is not None:
            rows = np.arange(len(known))  # a line across all rows would cross the texts
            text = f"takt {duration(takt_s)}"
            axes.vlines(np.full(rows.size, takt_s), rows - 0.22, rows + 0.22, color=INK, linewidth=2.2, label=text)
        _rows(axes, len(known), highest)
        if highest > _LOG_FROM * lowest:
            axes.set_xscale("log")
            axes.set_xlim(lowest / 1.3, highest * 1.3)
        _label_seconds(axes.xaxis)

    return draw_svg(draw, label, size_inches=_tall(len(known), legend=2), columns=3)


def _look(percentile: str) -> dict[str, Any]:
    return {"marker": _PERCENTILES[percentile], "linestyle": "", "color": SERIES[0 if percentile == "p50" else 1]}


def bar_chart(values: Mapping[str, float], *, label: str, unit: str) -> str:
    """Draw one bar for each name, with its value above the bar's end."""

    def draw(axes: Axes) -> None:
        for row, (name, value) in enumerate(values.items()):
            axes.barh(row, value, 0.5, color=SERIES[0])
            _name_above(axes, row, name, three_digits(value))
        _rows(axes, len(values), max(values.values()))
        axes.set_xlabel(unit)

    return draw_svg(draw, label, size_inches=_tall(len(values), legend=0))


def knob_chart(figures: Mapping[str, Mapping[str, float]], *, label: str, knob: str) -> str:
    """Draw figures by name against a knob's values, evenly spaced in the order given; names stand at the ends."""
    values = list(dict.fromkeys(value for by_value in figures.values() for value in by_value))

    def draw(axes: Axes) -> None:
        ends = []
        for (name, by_value), (color, dash, marker) in zip(figures.items(), _looks(), strict=False):
            x = [values.index(value) for value in by_value]
            axes.plot(x, list(by_value.values()), dash, color=color, marker=marker, markersize=5)
            ends.append((list(by_value.values())[-1], name, color))
        axes.set_xticks(range(len(values)), [printable(value) for value in values])
        axes.margins(x=0.06, y=0.12)
        low, high = axes.get_ylim()
        ends.sort()
        heights = _spread([end for end, _, _ in ends], _GAP * (high - low))
        for height, (end, name, color) in zip(heights, ends, strict=True):
            place = (len(values) - 1 + 0.04 * len(values), height)
            axes.annotate(f"{printable(name)} {end:.3f}", place, color=color, va="center", annotation_clip=False)
        axes.set_xlabel(printable(knob))
        axes.grid(visible=True)

    return draw_svg(draw, label, size_inches=(_WIDTH_INCHES, 2.8))


def tradeoff_chart(
    points: Mapping[str, tuple[float, float]], *, label: str, accuracy: str, ours: Sequence[str] = ()
) -> str:
    """Draw accuracy (y) against seconds (x, logarithmic), each point with its number; the legend has the names.

    Up and left is better.

    Parameters
    ----------
    points
        By name, seconds and accuracy.
    ours
        Names of our own points, which are filled; the others are hollow.
    """

    def draw(axes: Axes) -> None:
        axes.set_xscale("log")
        for number, (name, (seconds, value)) in enumerate(points.items(), start=1):
            own = name in ours
            axes.plot(
                seconds,
                value,
                "o",
                markersize=7,
                markeredgewidth=1.6,
                markeredgecolor=SERIES[0 if own else 1],
                markerfacecolor=SERIES[0] if own else PANEL,
                label=f"{number} {printable(name)}",
            )
        axes.margins(x=0.12, y=0.14)
        _label_seconds(axes.xaxis)
        axes.set_xlabel("time a frame")
        axes.set_ylabel(accuracy)
        axes.grid(visible=True)
        _number_points(axes, list(points.values()))

    return draw_svg(draw, label, size_inches=(_WIDTH_INCHES, _SCATTER_INCHES + 0.19 * len(points)), columns=1)


def _looks() -> itertools.cycle[tuple[str, str, str]]:
    """Return colours, dashes and markers; the same combination returns after 12 lines."""
    return itertools.cycle([(SERIES[i % 6], _DASHES[i % 4], _MARKERS[i % 6]) for i in range(12)])


def _slope(counts: Sequence[float], seconds: Sequence[float]) -> str:
    if len(counts) < 2:
        return ""
    return f", slope {np.polyfit(np.log(counts), np.log(seconds), 1)[0]:.2f}"


def _tall(rows: int, *, legend: int) -> tuple[float, float]:
    return _WIDTH_INCHES, 0.55 + _ROW_INCHES * rows + 0.2 * legend


def _label_seconds(axis: Axis) -> None:
    """Label an axis of seconds in s, ms or µs. A logarithmic one has ticks at powers of ten, or at 1, 2 and 5 times."""
    from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullLocator  # noqa: PLC0415 - optional

    axis.set_major_formatter(EngFormatter("s"))
    if axis.get_scale() == "log":
        low, high = axis.get_view_interval()
        # Where 1, 2 and 5 give fewer than two ticks, the locator spaces them evenly.
        axis.set_major_locator(LogLocator(subs=(1,) if high >= 100 * low else (1, 2, 5)))
        axis.set_minor_locator(NullLocator())
    else:
        axis.set_major_locator(MaxNLocator(5))  # a label such as "400 ms" is wide


def _name_above(axes: Axes, row: int, name: str, value: str) -> None:
    """Write a name above the row's start, and a value above its end; a long name is shortened."""
    name = _shortened(printable(name), _ROW_POINTS - _points_wide(value) - 8)
    for x, text, side in ((0.0, name, "left"), (1.0, value, "right")):
        box = {
            "facecolor": PANEL,
            "edgecolor": "none",
            "pad": 0.6,
        }  # the panel's colour behind the text hides lines there
        axes.text(x, row - 0.34, text, transform=axes.get_yaxis_transform(), ha=side, va="bottom", bbox=box)


def _shortened(text: str, points: float) -> str:
    """Return a text that is at most so wide; its middle is cut out, since names differ at their ends."""
    short = text
    for kept in range(len(text) - 1, 1, -1):
        if _points_wide(short) <= points:
            break
        short = f"{text[: -(-kept // 2)].rstrip()}…{text[len(text) - kept // 2 :].lstrip()}"
    return short


def _points_wide(text: str) -> float:
    from matplotlib.font_manager import FontProperties  # noqa: PLC0415 - optional
    from matplotlib.textpath import TextPath  # noqa: PLC0415

    return float(TextPath((0, 0), text, prop=FontProperties(family=FONT, size=FONT_SIZE)).get_extents().width)


def _rows(axes: Axes, count: int, highest: float) -> None:
    axes.set_xlim(0, highest * 1.02)
    axes.set_ylim(count - 0.55, -0.85)  # the first on top
    axes.set_yticks([])
    axes.spines.left.set_visible(False)
    axes.grid(visible=True, axis="x")


def _spread(places: Sequence[float], gap: float) -> list[float]:
    """Move ascending places apart until no two are nearer than the gap; their mean stays the same."""
    spread: list[float] = []
    for place in places:
        spread.append(max(place, spread[-1] + gap) if spread else place)
    shift = float(np.mean(np.subtract(places, spread)))
    return [place + shift for place in spread]


def _number_points(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    """Write each point's number beside it, away from other numbers and points, with a line to the point."""
    (low, high), (bottom, top) = np.log(axes.get_xlim()), axes.get_ylim()
    width, height = _SCATTER_POINTS
    marks = [
        ((np.log(seconds) - low) / (high - low) * width, (value - bottom) / (top - bottom) * height)
        for seconds, value in points
    ]
    taken = list(marks)
    for number, ((x, y), point) in enumerate(zip(marks, points, strict=True), start=1):
        places = [
            (x + distance * math.cos(turn), y + distance * math.sin(turn))
            for distance in (13.0, 19.0, 26.0, 34.0)
            for turn in np.linspace(np.pi / 2, -1.5 * np.pi, 12, endpoint=False)
        ]
        inside = [(u, v) for u, v in places if 5 <= u <= width - 5 and 6 <= v <= height - 6]
        free = [at for at in inside if min(math.dist(at, other) for other in taken) > _APART_POINTS]
        chosen = (free or inside or places)[0]
        taken.append(chosen)
        axes.annotate(
            str(number),
            point,
            xytext=(chosen[0] - x, chosen[1] - y),
            textcoords="offset points",
            ha="center",
            va="center",
            arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.7, "shrinkA": 1, "shrinkB": 4},
        )
