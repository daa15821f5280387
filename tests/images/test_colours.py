"""Colours of frames, by their shape and by declaration."""

import numpy as np
import pytest
from spadeline.engine.errors import InputError
from spadeline.engine.images.resizing import as_rgb

from .drawn import pixels


def test_colours_by_shape_and_by_declaration():
    gray, rgb, rgba = pixels(9, 12), pixels(9, 12, 3), pixels(9, 12, 4)
    three_grays = np.stack([gray] * 3, axis=-1)
    for frame, color, expected in [
        (gray, "auto", three_grays),
        (gray[..., None], "auto", three_grays),
        (gray, "gray", three_grays),
        (rgb, "auto", rgb),
        (rgb, "rgb", rgb),
        (rgb, "bgr", rgb[..., ::-1]),
        (rgba, "auto", rgba[..., :3]),
        (rgba, "rgba", rgba[..., :3]),
        (rgba, "bgra", rgba[..., 2::-1]),
    ]:
        got = as_rgb(frame, color=color)
        np.testing.assert_array_equal(got, expected)
        assert got.flags.c_contiguous


@pytest.mark.parametrize("value", [0, 1, 255])
def test_content_does_not_decide(value):
    np.testing.assert_array_equal(as_rgb(np.full((8, 8), value, np.uint8)), np.full((8, 8, 3), value))


def test_any_strides_are_accepted():
    big = pixels(40, 60, 3)
    for frame in (
        big[::-1],
        big[:, ::-1],
        big[::2, ::3],
        big[..., ::-1],
        big.transpose(1, 0, 2),
        big[..., 0][::-1, 5:],
    ):
        np.testing.assert_array_equal(as_rgb(frame), as_rgb(np.ascontiguousarray(frame)))


@pytest.mark.parametrize(
    ("frame", "color", "text"),
    [
        (pixels(9, 9).astype(np.float32), "auto", "frame: expected a uint8 array, got float32"),
        (pixels(9, 9).astype(np.uint16), "gray", "frame: expected a uint8 array, got uint16"),
        ([[0] * 9] * 9, "auto", "frame: expected a uint8 array, got list"),
        (pixels(9, 9, 3), "gray", "frame: expected (h, w) or (h, w, 1) for color 'gray', got (9, 9, 3)"),
        (pixels(9, 9), "bgr", "frame: expected (h, w, 3) for color 'bgr', got (9, 9)"),
        (pixels(9, 9, 3), "rgba", "frame: expected (h, w, 4) for color 'rgba', got (9, 9, 3)"),
        (
            pixels(3, 9, 9),
            "auto",
            "frame: expected (h, w) or (h, w, 1) or (h, w, 3) or (h, w, 4) for color 'auto', got (3, 9, 9)",
        ),
        (pixels(9), "rgb", "frame: expected (h, w, 3) for color 'rgb', got (9,)"),
        (pixels(7, 900, 3), "auto", "frame: expected sides of at least 8 pixels, got 7 x 900"),
        (pixels(0, 0, 3), "auto", "frame: expected sides of at least 8 pixels, got 0 x 0"),
        (pixels(9, 9, 3), "RGB", "color: expected one of auto, gray, rgb, bgr, rgba, bgra, got 'RGB'"),
    ],
)
def test_frames_of_another_kind_are_refused(frame, color, text):
    with pytest.raises(InputError) as caught:
        as_rgb(frame, color=color)
    assert str(caught.value) == text
