"""Anomaly maps are compared with scipy and an exact interpolation, regions with scipy's labels, overlays by pixels."""

import math
import time

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from spadeline.engine.errors import InputError
from spadeline.engine.images.resizing import Placement, place
from spadeline.engine.inspect.heatmap import Heatmap, find_regions, ignored_distances
from spadeline.engine.inspect.overlay import overlay
from spadeline.engine.match import reference
from spadeline.engine.result import Region

SAME = Placement(1.0, 1.0, 0.0, 0.0)


def linear_weights(length, target):
    """Return (target, length) weights of the interpolation between pixel centres; edges are held."""
    centre = np.clip((np.arange(target) + 0.5) * length / target - 0.5, 0, length - 1)
    return np.maximum(1 - np.abs(centre[:, None] - np.arange(length)), 0)


def enlarged(distances, size):
    rows, columns = (linear_weights(*sides) for sides in zip(distances.shape, size, strict=True))
    return rows @ distances.astype(np.float64) @ columns.T


def anomaly_map(distances, size, *, sigma, ignore=None):
    return Heatmap(distances.shape, size, sigma=sigma, ignore=ignore).anomaly_map(distances)


# --- anomaly map -----------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 20), st.integers(1, 20), st.integers(1, 8), st.integers(1, 8), st.sampled_from([0, 0.1, 0.5, 4, 17])
)
def test_anomaly_map_is_scipys_on_an_exact_enlargement(height, width, rows, columns, sigma):
    distances = np.random.default_rng(height * 20 + width).random((height, width)) * 30
    size = (height * rows, width * columns)
    expected = enlarged(distances, size)
    if sigma:
        expected = ndimage.gaussian_filter(expected, sigma, mode="reflect", truncate=4.0)
    for dtype in (np.float32, np.float64):
        got = anomaly_map(distances.astype(dtype), size, sigma=sigma)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_a_kernel_far_larger_than_the_map_is_reflected_again_and_again():
    distances = np.random.default_rng(0).random((3, 5)).astype(np.float32)
    got = anomaly_map(distances, (8, 10), sigma=50.0)
    expected = ndimage.gaussian_filter(enlarged(distances, (8, 10)), 50.0, mode="reflect", truncate=4.0)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_the_border_repeats_the_edge_pixel():
    distances = np.zeros((32, 32), np.float32)
    distances[0] = 1
    # Mirrored with the edge repeated, the row weighs twice in itself: here its share is w(0) + w(1).
    weights = np.exp(-0.5 * np.arange(-8, 9) ** 2 / 4)
    weights /= weights.sum()
    assert anomaly_map(distances, (32, 32), sigma=2.0)[0, 16] == pytest.approx(weights[8] + weights[9], rel=1e-5)


def test_the_kernel_reaches_four_sigma():
    distances = np.zeros((41, 41), np.float32)
    distances[20, 20] = 1
    reached = np.flatnonzero(anomaly_map(distances, (41, 41), sigma=2.1)[20])
    assert (reached[0], reached[-1]) == (20 - 8, 20 + 8)  # int(4 * 2.1 + 0.5)


def test_sigma_zero_and_equal_size_change_nothing():
    distances = np.random.default_rng(1).random((7, 9)).astype(np.float32)
    got = anomaly_map(distances, (7, 9), sigma=0.0)
    np.testing.assert_array_equal(got, distances)
    assert got is not distances


def test_strided_distances_are_read_correctly():
    distances = np.random.default_rng(1).random((14, 20))[::-2, ::2]
    np.testing.assert_array_equal(
        anomaly_map(distances, (28, 40), sigma=1.0), anomaly_map(distances.copy(), (28, 40), sigma=1.0)
    )


# --- anomaly map with a mask -----------------------------------------------------------------------------------------


@st.composite
def masked_maps(draw):
    """Draw a distance map as the matcher returns it (0 where ignored), the input's size and the mask."""
    rows, columns = draw(st.integers(1, 14)), draw(st.integers(1, 14))
    size = (rows * draw(st.integers(1, 6)) + draw(st.integers(0, 3)), columns * draw(st.integers(1, 6)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ignore = rng.random(size) < draw(st.sampled_from([0.0, 0.02, 0.7]))
    top, left = (draw(st.integers(0, side - 1)) for side in size)
    ignore[top:, left:] = draw(st.booleans())
    distances = rng.random((rows, columns)) * 10.0 ** draw(st.integers(-6, 6))
    distances[ignored_distances(ignore, (rows, columns))] = 0
    return distances, size, ignore


@settings(deadline=None, max_examples=80)
@given(masked_maps(), st.sampled_from([0, 0.5, 1.5, 4.0]))
def test_a_masked_map_is_the_references(case, sigma):
    distances, size, ignore = case
    got = anomaly_map(distances, size, sigma=sigma, ignore=ignore)
    assert got.dtype == np.float32
    assert not got[ignore].any()
    expected = reference.anomaly_map(distances, size, sigma=sigma, ignore=ignore)
    np.testing.assert_allclose(got, expected, rtol=3e-5)


@settings(deadline=None, max_examples=40)
@given(masked_maps(), st.sampled_from([0, 0.5, 4.0]), st.sampled_from([1e-3, 0.7, 1e3]))
def test_equal_distances_stay_equal_however_they_are_masked(case, sigma, value):
    distances, size, ignore = case
    distances = np.where(ignored_distances(ignore, distances.shape), 0, value)
    got = anomaly_map(distances, size, sigma=sigma, ignore=ignore)
    np.testing.assert_allclose(got, np.where(ignore, 0, value), rtol=1e-5)


def test_a_defect_beside_what_is_ignored_keeps_its_strength():
    distances = np.zeros((16, 16), np.float32)
    distances[6:10, 4:8] = 1
    ignore = np.zeros((64, 64), bool)
    ignore[:, 32:] = True
    beside, alone = (anomaly_map(distances, (64, 64), sigma=4.0, ignore=mask) for mask in (ignore, None))
    # One-sided means at the mask's edge; where nothing is ignored within reach, nothing changes.
    assert beside[32, 31] > 1.6 * alone[32, 31] > 0.5
    assert beside[32, 31] == pytest.approx(beside[:, :32].max(), rel=1e-6)
    np.testing.assert_allclose(beside[:, :14], alone[:, :14], rtol=1e-5)


def test_distances_under_the_mask_change_nothing_outside_of_it():
    rng = np.random.default_rng(3)
    ignore = np.zeros((32, 48), bool)
    ignore[5:20, 7:30] = True
    hidden = ignored_distances(ignore, (8, 12))
    distances = rng.random((8, 12))
    expected = anomaly_map(np.where(hidden, 0, distances), (32, 48), sigma=2.0, ignore=ignore)
    got = anomaly_map(np.where(hidden, 1e6, distances), (32, 48), sigma=2.0, ignore=ignore)
    np.testing.assert_array_equal(got, expected)


def test_a_map_does_not_depend_on_the_frame_before():
    rng = np.random.default_rng(4)
    ignore = np.zeros((32, 48), bool)
    ignore[5:20, 7:30] = True
    heatmap = Heatmap((8, 12), (32, 48), sigma=2.0, ignore=ignore)
    distances = rng.random((8, 12)).astype(np.float32)
    kept = distances.copy()
    first = heatmap.anomaly_map(distances)
    heatmap.anomaly_map(rng.random((8, 12)))
    np.testing.assert_array_equal(heatmap.anomaly_map(distances), first)
    np.testing.assert_array_equal(distances, kept)


@settings(deadline=None, max_examples=30)
@given(masked_maps(), st.sampled_from([0, 0.5, 4.0]))
def test_a_mask_of_nothing_changes_nothing_and_no_mask_is_resize_and_blur(case, sigma):
    distances, size, _ = case
    alone = anomaly_map(distances, size, sigma=sigma)
    plain = cv2.resize(distances.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)
    if sigma:
        side = 2 * int(4 * sigma + 0.5) + 1
        plain = cv2.GaussianBlur(plain, (side, side), sigma, borderType=cv2.BORDER_REFLECT)
    np.testing.assert_allclose(alone, plain, rtol=3e-6)  # OpenCV sums in another order
    masked = anomaly_map(distances, size, sigma=sigma, ignore=np.zeros(size, bool))
    np.testing.assert_allclose(masked, alone, rtol=1e-5)


def test_an_ignored_distance_covers_nothing_that_is_scored():
    ignore = np.ones((8, 12), bool)
    ignore[3, 4] = False
    expected = np.ones((2, 3), bool)
    expected[0, 1] = False
    np.testing.assert_array_equal(ignored_distances(ignore, (2, 3)), expected)
    # Three rows of 8 / 3 pixels each: the pixel in row 5 lies under the second and the third.
    ignore = np.ones((8, 8), bool)
    ignore[5, 0] = False
    np.testing.assert_array_equal(ignored_distances(ignore, (3, 1)), [[True], [False], [False]])
    assert ignored_distances(np.ones((8, 8), bool), (3, 3)).all()


# --- regions ---------------------------------------------------------------------------------------------------------


def regions_by_definition(values, theta):
    labels, count = ndimage.label(values > theta, structure=np.ones((3, 3)))
    found = []
    for label, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        inside = np.where(labels == label, values, -np.inf)
        peak = divmod(int(inside.argmax()), values.shape[1])
        box = (rows.start, columns.start, rows.stop, columns.stop)
        found.append(Region(int((labels == label).sum()), box, peak, float(inside.max())))
    assert len(found) == count
    return tuple(sorted(found, key=lambda region: (-region.score, region.peak)))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 99), st.sampled_from([0.0, 0.4, 0.7, 0.95, 1.0]))
def test_regions_in_a_frame_of_the_maps_size(height, width, seed, theta):
    values = np.random.default_rng(seed).integers(0, 12, (height, width)).astype(np.float32) / 11  # many ties
    mask, regions = find_regions(values, theta, placement=SAME, frame_size=(height, width))
    np.testing.assert_array_equal(mask, values > theta)
    assert mask.dtype == np.bool_
    assert regions == regions_by_definition(values, np.float32(theta))


def test_touching_corners_are_one_region():
    values = np.eye(6, dtype=np.float32)
    (region,) = find_regions(values, 0.5, placement=SAME, frame_size=(6, 6))[1]
    assert region == Region(area=6, box=(0, 0, 6, 6), peak=(0, 0), score=1.0)


def test_no_region_at_theta_itself():
    mask, regions = find_regions(np.full((5, 5), 2, np.float32), 2.0, placement=SAME, frame_size=(5, 5))
    assert regions == ()
    assert not mask.any()


def test_regions_are_plain_python_numbers():
    (region,) = find_regions(np.ones((4, 4), np.float32), 0.5, placement=SAME, frame_size=(4, 4))[1]
    numbers = [region.area, *region.box, *region.peak]
    assert {type(number) for number in numbers} == {int}
    assert type(region.score) is float


def test_boxes_and_peaks_lie_in_the_frames_own_pixels():
    values = np.zeros((224, 224), np.float32)
    values[7:14, 21:28] = 1
    values[10, 24] = 2
    frame = np.zeros((1024, 2048, 3), np.uint8)
    _, placement = place(frame, (224, 224), framing="whole")
    (region,) = find_regions(values, 0.5, placement=placement, frame_size=(1024, 2048))[1]
    assert region.box == (32, 192, 64, 256)  # exact multiples, whichever way 1024 / 224 was rounded
    assert region.peak == (math.floor(10.5 * 1024 / 224), math.floor(24.5 * 2048 / 224))
    assert region.area == 49


def test_the_papers_crop_shifts_regions():
    values = np.zeros((224, 224), np.float32)
    values[0:8, 216:224] = 1
    _, placement = place(np.zeros((512, 1024, 3), np.uint8), (224, 224), framing="paper")
    (region,) = find_regions(values, 0.5, placement=placement, frame_size=(512, 1024))[1]
    # 256 x 512 of which rows 16 to 240 and columns 144 to 368 were seen, at two frame pixels each.
    assert region.box == (32, 720, 48, 736)
    assert region.peak == (33, 721)


@settings(deadline=None, max_examples=60)
@given(st.data(), st.sampled_from([("whole", 8), ("paper", 40)]))
def test_boxes_hold_their_peaks_and_stay_in_the_frame(data, framing_and_shortest):
    framing, shortest = framing_and_shortest
    height, width = data.draw(st.integers(shortest, 300)), data.draw(st.integers(shortest, 300))
    seed = data.draw(st.integers(0, 99))
    values = np.random.default_rng(seed).random((32, 64)).astype(np.float32)
    _, placement = place(np.zeros((height, width, 3), np.uint8), (32, 64), framing=framing)
    mask, regions = find_regions(values, 0.9, placement=placement, frame_size=(height, width))
    assert sum(region.area for region in regions) == mask.sum()
    for region in regions:
        top, left, bottom, right = region.box
        assert 0 <= top <= region.peak[0] < bottom <= height
        assert 0 <= left <= region.peak[1] < right <= width


def test_many_tiny_regions_are_found_fast():
    values = np.zeros((512, 512), np.float32)
    values[::2, ::2] = np.random.default_rng(0).random((256, 256)) + 1
    start = time.perf_counter()
    _, regions = find_regions(values, 0.5, placement=SAME, frame_size=(512, 512))
    assert len(regions) == 65536
    assert time.perf_counter() - start < 10  # a search of the whole map per region takes minutes


# --- overlay ---------------------------------------------------------------------------------------------------------


def gray_frame(height=60, width=80):
    return np.full((height, width, 3), 100, np.uint8)


def test_nothing_is_drawn_below_half_of_theta():
    frame = gray_frame()
    picture = overlay(frame, np.full((30, 40), 0.99, np.float32), 2.0, placement=Placement(2.0, 2.0, 0.0, 0.0))
    np.testing.assert_array_equal(picture, frame)
    assert not np.shares_memory(picture, frame)


def test_the_frame_is_left_untouched():
    frame = gray_frame()
    values = np.zeros((30, 40), np.float32)
    values[10:20, 10:20] = 5
    region = Region(area=100, box=(20, 20, 40, 40), peak=(20, 20), score=5.0)
    picture = overlay(frame, values, 1.0, placement=Placement(2.0, 2.0, 0.0, 0.0), regions=[region])
    np.testing.assert_array_equal(frame, gray_frame())
    assert (picture.shape, picture.dtype) == (frame.shape, np.uint8)
    np.testing.assert_array_equal(picture[20, 20:40], np.tile((255, 0, 0), (20, 1)))
    np.testing.assert_array_equal(picture[39, 20:40], np.tile((255, 0, 0), (20, 1)))
    assert (picture[30, 30] != 100).any()
    np.testing.assert_array_equal(picture[:15], frame[:15])


def test_equal_scores_have_equal_colours_in_any_frame():
    calm, excited = np.zeros((2, 60, 80), np.float32)
    calm[20:30, 20:30] = excited[20:30, 20:30] = 1.4
    excited[45:55, 50:60] = 90
    pictures = [overlay(gray_frame(), values, 1.0, placement=SAME) for values in (calm, excited)]
    np.testing.assert_array_equal(pictures[0][:40, :40], pictures[1][:40, :40])
    assert (pictures[0][25, 25] != 100).any()


def test_colour_begins_between_half_of_theta_and_theta():
    ramp = np.tile(np.linspace(0, 2, 81, dtype=np.float32)[:80], (60, 1))
    picture = overlay(gray_frame(), ramp, 1.0, placement=SAME).astype(int)
    strength = np.abs(picture - 100).max(axis=2)[30]
    assert not strength[:21].any()
    assert strength[24:39].all()
    np.testing.assert_array_equal(picture[30, 41], (255, 255, 255))  # the contour, at the first pixel above theta


def test_what_the_map_does_not_cover_stays_as_it_is():
    frame = np.full((512, 1024, 3), 100, np.uint8)
    _, placement = place(frame, (224, 224), framing="paper")
    picture = overlay(frame, np.full((224, 224), 5, np.float32), 1.0, placement=placement)
    changed = (picture != frame).any(axis=2)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    # The contour is two pixels wide here and may reach one beyond the edge.
    assert (rows[0], rows[-1]) == pytest.approx((32, 479), abs=1)
    assert (columns[0], columns[-1]) == pytest.approx((288, 735), abs=1)


@pytest.mark.parametrize("background", [0, 60, 128, 255])
def test_what_is_ignored_is_dark_and_hatched(background):
    frame = np.full((60, 80, 3), background, np.uint8)
    ignore = np.zeros((30, 40), bool)
    ignore[10:20, 5:25] = True
    values = np.zeros((30, 40), np.float32)
    values[0:5, 0:5] = 3
    values[12:14, 30:32] = 3
    region = Region(area=4, box=(24, 20, 30, 64), peak=(24, 60), score=3.0)
    placement = Placement(2.0, 2.0, 0.0, 0.0)
    plain = overlay(frame, values, 1.0, placement=placement)
    hatched = overlay(frame, values, 1.0, placement=placement, ignore=ignore)
    inside = np.zeros((60, 80), bool)
    inside[20:40, 10:50] = True
    np.testing.assert_array_equal(hatched[~inside], plain[~inside])
    levels, counts = np.unique(hatched[inside], return_counts=True)
    np.testing.assert_array_equal(levels, [background // 2, background // 2 + 64])
    assert counts.min() > 0.4 * counts.sum()
    boxed = overlay(frame, values, 1.0, placement=placement, regions=[region], ignore=ignore)
    np.testing.assert_array_equal(boxed[24, 20:64], np.tile((255, 0, 0), (44, 1)))  # boxes lie on top


def test_the_hatching_follows_the_papers_crop():
    frame = np.full((512, 1024, 3), 100, np.uint8)
    _, placement = place(frame, (224, 224), framing="paper")
    ignore = np.zeros((224, 224), bool)
    ignore[-1] = True
    picture = overlay(frame, np.zeros((224, 224), np.float32), 1.0, placement=placement, ignore=ignore)
    rows, columns = np.nonzero((picture != frame).any(axis=2))
    # Two frame pixels a map pixel, 32 rows above and 288 columns to the left.
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (478, 479, 288, 735)


@pytest.mark.parametrize("theta", [0.0, 1e-38, 1e30])
def test_degenerate_thresholds_draw_all_or_nothing(theta):
    values = np.zeros((60, 80), np.float32)
    values[20:40, 20:40] = 3
    picture = overlay(gray_frame(), values, theta, placement=SAME)
    changed = (picture != 100).any(axis=2)
    assert changed[25:35, 25:35].all() == (theta < 1)
    assert not changed[50:].any()


@pytest.mark.parametrize(
    ("frame", "came"),
    [
        (np.zeros((9, 9, 3), np.float32), "float32 (9, 9, 3)"),
        (np.zeros((9, 9), np.uint8), "uint8 (9, 9)"),
        (np.zeros((9, 9, 4), np.uint8), "uint8 (9, 9, 4)"),
    ],
)
def test_overlay_refuses_other_frames(frame, came):
    with pytest.raises(InputError) as caught:
        overlay(frame, np.zeros((9, 9), np.float32), 1.0, placement=SAME)
    assert str(caught.value) == f"frame_rgb: expected uint8 (h, w, 3), got {came}"
