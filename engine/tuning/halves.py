"""Labelled images in two halves: settings are chosen on one, and the final figures come from the other.

Each kind is split by the hashes of its images' names, so the halves are the same in every run, and an image that is
added moves at most one other image of each kind to the other half.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from ..errors import InputError

LEAST_ABNORMAL, LEAST_GOOD = 4, 1  # images in each half: a single image more or less must not decide alone


class Named(NamedTuple):
    """A labelled image: its path below the data set's folder, its kind, and whether it is abnormal."""

    name: str
    kind: str
    label: bool


class Halves(NamedTuple):
    """The indices of the images in each half, ascending."""

    choosing: tuple[int, ...]
    final: tuple[int, ...]


def split(images: Sequence[Named]) -> Halves:
    """Split labelled images into two halves with the same number of images of each kind, or one more or less.

    Raises
    ------
    InputError
        A half would have fewer images than a choice or a figure needs.
    """
    for label, word, least in ((True, "abnormal", LEAST_ABNORMAL), (False, "good", LEAST_GOOD)):
        if (count := sum(image.label == label for image in images)) < 2 * least:
            raise InputError(
                f"labelled: expected at least {2 * least} {word} images, {least} for each half, got {count}: settings "
                "are chosen on one half, and the final figures come from the other"
            )
    kinds: dict[tuple[bool, str], list[int]] = defaultdict(list)
    for index, image in enumerate(images):
        kinds[image.label, image.kind].append(index)
    choosing, final = list[int](), list[int]()
    surplus = {False: 0, True: 0}  # by label: how many more images the half for choosing has
    for (label, _), indices in sorted(kinds.items()):
        ordered = sorted(
            indices, key=lambda index: hashlib.sha256(images[index].name.encode("utf-8", "surrogateescape")).digest()
        )
        # Of an odd number, the half that has fewer images so far gets one more.
        middle = (len(ordered) + (surplus[label] <= 0)) // 2
        choosing += ordered[:middle]
        final += ordered[middle:]
        surplus[label] += 2 * middle - len(ordered)
    return Halves(tuple(sorted(choosing)), tuple(sorted(final)))
