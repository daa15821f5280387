"""Which files are opened, how pictures are turned, and that no file takes more time or memory than its pixels explain."""

import contextlib
import hashlib
import os
import socket
import threading
import time

import numpy as np
import pytest
from PIL import Image, ImageOps
from spadeline.engine.errors import InputError
from spadeline.engine.images import decoding
from spadeline.engine.images.decoding import file_digest, read_file, read_picture
from spadeline.engine.images.reading import read_image
from spadeline.engine.images.structure import MAX_SCANS, examine
from spadeline.engine.resources import process_memory

from ..fuzz import images as seeds
from ..fuzz.worker import forget_peak


def written(folder, name, content):
    (folder / name).write_bytes(content)
    return folder / name


# --- what is opened --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", [read_image, read_picture, file_digest, read_file])
def test_only_regular_files_are_opened_and_nothing_blocks(tmp_path, read):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "device.png").symlink_to("/dev/zero")
    (tmp_path / "link.png").symlink_to("link.png")
    (tmp_path / "nowhere.png").symlink_to("no-such-file")
    kinds = {
        "pipe.png": "got a named pipe",
        "folder.png": "got a folder",
        "device.png": "got a device",
        "link.png": "got: Too many levels of symbolic links",
        "nowhere.png": "got: No such file or directory",
    }
    if len(os.fsencode(tmp_path / "socket.png")) < 100:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(tmp_path / "socket.png"))
        kinds["socket.png"] = "got a socket"
    for name, came in kinds.items():
        with pytest.raises(InputError) as caught:
            read(tmp_path / name)
        assert str(caught.value) == f"{tmp_path / name}: expected an image file, {came}"


def test_a_pipe_that_takes_the_files_place_does_not_block(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.png")
    regular = written(tmp_path, "regular.png", b"").stat()
    monkeypatch.setattr(decoding.Path, "stat", lambda _: regular)
    with pytest.raises(InputError, match="expected an image file, got a named pipe"):
        read_image(tmp_path / "pipe.png")


def test_a_link_to_a_file_is_read(tmp_path):
    pixels = seeds.noise(16, 16)
    written(tmp_path, "file.png", seeds.encoded(pixels, "PNG"))
    (tmp_path / "link.png").symlink_to("file.png")
    np.testing.assert_array_equal(read_image(tmp_path / "link.png"), pixels)


def test_hash_and_pixels_are_of_the_same_bytes(tmp_path):
    content = seeds.encoded(seeds.noise(16, 16), "PNG")
    picture = read_picture(written(tmp_path, "a.png", content))
    assert picture.sha256 == file_digest(tmp_path / "a.png") == hashlib.sha256(content).hexdigest()
    assert not picture.turned


def test_an_enormous_file_is_refused_unread(tmp_path):
    path = written(tmp_path, "a.png", seeds.encoded(seeds.noise(16, 16), "PNG"))
    os.truncate(path, 2**40)  # hardly any of it takes room on the disk
    for read in (read_image, file_digest):
        with pytest.raises(InputError) as caught:
            read(path)
        assert str(caught.value) == f"{path}: expected a file of at most 536870912 bytes, got 1099511627776"


@pytest.mark.parametrize("change", ["grows", "shrinks", "is written over"])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch, change):
    content = seeds.encoded(seeds.noise(64, 64), "PNG")
    path = written(tmp_path, "a.png", content)
    opened = decoding.open_file

    def changing(path):
        file = opened(path)
        read = file.read

        class Changing:
            fileno, close = file.fileno, file.close

            def __enter__(self):
                return self

            def __exit__(self, *_):
                file.close()

            def read(self, size):
                if change != "is written over":
                    os.truncate(path, 10 if change == "shrinks" else 10_000_000)
                    return read(size)
                first = read(size)
                time.sleep(0.02)  # a clock tick
                path.write_bytes(content[::-1])
                return first

        return Changing()

    monkeypatch.setattr(decoding, "open_file", changing)
    with pytest.raises(InputError) as caught:
        read_image(path)
    assert str(caught.value) == f"{path}: expected a file that nobody writes to while it is read, got one that changed"


# --- orientation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_orientation_is_applied_as_pillow_does(tmp_path, name, orientation):
    options = {"lossless": True} if name == "WEBP" else {}
    stored = seeds.encoded(seeds.noise(10, 20, 3), name, exif=seeds.exif(orientation), **options)
    path = written(tmp_path, "frame", stored)
    with Image.open(path) as image:
        shown = np.asarray(ImageOps.exif_transpose(image))
    picture = read_picture(path)
    np.testing.assert_array_equal(picture.pixels, shown)
    assert picture.pixels.flags.c_contiguous
    assert picture.turned == (orientation != 1)
    assert picture.pixels.shape == ((20, 10, 3) if orientation > 4 else (10, 20, 3))


@pytest.mark.parametrize("orientation", [0, 9, 65_535])
def test_an_invalid_orientation_is_ignored(tmp_path, orientation):
    path = written(tmp_path, "a.jpg", seeds.encoded(seeds.noise(10, 20), "JPEG", exif=seeds.exif(orientation)))
    assert read_image(path).shape == (10, 20)


@pytest.mark.parametrize(
    "damage", [lambda exif: exif[:9], lambda exif: b"XX" + exif[2:], lambda exif: exif[:4] + b"\xff" * 20]
)
def test_a_damaged_exif_block_is_no_part_of_the_picture(tmp_path, damage):
    exif = seeds.exif(6).tobytes().removeprefix(b"Exif\0\0")
    path = written(tmp_path, "a.jpg", seeds.jpeg_with(seeds.segment(0xE1, b"Exif\0\0" + damage(exif))))
    assert read_image(path).shape == (16, 16, 3)


def test_big_endian_exif(tmp_path):
    block = b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + bytes.fromhex("0112 0003 00000001 0006 0000") + bytes(4)
    path = written(tmp_path, "a.jpg", seeds.jpeg_with(seeds.segment(0xE1, block)))
    assert read_picture(path).turned


# --- bounds ----------------------------------------------------------------------------------------------------------

REFUSED = {
    "seconds-for-1000-scans.jpg": "expected at most 64 scans, got more",
    "seconds-for-2000000-segments.jpg": "expected at most 100000 segments, got more",
    "seconds-for-300000-chunks.png": "expected at most 100000 chunks, got more",
    "a-minute-for-200000-directories.tiff": "expected a single image, got more than one frame or page",
    "seconds-for-each-of-250-tiles.tiff": "expected tiles about as large as the picture, got 1000000 x 16",
    "a-minute-for-2000000-strips.tiff": "expected a plain TIFF, got 2097152 values of type 4 in tag 273",
    "more-strips-than-rows.tiff": "expected 16 strips or tiles of a TIFF, got 50000",
    "2-GB-for-38-bytes.webp": "expected at most 50000000 pixels, got 10000 x 10000",
    "1-GB-of-deltas.bmp": "expected at most 4000000 pixels, got 8 x 12500000",
    "padded-byte-by-byte.bmp": "expected at most 4000000 pixels, got 1000 x 10000",
    "seconds-for-ends-of-lines.bmp": "expected at most 3 bytes for each of 100 x 100 pixels, got more",
    "minutes-for-comments.ppm": "expected at most 1000 comments, got more",
    "seconds-for-other-maxima.ppm": "expected at most 1000000 pixels, got 2000 x 2000",
}


@pytest.mark.parametrize("name", [name for name in seeds.SEEDS if not name.startswith("good")])
def test_what_costs_more_than_its_pixels_explain_is_refused_or_read_at_once(tmp_path, name):
    path = written(tmp_path, name, seeds.SEEDS[name]())
    start = time.process_time()
    with contextlib.suppress(InputError) if name not in REFUSED else pytest.raises(InputError) as caught:
        read_image(path)
    assert time.process_time() - start < 3
    if name in REFUSED:
        assert str(caught.value) == f"{path}: {REFUSED[name]}"


def test_as_many_scans_as_allowed_are_read(tmp_path):
    path = written(tmp_path, "a.jpg", seeds.jpeg_of_scans(MAX_SCANS, size=64))
    assert read_image(path).shape == (64, 64, 3)
    with pytest.raises(InputError, match="expected at most 64 scans"):
        read_image(written(tmp_path, "a.jpg", seeds.jpeg_of_scans(MAX_SCANS + 1, size=64)))


def test_what_looks_like_scans_behind_the_picture_or_in_a_preview_does_not_count(tmp_path):
    content = seeds.jpeg_of_scans(10, size=64)
    preview = seeds.segment(0xE2, b"\xff\xda" * 100)
    for more in (content + b"\xff\xda" * 100, content[:2] + preview + content[2:]):
        np.testing.assert_array_equal(
            read_image(written(tmp_path, "a.jpg", more)), read_image(written(tmp_path, "b.jpg", content))
        )


def test_the_decoder_gets_of_a_jpeg_what_decides_pixels():
    content = seeds.jpeg_with(seeds.exif_of_overlapping_values() + seeds.segment(0xFE, b"a comment"))
    assert examine(content).content == seeds.jpeg_with(b"")
    assert examine(seeds.encoded(seeds.noise(16, 16, 3), "JPEG")).content.count(b"JFIF") == 1


def test_the_decoder_gets_of_a_tiff_what_decides_pixels(tmp_path):
    plain = seeds.encoded(seeds.noise(16, 24, 3), "TIFF", compression="tiff_lzw")
    more = seeds.encoded(Image.open(written(tmp_path, "a.tiff", plain)), "TIFF", icc_profile=b"profile" * 99)
    np.testing.assert_array_equal(read_image(written(tmp_path, "b.tiff", more)), seeds.noise(16, 24, 3))
    assert b"\x73\x87" in more  # tag 34675, the colour profile
    assert b"\x73\x87" not in examine(more).content


def test_tiff_compressions_of_unbounded_memory_are_refused(tmp_path):
    path = written(tmp_path, "a.tiff", seeds.encoded(seeds.noise(16, 16), "TIFF", compression="lzma"))
    with pytest.raises(
        InputError, match="compressions none, CCITT, LZW, JPEG, Deflate, PackBits, Zstandard, got number 34925"
    ):
        read_image(path)


# Bytes for each pixel, beside twice the file: the bound that docs/reference/limits.md gives is 10, and 20 for WebP.
@pytest.mark.parametrize(
    ("name", "mode", "options", "most"),
    [
        ("PNG", "RGB", {}, 10), ("PNG", "RGBA", {}, 10), ("PNG", "LA", {}, 10), ("PNG", "L", {}, 10),
        ("JPEG", "RGB", {}, 10), ("JPEG", "RGB", {"progressive": True, "subsampling": 0}, 10.5), ("BMP", "RGB", {}, 10),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}, 10), ("TIFF", "RGBA", {"compression": "tiff_adobe_deflate"}, 10),
        ("PPM", "RGB", {}, 10), ("WEBP", "RGB", {"lossless": True, "method": 0}, 20), ("WEBP", "RGBA", {"quality": 1}, 20),
    ],
)  # fmt: skip
def test_memory_for_each_pixel(tmp_path, name, mode, options, most):
    side = 3000
    path = written(tmp_path, "frame", seeds.encoded(Image.new(mode, (side, side), 70), name, exif=b"", **options))
    read_image(path)  # Pillow keeps some memory from its first image on
    try:
        forget_peak()
        before = process_memory()
    except OSError:
        pytest.skip("no /proc to measure memory by")
    if before.peak_bytes > before.resident_bytes + 2**22:
        pytest.skip("a kernel that can't forget a peak")
    picture = read_image(path)
    added = process_memory().peak_bytes - before.resident_bytes
    assert picture.size >= side**2
    assert added <= most * side**2 + 2 * path.stat().st_size + 2**24, f"{added / side**2:.1f} bytes for each pixel"


def test_large_pictures_are_brought_over_in_strips_without_a_change(tmp_path, monkeypatch):
    palette = Image.fromarray(seeds.noise(60, 50, 3)).quantize(20)
    path = written(tmp_path, "a.png", seeds.encoded(palette, "PNG", transparency=3))
    one_bit = written(tmp_path, "b.png", seeds.encoded(seeds.noise(60, 50) > 127, "PNG"))
    wanted = read_image(path), read_image(one_bit)
    monkeypatch.setattr(decoding, "STRIP_PIXELS", 350)
    for file, expected in zip((path, one_bit), wanted, strict=True):
        read = read_image(file)
        np.testing.assert_array_equal(read, expected)
        assert read.flags.writeable


def test_reading_a_folder_of_pipes_from_threads_ends(tmp_path):
    for number in range(4):
        os.mkfifo(tmp_path / f"{number}.png")
    refused = []

    def read(number):
        try:
            read_image(tmp_path / f"{number}.png")
        except InputError as error:
            refused.append(error)

    threads = [threading.Thread(target=read, args=(number,), daemon=True) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert len(refused) == 4
