"""The definition itself, on numbers that can be worked out by hand or in a loop over pixels."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spadeline.engine.match import reference

FINE = np.array([[[0.0, 1.0], [2.0, 3.0]]])  # (1, 2, 2)
COARSE = np.array([[[10.0]], [[20.0]]])  # (2, 1, 1)


def test_a_weight_multiplies_its_levels_squared_distance():
    gallery = [FINE[None] + 4.0, COARSE[None] + 1.0]
    distances, neighbours = reference.match([FINE, COARSE], gallery, [0], weights=(2.0, 0.25))
    # 3 against 4, 5, 6, 7 and so on: the nearest is always 4; the coarse level adds 0.25 * (1 + 1).
    np.testing.assert_array_equal(distances, [[32.5, 18.5], [8.5, 2.5]])
    assert (neighbours == 0).all()


def test_weights_can_change_who_is_nearest():
    query = [np.zeros((1, 2, 2)), np.zeros((1, 1, 1))]
    gallery = [np.zeros((2, 1, 2, 2)), np.zeros((2, 1, 1, 1))]
    gallery[0][0], gallery[1][1] = 2.0, 3.0  # image 0 differs in the fine level, image 1 in the coarse one
    for weights, nearest, distance in ((None, 0, 4.0), ((1.0, 1.0), 0, 4.0), ((5.0, 2.0), 1, 18.0)):
        distances, neighbours = reference.match(query, gallery, [0, 1], weights=weights)
        assert (neighbours[..., 0] == nearest).all()
        np.testing.assert_array_equal(distances, distance)


@pytest.mark.parametrize("upsampling", ["nearest", "bilinear"])
def test_weights_are_roots_on_the_features(upsampling):
    rng = np.random.default_rng(0)
    query = [rng.standard_normal((3, 5, 4)), rng.standard_normal((4, 3, 2))]
    gallery = [rng.standard_normal((2, *level.shape)) for level in query]
    options = {"kappa": 3, "window": 1, "upsampling": upsampling}
    scaled = [[level * root for level, root in zip(levels, (0.5, 3.0), strict=True)] for levels in (query, gallery)]
    expected, expected_neighbours = reference.match(*scaled, [0, 1], **options)
    distances, neighbours = reference.match(query, gallery, [0, 1], weights=(0.25, 9.0), **options)
    np.testing.assert_allclose(distances, expected, rtol=1e-13)
    np.testing.assert_array_equal(neighbours, expected_neighbours)


def test_what_is_ignored_has_no_distance_and_no_neighbours():
    rng = np.random.default_rng(1)
    query, gallery = [rng.standard_normal((2, 4, 5))], [rng.standard_normal((3, 2, 4, 5))]
    ignore = rng.random((4, 5)) < 0.4
    everywhere, all_neighbours = reference.match(query, gallery, [2, 0], kappa=2)
    distances, neighbours = reference.match(query, gallery, [2, 0], kappa=2, ignore=ignore)
    np.testing.assert_array_equal(distances, np.where(ignore, 0, everywhere))
    np.testing.assert_array_equal(neighbours, np.where(ignore[..., None, None], -1, all_neighbours))
    assert 0 < ignore.sum() < ignore.size


def weighted_means(distances, size, sigma, ignore):
    """The anomaly map of a mask, pixel by pixel: a weighted mean of weighted means."""
    (rows, columns), (height, width) = distances.shape, size
    under = np.zeros((rows, columns), bool)
    for y, x in np.argwhere(~ignore):
        for row in range(y * rows // height, -(-(y + 1) * rows // height)):
            for column in range(x * columns // width, -(-(x + 1) * columns // width)):
                under[row, column] = True

    def linear(at, length):
        at = min(max(at, 0), length - 1)
        low = math.floor(at)
        return [(low, 1 - (at - low)), (min(low + 1, length - 1), at - low)]

    enlarged = np.zeros(size)
    for y, x in np.argwhere(~ignore):
        parts = [
            (distances[row, column], down * right * under[row, column])
            for row, down in linear((y + 0.5) * rows / height - 0.5, rows)
            for column, right in linear((x + 0.5) * columns / width - 0.5, columns)
        ]
        enlarged[y, x] = sum(value * weight for value, weight in parts) / sum(weight for _, weight in parts)
    reach = int(4 * sigma + 0.5)
    smooth = np.zeros(size)
    for y, x in np.argwhere(~ignore):
        total = weights = 0.0
        for down in range(-reach, reach + 1):
            for right in range(-reach, reach + 1):
                row, column = mirrored(y + down, height), mirrored(x + right, width)
                weight = math.exp(-(down**2 + right**2) / (2 * sigma**2)) if sigma else 1.0
                total += weight * enlarged[row, column] * (not ignore[row, column])
                weights += weight * (not ignore[row, column])
        smooth[y, x] = total / weights
    return smooth


def mirrored(index, length):
    index %= 2 * length
    return min(index, 2 * length - 1 - index)


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_an_anomaly_map_with_a_mask_is_a_weighted_mean(data):
    size = data.draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    rows, columns = (data.draw(st.integers(1, side)) for side in size)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    ignore = rng.random(size) < data.draw(st.sampled_from([0.0, 0.3, 0.8]))
    if data.draw(st.booleans()):
        ignore[: size[0] // 2] = True
    distances, sigma = rng.random((rows, columns)), data.draw(st.sampled_from([0.0, 0.6, 1.5]))
    got = reference.anomaly_map(distances, size, sigma=sigma, ignore=ignore)
    np.testing.assert_allclose(got, weighted_means(distances, size, sigma, ignore), rtol=1e-9, atol=1e-15)


def test_a_mask_of_nothing_changes_nothing():
    distances = np.random.default_rng(2).random((5, 7))
    expected = reference.anomaly_map(distances, (20, 28), sigma=2.0)
    got = reference.anomaly_map(distances, (20, 28), sigma=2.0, ignore=np.zeros((20, 28), bool))
    np.testing.assert_allclose(got, expected, rtol=1e-12)
