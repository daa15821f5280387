"""Which normal images are copies of each other, told by their pixels: a file's format doesn't matter.

Left out of its own comparison, an image would still find its copy, and score 0. What merely looks alike, such as two
shots of one part, is no copy: see :mod:`.suspects`.
"""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..recipe.records import ImageRecord

MOST_NAMED = 5  # images in a sentence


def pixels_digest(rgb: NDArray[np.uint8]) -> str:
    """Return the SHA-256, in lower-case hex, of an image's height, width and (h, w, 3) pixels."""
    digest = hashlib.sha256(f"{rgb.shape[0]} x {rgb.shape[1]}\n".encode())
    digest.update(np.ascontiguousarray(rgb).data)
    return digest.hexdigest()


def find_copies(
    records: Iterable[ImageRecord], *, among: Collection[ImageRecord] = ()
) -> tuple[list[int], list[tuple[str, str]]]:
    """Tell the images that come for the first time from copies of earlier ones, or of ``among``.

    Returns
    -------
    firsts
        Indices of the records that are no copies.
    copies
        (name of the copy, name of its original).
    """
    originals = {digest: record.name for record in reversed(tuple(among)) for digest in _digests(record)}
    firsts, copies = [], []
    for index, record in enumerate(records):
        original = next((originals[digest] for digest in _digests(record) if digest in originals), None)
        if original is None:
            firsts.append(index)
            originals |= dict.fromkeys(_digests(record), record.name)
        else:
            copies.append((record.name, original))
    return firsts, copies


def without_copies(images: Sequence[ImageRecord]) -> list[int]:
    """Return the indices of those images of which there is no copy among them."""
    count = Counter(digest for image in images for digest in _digests(image))
    return [index for index, image in enumerate(images) if all(count[digest] == 1 for digest in _digests(image))]


def warn_of_copies(copies: Sequence[tuple[str, str]], total: int) -> None:
    """Warn, in the name of the caller's caller, of images that are left out."""
    if copies:
        named = some([f"{name} of {original}" for name, original in copies])
        are = "is an exact copy" if len(copies) == 1 else "are exact copies"
        text = f"{len(copies)} of {total} images {are} and left out: {named}"
        warnings.warn(text, UserWarning, stacklevel=3)


def some(texts: Sequence[str]) -> str:
    """Return the first few, as part of a sentence."""
    return ", ".join(texts[:MOST_NAMED]) + (", …" if len(texts) > MOST_NAMED else "")


def _digests(record: ImageRecord) -> set[str]:
    """Return what copies have in common; of the file alone where an older version stored the image."""
    return {digest for digest in (record.pixels_sha256, record.sha256) if digest is not None}
