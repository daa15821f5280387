"""Masks that programs, cameras and resampling have changed are read as the mask that was drawn."""

import io
import warnings

import cv2
import numpy as np
import pytest
from PIL import Image
from spadeline.engine.images.masks import marked
from spadeline.engine.images.reading import read_mask

from ..conftest import SHARED


def meant(height=120, width=160):
    """Return a mask of three regions: two compact ones and a line of 3 pixels."""
    mask = np.zeros((height, width), bool)
    mask[20:44, 30:71] = mask[70:90, 100:130] = mask[100:103, 10:90] = True
    return mask


def painted(mask, background, mark):
    return np.where(mask if np.ndim(mark) == 0 else mask[..., None], np.uint8(mark), np.uint8(background))


def as_jpeg(picture, quality):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file))


def regions(mask):
    return cv2.connectedComponents(mask.view(np.uint8), connectivity=8)[0] - 1


@pytest.mark.parametrize(
    ("background", "mark"),
    [(0, 255), (0, 1), (3, 255), (254, 255), (0, 7), (128, 129), ((0, 0, 0), (255, 0, 0)), ((3, 3, 3), (0, 0, 200))],
)
def test_two_values_come_back_as_they_were_drawn(background, mark):
    np.testing.assert_array_equal(marked(painted(meant(), background, mark), "mask"), meant())


@pytest.mark.parametrize("shown", [0, 90, 255])
def test_a_mask_kept_in_alpha(shown):
    picture = painted(meant(), (shown, shown, shown, 0), (shown, shown, shown, 255))
    np.testing.assert_array_equal(marked(picture, "mask"), meant())


def test_what_is_transparent_is_not_marked_whatever_colour_lies_there():
    picture = painted(meant(), (255, 255, 255, 0), (200, 0, 0, 255))
    np.testing.assert_array_equal(marked(picture, "mask"), meant())


def test_alpha_that_says_nothing_is_ignored():
    for alpha in (0, 255):
        picture = painted(meant(), (0, 0, 0, alpha), (0, 9, 0, alpha))
        np.testing.assert_array_equal(marked(picture, "mask"), meant())


def test_a_palette_with_a_transparent_background(tmp_path):
    image = Image.fromarray(meant().astype(np.uint8), "L").convert("P")
    image.putpalette([200, 200, 200, 200, 0, 0])
    image.save(tmp_path / "mask.png", transparency=0)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), meant())


@pytest.mark.parametrize("quality", [98, 95, 90, 75, 50, 30])
@pytest.mark.parametrize(("background", "mark"), [(0, 255), (3, 250), ((0, 0, 0), (255, 0, 0))])
def test_jpeg(background, mark, quality):
    picture = as_jpeg(painted(meant(), background, mark), quality)
    assert np.count_nonzero(picture.reshape(120, 160, -1).max(axis=2) > 0) > 1.04 * meant().sum()
    read = marked(picture, "mask")
    assert regions(read) == 3
    assert np.count_nonzero(read ^ meant()) <= 0.01 * meant().sum()


@pytest.mark.parametrize("method", [cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4, cv2.INTER_AREA])
@pytest.mark.parametrize("scale", [1.3, 2, 3, 4])
def test_enlarging(method, scale):
    size = round(160 * scale), round(120 * scale)
    picture = cv2.resize(painted(meant(), 0, 255), size, interpolation=method)
    wanted = cv2.resize(painted(meant(), 0, 255), size, interpolation=cv2.INTER_NEAREST_EXACT) > 0
    read = marked(picture, "mask")
    assert regions(read) == 3
    assert np.count_nonzero(read ^ wanted) <= 0.15 * wanted.sum()  # the edges may differ by half a pixel


def test_a_map_of_labels_is_marked_wherever_it_is_not_background_with_a_warning():
    labels = meant().astype(np.uint8)
    labels[70:90, 100:130] = 2
    labels[20:44, 30:71] = 9
    with pytest.warns(
        UserWarning, match=r"^some\.png: expected two populations of values, got 0, 9 and others in \d+ "
    ):
        read = marked(labels, "some.png")
    np.testing.assert_array_equal(read, meant())


@pytest.mark.parametrize(("low", "high"), [(1, 255), (60, 255), (127, 255), (200, 255)])
def test_a_third_population_is_marked_with_a_warning(low, high):
    picture = painted(meant(), 0, high)
    picture[70:90, 100:130] = low
    if low > 0.75 * high:  # the values that JPEG makes lie as near to the mark
        np.testing.assert_array_equal(marked(picture, "mask"), meant())
        return
    with pytest.warns(UserWarning, match="expected two populations") as caught:
        read = marked(picture, "mask")
    np.testing.assert_array_equal(read, meant())
    assert f"{meant().sum()} of {meant().size} pixels" in str(caught[0].message)


@pytest.mark.parametrize(("value", "what"), [(0, "nothing"), (255, "everything"), (3, "everything"), (1, "everything")])
def test_one_value_is_never_inverted_and_always_warned_of(value, what):
    with pytest.warns(UserWarning, match=f"{what} is marked") as caught:
        read = marked(np.full((10, 12), value, np.uint8), "one.png")
    assert read.all() == read.any() == (value > 0)
    text = f"one.png: expected a mark and a background, got {value} in all 120 pixels: {what} is marked"
    assert [str(warning.message) for warning in caught] == [text]


def test_a_few_odd_pixels_are_no_population():
    picture = painted(meant(), 0, 255)
    picture[5:7, 5:9] = 100
    np.testing.assert_array_equal(marked(picture, "mask"), meant())


def test_a_mask_that_marks_most_of_the_frame_is_not_inverted():
    np.testing.assert_array_equal(marked(painted(~meant(), 0, 255), "mask"), ~meant())


@pytest.mark.parametrize("name", ["hazelnut_reduced", "cookie", "kolektorsdd", "screw", "transistor_reduced"])
def test_real_masks_are_what_they_were_and_survive_jpeg(name):
    paths = sorted((SHARED / name / "ground_truth").rglob("*.png"))
    if not paths:
        pytest.skip(f"no {name} beside the project")
    wanted_regions = jpeg_regions = 0
    for path in paths:
        stored = np.asarray(Image.open(path).convert("L"))
        np.testing.assert_array_equal(read_mask(path), stored > 0)
        read = marked(as_jpeg(stored, 95), path)
        wanted_regions, jpeg_regions = wanted_regions + regions(stored > 0), jpeg_regions + regions(read)
    assert jpeg_regions == wanted_regions


def test_warnings_come_once_for_each_mask():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for name in ("a.png", "a.png", "b.png"):
            marked(np.zeros((9, 9), np.uint8), name)
    assert [str(warning.message)[:5] for warning in caught] == ["a.png", "b.png"]
