"""The heights and widths of a recipe's frames, and whether another frame has the same proportions.

A frame of another size is resized and compared as usual. A frame of other proportions shows another region, or
stretched parts, so its verdict would mean nothing.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Sequence

from ..errors import InputError
from ..settings import FrameShape

Size = tuple[int, int]


def same_proportions(a: Size, b: Size) -> bool:
    """Whether one size (height, width) may be the other one scaled, as exactly as whole pixels can tell.

    If b is a scaled, and each side of b is off by half a pixel from rounding, or both by less than a pixel from cutting
    off, then ``|a[0] * b[1] - a[1] * b[0]|`` is at most a's longer side.
    """
    return abs(a[0] * b[1] - a[1] * b[0]) <= max(*a, *b)


def sizes_text(sizes: Iterable[Size]) -> str:
    """Return as text how many frames there are of each size, the most frequent size first."""
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
        (height, width) of the known frames. Empty: any frame is accepted.
    rule
        What happens to a frame of other proportions: ``"error"``, ``"warn"`` or ``"any"``.
    prepared
        A size that is always accepted, for frames that were resized to the extractor's input beforehand. None: there
        is none.
    """

    def __init__(self, sizes: Iterable[Size], *, rule: FrameShape, prepared: Size | None) -> None:
        self._known = tuple(dict.fromkeys(sizes))
        self._rule = rule
        self._prepared = prepared

    def check(self, size: Sequence[int]) -> None:
        """Check a frame's (height, width); warn of other proportions if the rule is "warn".

        Raises
        ------
        InputError
            The frame has other proportions than all known ones, and the rule is "error".
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
