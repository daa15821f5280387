"""What int8 costs: the figures, and their bounds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from spadeline.engine.errors import ExportError
from spadeline.engine.folders.listing import list_images

from .conftest import QUANTIZING

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("torch")

from spadeline.export.cost import Cost, _score_shift, measure_cost

pytestmark = QUANTIZING


def test_a_loss_of_rocauc_beyond_its_bound():
    cost = Cost(
        3, map_correlation=0.99, worst_image=Path("7.png"), score_shift=0.1, rocauc={"pixel_rocauc": (0.98, 0.95)}
    )
    cost.check(least_correlation=0.99, most_rocauc_loss=0.031)
    text = r"int8: expected a loss of pixel_rocauc of at most 0.02, got 0.0300: 0.9800 at float32, 0.9500 at int8"
    with pytest.raises(ExportError, match=text):
        cost.check(least_correlation=0.9, most_rocauc_loss=0.02)
    undefined = Cost(3, map_correlation=float("nan"), worst_image=Path("7.png"), score_shift=0.1, rocauc={})
    with pytest.raises(ExportError, match=r"got nan on the worst of 3 normal images, 7\.png"):
        undefined.check(least_correlation=-1, most_rocauc_loss=0)


def test_images_that_are_the_same_move_no_score(float32, parts):
    """Their maxima have a standard deviation of 0; a figure that isn't finite couldn't be written as JSON."""
    paths = list_images(parts / "train" / "good")
    cost = measure_cost(float32, float32, gallery=paths[:6], held_out=[paths[8]] * 4, framing="whole", labelled=None)
    assert (cost.score_shift, cost.map_correlation) == (0, pytest.approx(1))


def test_a_shift_is_in_standard_deviations_and_of_four_images_or_more():
    scores = np.array([[0.0, 2, 0, 2], [0, 4, 4, 0]])  # both standardise to -1 and 1
    assert _score_shift(scores) == 2
    assert _score_shift(scores[:, :3]) is None


def test_a_map_without_deviation_is_the_worst(float32, parts, monkeypatch):
    """Its correlation is NaN, which min() finds only if it comes first."""
    paths = list_images(parts / "train" / "good")
    correlations = iter([0.99, float("nan"), 0.98])
    monkeypatch.setattr("numpy.corrcoef", lambda *_: np.full((2, 2), next(correlations)))
    cost = measure_cost(float32, float32, gallery=paths[:2], held_out=paths[2:5], framing="whole", labelled=None)
    assert np.isnan(cost.map_correlation)
    assert cost.worst_image == paths[3]
