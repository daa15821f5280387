from __future__ import annotations

import doctest
import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from spadeline.engine.errors import InputError
from spadeline.engine.evaluate import metrics
from spadeline.engine.evaluate.metrics import (
    Confusion,
    Curve,
    confusion,
    f1_max_tuned_on_test_labels,
    pixel_curves,
    roc,
)

few_scores = st.integers(0, 5).map(float)  # few distinct values, so that ties are the rule


@st.composite
def labelled_scores(draw):
    n = draw(st.integers(2, 40))
    labels = draw(hnp.arrays(bool, n).filter(lambda a: a.any() and not a.all()))
    exact = st.floats(-1e6, 1e6, width=32)
    scores = draw(hnp.arrays(np.float32, n, elements=draw(st.sampled_from([few_scores, exact]))))
    return labels, scores


@st.composite
def images(draw):
    shapes = draw(st.lists(st.tuples(st.integers(1, 7), st.integers(1, 7)), min_size=1, max_size=3))
    masks = [draw(hnp.arrays(bool, shape)) for shape in shapes]
    maps = [draw(hnp.arrays(np.float32, shape, elements=few_scores)) for shape in shapes]
    return masks, maps


def brute_force_area(x_of, y_of, thresholds, limit):
    """Compute the area by the definition: trapezoids between all distinct thresholds, the last one cut at the limit."""
    points = [(0.0, 0.0)] + [(x_of(t), y_of(t)) for t in sorted(thresholds, reverse=True)]
    total = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 >= limit:
            break
        end = min(x1, limit)
        if x1 > x0:
            total += (end - x0) * (y0 + (y0 + (y1 - y0) * (end - x0) / (x1 - x0))) / 2
    return total / limit


def brute_force_aupro(masks, maps, limit):
    regions = []
    for mask, scores in zip(masks, maps, strict=True):
        numbers, count = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [scores[numbers == number] for number in range(1, count + 1)]
    normal = np.concatenate([scores[~mask] for mask, scores in zip(masks, maps, strict=True)])
    return brute_force_area(
        lambda t: np.mean(normal >= t),
        lambda t: np.mean([np.mean(region >= t) for region in regions]),
        np.unique(np.concatenate([scores.ravel() for scores in maps])),
        limit,
    )


@given(labelled_scores())
@settings(deadline=None)
def test_rocauc_counts_pairs(sample):
    labels, scores = sample
    high, low = scores[labels][:, None], scores[~labels][None]
    assert roc(labels, scores).area() == pytest.approx(np.mean((high > low) + 0.5 * (high == low)), abs=1e-12)


@given(labelled_scores())
@settings(deadline=None, max_examples=25)
def test_rocauc_agrees_with_sklearn(sample):
    from sklearn.metrics import roc_auc_score

    assert roc(*sample).area() == pytest.approx(roc_auc_score(*sample), abs=1e-12)


@given(images(), st.sampled_from([0.05, 0.3, 0.5, 1.0]))
@settings(deadline=None)
def test_aupro_agrees_with_its_definition(sample, limit):
    masks, maps = sample
    anomalous = np.concatenate([mask.ravel() for mask in masks])
    if anomalous.all() or not anomalous.any():
        with pytest.raises(InputError, match="masks: expected normal and anomalous pixels, got no"):
            pixel_curves(masks, maps)
        return
    pixel_roc, pro = pixel_curves(masks, maps)
    assert pro.area(limit) == pytest.approx(brute_force_aupro(masks, maps, limit), abs=1e-12)
    pooled = roc(anomalous, np.concatenate([scores.ravel() for scores in maps]))
    assert pixel_roc.area(limit) == pytest.approx(pooled.area(limit), abs=1e-12)
    for curve in (pixel_roc, pro):
        assert np.all(np.diff(curve.false_positive_rate) >= 0)
        assert np.all(np.diff(curve.detection_rate) >= -1e-12)
        assert curve.detection_rate[-1] == curve.false_positive_rate[-1] == 1


def test_area_is_cut_by_linear_interpolation_at_the_limit():
    slanted = Curve(false_positive_rate=np.array([0.0, 0.2, 1.0]), detection_rate=np.array([0.0, 0.8, 1.0]))
    assert slanted.area(0.1) == pytest.approx(0.2)
    assert slanted.area(0.6) == pytest.approx((0.2 * 0.4 + 0.4 * 0.85) / 0.6)


@pytest.mark.parametrize("limit", [0.0, -0.1, 1.5, float("nan")])
def test_area_refuses_a_limit_that_is_no_rate(limit):
    curve = roc([False, True], [0.0, 1.0])
    with pytest.raises(InputError, match=r"limit: expected a false positive rate in \(0, 1\], got "):
        curve.area(limit)


def test_equal_scores_everywhere_are_chance():
    assert roc([True, False, False], [7, 7, 7]).area() == 0.5
    mask = np.eye(4, dtype=bool)
    _, pro = pixel_curves([mask], [np.zeros((4, 4))])
    assert pro.area() == pytest.approx(0.5)
    assert pro.area(0.3) == pytest.approx(0.15)


def test_perfect_and_inverted_rankings():
    assert roc([False, False, True], [0, 1, 2]).area() == 1
    assert roc([False, False, True], [1, 2, 0]).area() == 0


def test_pixels_that_touch_at_a_corner_are_one_region():
    mask = np.zeros((3, 8), bool)
    mask[0, 0] = mask[1, 1] = True  # one region by 8-connectivity, half of it found
    mask[:, 6:] = True  # the other, all of it found
    scores = np.where(mask, 2.0, 1.0)
    scores[1, 1] = 0.0
    _, pro = pixel_curves([mask], [scores])
    assert pro.area(0.5) == pytest.approx((0.5 + 1) / 2)


def test_regions_that_have_numbers_are_taken_as_they_are():
    regions = np.zeros((3, 8), np.int32)
    regions[0, 0] = regions[2, 4] = 7  # one region, though its pixels are far apart; half of it found
    regions[:, 6] = 2  # two that touch: one is found, one isn't
    regions[:, 7] = 3
    scores = np.where(regions > 0, 2.0, 1.0)
    scores[2, 4] = 0.0
    scores[:, 7] = 0.0
    _, pro = pixel_curves([regions], [scores])
    assert pro.area(0.5) == pytest.approx((0.5 + 1 + 0) / 3)


def test_small_regions_weigh_as_much_as_large_ones():
    mask = np.zeros((20, 20), bool)
    mask[:10, :10] = True
    mask[15, 15] = True
    scores = np.where(mask, 2.0, 1.0)
    scores[15, 15] = 0.0
    pixel_roc, pro = pixel_curves([mask], [scores])
    assert pro.area(0.3) == pytest.approx(0.5)
    assert pixel_roc.area(0.3) == pytest.approx(100 / 101)


def test_ten_images_take_well_under_a_second():
    rng = np.random.default_rng(5)
    maps = list(rng.random((10, 256, 256), dtype=np.float32))
    masks = list(rng.random((10, 256, 256)) > 0.9)
    start = time.perf_counter()
    pixel_curves(masks, maps)
    assert time.perf_counter() - start < 1


@given(st.data(), st.tuples(st.integers(1, 7), st.integers(1, 7)))
@settings(deadline=None)
def test_ignored_pixels_do_not_count(data, shape):
    ignore = data.draw(hnp.arrays(bool, shape))
    masks = [data.draw(hnp.arrays(bool, shape)) for _ in range(2)]
    maps = [data.draw(hnp.arrays(np.float32, shape, elements=few_scores)) for _ in range(2)]
    normal, regions = [], []
    for mask, scores in zip(masks, maps, strict=True):
        numbers, count = ndimage.label(mask, structure=np.ones((3, 3)))
        kept = (scores[(numbers == number) & ~ignore] for number in range(1, count + 1))
        regions += [region for region in kept if region.size]
        normal.append(scores[~mask & ~ignore])
    normal = np.concatenate(normal)
    if not regions or not normal.size:
        with pytest.raises(InputError, match="masks: expected normal and anomalous pixels, got no"):
            pixel_curves(masks, maps, ignore=ignore)
        return
    pixel_roc, pro = pixel_curves(masks, maps, ignore=ignore)
    found = np.concatenate(regions)
    thresholds = np.unique(np.concatenate([normal, found]))
    false_positives = lambda t: np.mean(normal >= t)  # noqa: E731
    expected = brute_force_area(false_positives, lambda t: np.mean([np.mean(r >= t) for r in regions]), thresholds, 0.3)
    assert pro.area(0.3) == pytest.approx(expected, abs=1e-12)
    expected = brute_force_area(false_positives, lambda t: np.mean(found >= t), thresholds, 1.0)
    assert pixel_roc.area() == pytest.approx(expected, abs=1e-12)


def test_a_region_cut_in_two_by_what_is_ignored_stays_one():
    mask, ignore = np.zeros((3, 9), bool), np.zeros((3, 9), bool)
    mask[0, :5] = mask[2, 8] = True
    ignore[:, 2] = True
    scores = np.where(mask, 2.0, 1.0)
    scores[0, 3:5] = 0.0  # half of the first region's four pixels that count
    assert pixel_curves([mask], [scores], ignore=ignore)[1].area(0.3) == pytest.approx((0.5 + 1) / 2)


@pytest.mark.parametrize(
    ("labels", "scores", "text"),
    [
        ([True, True], [0.0, 1.0], "labels: expected samples of both classes, got 0 normal and 2 anomalous"),
        ([False], [1.0], "labels: expected samples of both classes, got 1 normal and 0 anomalous"),
        ([], [], "labels: expected samples of both classes, got 0 normal and 0 anomalous"),
        ([True, False], [0.0, np.nan], "scores: expected finite scores, got NaN or infinity"),
        ([True, False], [0.0, np.inf], "scores: expected finite scores, got NaN or infinity"),
        ([True], [0.0, 1.0], r"labels: expected the shape of scores \(2,\), got \(1,\)"),
        ([[True, False]], [[0.0, 1.0]], r"scores: expected 1 dimension\(s\), got shape \(1, 2\)"),
    ],
)
@pytest.mark.parametrize("figure", [roc, f1_max_tuned_on_test_labels])
def test_input_that_defines_no_figure_is_an_error_with_the_reason(figure, labels, scores, text):
    with pytest.raises(InputError, match=text):
        figure(labels, scores)


def test_pixel_curves_name_the_image_that_does_not_fit():
    good, bad = np.zeros((4, 4)), np.zeros((4, 5))
    with pytest.raises(InputError, match=r"masks\[1\]: expected the shape of maps\[1\] \(4, 5\), got \(4, 4\)"):
        pixel_curves([good, good], [good, bad])
    with pytest.raises(InputError, match=r"maps\[0\]: expected finite scores, got NaN or infinity"):
        pixel_curves([good], [np.full((4, 4), np.nan)])
    with pytest.raises(InputError, match=r"masks: expected one per anomaly map \(2\), got 1"):
        pixel_curves([good], [good, good])
    with pytest.raises(InputError, match="masks: expected normal and anomalous pixels, got no anomalous one"):
        pixel_curves([], [])
    with pytest.raises(InputError, match=r"ignore: expected the shape of maps\[1\] \(4, 5\), got \(4, 4\)"):
        pixel_curves([good, bad], [good, bad], ignore=good > 0)
    with pytest.raises(InputError, match="masks: expected normal and anomalous pixels, got no normal one"):
        pixel_curves([good == 0], [good])


def test_confusion_counts_all_four():
    labels = [True, True, True, False, False, False, False]
    flagged = [True, True, False, True, False, False, False]
    counts = confusion(labels, flagged)
    assert counts == Confusion(true_positives=2, false_positives=1, true_negatives=3, false_negatives=1)
    assert counts.f1 == pytest.approx(2 / 3)
    assert confusion([False], [False]).f1 is None
    with pytest.raises(InputError, match=r"flagged: expected one per label \(1,\), got \(2,\)"):
        confusion([True], [True, False])


@given(labelled_scores())
@settings(deadline=None)
def test_f1_max_is_the_best_of_all_thresholds_and_reached_at_its_own(sample):
    labels, scores = sample
    best = f1_max_tuned_on_test_labels(labels, scores)
    by_hand = [confusion(labels, scores >= threshold).f1 for threshold in scores]
    assert best.f1 == pytest.approx(max(by_hand))
    assert confusion(labels, scores > best.threshold).f1 == pytest.approx(best.f1)


def test_documented_example_runs():
    assert doctest.testmod(metrics) == (0, 1)
