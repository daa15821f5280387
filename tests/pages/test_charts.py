from __future__ import annotations

import re
import sys
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import trapezoid
from spadeline.engine.errors import DependencyError
from spadeline.engine.evaluate.charts import _thinned, pro_chart, roc_chart
from spadeline.engine.evaluate.metrics import pixel_curves, roc
from spadeline.engine.pages.score_charts import histogram


def noisy_curves(pixels=200):
    rng = np.random.default_rng(3)
    mask = np.zeros((pixels, pixels), bool)
    mask[20:80, 30:90] = mask[100:110, 5:100] = True
    return pixel_curves([mask], [rng.normal(size=mask.shape) + mask])


def charts():
    pixel_roc, pro = noisy_curves()
    image_roc = roc([False, True, False, True], [0.1, 0.2, 0.3, 0.4])
    scores = np.array([1.0, 2.0, 3.0])
    return [
        roc_chart({"one": image_roc, "two": image_roc}, {"θ": (0.5, 1.0), "τ": (0.0, 0.5)}, what="images"),
        roc_chart({"all": pixel_roc}, {}, what="pixels"),
        pro_chart(pro, (0.3, 0.05)),
        histogram(scores, scores + 1, 3.5, what="map maximum", symbol="θ"),
    ]


def test_charts_are_small_and_take_their_colours_from_the_page():
    for svg in charts():
        root = ET.fromstring(svg)  # noqa: S314 - our own text
        assert root.tag.endswith("svg")
        assert root.get("aria-label")
        assert len(svg) < 250_000
        assert "var(--ink)" in svg
        assert "#0" not in svg.replace("url(#", "").replace('href="#', "")
        assert "<g id=" not in svg


def test_charts_say_their_figures():
    image, _, pro, scores = charts()
    assert "one: 0.750" in image
    assert "to 0.05: " in pro
    assert "θ = 3.5" in scores
    assert "abnormal (3)" in scores


def test_a_perfect_curve_has_a_tint_up_to_each_limit():
    """The whole curve except its end is at the false positive rate 0."""
    mask = np.zeros((8, 8), bool)
    mask[2:4, 2:4] = True
    pro = pixel_curves([mask], [mask + np.linspace(0, 0.5, 64).reshape(8, 8) * ~mask])[1]
    svg = pro_chart(pro, (0.3, 0.05))
    tinted = re.findall(r'<use xlink:href="#(\w+)"[^>]*fill-opacity: 0.15', svg)
    assert len(tinted) == 2
    widths = []
    for name in tinted:
        outline = re.search(rf'<path id="{name}" d="([^"]*)"', svg)[1]
        x = [float(pair.split()[0]) for pair in re.findall(r"[-\d.]+ [-\d.]+", outline)]
        widths.append(max(x) - min(x))
    assert widths[0] / widths[1] == pytest.approx(0.3 / 0.05, rel=0.01)


def test_equal_runs_draw_equal_charts():
    assert charts() == charts()


def test_the_process_style_does_not_matter():
    import matplotlib as mpl

    plain = charts()
    with mpl.rc_context({"lines.linewidth": 9, "svg.fonttype": "path", "figure.dpi": 30}):
        assert charts() == plain


@pytest.mark.parametrize("scores", [[2.0, 2.0], [], [0.0, 5e-324], [-1e300, 1e300]])
def test_histograms_of_awkward_scores(scores):
    scores = np.array(scores, dtype=np.float64)
    svg = histogram(scores, scores, 2.0, what="map maximum", symbol="θ")
    assert f"normal ({scores.size})" in svg


def test_a_corner_is_not_cut_off():
    x, y = _thinned(roc([False, True], [1.0, 0.0]), 1.0)  # first along the bottom, then up, so the area is 0
    assert trapezoid(y, x) == 0


@given(seed=st.integers(0, 2**32 - 1), end=st.sampled_from([0.05, 0.3, 1.0]))
@settings(deadline=None, max_examples=30)
def test_thinning_moves_no_point_visibly(seed, end):
    rng = np.random.default_rng(seed)
    labels = rng.random(5000) > 0.3
    curve = roc(labels, rng.normal(size=5000).round(2) + labels)
    x, y = _thinned(curve, end)
    assert x.size < 2100
    assert x[-1] == end
    assert trapezoid(y, x) / end == pytest.approx(curve.area(end), abs=2e-3)


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(DependencyError, match=r"^matplotlib is not installed: pip install 'spadeline\[eval\]'$"):
        charts()
