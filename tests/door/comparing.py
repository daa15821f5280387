"""What "the same verdict" means: every part of a result of the library that must equal Python's."""

import numpy as np


def assert_same(got, expected):
    """Everything is equal, bit by bit: for results that are exact in everything."""
    assert_same_label(got, expected)
    assert_same_mask(got, expected)
    assert (got.pred_score, got.map_score) == (expected.pred_score, expected.map_score)
    np.testing.assert_array_equal(got.anomaly_map, expected.anomaly_map, strict=True)
    np.testing.assert_array_equal(got.lower_map, expected.lower_map, strict=True)
    np.testing.assert_array_equal(got.neighbours, expected.neighbours, strict=True)
    assert got.regions == [(region.area, region.box, region.peak, region.score) for region in expected.regions]


def assert_same_mask(got, expected):
    """The mask, the regions' boxes and areas, and the reasons are equal."""
    np.testing.assert_array_equal(got.pred_mask, expected.pred_mask, strict=True)
    boxes = sorted((area, box) for area, box, _, _ in got.regions)
    assert boxes == sorted((region.area, region.box) for region in expected.regions)
    assert got.reasons == expected.reasons


def assert_same_label(got, expected):
    """The label, and what is always exact, are equal."""
    assert (got.pred_label, got.need, got.decided) == (expected.pred_label, expected.need, expected.decided)
    assert got.image_score == expected.image_score
    np.testing.assert_array_equal(got.nearest_images, expected.nearest_images, strict=True)
