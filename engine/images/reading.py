"""Reads image files as pixels, as the extractor's input and as masks.

They are decoded in :mod:`.decoding` and resized in :mod:`.resizing`.
"""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..settings import Framing
from .decoding import decode, read_file
from .masks import marked
from .resizing import as_rgb, place


def read_image(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read an image file's pixels as a viewer shows them.

    An EXIF orientation is applied, since masks are drawn on what a person sees. A camera's arrays have no orientation,
    so they must be turned as viewers show its files. Palettes are expanded. One bit becomes 0 or 255. Of a camera's
    multi-picture JPEG, the main picture is taken. No colour profile is applied.

    Returns
    -------
    ndarray
        (h, w) gray, (h, w, 3) RGB or (h, w, 4) RGBA.

    Raises
    ------
    InputError
        Not a regular file, or one of more than ``MAX_FILE_BYTES``; not a readable image of 8 bits per channel; several
        pages or frames; a side below ``MIN_SIDE``; more than ``MAX_PIXELS`` (half of it for WebP, a hundredth for plain
        PNM); or made so that decoding would take longer than its pixels explain.
    """
    pixels, _ = decode(read_file(path), path)
    return pixels


def read_placed(path: str | os.PathLike[str], size: tuple[int, int], *, framing: Framing) -> NDArray[np.uint8]:
    """Read an image file as the extractor takes it: (H, W, 3) RGB of the given size.

    Raises
    ------
    InputError
        As for :func:`read_image`, or an image that can't be placed; the text names the file.
    """
    rgb = as_rgb(read_image(path))
    try:
        return place(rgb, size, framing=framing)[0]
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def read_mask(path: str | os.PathLike[str], *, frame_size: tuple[int, int] | None = None) -> NDArray[np.bool_]:
    """Read an image file as a mask: (h, w) bool, true where :func:`.masks.marked` finds it marked.

    Raises
    ------
    InputError
        As for :func:`read_image`, or the mask doesn't have its frame's (height, width).

    Warns
    -----
    UserWarning
        Nothing or everything is marked, or there are more than two populations of values.
    """
    picture = read_image(path)
    if frame_size is not None and picture.shape[:2] != frame_size:
        wanted, came = (f"{height} x {width}" for height, width in (frame_size, picture.shape[:2]))
        raise InputError(f"{path}: expected a mask of its image's size {wanted}, got {came}")
    return marked(picture, path)
