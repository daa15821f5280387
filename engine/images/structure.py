"""The structure of an image file, read before a decoder sees it: format, orientation, and parts that cost too much.

The time of a decoder must be bounded by the picture's pixels and the file's bytes, its memory by the pixels alone. The
formats allow more: any number of scans, pages and tiles, all of them over the same few bytes. This module counts them,
in a small part of the time that decoding takes. Of JPEG and TIFF, the decoder gets only the parts that decide pixels,
without profile, preview, comment or camera's record. Nothing is decoded, and a damaged file is left for the decoder to
refuse.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from ..errors import InputError

# 300 MB as RGB. A header can claim more pixels than the file or the memory holds, so it is checked before decoding.
MAX_PIXELS = 100_000_000
# WebP's decoder takes 19 bytes for each pixel, about twice as many as any other: it keeps the canvases of animations.
MAX_WEBP_PIXELS = 50_000_000
# Encoders write 10 scans, or up to 20 if they search for the best order. A scan costs 2 ns a pixel even if it is empty.
MAX_SCANS = 64
# Segments, chunks, tags, strips. Each costs microseconds, since Pillow goes through them in Python. An uncompressed
# picture of MAX_PIXELS has 50,000 chunks of 8 KiB, libpng's default, or some 10,000 strips of one row each.
MAX_PARTS = 100_000
MAX_PNM_HEADER = 65_536  # bytes: Pillow reads a header's comments one by one
MAX_PNM_COMMENTS = 1000  # in a plain raster, where each comment makes Pillow copy a block of 1 MB
TILE_MARGIN = 2**22  # pixels that tiles may have beyond 5/4 of the picture's: one tile of 2048 x 2048

_SUFFICIENT_TAGS = frozenset((256, 257, 258, 259, 262, 266, 277, 278, 284, 292, 293, 317, 322, 323, 338, 339))
_COLOR_TAGS = frozenset((529, 530, 531, 532))
_LIST_TAGS = frozenset((273, 279, 320, 324, 325, 347))  # strips, palette, tiles, JPEG tables
_PIXEL_TAGS = _SUFFICIENT_TAGS | _COLOR_TAGS | _LIST_TAGS
_HARMLESS_TAGS = _PIXEL_TAGS | {254, 270, 271, 272, 282, 283, 296, 305, 306, 315}  # resolution, program, date, author
_ORIENTATION = 274
# libtiff knows more: LZMA takes as much memory as its header says, and old JPEG is full of faults.
_COMPRESSIONS = {
    1: "none",
    2: "CCITT",
    3: "CCITT",
    4: "CCITT",
    5: "LZW",
    7: "JPEG",
    8: "Deflate",
    32773: "PackBits",
    32946: "Deflate",
    50000: "Zstandard",
}

_PROGRESSIVE = frozenset((0xC2, 0xC6, 0xCA, 0xCE))
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # without two tables and an extension
_MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd7]")  # fill bytes, stuffed zeros and restarts aren't markers
_PNM_HEADER = re.compile(rb"P[14](?:(?>\s|#[^\r\n]*+[\r\n])++\d++){2}\s|P[2356](?:(?>\s|#[^\r\n]*+[\r\n])++\d++){3}\s")


@dataclass(frozen=True)
class Structure:
    """A file of one of six formats, checked for a decoder.

    Attributes
    ----------
    format
        Pillow's name of the format.
    content
        The bytes for the decoder.
    orientation
        EXIF's orientation, 1 to 8. 1: pixels are stored as they are shown, or the file doesn't say.
    """

    format: str
    content: bytes
    orientation: int = 1


def examine(content: bytes) -> Structure:
    """Find out an image file's format and orientation.

    Raises
    ------
    InputError
        Another format, or a file that would cost a decoder more than its pixels and bytes explain. The text doesn't
        name the file.
    ValueError, IndexError, struct.error
        A damaged file.
    """
    if content.startswith(b"\xff\xd8\xff"):
        return _jpeg(content)
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png(content)
    if content[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _tiff(content)
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return _webp(content)
    if content[:2] == b"BM":
        return Structure("BMP", content)
    if re.match(rb"P[1-6]\s", content):
        return _pnm(content)
    raise InputError("expected a BMP, JPEG, PNG, PPM, TIFF or WebP image, got a file that is none of them")


def check_pixels(height: int, width: int, most: int = MAX_PIXELS) -> None:
    """Raise InputError if a picture has more pixels than may be decoded."""
    if height * width > most:
        raise InputError(f"expected at most {most} pixels, got {height} x {width}")


def _check_parts(count: int, what: str) -> None:
    if count > MAX_PARTS:
        raise InputError(f"expected at most {MAX_PARTS} {what}, got more")


def _jpeg(content: bytes) -> Structure:
    kept, orientation, count, components = [content[:2]], 0, 0, 0
    position = 2
    while found := _MARKER.search(content, position):
        start, marker = found.start(), content[found.start() + 1]
        if marker == 0xDA:  # start of scan: what follows is pixels
            if content[start + 4] < components:  # after a scan of all components, the decoder reads no other scan
                _check_scans(content, start)
            return Structure("JPEG", b"".join((*kept, content[start:])), orientation or 1)
        if marker == 0xD9:
            break
        position = start + 2 if marker == 0xD8 else _segment_end(content, start)
        # Application segments 0 and 14 (JFIF, Adobe) say how colours are stored. The others, and comments, don't decide
        # any pixel.
        if marker in (0xE0, 0xEE) or not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            kept.append(content[start:position])
        elif marker == 0xE1 and content[start + 4 : start + 10] == b"Exif\0\0":
            orientation = orientation or _orientation(content[start + 10 : position])
        if marker in _FRAMES:
            components = max(components, content[start + 9] if marker not in _PROGRESSIVE else 256)
        count += 1
        _check_parts(count, "segments")
    raise ValueError("no scan in it")


def _segment_end(content: bytes, start: int) -> int:
    (length,) = struct.unpack_from(">H", content, start + 2)
    if length < 2:
        raise ValueError(f"a segment of {length} bytes")
    return start + 2 + int(length)


def _check_scans(content: bytes, position: int) -> None:
    if content.count(b"\xff\xda", position) <= MAX_SCANS:  # counts scans of a preview behind the picture, too
        return
    scans = count = 0
    while (found := _MARKER.search(content, position)) and content[found.start() + 1] != 0xD9:
        scans += content[found.start() + 1] == 0xDA
        if scans > MAX_SCANS:
            raise InputError(f"expected at most {MAX_SCANS} scans, got more")
        count += 1
        _check_parts(count, "segments")
        position = _segment_end(content, found.start())


def _png(content: bytes) -> Structure:
    orientation, count, position = 1, 0, 8
    while position + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        if kind == b"IEND":
            break
        if kind == b"eXIf":
            orientation = _orientation(content[position + 8 : position + 8 + length])
        position += length + 12
        count += 1
        _check_parts(count, "chunks")
    return Structure("PNG", content, orientation)


def _webp(content: bytes) -> Structure:
    # The decoder allocates its canvases as soon as the file is opened, so its size is checked before that.
    kind = content[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(content[at : at + 3], "little") + 1 for at in (24, 27))
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", content, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", content, 26))
    check_pixels(height, width, MAX_WEBP_PIXELS)
    orientation, count, position = 1, 0, 12
    while position + 8 <= len(content):
        kind, length = struct.unpack_from("<4sI", content, position)
        if kind == b"EXIF":
            orientation = _orientation(content[position + 8 : position + 8 + length].removeprefix(b"Exif\0\0"))
        position += 8 + length + length % 2
        count += 1
        _check_parts(count, "chunks")
    return Structure("WEBP", content, orientation)


def _pnm(content: bytes) -> Structure:
    if not _PNM_HEADER.match(content, 0, MAX_PNM_HEADER):
        raise ValueError(f"no header of a portable pixmap in its first {MAX_PNM_HEADER} bytes")
    if content[1:2] in b"123" and content.count(b"#") > MAX_PNM_COMMENTS:
        raise InputError(f"expected at most {MAX_PNM_COMMENTS} comments, got more")
    return Structure("PPM", content)


class _Directory:
    """A TIFF's first directory, or that of an EXIF block, which is a small TIFF."""

    def __init__(self, content: bytes) -> None:
        order = {b"II": "<", b"MM": ">"}[content[:2]]
        self._order, big = order, content[2:4] in (b"+\0", b"\0+")
        self._entry = struct.Struct(order + ("HHQ8s" if big else "HHI4s"))
        count_format, self._offset_format = order + ("Q" if big else "H"), order + ("Q" if big else "I")
        (self.start,) = struct.unpack_from(self._offset_format, content, 8 if big else 4)
        (count,) = struct.unpack_from(count_format, content, self.start)
        _check_parts(count, "tags")
        self._first = self.start + struct.calcsize(count_format)
        self._end = self._first + count * self._entry.size
        self.entries = list(self._entry.iter_unpack(content[self._first : self._end]))
        (self.next,) = struct.unpack_from(self._offset_format, content, self._end)
        self._count_format = count_format

    def number(self, tag: int, otherwise: int = 0) -> int:
        """Return a tag's value if it is a whole number that stands in the entry itself; else ``otherwise``."""
        for name, kind, count, value in self.entries:
            if name == tag and count >= 1 and (letter := {1: "B", 3: "H", 4: "I", 16: "Q"}.get(kind)):
                return int(struct.unpack_from(self._order + letter, value)[0])
        return otherwise

    def count(self, tag: int) -> int:
        """Return how many values a tag has; 0 if it is missing."""
        return next((int(count) for name, _, count, _ in self.entries if name == tag), 0)

    def reduced(self, content: bytes, tags: frozenset[int]) -> bytes:
        """Return the file with these tags alone, and without further pages."""
        kept = b"".join(self._entry.pack(*entry) for entry in self.entries if entry[0] in tags)
        count = struct.pack(self._count_format, len(kept) // self._entry.size)
        after = self._end + struct.calcsize(self._offset_format)
        directory = (count + kept).ljust(after - self.start, b"\0")
        return b"".join((content[: self.start], directory, content[after:]))


def _orientation(exif: bytes) -> int:
    """Return the orientation in an EXIF block; 1 if the block is damaged, since it is no part of the picture."""
    try:
        orientation = _Directory(exif).number(_ORIENTATION, 1)
    except (KeyError, ValueError, struct.error, InputError):
        return 1
    return orientation if 1 <= orientation <= 8 else 1


def _tiff(content: bytes) -> Structure:
    directory = _Directory(content)
    # Pages aren't counted, since they may be endless. A directory that names itself as the next one is the last.
    if directory.next not in (0, directory.start):
        raise InputError("expected a single image, got more than one frame or page")
    tags = [entry[0] for entry in directory.entries]
    if len(set(tags)) < len(tags):
        raise ValueError("a tag that comes twice")
    for tag, kind, count, _ in directory.entries:
        if tag in _PIXEL_TAGS and (count > (MAX_PARTS if tag in _LIST_TAGS else 16) or kind in (0, 2)):
            raise InputError(f"expected a plain TIFF, got {count} values of type {kind} in tag {tag}")
    if (compression := directory.number(259, 1)) not in _COMPRESSIONS:
        known = ", ".join(dict.fromkeys(_COMPRESSIONS.values()))
        raise InputError(f"expected a TIFF with one of the compressions {known}, got number {compression}")
    _check_tiles(directory)
    orientation = directory.number(_ORIENTATION, 1)
    if any(tag not in _HARMLESS_TAGS or count > MAX_PARTS for tag, _, count, _ in directory.entries):
        content = directory.reduced(content, _PIXEL_TAGS)
    return Structure("TIFF", content, orientation if 1 <= orientation <= 8 else 1)


def _check_tiles(directory: _Directory) -> None:
    """Raise InputError unless strips or tiles cover the picture once. Each costs its whole size, wherever it lies."""
    width, height = directory.number(256), directory.number(257)
    check_pixels(height, width)
    strips, tiles = directory.count(273), directory.count(324)
    if strips and tiles:
        raise InputError("expected a TIFF of strips or of tiles, got both")
    tile_width, tile_height = width, min(directory.number(278, height), height)
    if tiles:
        tile_width, tile_height = directory.number(322), directory.number(323)
    across, down = -(-width // tile_width), -(-height // tile_height)
    planes = directory.number(277, 1) if directory.number(284, 1) == 2 else 1
    if tiles + strips > across * down * planes:
        raise InputError(f"expected {across * down * planes} strips or tiles of a TIFF, got {tiles + strips}")
    if tiles and across * tile_width * down * tile_height > width * height * 5 // 4 + TILE_MARGIN:
        raise InputError(f"expected tiles about as large as the picture, got {tile_height} x {tile_width}")
