"""Placement of frames and masks, with a float64 area average, exact fractions and torchvision as oracles."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from spadeline.engine.errors import InputError
from spadeline.engine.images.resizing import FrameResizer, Placement, any_under, as_rgb, place

from .drawn import pixels


def area_weights(length, target):
    """Return (target, length) weights: each output is the average of the input that it covers."""
    edges = np.arange(target + 1) * length / target
    pixel = np.arange(length)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return np.maximum(overlap, 0) * target / length


def linear_weights(length, target):
    """Return (target, length) weights: interpolation between pixel centres, constant beyond the outermost ones."""
    centre = np.clip((np.arange(target) + 0.5) * length / target - 0.5, 0, length - 1)
    return np.maximum(1 - np.abs(centre[:, None] - np.arange(length)), 0)


def exactly_resized(frame, rows, columns):
    by_row = (area_weights if rows <= frame.shape[0] else linear_weights)(frame.shape[0], rows)
    by_column = (area_weights if columns <= frame.shape[1] else linear_weights)(frame.shape[1], columns)
    return np.moveaxis(by_row @ np.moveaxis(frame, 2, 0).astype(np.float64) @ by_column.T, 0, 2)


@settings(deadline=None, max_examples=150)
@given(
    st.integers(8, 300), st.integers(8, 300), st.integers(1, 3), st.integers(1, 3), st.sampled_from(["whole", "paper"]),
    st.integers(0, 9),
)  # fmt: skip
def test_gray_resized_alone_is_gray_resized_as_colour_bit_by_bit(height, width, rows, columns, framing, seed):
    gray = pixels(height, width, seed=seed)
    if min(height * columns, width * rows) * 8 < max(height * columns, width * rows):
        framing = "whole"  # the paper's framing has a limit
    assert_prepared(gray, (32 * rows, 32 * columns), framing=framing)
    assert_prepared(gray[..., None], (32 * rows, 32 * columns), framing=framing, color="gray")


@pytest.mark.parametrize(
    "shape", [(2048, 2448), (448, 448), (448, 224), (896, 672), (1080, 1920), (224, 224), (100, 900)]
)
def test_camera_frames_are_prepared_as_they_are_placed(shape):
    for frame, color in (
        (pixels(*shape), "auto"),
        (pixels(*shape)[::-1, ::-1], "gray"),
        (pixels(*shape, 3), "auto"),
        (pixels(*shape, 3)[:, ::-1], "bgr"),
        (pixels(*shape, 4), "bgra"),
    ):
        assert_prepared(frame, (224, 224), framing="whole", color=color)
        assert_prepared(frame, (224, 224), framing="paper", color=color)


def assert_prepared(frame, size, *, framing, color="auto"):
    image, placement = FrameResizer(size, framing=framing, threads=1).prepare(frame, color=color)
    expected, expected_placement = place(as_rgb(frame, color=color), size, framing=framing)
    np.testing.assert_array_equal(image, expected, strict=True)
    assert image.flags.c_contiguous
    assert placement == expected_placement


@settings(deadline=None, max_examples=60)
@given(st.integers(8, 200), st.integers(8, 200), st.integers(1, 3), st.integers(1, 3), st.integers(0, 9))
def test_resizing_is_an_exact_area_average(height, width, rows, columns, seed):
    frame, size = pixels(height, width, 3, seed=seed), (32 * rows, 32 * columns)
    resized, _ = place(frame, size, framing="whole")
    assert resized.shape == (*size, 3)
    shrinks = height >= size[0] and width >= size[1]
    error = np.abs(resized - exactly_resized(frame, *size)).max()
    # One rounding is 0.5. A side that grows has 11-bit weights. If the other side shrinks, there is a second rounding.
    assert error <= (0.501 if shrinks else 1.6), f"largest error {error} for {height} x {width} to {size}"


def test_a_fine_pattern_is_averaged_in_the_side_that_shrinks_even_if_the_other_grows():
    stripes = np.zeros((100, 300, 3), np.uint8)
    stripes[:, ::2] = 200
    resized, _ = place(stripes, (224, 150), framing="whole")
    np.testing.assert_array_equal(resized, np.full((224, 150, 3), 100))


def test_a_frame_of_the_input_size_stays_as_it_is():
    frame = pixels(64, 96, 3)
    placed, placement = place(frame, (64, 96), framing="whole")
    np.testing.assert_array_equal(placed, frame)
    assert placement == Placement(1.0, 1.0, 0.0, 0.0)


@pytest.mark.parametrize("shape", [(256, 256), (300, 500), (501, 300), (1024, 1023), (97, 60), (64, 200)])
def test_the_papers_framing_is_torchvisions_resize_and_crop(shape):
    transforms = pytest.importorskip("torchvision.transforms")
    smooth = np.add.outer(np.arange(shape[0]) * 120 / shape[0], np.arange(shape[1]) * 120 / shape[1])
    frame = np.repeat(smooth.astype(np.uint8)[..., None], 3, axis=2)
    both = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
    expected = np.asarray(both(Image.fromarray(frame)), np.int64)
    placed, _ = place(frame, (224, 224), framing="paper")
    assert placed.flags.c_contiguous
    # Both have the same crop of the same size. Their kernels differ (area and triangle). A shift by a pixel changes this
    # ramp by up to 120 / 256 per side and adds no noise, so the mean shows it.
    assert np.abs(placed - expected).max() <= 3
    assert abs((placed - expected).mean()) < 0.2


def test_the_papers_framing_keeps_the_shape_for_inputs_that_are_not_square():
    frame = pixels(600, 800, 3)
    placed, placement = place(frame, (224, 448), framing="paper")
    assert placed.shape == (224, 448, 3)
    # 448 * 8 / 7 = 512 columns for 800, so 384 rows for 600, of which 80 above and 32 on the left are cut off.
    assert placement == Placement(600 / 384, 800 / 512, 80 * 600 / 384, 32 * 800 / 512)
    np.testing.assert_allclose(placed, exactly_resized(frame, 384, 512)[80:304, 32:480], atol=0.501)


@pytest.mark.parametrize("shape", [(8, 129), (129, 8)])
def test_the_papers_framing_refuses_long_thin_frames(shape):
    with pytest.raises(InputError) as caught:
        place(pixels(*shape, 3), (64, 64), framing="paper")
    expected = "an aspect ratio within 16 times that of the input's 64 x 64 for framing 'paper'"
    assert str(caught.value) == f"frame: expected {expected}, got {shape[0]} x {shape[1]}"
    assert place(pixels(*shape, 3), (64, 64), framing="whole")[0].shape == (64, 64, 3)


def test_an_unknown_framing_is_refused():
    with pytest.raises(InputError) as caught:
        place(pixels(9, 9, 3), (64, 64), framing="crop")
    assert str(caught.value) == "framing: expected one of whole, paper, got 'crop'"


@settings(deadline=None)
@given(
    st.floats(0.1, 50), st.floats(0.1, 50), st.floats(0, 100), st.floats(0, 100), st.floats(-5, 500), st.floats(-5, 500)
)
def test_placement_goes_there_and_back(scale_y, scale_x, top, left, y, x):
    placement = Placement(scale_y, scale_x, top, left)
    assert placement.to_input(*placement.to_frame(y, x)) == pytest.approx((y, x), abs=1e-9)


@pytest.mark.parametrize("framing", ["whole", "paper"])
@pytest.mark.parametrize("shape", [(480, 640), (100, 80), (1000, 300)])
def test_a_spot_is_found_again_where_the_placement_says(framing, shape):
    frame = Image.new("RGB", shape[::-1])
    y, x = shape[0] * 0.45, shape[1] * 0.6
    radius = min(shape) / 20
    ImageDraw.Draw(frame).ellipse((x - radius, y - radius, x + radius, y + radius), fill="white")
    bright = np.asarray(frame)[..., 0].astype(np.float64)
    placed, placement = place(np.asarray(frame), (96, 128), framing=framing)
    weights = placed[..., 0].astype(np.float64)

    def centroid(image):
        return tuple((image.sum(axis=1 - axis) @ np.arange(image.shape[axis])) / image.sum() for axis in (0, 1))

    found = placement.to_frame(*centroid(weights))
    tolerance = 0.1 * max(placement.scale_y, placement.scale_x)
    assert found == pytest.approx(centroid(bright), abs=tolerance)
    assert placement.to_input(*centroid(bright)) == pytest.approx(centroid(weights), abs=0.1)


# --- masks ---------------------------------------------------------------------------------------------------------


def any_under_exactly(mask, size, framing):
    """Return the expected mask, from the edges of each input pixel as fractions of frame pixels."""
    if framing == "whole":
        resized, before = size, (0, 0)
    else:
        _, placement = place(np.zeros((*mask.shape, 3), np.uint8), size, framing=framing)
        scales, corner = (placement.scale_y, placement.scale_x), (placement.top, placement.left)
        resized = tuple(round(side / scale) for side, scale in zip(mask.shape, scales, strict=True))
        before = tuple(round(edge / scale) for edge, scale in zip(corner, scales, strict=True))
    covered = np.zeros(size, bool)
    for pixel in np.ndindex(size):
        edges = [
            (Fraction((i + first) * side, whole), Fraction((i + first + 1) * side, whole))
            for i, first, side, whole in zip(pixel, before, mask.shape, resized, strict=True)
        ]
        rows, columns = (range(int(begin // 1), int(-(-end // 1))) for begin, end in edges)
        covered[pixel] = mask[rows.start : rows.stop, columns.start : columns.stop].any()
    return covered


@settings(deadline=None, max_examples=80)
@given(
    st.tuples(st.integers(12, 50), st.integers(12, 50)),
    st.tuples(st.integers(12, 40), st.integers(12, 40)),
    st.sampled_from(["whole", "paper"]),
    st.sampled_from([0.005, 0.1, 0.9]),
    st.integers(0, 2**32 - 1),
)
def test_a_pixel_is_marked_if_any_part_of_it_is(frame_size, size, framing, share, seed):
    mask = np.random.default_rng(seed).random(frame_size) < share
    _, placement = place(np.zeros((*frame_size, 3), np.uint8), size, framing=framing)
    placed = any_under(mask, size, placement)
    assert (placed.shape, placed.dtype) == (size, np.bool_)
    np.testing.assert_array_equal(placed, any_under_exactly(mask, size, framing))


def test_edges_on_whole_pixels_do_not_spill_over():
    mask = np.zeros((1024, 2048), bool)
    mask[512:, 1024:] = True
    _, placement = place(np.zeros((1024, 2048, 3), np.uint8), (224, 224), framing="whole")
    expected = np.zeros((224, 224), bool)
    expected[112:, 112:] = True
    np.testing.assert_array_equal(any_under(mask, (224, 224), placement), expected)


def test_edges_that_rounding_pushes_off_whole_pixels_do_not_spill_over():
    assert 54 * (112 / 96) > 63  # just above an exact 63
    mask = np.zeros((112, 112), bool)
    mask[63] = True
    placed = any_under(mask, (96, 96), Placement(112 / 96, 112 / 96, 0.0, 0.0))
    np.testing.assert_array_equal(np.flatnonzero(placed.any(axis=1)), [54])


def test_one_pixel_of_sixteen_megapixels_is_not_lost():
    mask = np.zeros((4000, 4000), bool)
    mask[-1, -1] = True
    placed = any_under(mask, (32, 32), Placement(125.0, 125.0, 0.0, 0.0))
    np.testing.assert_array_equal(np.argwhere(placed), [[31, 31]])
    assert any_under(~mask, (32, 32), Placement(125.0, 125.0, 0.0, 0.0)).all()
