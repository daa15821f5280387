"""The three numbers of a picture: their definitions, what doesn't change them, and how masks leave pixels out."""

import cv2
import numpy as np
import pytest
from spadeline.engine import _native
from spadeline.engine.errors import InputError
from spadeline.engine.images.frame_facts import FrameFacts, frame_facts


def picture(seed=0, size=(64, 80), sigma=1.0):
    noise = np.random.default_rng(seed).normal(0, 1, (*size, 3))
    smooth = cv2.GaussianBlur(noise, (0, 0), sigma)
    return np.clip(128 + 30 * smooth / smooth.std(), 0, 255).astype(np.uint8)


ROUNDING = 1 / 8  # variance that rounding adds to a gray level


def by_definition(gray, counted):
    """Return the facts of (h, w) gray levels, pixel by pixel. Neighbours beyond the border are mirrored."""
    values = gray.astype(np.float64)
    around = np.pad(values, 1, mode="reflect")
    counted_around = np.pad(counted, 1, mode="constant", constant_values=True)
    curved, stepped, pixels = 0.0, 0.0, 0
    for y in range(gray.shape[0]):
        for x in range(gray.shape[1]):
            if not counted_around[y : y + 3, x : x + 3].all():
                continue
            pixels += 1
            above, left = around[y, x + 1], around[y + 1, x]
            curved += (above + left + around[y + 2, x + 1] + around[y + 1, x + 2] - 4 * values[y, x]) ** 2
            stepped += (values[y, x] - above) ** 2 * (y > 0) + (values[y, x] - left) ** 2 * (x > 0)
    sharpness = (curved / pixels - 20 * ROUNDING) / (stepped / pixels - 4 * ROUNDING)
    return values[counted].mean(), values[counted].std(), sharpness


@pytest.mark.parametrize("masked", [False, True])
def test_facts_follow_their_definitions(masked):
    image = picture()
    ignore = None
    if masked:
        ignore = np.zeros((64, 80), bool)
        ignore[20:30, :50] = ignore[60:, 70:] = True
    facts = frame_facts(image, ignore)
    counted = np.ones((64, 80), bool) if ignore is None else ~ignore
    expected = by_definition(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), counted)
    assert (facts.brightness, facts.contrast, facts.sharpness) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", _native.instruction_sets())
def test_gray_levels_are_opencvs(name):
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (1, 9), (7, 1), (2, 2), (37, 41), (5, 2100)):
        for low, high in ((0, 256), (200, 256), (90, 93)):
            image = rng.integers(low, high, (*shape, 3), np.uint8)
            mean, deviation = cv2.meanStdDev(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
            brightness, contrast, _ = _native.frame_facts(image, None, instruction_set=name)
            assert brightness == float(f"{mean.item():.6g}")
            assert contrast == pytest.approx(deviation.item(), rel=1e-5, abs=1e-6)


def test_what_is_ignored_does_not_count():
    image, other = picture(), picture()
    ignore = np.zeros((64, 80), bool)
    ignore[10:40, 10:40] = True
    other[ignore] = 255 * (np.indices((64, 80)).sum(axis=0) % 2)[ignore, None]
    assert frame_facts(image, ignore) == frame_facts(other, ignore)
    assert frame_facts(image) != frame_facts(other)


def test_sharpness_falls_with_blur_and_not_with_exposure():
    image = picture(size=(224, 224))
    facts = [frame_facts(image)]
    facts += [frame_facts(cv2.GaussianBlur(image, (0, 0), sigma)) for sigma in (1, 2, 4, 8, 16, 32)]
    sharpness = [each.sharpness for each in facts]
    assert sharpness == sorted(sharpness, reverse=True)
    assert sharpness[2] < sharpness[0] / 3
    assert sharpness[-1] == 0
    dim = frame_facts((image * 0.5).astype(np.uint8))
    assert dim.sharpness == pytest.approx(sharpness[0], rel=0.05)
    assert dim.brightness == pytest.approx(facts[0].brightness / 2, rel=0.01)
    assert dim.contrast == pytest.approx(facts[0].contrast / 2, rel=0.01)


def test_white_noise_has_five():
    image = np.repeat(np.random.default_rng(0).integers(0, 256, (224, 224, 1), np.uint8), 3, axis=2)
    assert frame_facts(image).sharpness == pytest.approx(5, rel=0.05)


@pytest.mark.parametrize("level", [0, 7, 255])
def test_a_constant_picture(level):
    assert frame_facts(np.full((32, 32, 3), level, np.uint8)) == FrameFacts(level, 0.0, 0.0)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((256.0, 0.0, 0.0), "brightness: expected a finite number from 0 to 255, got 256.0"),
        ((0.0, -1.0, 0.0), "contrast: expected a finite number from 0 to 255, got -1.0"),
        ((0.0, 0.0, float("nan")), "sharpness: expected a finite number from 0 to 1e+09, got nan"),
    ],
)
def test_numbers_out_of_range(values, text):
    with pytest.raises(InputError) as caught:
        FrameFacts(*values)
    assert str(caught.value) == text
