from __future__ import annotations

import itertools
import math
import re
import sys
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spadeline.engine.errors import DependencyError
from spadeline.engine.pages.speed_charts import (
    _points_wide,
    _spread,
    bar_chart,
    growth_chart,
    knob_chart,
    latency_chart,
    stage_chart,
    tradeoff_chart,
)
from spadeline.engine.units import duration

STAGES = {"map": 0.001, "extract": 0.010, "match": 0.015, "prepare": 0.0005, "retrieve": 0.0004}
FIGURES = {"p50": 0.02, "p95": 0.03, "p99": 0.04, "p99.9": None, "max": 0.05}


def charts():
    return [
        growth_chart({"ours": {5: 0.01, 50: 0.02}, "theirs": {5: 0.1, 50: 1.0}}, label="growth", against="K"),
        stage_chart({"camera frame": STAGES, "prepared": STAGES | {"copy": 0.001}}, label="stages"),
        latency_chart({"ours": FIGURES, "theirs": FIGURES | {"p99": None}}, label="latency", takt_s=0.06),
        latency_chart({"ours": FIGURES, "slow": {key: 100 * (value or 1) for key, value in FIGURES.items()}}, label="latency"),
        bar_chart({"predict": 20.0, "stream": 31.25}, label="throughput", unit="frames a second"),
        knob_chart({"pixel": {"1": 0.9, "none": 0.95}, "image": {"1": 0.91}}, label="knob", knob="window"),
        tradeoff_chart({"ours": (0.02, 0.99), "theirs": (0.2, 0.97)}, label="tradeoff", accuracy="pixel ROCAUC", ours=["ours"]),
    ]  # fmt: skip


def texts(svg):
    return ["".join(text.itertext()) for text in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]  # noqa: S314 - our own


def places(svg):
    """Return each text's place."""
    found = {}
    for text in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text"):  # noqa: S314 - our own
        move = re.search(r"translate\(([-\d.]+) ([-\d.]+)\)", text.get("transform") or "")
        x, y = move.groups() if move else (text.get("x"), text.get("y"))
        found["".join(text.itertext())] = (float(x), float(y))
    return found


def test_charts_take_their_colours_from_the_page_and_have_names():
    for svg in charts():
        root = ET.fromstring(svg)  # noqa: S314 - our own
        assert root.get("role") == "img"
        assert root.get("aria-label")
        assert "var(--" in svg
        assert not re.search(r"#0\d0\d0\d|#1\d1\d1\d|#000000|fill: black", svg)
        assert "<g id=" not in svg


def test_equal_runs_draw_equal_charts():
    assert charts() == charts()


def test_charts_say_their_figures():
    growth, stages, latency, wide, bars, knob, tradeoff = map(texts, charts())
    assert {"ours, slope 0.30", "theirs, slope 1.00", "5", "50", "K"} <= set(growth)
    assert {"prepare", "extract", "camera frame", "26.9 ms", "27.9 ms", "10.0", "15.0"} <= set(stages)
    assert "0.400" not in stages  # no room within the bar
    assert {"p50", "p95", "p99", "max", "takt 60.0 ms", "20.0 ms to 50.0 ms"} <= set(latency)
    assert "p99.9" not in latency
    assert {"p99.9", "2.00 s to 5.00 s"} <= set(wide)
    assert {"predict", "20.0", "31.2", "frames a second"} <= set(bars)
    assert {"pixel 0.950", "image 0.910", "1", "none", "window"} <= set(knob)
    assert {"1 ours", "2 theirs", "1", "2", "pixel ROCAUC", "20 ms", "50 ms", "100 ms", "200 ms"} <= set(tradeoff)


def test_the_growth_legend_is_in_the_order_in_which_lines_end():
    lines = {"low": {1: 0.5, 9: 0.2}, "high": {1: 0.1, 9: 3.0}, "alone": {9: 1.0}}
    said = texts(growth_chart(lines, label="x", against="K"))
    assert said.index("high, slope 1.55") < said.index("alone") < said.index("low, slope -0.42")


def test_a_takt_far_from_all_percentiles_is_in_the_picture():
    svg = latency_chart({"a": FIGURES}, label="x", takt_s=0.0005)
    assert {"takt 0.500 ms", "1 ms"} <= set(texts(svg))  # the axis starts before the takt


def test_stages_of_many_seconds_are_said_in_full():
    assert "2,519" in texts(stage_chart({"a": {"match": 2.519}}, label="x"))


def test_stages_are_drawn_in_a_frames_order():
    svg = stage_chart({"a": STAGES}, label="x")
    order = [svg.index(f"var(--series-{number})") for number in (5, 1, 4, 2, 3)]
    assert order == sorted(order)


def test_numbers_of_points_close_together_do_not_lie_on_each_other():
    points = {f"detector {i}": (0.01 * (1 + i / 1000), 0.99 + i / 1e5) for i in range(5)} | {"far": (1.0, 0.9)}
    found = places(tradeoff_chart(points, label="x", accuracy="y"))
    numbers = [found[str(number)] for number in range(1, 7)]
    assert min(math.dist(a, b) for a, b in itertools.combinations(numbers, 2)) > 9


@pytest.mark.parametrize(
    ("times", "ticks"),
    [
        ({50: 0.0179, 200: 0.0526}, {"20 ms", "50 ms"}),
        ({50: 0.021, 200: 0.028}, {"22 ms", "24 ms"}),
        ({50: 0.0021, 200: 2.5}, {"10 ms", "100 ms", "1 s"}),
        ({50: 0.01, 200: 0.01}, {"1 ms", "10 ms", "100 ms"}),
    ],
)
def test_growth_within_a_decade_has_ticks(times, ticks):
    assert ticks <= set(texts(growth_chart({"pruned": times}, label="x", against="K")))


@pytest.mark.parametrize("seconds", [(0.03, 0.08), (0.03, 0.031), (0.03, 0.03), (1e-4, 20.0)])
def test_a_tradeoff_has_ticks_of_time(seconds):
    first, second = seconds
    svg = tradeoff_chart({"a": (first, 0.99), "b": (second, 0.98)}, label="x", accuracy="y")
    assert sum(bool(re.fullmatch(r"[\d.]+ m?s", text)) for text in texts(svg)) >= 2


def test_ticks_of_latency_keep_apart():
    for slowest in (0.15, 0.8, 4.0, 90.0):
        svg = latency_chart({"a": FIGURES, "b": FIGURES | {"max": slowest}}, label="x")
        ticks = [(x, text) for text, (x, _) in places(svg).items() if re.fullmatch(r"\d+ m?s", text)]
        assert 2 <= len(ticks) <= 7
        gaps = [b - a for (a, _), (b, _) in itertools.pairwise(sorted(ticks))]
        assert min(gaps) > 33  # as wide as "500 ms", in points


def test_a_long_name_leaves_room_for_its_value():
    names = [f"extractor wide_resnet101_2_line{line}_int8, precision int8, input size 1024 × 1224" for line in (3, 4)]
    svg = latency_chart(dict.fromkeys(names, FIGURES) | {"short": FIGURES}, label="x")
    found = texts(svg)
    shortened = [text for text in found if "…" in text]
    assert len(shortened) == 2
    for text in shortened:
        assert text.startswith("extractor wide_res")
        assert text.endswith("1024 × 1224")
        assert _points_wide(text) + _points_wide("20.0 ms to 50.0 ms") < 280
    assert "short" in found


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=12).map(sorted), st.floats(0.01, 10))
def test_spreading_keeps_the_order_the_gap_and_the_middle(values, gap):
    spread = _spread(values, gap)
    assert all(b - a >= gap * (1 - 1e-6) - 1e-9 for a, b in itertools.pairwise(spread))
    assert sum(spread) == pytest.approx(sum(values), abs=1e-6)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0183642, "18.4 ms"),
        (0.12, "120 ms"),
        (0.9999, "1.00 s"),
        (1.0, "1.00 s"),
        (1234.0, "1,234 s"),
        (81.04, "81.0 s"),
        (0.00042, "0.420 ms"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(DependencyError, match=r"^matplotlib is not installed: pip install 'spadeline\[eval\]'$"):
        charts()
