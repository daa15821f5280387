"""The frame check: a frame's exposure, contrast, sharpness and likeness, against limits from the normal images.

The anomaly map shows where a part differs from normal ones. It shows little of a black, dim, blurred or empty frame:
its dark or smooth pixels match some dark or smooth spot of a normal image. So a frame beyond the range of the normal
images, by the factors below, is anomalous whatever its map shows. The check changes no map and no image score.

The limits follow from facts that the recipe keeps of each normal image, and from its embeddings: an image that is added
widens them at once, one that is removed narrows them. Pixels that the recipe ignores don't count. The embedding sees
them nevertheless, so likeness isn't checked if the recipe ignores any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ..images.frame_facts import FrameFacts
from ..result import Reason
from .retrieval import Retrieval

# How far beyond the normal images' own range a frame may be. benchmarks/frame_check.py measures the false alarms that
# this costs, and what the check finds.
BEYOND = 1.5  # the factor by which brightness, contrast or sharpness may lie outside of that range
UNLIKE = 2.0  # times the largest squared distance of a normal image to its nearest other one

MOST_COMPARED = 200  # normal images, evenly spread, that are compared with the others: a start must stay short
LEAST_CONTRAST = 1e-3  # gray levels; a constant frame has less, whatever the normal images are like
MOST_EXCESS = 1e6  # the largest excess reported: a black frame is infinitely many times too dark


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
        return cls(
            darkest=min(image.brightness for image in facts) / BEYOND,
            brightest=max(image.brightness for image in facts) * BEYOND,
            least_contrast=max(min(image.contrast for image in facts) / BEYOND, LEAST_CONTRAST),
            least_sharpness=min(image.sharpness for image in facts) / BEYOND,
            farthest=None if nearest is None else nearest * UNLIKE,
        )

    def exceeded(self, facts: FrameFacts, distance: float) -> dict[Reason, float]:
        """Return the limits that a frame exceeds, each with the factor by which it does, above 1.

        Parameters
        ----------
        facts
            The frame's.
        distance
            Squared distance of its embedding to the nearest normal one.
        """
        dim, glaring = _times(self.darkest, facts.brightness), _times(facts.brightness, self.brightest)
        times: dict[Reason, float] = {
            "exposure": max(dim, glaring),
            "contrast": _times(self.least_contrast, facts.contrast),
            "sharpness": _times(self.least_sharpness, facts.sharpness),
            "unlike": 0.0 if self.farthest is None else _times(distance, self.farthest),
        }
        return {reason: excess for reason, excess in times.items() if excess > 1}


def _times(large: float, small: float) -> float:
    """Return ``large / small``, at most MOST_EXCESS, and 0 for 0 / 0; neither is negative."""
    return large / small if large < MOST_EXCESS * small else MOST_EXCESS if large > 0 else 0.0


def farthest_nearest(embeddings: NDArray[np.float32], retrieval: Retrieval, families: Sequence[range]) -> float | None:
    """Return the largest squared distance of a normal image to the nearest one of another family; None for one family.

    Parameters
    ----------
    families
        Each normal image's index and those of the images that were turned from it, as :meth:`.Manifest.family` returns.
    """
    chosen = np.unique(np.linspace(0, len(families) - 1, min(len(families), MOST_COMPARED)).astype(int))
    found = (
        retrieval.nearest(np.array(embeddings[family.start]), 1, exclude=family)[1]
        for family in (families[index] for index in chosen)
    )
    return max((float(squared[0]) for squared in found if len(squared)), default=None)
