"""Does a frame look like one of this camera at all? Its exposure, contrast, sharpness, likeness to the normal images.

The anomaly map says where a part differs from normal ones. It says little of a black, dim, blurred or empty frame: what
is dark or smooth matches some dark or smooth spot of a normal image everywhere. So a frame outside of what the normal
images span, by the factors below, is anomalous whatever its map says. No map and no image score changes by it.

The limits follow from facts that the recipe keeps of each normal image, and from its embeddings: an image that is added
widens them at once, one that is removed narrows them. Pixels that the recipe ignores don't count; since the embedding
sees them nevertheless, likeness isn't asked for where there are any.
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

# How far beyond the normal images' own range a frame may be. benchmarks/frame_check.py tells what that costs in false
# alarms, and what it finds.
BEYOND = 1.5  # times darker than the darkest, brighter than the brightest, less contrast or sharpness than the least
UNLIKE = 2.0  # times the largest squared distance of a normal image to its nearest other one

MOST_COMPARED = 200  # normal images, evenly spread, whose nearest other one is looked for: a start must stay short
LEAST_CONTRAST = 1e-3  # gray levels; a constant frame has less, whatever the normal images are like
MOST_EXCESS = 1e6  # that is told: a black frame is infinitely many times too dark


@dataclass(frozen=True)
class FrameLimits:
    """What a frame is held against: ask it with :meth:`exceeded`.

    Attributes
    ----------
    darkest, brightest, least_contrast, least_sharpness
        Of :class:`.frame_facts.FrameFacts`.
    farthest
        Squared distance of a frame's embedding to the nearest normal one; None: any will do.
    """

    darkest: float
    brightest: float
    least_contrast: float
    least_sharpness: float
    farthest: float | None

    @classmethod
    def of(cls, facts: Sequence[FrameFacts], nearest: float | None) -> Self:
        """Return the limits that normal images set: by their facts, and :func:`farthest_nearest` if likeness counts."""
        return cls(
            darkest=min(image.brightness for image in facts) / BEYOND,
            brightest=max(image.brightness for image in facts) * BEYOND,
            least_contrast=max(min(image.contrast for image in facts) / BEYOND, LEAST_CONTRAST),
            least_sharpness=min(image.sharpness for image in facts) / BEYOND,
            farthest=None if nearest is None else nearest * UNLIKE,
        )

    def exceeded(self, facts: FrameFacts, distance: float) -> dict[Reason, float]:
        """Return the limits that a frame goes beyond, each with how many times too far it is, above 1.

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
    """Return how many times one number is the other, at most MOST_EXCESS; neither is negative."""
    return large / small if large < MOST_EXCESS * small else MOST_EXCESS if large > 0 else 0.0


def farthest_nearest(embeddings: NDArray[np.float32], retrieval: Retrieval) -> float | None:
    """Return the largest squared distance of a normal image to the nearest other one; None if there is but one."""
    chosen = np.unique(np.linspace(0, len(embeddings) - 1, min(len(embeddings), MOST_COMPARED)).astype(int))
    found = (retrieval.nearest(np.array(embeddings[index]), 1, exclude=int(index))[1] for index in chosen)
    return max((float(squared[0]) for squared in found if len(squared)), default=None)
