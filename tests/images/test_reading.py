"""Image files to pixels: formats, modes and sizes that are read, and those that are refused in one sentence."""

import io
import struct
import threading
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from spadeline.engine.errors import InputError
from spadeline.engine.images.reading import read_image, read_mask

from .drawn import pixels


def saved(folder, image, name="frame.png", **options):
    path = folder / name
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


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


def test_a_mask_has_its_frames_size(tmp_path):
    mask = pixels(10, 12) > 127
    path = saved(tmp_path, mask)
    np.testing.assert_array_equal(read_mask(path, frame_size=(10, 12)), mask)
    with pytest.raises(InputError) as caught:
        read_mask(path, frame_size=(12, 10))
    assert str(caught.value) == f"{path}: expected a mask of its image's size 12 x 10, got 10 x 12"
