"""The frame check: a frame's exposure, contrast, sharpness and likeness, against limits from the normal images.

The anomaly map shows where a part differs from normal ones. It shows little of a black, dim, blurred or empty frame:
its dark or smooth pixels match some dark or smooth spot of a normal image. So a frame beyond the range of the normal
images, by some factors, is anomalous whatever its map shows. The check changes no map and no image score.

The limits follow from facts that the recipe keeps of each normal image, and from its embeddings: an image that is added
widens them at once, one that is removed narrows them. Pixels that the recipe ignores don't count. The embedding sees
them nevertheless, so likeness isn't checked if the recipe ignores any. ``csrc/runtime/frame_check.hpp`` has the factors
and makes the limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from .. import _native
from ..images.frame_facts import FrameFacts
from ..result import Reason
from .retrieval import Retrieval

_CHECKED: tuple[Reason, ...] = ("exposure", "contrast", "sharpness", "unlike")


@dataclass(frozen=True)
class FrameLimits:
    """The limits of one recipe's frames; :meth:`exceeded` compares a frame with them.

    Attributes
    ----------
    darkest, brightest, least_contrast, least_sharpness
        Limits of the brightness, contrast and sharpness in :class:`.frame_facts.FrameFacts`.
    farthest
        Largest squared distance of a frame's embedding to the nearest normal one; None: no limit.
    """

    darkest: float
    brightest: float
    least_contrast: float
    least_sharpness: float
    farthest: float | None

    @classmethod
    def of(cls, facts: Sequence[FrameFacts], nearest: float | None) -> Self:
        """Return the limits set by normal images' facts and their :func:`farthest_nearest`; None: no likeness check."""
        return cls(*_native.frame_limits([astuple(image) for image in facts], nearest))

    def exceeded(self, facts: FrameFacts, distance: float) -> dict[Reason, float]:
        """Return the limits that a frame exceeds, each with the factor by which it does, above 1.

        Parameters
        ----------
        facts
            The frame's.
        distance
            Squared distance of its embedding to the nearest normal one.
        """
        excess = _native.frame_excess(astuple(self), astuple(facts), distance)
        return {reason: times for reason, times in zip(_CHECKED, excess, strict=True) if times > 1}


def farthest_nearest(embeddings: NDArray[np.float32], retrieval: Retrieval) -> float | None:
    """Return the largest squared distance of a normal image to the nearest other one; None for a single image."""
    chosen = _native.compared_images(len(embeddings))
    found = (retrieval.nearest(np.array(embeddings[index]), 1, exclude=index)[1] for index in chosen)
    return max((float(squared[0]) for squared in found if len(squared)), default=None)
