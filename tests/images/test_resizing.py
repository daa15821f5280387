"""Files, colours and placement, with a float64 area average and torchvision as oracles."""

import io
import struct
import threading
import zlib
from fractions import Fraction

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from spadeline.engine.errors import InputError
from spadeline.engine.images.reading import read_image, read_mask
from spadeline.engine.images.resizing import Placement, any_under, as_rgb, place, prepare


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def saved(folder, image, name="frame.png", **options):
    path = folder / name
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


# --- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(9, 11), (9, 11, 3), (9, 11, 4)])
@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_stored_pixels_come_back(tmp_path, shape, suffix):
    stored = pixels(*shape)
    read = read_image(saved(tmp_path, stored, f"frame.{suffix}"))
    np.testing.assert_array_equal(read, stored)
    assert read.flags.writeable
    assert read.dtype == np.uint8


@pytest.mark.parametrize("name", ["frame.bmp", "frame.ppm", "frame.webp", "frame.jpg"])
def test_other_formats_are_read(tmp_path, name):
    stored = np.full((16, 24, 3), (200, 40, 90), np.uint8)
    read = read_image(saved(tmp_path, stored, name, quality=95, **({"lossless": True} if "webp" in name else {})))
    assert read.shape == stored.shape
    assert np.abs(read.astype(int) - stored).max() <= (4 if name.endswith("jpg") else 0)


def test_one_bit_becomes_0_and_255(tmp_path):
    bits = pixels(10, 10) > 127
    np.testing.assert_array_equal(read_image(saved(tmp_path, Image.fromarray(bits))), bits * 255)


def test_palettes_are_expanded(tmp_path):
    palette = Image.fromarray(pixels(12, 12, 3) // 86 * 86).quantize(27)
    read = read_image(saved(tmp_path, palette))
    np.testing.assert_array_equal(read, np.asarray(palette.convert("RGB")))
    read = read_image(saved(tmp_path, palette, transparency=3))
    assert read.shape == (12, 12, 4)
    np.testing.assert_array_equal(read[..., 3], np.where(np.asarray(palette) == 3, 0, 255))


def test_gray_with_alpha_becomes_rgba(tmp_path):
    gray, alpha = pixels(9, 9), pixels(9, 9, seed=1)
    read = read_image(saved(tmp_path, Image.merge("LA", [Image.fromarray(gray), Image.fromarray(alpha)])))
    np.testing.assert_array_equal(read, np.stack([gray, gray, gray, alpha], axis=-1))


def test_the_main_picture_of_a_multi_picture_jpeg_is_read(tmp_path):
    main, preview = np.full((32, 32, 3), 200, np.uint8), Image.fromarray(np.zeros((16, 16, 3), np.uint8))
    path = saved(tmp_path, main, "frame.jpg", format="MPO", save_all=True, append_images=[preview])
    with Image.open(path) as image:
        assert image.n_frames == 2
    np.testing.assert_allclose(read_image(path), main, atol=3)


def png_16_bit_rgb(height=8, width=8):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + bytes(6 * width) for _ in range(height)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


WANTED = "expected 8 bits per channel gray, RGB or RGBA"


@pytest.mark.parametrize(
    ("image", "name", "came"),
    [
        (Image.new("I;16", (9, 9)), "frame.png", "mode I;16"),
        (Image.new("I;16", (9, 9)), "frame.tiff", "mode I;16"),
        (Image.new("I", (9, 9)), "frame.tiff", "mode I"),
        (Image.new("F", (9, 9)), "frame.tiff", "mode F"),
        (Image.new("CMYK", (9, 9)), "frame.jpg", "mode CMYK"),
        (Image.new("CMYK", (9, 9)), "frame.tiff", "mode CMYK"),
        (Image.new("LAB", (9, 9)), "frame.tiff", "mode LAB"),
    ],
)
def test_other_modes_are_refused(tmp_path, image, name, came):
    path = saved(tmp_path, image, name)
    with pytest.raises(InputError) as caught:
        read_image(path)
    assert str(caught.value) == f"{path}: {WANTED}, got {came}"


def test_16_bit_colour_is_refused_although_pillow_opens_it_as_rgb(tmp_path):
    path = tmp_path / "frame.png"
    path.write_bytes(png_16_bit_rgb())
    with Image.open(path) as image:
        assert image.mode == "RGB"
    with pytest.raises(InputError) as caught:
        read_image(path)
    assert str(caught.value) == f"{path}: {WANTED}, got 16 bits per channel"


@pytest.mark.parametrize(("magic", "size"), [(b"P6", 6), (b"P3", 0)])
def test_16_bit_pixmap_is_refused(tmp_path, magic, size):
    path = tmp_path / "frame.ppm"
    path.write_bytes(magic + b" 8 8 65535\n" + (bytes(64 * size) if size else b"0 " * 192))
    with pytest.raises(InputError, match="got 16 bits per channel"):
        read_image(path)


def test_8_bit_pixmap_of_another_maximum_is_scaled(tmp_path):
    path = tmp_path / "frame.pgm"
    path.write_bytes(b"P5 8 8 15\n" + bytes([15] * 64))
    np.testing.assert_array_equal(read_image(path), np.full((8, 8), 255))


def test_5_6_5_bitmap_is_read(tmp_path):
    # Pillow doesn't write this kind: a file header, an info header with BI_BITFIELDS, its masks, white pixels.
    path = tmp_path / "frame.bmp"
    info = struct.pack("<IiiHHIIiiII", 40, 8, 8, 1, 16, 3, 128, 0, 0, 0, 0)
    masks = struct.pack("<III", 0xF800, 0x07E0, 0x001F)
    path.write_bytes(struct.pack("<2sIHHI", b"BM", 194, 0, 0, 66) + info + masks + b"\xff" * 128)
    np.testing.assert_array_equal(read_image(path), np.full((8, 8, 3), 255))


@pytest.mark.parametrize("suffix", ["png", "tiff", "webp"])
def test_animations_and_pages_are_refused(tmp_path, suffix):
    frames = [Image.fromarray(pixels(12, 12, 3, seed=seed)) for seed in range(3)]
    path = saved(tmp_path, frames[0], f"frame.{suffix}", save_all=True, append_images=frames[1:])
    with pytest.raises(InputError) as caught:
        read_image(path)
    assert str(caught.value) == f"{path}: expected a single image, got more than one frame or page"


def test_tiny_images_are_refused(tmp_path):
    path = saved(tmp_path, pixels(1, 1, 3))
    with pytest.raises(InputError) as caught:
        read_image(path)
    assert str(caught.value) == f"{path}: expected sides of at least 8 pixels, got 1 x 1"
    assert read_image(saved(tmp_path, pixels(8, 8))).shape == (8, 8)


def bmp_header(height, width):
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return struct.pack("<2sIHHI", b"BM", 54, 0, 0, 54) + info


def test_enormous_images_are_refused_before_decoding(tmp_path):
    path = tmp_path / "frame.bmp"
    path.write_bytes(bmp_header(10_000, 10_001))  # Pillow would warn of this size
    with pytest.raises(InputError) as caught:
        read_image(path)
    assert str(caught.value) == f"{path}: expected at most 100000000 pixels, got 10000 x 10001"
    path.write_bytes(bmp_header(40_000, 40_000))  # Pillow would raise an error for this size
    with pytest.raises(InputError) as caught:
        read_image(path)
    assert str(caught.value) == f"{path}: expected at most 100000000 pixels, got far more"


def test_an_image_that_pillow_alone_would_warn_about_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64)
    assert read_image(saved(tmp_path, pixels(9, 10))).shape == (9, 10)


def test_what_is_no_image_file_is_refused(tmp_path):
    text = tmp_path / "notes.png"
    text.write_text("not an image")
    for path, reason in [
        (text, "expected a BMP, JPEG, PNG, PPM, TIFF or WebP image, got a file that is none of them"),
        (tmp_path / "none.png", "expected an image file, got: No such file or directory"),
        (tmp_path, "expected an image file, got a folder"),
    ]:
        with pytest.raises(InputError) as caught:
            read_image(path)
        assert str(caught.value) == f"{path}: {reason}"


def test_formats_beyond_the_list_are_refused(tmp_path):
    path = tmp_path / "frame.png"
    Image.fromarray(pixels(9, 9)).save(path, format="GIF")
    with pytest.raises(InputError, match="got a file that is none of them"):
        read_image(path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tiff", "webp", "ppm"])
def test_truncated_images_are_refused(tmp_path, suffix):
    path = saved(tmp_path, pixels(64, 64, 3), f"frame.{suffix}")
    whole = path.read_bytes()
    for keep in (0, 1, len(whole) // 4, len(whole) // 2, len(whole) - len(whole) // 8):
        path.write_bytes(whole[:keep])
        with pytest.raises(InputError) as caught:
            read_image(path)
        assert str(caught.value).startswith(f"{path}: expected ")
        assert "\n" not in str(caught.value)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_damaged_files_give_pixels_or_one_sentence(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "damaged.img"
    file = io.BytesIO()
    suffix = data.draw(st.sampled_from(["PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM"]))
    Image.fromarray(pixels(20, 30, 3)).save(file, suffix)
    content = bytearray(file.getvalue())
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        outcome = read_image(path)
    except InputError as error:
        outcome = str(error)
    if isinstance(outcome, str):
        assert outcome.startswith(f"{path}: expected ")
        assert "\n" not in outcome
    else:
        assert outcome.dtype == np.uint8


def test_reading_from_many_threads_leaves_the_warning_filters_alone(tmp_path):
    import warnings

    path, before = saved(tmp_path, pixels(16, 16)), list(warnings.filters)
    threads = [threading.Thread(target=lambda: [read_image(path) for _ in range(50)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before


# --- colours ---------------------------------------------------------------------------------------------------------


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


# --- placing ---------------------------------------------------------------------------------------------------------


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
    image, placement = prepare(frame, size, framing=framing, color=color)
    expected, expected_placement = place(as_rgb(frame, color=color), size, framing=framing)
    np.testing.assert_array_equal(image, expected, strict=True)
    assert image.flags.c_contiguous
    assert placement == expected_placement


def test_gray_is_resized_as_one_channel(monkeypatch):
    shapes, resize = [], cv2.resize
    monkeypatch.setattr(
        cv2, "resize", lambda image, *rest, **kinds: (shapes.append(image.shape), resize(image, *rest, **kinds))[1]
    )
    prepare(pixels(90, 70), (32, 32), framing="whole")
    assert shapes[0] in ((90, 70), (90, 70, 1))


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


def test_a_mask_has_its_frames_size(tmp_path):
    mask = pixels(10, 12) > 127
    path = saved(tmp_path, mask)
    np.testing.assert_array_equal(read_mask(path, frame_size=(10, 12)), mask)
    with pytest.raises(InputError) as caught:
        read_mask(path, frame_size=(12, 10))
    assert str(caught.value) == f"{path}: expected a mask of its image's size 12 x 10, got 10 x 12"


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
