"""Image files, read as pictures, hashed, and read as masks. Seeds are named after what they once did, or what they are.

Most are small files that cost a decoder far more than their bytes or pixels explain: Pillow 13 alone takes 1.9 GB for the
WebP of 38 bytes, 20 s for the tiles of 18 kB, 24 s for 1 MB of comments and hours for more of each.
"""

import io
import os
import struct
import warnings
import zlib

import numpy as np
from PIL import Image
from spadeline.engine.images.decoding import file_digest, read_picture
from spadeline.engine.images.masks import marked

from .mutations import mutate_file

# The most that a picture of MAX_PIXELS may take, on a busy machine; see docs/reference/limits.md for the figures.
SECONDS = 30.0
MEMORY_BYTES = 1_300_000_000
LARGEST_MASK = 4_000_000  # most pixels of a mask


def corpus(folder):
    """Write the seeds."""
    for name, make in SEEDS.items():
        (folder / name).write_bytes(make())
    os.mkfifo(folder / "pipe-blocked-for-ever.png")
    (folder / "folder.png").mkdir()
    (folder / "link-to-itself.png").symlink_to("link-to-itself.png")
    (folder / "link-to-a-file.png").symlink_to("good-gray.png")


def mutate(rng, case, target):
    """Write a changed copy of a file. Other things are copied as they are."""
    if case.is_fifo():
        os.mkfifo(target)
    elif case.is_dir():
        target.mkdir()
    elif not case.is_file():
        target.symlink_to(target.name)
    else:
        others = sorted(path for path in case.parent.iterdir() if path.is_file())
        mutate_file(rng, case, target, others[rng.integers(len(others))])


def attempt(case):
    """Read a picture, its hash and its mask. The picture must be valid, and the hash that of the file."""
    picture = read_picture(case)
    shape = picture.pixels.shape
    assert picture.pixels.dtype == np.uint8
    assert len(shape) == 2 or shape[2] in (3, 4)
    assert min(shape[:2]) >= 8
    assert picture.sha256 == file_digest(case)
    if picture.pixels[..., 0].size <= LARGEST_MASK:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert marked(picture.pixels, case).shape == shape[:2]


def encoded(image, name, **options):
    """Return an image's bytes in a format."""
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, name, **options)
    return file.getvalue()


def noise(*shape):
    """Return pixels that no encoder can compress much."""
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


# --- JPEG ------------------------------------------------------------------------------------------------------------


def jpeg_of_scans(count, size=1024):
    """Return a progressive picture whose last scan is repeated until there are ``count``."""
    content = encoded(Image.new("RGB", (size, size), (120, 60, 30)), "JPEG", progressive=True)
    last = content[content.rfind(b"\xff\xda") : -2]
    return content[:-2] + (count - content.count(b"\xff\xda")) * last + b"\xff\xd9"


def segment(marker, content):
    """Return a segment of a JPEG."""
    return bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content


def jpeg_with(inserted):
    """Return a JPEG with segments before its tables."""
    content = encoded(noise(16, 16, 3), "JPEG")
    tables = content.find(b"\xff\xdb")
    return content[:2] + inserted + content[tables:]


def exif_of_overlapping_values():
    """Return a directory of 5,000 values of 60 kB each, in 60 kB: 300 MB for a reader that copies them."""
    entries = b"".join(struct.pack("<HHII", tag, 1, 60_000, 8) for tag in range(1, 5001))
    return segment(0xE1, b"Exif\0\0" + b"II*\0" + struct.pack("<IH", 8, 5000) + entries + bytes(4))


def exif(orientation):
    """Return an EXIF block with an orientation."""
    block = Image.Exif()
    block[0x0112] = orientation
    return block


# --- PNG -------------------------------------------------------------------------------------------------------------


def chunk(kind, content):
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(*inserted, size=16, rows=None):
    """Return a gray PNG with chunks before its pixels."""
    rows = zlib.compress((b"\0" + bytes(size)) * size) if rows is None else rows
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", size, size, 8, 0, 0, 0, 0))
    return b"".join((b"\x89PNG\r\n\x1a\n", header, *inserted, chunk(b"IDAT", rows), chunk(b"IEND", b"")))


def png_texts(count, size):
    """Return chunks of compressed text that expand a thousandfold."""
    return b"".join(chunk(b"zTXt", b"k%d\0\0" % n + zlib.compress(bytes(size))) for n in range(count))


# --- TIFF ------------------------------------------------------------------------------------------------------------


def tiff(body, **tags):
    """Return a TIFF of one directory: tag numbers as t256=(type, count, value)."""
    entries = sorted((int(tag[1:]), *entry) for tag, entry in tags.items())
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + directory


def tiff_of_directories(count):
    """Return a picture with ``count`` more directories, which Pillow reads one by one to count them."""
    first = encoded(noise(16, 16), "TIFF")
    (start,) = struct.unpack_from("<I", first, 4)
    (entries,) = struct.unpack_from("<H", first, start)
    following = start + 2 + 12 * entries
    names = first[start + 2 : following]
    size = 2 + len(names) + 4
    places = len(first) + size * np.arange(1, count + 1)
    places[-1] = 0
    rest = b"".join(struct.pack("<H", entries) + names + struct.pack("<I", place) for place in places)
    return first[:following] + struct.pack("<I", len(first)) + first[following + 4 :] + rest


def tiff_of_tiles(count, height):
    """Return tiles below one another, far beyond the picture, all of the same few bytes."""
    content = zlib.compress(bytes(16 * height))
    content += bytes(-len(content) % 4)
    places, sizes = (np.full(count, value, "<u4").tobytes() for value in (8, len(content)))
    behind = 8 + len(content)
    return tiff(
        content + places + sizes,
        t256=(4, 1, 16 * count), t257=(4, 1, 16), t258=(3, 1, 8), t259=(3, 1, 8), t262=(3, 1, 1), t277=(3, 1, 1),
        t322=(4, 1, 16), t323=(4, 1, height), t324=(4, count, behind), t325=(4, count, behind + 4 * count),
    )  # fmt: skip


def tiff_of_strips(count, rows=None, margin=0, **others):
    """Return strips that are all the same 8 bytes, and some bytes behind them."""
    return tiff(
        np.full(count, 8, "<u4").tobytes() + bytes(margin),
        t256=(4, 1, 8), t257=(4, 1, rows or count), t258=(3, 1, 8), t259=(3, 1, 1), t262=(3, 1, 1), t273=(4, count, 8),
        t277=(3, 1, 1), t278=(4, 1, 1), t279=(4, count, 8), **others,
    )  # fmt: skip


def tiff_of_overlapping_values():
    """Return 2,000 private tags that share 1 MB: 2 GB for a reader that copies them."""
    private = {f"t{30_000 + number}": (1, 2**20, 8) for number in range(2000)}
    return tiff_of_strips(16, margin=2**20, **private)


# --- the others ------------------------------------------------------------------------------------------------------


def webp(height, width):
    """Return a lossless picture of one colour. Its pixels take no bits, so any size takes 38 bytes."""
    content = bytearray(encoded(Image.new("RGB", (16, 16), (120, 60, 30)), "WEBP", lossless=True))
    at = content.index(b"VP8L") + 9
    (bits,) = struct.unpack_from("<I", content, at)
    struct.pack_into("<I", content, at, bits >> 28 << 28 | (height - 1) << 14 | (width - 1))
    return bytes(content)


def bmp(height, width, codes):
    """Return a bitmap of run-length codes."""
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(codes), 0, 0, 256, 0)
    return struct.pack("<2sIHHI", b"BM", 1078 + len(codes), 0, 0, 1078) + info + bytes(1024) + codes


RLE_SQUARE = b"\x10\x07\x00\x00" * 16 + b"\0\1"
SEEDS = {
    "good-gray.png": lambda: encoded(noise(16, 16), "PNG"),
    "good-color.jpg": lambda: encoded(noise(24, 16, 3), "JPEG"),
    "good-progressive.jpg": lambda: encoded(noise(24, 16, 3), "JPEG", progressive=True),
    "good-turned.jpg": lambda: encoded(noise(24, 16, 3), "JPEG", exif=exif(6)),
    "good-turned.png": lambda: encoded(noise(24, 16, 4), "PNG", exif=exif(7)),
    "good-turned.webp": lambda: encoded(noise(24, 16, 3), "WEBP", exif=exif(8)),
    "good-turned.tiff": lambda: encoded(noise(24, 16, 3), "TIFF", exif=exif(5)),
    "good-deflated.tiff": lambda: encoded(noise(24, 16, 3), "TIFF", compression="tiff_adobe_deflate"),
    "good-jpeg.tiff": lambda: encoded(noise(24, 16, 3), "TIFF", compression="jpeg"),
    "good-palette.png": lambda: encoded(Image.fromarray(noise(16, 16, 3)).quantize(9), "PNG", transparency=2),
    "good-color.bmp": lambda: encoded(noise(9, 11, 3), "BMP"),
    "good-run-lengths.bmp": lambda: bmp(16, 16, RLE_SQUARE),
    "good-color.ppm": lambda: encoded(noise(9, 11, 3), "PPM"),
    "good-plain.pgm": lambda: b"P2 # a comment\n8 8 255\n" + b"7 " * 64,
    "good-one-bit.png": lambda: encoded(noise(16, 16) > 127, "PNG"),
    "16-bits.png": lambda: encoded(Image.new("I;16", (9, 9)), "PNG"),
    "cmyk.jpg": lambda: encoded(Image.new("CMYK", (9, 9)), "JPEG"),
    "seconds-for-1000-scans.jpg": lambda: jpeg_of_scans(1000),
    "seconds-for-2000000-segments.jpg": lambda: jpeg_with(segment(0xE5, b"") * 2_000_000),
    "seconds-for-8-MB-of-fill-bytes.jpg": lambda: jpeg_with(b"\xff" * 8_000_000),
    "exif-of-overlapping-values.jpg": lambda: jpeg_with(exif_of_overlapping_values()),
    "seconds-for-300000-chunks.png": lambda: png(chunk(b"abCd", b"") * 300_000),
    "60-MB-of-text.png": lambda: png(png_texts(60, 2**20 - 1)),
    "pixels-of-64-MB.png": lambda: png(rows=zlib.compress(bytes(2**26))),
    "a-minute-for-200000-directories.tiff": lambda: tiff_of_directories(200_000),
    "seconds-for-each-of-250-tiles.tiff": lambda: tiff_of_tiles(250, 1_000_000),
    "a-minute-for-2000000-strips.tiff": lambda: tiff_of_strips(2**21),
    "more-strips-than-rows.tiff": lambda: tiff_of_strips(50_000, 16),
    "2-GB-of-overlapping-values.tiff": tiff_of_overlapping_values,
    "2-GB-for-38-bytes.webp": lambda: webp(10_000, 10_000),
    "1-GB-of-deltas.bmp": lambda: bmp(8, 12_500_000, b"\0\2\0\xff\0\1"),
    "padded-byte-by-byte.bmp": lambda: bmp(1000, 10_000, b"\1\0\0\0" * 1000 + b"\0\1"),
    "seconds-for-ends-of-lines.bmp": lambda: bmp(100, 100, b"\0\0" * 1_000_000),
    "minutes-for-comments.ppm": lambda: b"P2 8 8 255\n" + b"#\n" * 500_000 + b"9 " * 64,
    "a-comment-read-byte-by-byte.ppm": lambda: b"P5 #" + b"." * 8_000_000 + b"\n8 8 255\n" + bytes(64),
    "seconds-for-other-maxima.ppm": lambda: b"P5 2000 2000 15\n" + bytes(4_000_000),
}
