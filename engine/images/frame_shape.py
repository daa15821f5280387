"""The frames that a recipe knows by their height and width, and whether another one has the same proportions.

A frame of another size is resized and compared as ever. One of other proportions shows another region, or parts that
are stretched: its verdict would mean nothing.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Sequence

from ..errors import InputError
from ..settings import FrameShape

Size = tuple[int, int]


def same_proportions(a: Size, b: Size) -> bool:
    """Whether two sizes (height, width) may be one frame's, scaled: as exact as whole pixels allow.

    If b is a scaled by s, each side off by half a pixel from rounding, or both by less than one from cutting off,
    ``|a[0] * b[1] - a[1] * b[0]|`` is at most a's longer side.
    """
    return abs(a[0] * b[1] - a[1] * b[0]) <= max(*a, *b)


def sizes_text(sizes: Iterable[Size]) -> str:
    """Say how many frames there are of each size, the most frequent first."""
    counted = Counter(sizes).most_common()
    return ", ".join(f"{count} of {height} x {width}" for (height, width), count in counted)


def mixed_proportions(sizes: Iterable[Size]) -> bool:
    """Whether some of these sizes have other proportions than the first one."""
    different = list(dict.fromkeys(sizes))
    return any(not same_proportions(different[0], size) for size in different)


class FrameShapes:
    """The proportions that a recipe's frames may have.

    Parameters
    ----------
    sizes
        (height, width) of the frames that are known; none: any is right.
    rule
        What to make of other ones: ``"error"``, ``"warn"`` or ``"any"``.
    prepared
        A size that is always right: a frame that was resized to the extractor's input beforehand. None: there is none.
    """

    def __init__(self, sizes: Iterable[Size], *, rule: FrameShape, prepared: Size | None) -> None:
        self._known = tuple(dict.fromkeys(sizes))
        self._rule = rule
        self._prepared = prepared

    def check(self, size: Sequence[int]) -> None:
        """Look at a frame's (height, width), and warn if the rule is "warn".

        Raises
        ------
        InputError
            Other proportions than all known ones, under the rule "error".
        """
        frame = (int(size[0]), int(size[1]))
        if self._rule == "any" or not self._known or frame == self._prepared:
            return
        if any(same_proportions(frame, known) for known in self._known):
            return
        text = (
            f"frame: expected the proportions of {self._known[0][0]} x {self._known[0][1]}, as in fit, got "
            f"{frame[0]} x {frame[1]}: was the camera's region changed? Fit anew with frames like this one, or "
            "take any with: spadeline calibrate --frame-shape any"
        )
        if self._rule == "error":
            raise InputError(text)
        warnings.warn(text, UserWarning, stacklevel=3)
