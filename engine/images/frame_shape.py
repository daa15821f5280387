"""The heights and widths of a recipe's frames, and whether another frame has the same proportions.

A frame of another size is resized and compared as usual. A frame of other proportions shows another region, or
stretched parts, so its verdict would mean nothing. ``csrc/runtime/frame_shape.hpp`` compares proportions.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Sequence

from .. import _native
from ..errors import InputError
from ..settings import FrameShape

Size = tuple[int, int]


def sizes_text(sizes: Iterable[Size]) -> str:
    """Return as text how many frames there are of each size, the most frequent size first."""
    counted = Counter(sizes).most_common()
    return ", ".join(f"{count} of {height} x {width}" for (height, width), count in counted)


def mixed_proportions(sizes: Iterable[Size]) -> bool:
    """Whether some of these sizes have other proportions than the first one."""
    different = list(dict.fromkeys(sizes))
    return any(not _native.same_proportions(different[0], size) for size in different)


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
        self._native = _native.FrameShapes(list(sizes), prepared=prepared)
        self._rule = rule

    def check(self, size: Sequence[int]) -> None:
        """Check a frame's (height, width); warn of other proportions if the rule is "warn".

        Raises
        ------
        InputError
            The frame has other proportions than all known ones, and the rule is "error".
        """
        text = None if self._rule == "any" else self._native.complaint((int(size[0]), int(size[1])))
        if text is None:
            return
        if self._rule == "error":
            raise InputError(text)
        warnings.warn(text, UserWarning, stacklevel=3)
