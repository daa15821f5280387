"""Exact copies among normal images, found by their pixels: a file's format doesn't matter.

An image that is left out of its own comparison would still find its copy, and score 0. Images that merely look alike,
such as two shots of one part, are no copies; ``suspects.py`` finds them.
"""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..recipe.records import ImageRecord

MOST_NAMED = 5  # images that a sentence names


def pixels_digest(rgb: NDArray[np.uint8]) -> str:
    """Return the SHA-256, in lower-case hex, of an image's height, width and (h, w, 3) pixels."""
    digest = hashlib.sha256(f"{rgb.shape[0]} x {rgb.shape[1]}\n".encode())
    digest.update(np.ascontiguousarray(rgb).data)
    return digest.hexdigest()


def find_copies(
    records: Iterable[ImageRecord], *, among: Collection[ImageRecord] = ()
) -> tuple[list[int], list[tuple[str, str]]]:
    """Separate copies of earlier images, or of images in ``among``, from images that come for the first time.

    Returns
    -------
    firsts
        Indices of the records that are no copies.
    copies
        (name of the copy, name of its original).
    """
    originals = {digest: record.name for record in reversed(tuple(among)) for digest in digests(record)}
    firsts, copies = [], []
    for index, record in enumerate(records):
        original = next((originals[digest] for digest in digests(record) if digest in originals), None)
        if original is None:
            firsts.append(index)
            originals |= dict.fromkeys(digests(record), record.name)
        else:
            copies.append((record.name, original))
    return firsts, copies


def without_copies(images: Sequence[ImageRecord]) -> list[int]:
    """Return the indices of the images that have no copy among the others."""
    count = Counter(digest for image in images for digest in digests(image))
    return [index for index, image in enumerate(images) if all(count[digest] == 1 for digest in digests(image))]


def warn_of_copies(copies: Sequence[tuple[str, str]], total: int) -> None:
    """Warn of images that are left out; the warning names the caller's caller's line."""
    if copies:
        named = some([f"{name} of {original}" for name, original in copies])
        are = "is an exact copy" if len(copies) == 1 else "are exact copies"
        text = f"{len(copies)} of {total} images {are} and left out: {named}"
        warnings.warn(text, UserWarning, stacklevel=3)


def some(texts: Sequence[str]) -> str:
    """Return the first few texts as part of a sentence."""
    return ", ".join(texts[:MOST_NAMED]) + (", …" if len(texts) > MOST_NAMED else "")


def digests(record: ImageRecord) -> set[str]:
    """Return the digests that copies have in common; that of the file alone if an older version stored the image."""
    return {digest for digest in (record.pixels_sha256, record.sha256) if digest is not None}
