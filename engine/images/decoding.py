"""From an image file's bytes to pixels, in bounded time and memory, whoever wrote the file.

Only regular files are opened, in a way that can't block. A file is read once, so its hash and its pixels come from the
same bytes. A file that shrinks can't end the process, as it could if it were mapped into memory.

The worst case of each format, in seconds and bytes per pixel, is measured in the tests' ``fuzz/images.py``. At
MAX_PIXELS, decoding takes at most 1 GB of memory and twice the file's size.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from ..errors import InputError
from .structure import MAX_PIXELS, Structure, check_pixels, examine

# A picture of MAX_PIXELS takes 400 MB without compression, as RGBA.
MAX_FILE_BYTES = 2**29
# A ResNet's finest level has one position for every 4 x 4 pixels. An image with fewer than two positions a side is a
# failed capture.
MIN_SIDE = 8
# Codecs that Pillow runs in Python: 0.4 us for a pixel of a run-length bitmap, 2 us for a sample of the others. For
# each, the most pixels and the most bytes for a pixel: codes have two bytes, samples four characters with white space.
MAX_SLOW = {"bmp_rle": (4_000_000, 3), "ppm": (1_000_000, 4), "ppm_plain": (1_000_000, 16)}
# Pixels copied at once from Pillow's memory. Strips save 3 to 8 bytes per pixel, and this many stay in the cache.
STRIP_PIXELS = 2**19

_KEPT_MODES = ("L", "RGB", "RGBA")
_EXPANDED_MODES = {"1": "L", "P": "RGB", "LA": "RGBA"}
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_opening = threading.Lock()  # warnings.catch_warnings isn't safe in threads


@dataclass(frozen=True, eq=False)
class Picture:
    """An image file, decoded.

    Attributes
    ----------
    pixels
        (h, w) gray, (h, w, 3) RGB or (h, w, 4) RGBA, uint8, as a viewer shows them.
    sha256
        SHA-256 of the file's bytes.
    turned
        Whether its EXIF orientation had to be applied.
    """

    pixels: NDArray[np.uint8]
    sha256: str
    turned: bool


def read_picture(path: str | os.PathLike[str]) -> Picture:
    """Read an image file and its hash. For the pixels alone, :func:`.reading.read_image` is faster.

    Raises
    ------
    InputError
        As :func:`.reading.read_image`.
    """
    content = read_file(path)
    pixels, turned = decode(content, path)
    return Picture(pixels, hashlib.sha256(content).hexdigest(), turned)


def open_file(path: str | os.PathLike[str]) -> io.BufferedReader:
    """Open a regular file, or a link to one, for reading.

    Raises
    ------
    InputError
        A folder, pipe, socket or device, or a file that can't be opened or has more than ``MAX_FILE_BYTES``.
    """
    try:
        _check_kind(path, Path(path).stat())  # comes before opening, on which alone a device may act
        # A pipe may have taken the file's place by now. Without O_NONBLOCK, opening it would wait for a writer.
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), "rb")
    except (OSError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        _refuse(path, error)
    try:
        _check_kind(path, os.fstat(file.fileno()))
    except InputError:
        file.close()
        raise
    return file


def file_digest(path: str | os.PathLike[str]) -> str:
    """Return a file's SHA-256 in hexadecimal digits. Raises InputError as :func:`open_file` does."""
    with open_file(path) as file:
        try:
            return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            _refuse(path, error)


def read_file(path: str | os.PathLike[str]) -> bytes:
    """Return a file's bytes.

    Raises
    ------
    InputError
        As :func:`open_file`, or the file was written to while it was read.
    """
    with open_file(path) as file:
        try:
            before = os.fstat(file.fileno())
            content = file.read(before.st_size + 1)
            after = os.fstat(file.fileno())
        except OSError as error:
            _refuse(path, error)
    if len(content) != before.st_size or (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise InputError(f"{path}: expected a file that nobody writes to while it is read, got one that changed")
    return content


def decode(content: bytes, path: str | os.PathLike[str]) -> tuple[NDArray[np.uint8], bool]:
    """Return an image file's pixels, and whether they had to be turned. ``path`` is only named in errors.

    Raises
    ------
    InputError
        As :func:`.reading.read_image`.
    """
    try:
        structure = examine(content)
        with _open(structure) as image:
            _check_header(structure, image)
            mode = _EXPANDED_MODES.get(image.mode, image.mode)
            if image.mode == "P" and "transparency" in image.info:
                mode = "RGBA"
            pixels = _pixels(image, mode)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except Exception as error:  # noqa: BLE001 - on damaged files the decoders raise errors of any kind
        _refuse(path, error)
    return _turned(pixels, structure.orientation), structure.orientation != 1


def _check_kind(path: str | os.PathLike[str], status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path}: expected an image file, got {_KINDS.get(stat.S_IFMT(status.st_mode), 'no file')}")
    if status.st_size > MAX_FILE_BYTES:
        raise InputError(f"{path}: expected a file of at most {MAX_FILE_BYTES} bytes, got {status.st_size}")


def _open(structure: Structure) -> ImageFile.ImageFile:
    with _opening, warnings.catch_warnings():
        # Pillow warns of sizes, which are checked later, and of headers, which fail later.
        warnings.simplefilter("ignore")
        return Image.open(io.BytesIO(structure.content), formats=(structure.format,))


def _check_header(structure: Structure, image: ImageFile.ImageFile) -> None:
    width, height = image.size
    check_pixels(height, width)
    if min(width, height) < MIN_SIDE:
        raise InputError(f"expected sides of at least {MIN_SIDE} pixels, got {height} x {width}")
    if structure.format in ("PNG", "WEBP") and getattr(image, "n_frames", 1) > 1:
        raise InputError("expected a single image, got more than one frame or page")
    wanted = "8 bits per channel gray, RGB or RGBA"
    if image.mode not in _KEPT_MODES and image.mode not in _EXPANDED_MODES:
        raise InputError(f"expected {wanted}, got mode {image.mode}")
    if _stores_16_bits(image):
        raise InputError(f"expected {wanted}, got 16 bits per channel")
    codec = image.tile[0][0] if image.tile else ""
    if codec in MAX_SLOW:
        most_pixels, most_bytes = MAX_SLOW[codec]
        check_pixels(height, width, most_pixels)
        if len(structure.content) > most_bytes * width * height + 2**16:
            raise InputError(f"expected at most {most_bytes} bytes for each of {height} x {width} pixels, got more")


def _stores_16_bits(image: ImageFile.ImageFile) -> bool:
    # Pillow opens 16-bit colour as 8-bit "RGB" and drops the low bytes. Only the decoder's arguments show it.
    # "BGR;16" is a bitmap's pixel of 5, 6 and 5 bits, which is less than 8 bits per channel.
    if image.format == "PPM":
        return any(isinstance(tile.args, tuple) and tile.args[1] > 255 for tile in image.tile)
    return any(re.search(r"(?<!BGR);16", str(tile.args)) for tile in image.tile)


def _pixels(image: Image.Image, mode: str) -> NDArray[np.uint8]:
    width, height = image.size
    rows = max(1, STRIP_PIXELS // width)
    if height <= rows:
        return np.array(image if mode == image.mode else image.convert(mode))
    image.load()
    bands = Image.getmodebands(mode)
    pixels = np.empty((height, width) if bands == 1 else (height, width, bands), np.uint8)
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height)))
        pixels[top : top + rows] = np.asarray(strip if mode == image.mode else strip.convert(mode))
    return pixels


def _turned(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Return the pixels as a viewer shows them under an EXIF orientation."""
    if orientation == 1:
        return pixels
    shown = pixels.swapaxes(0, 1) if orientation >= 5 else pixels
    if orientation in (3, 4, 7, 8):
        shown = shown[::-1]
    if orientation in (2, 3, 6, 7):
        shown = shown[:, ::-1]
    return np.ascontiguousarray(shown)


def _refuse(path: str | os.PathLike[str], error: Exception) -> NoReturn:
    if isinstance(error, UnidentifiedImageError):
        text = "expected an undamaged image, got one whose header isn't that of 8 bits per channel"
    elif isinstance(error, Image.DecompressionBombError):
        text = f"expected at most {MAX_PIXELS} pixels, got far more"
    elif isinstance(error, MemoryError):
        text = "expected an image that there is memory for, got MemoryError"
    elif isinstance(error, OSError) and error.strerror:
        text = f"expected an image file, got: {error.strerror}"
    else:
        text = f"expected an undamaged image, got: {' '.join(str(error).split()) or type(error).__name__}"
    raise InputError(f"{path}: {text}") from error
