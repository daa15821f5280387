"""What is asked of a frame, what retrieval finds, and the scores that come of it: plain data for chain and judge."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..checks import check_number

if TYPE_CHECKING:
    from ..images.frame_facts import FrameFacts
    from ..result import Statistics
    from ..settings import Need


class Retrieved(NamedTuple):
    """What is known of an image before its pixels are matched.

    Attributes
    ----------
    image_score
        Mean squared distance to the k_score nearest normal embeddings, or its root if the recipe says so.
    nearest_images
        (k_gallery,) int64, nearest first.
    nearest_distance
        Squared distance of the embedding to the nearest normal image's.
    seconds
        Of the stage.
    """

    image_score: float
    nearest_images: NDArray[np.int64]
    nearest_distance: float
    seconds: float


@dataclass(frozen=True, eq=False)
class Scores:
    """One image's scores, all of them finite.

    Attributes
    ----------
    retrieved
        What was known before its pixels were matched.
    map_score
        Maximum of the anomaly map. The map is never negative and 0 where ignored, so ignored pixels don't count.
    anomaly_map
        (H, W) float32 at the extractor's input size, smoothed; 0 where the recipe ignores it. An upper bound of each
        pixel, where the search ended before all distances were known.
    lower_map
        (H, W) float32, a lower bound of each pixel; the same array if the map is exact.
    decided
        Whether what was asked for is known; False: a deadline ended the search.
    neighbours
        (h, w, kappa, 3) int32 as (image, y, x); -1 where nothing under the pixel is scored, or nothing was searched.
    match_statistics
        What the matcher had to compute.
    timings_s
        Seconds by stage: match, map.
    mask
        (H, W) bool, the map above the recipe's theta; None on the CPU, where the verdict makes it.
    """

    retrieved: Retrieved
    map_score: float
    anomaly_map: NDArray[np.float32]
    lower_map: NDArray[np.float32]
    neighbours: NDArray[np.int32]
    match_statistics: Statistics
    timings_s: dict[str, float]
    decided: bool = True
    mask: NDArray[np.bool_] | None = None

    @property
    def image_score(self) -> float:
        """The retrieved images' score."""
        return self.retrieved.image_score


class Asked(NamedTuple):
    """What is asked of frames.

    Attributes
    ----------
    need
        What their results must be exact in.
    deadline
        When the search must end, by ``time.perf_counter()``; None: when it is done.
    label_known
        Tells whether a frame's label is known without its map, from what was retrieved and from the frame's facts.
    """

    need: Need
    deadline: float | None
    label_known: Callable[[Retrieved, FrameFacts | None], bool]


def deadline_in(deadline_s: float | None) -> float | None:
    """Return the time so many seconds from now, by ``time.perf_counter()``; None for None.

    Raises
    ------
    InputError
        Not a finite number of 0 or more.
    """
    now = time.perf_counter()
    if deadline_s is None:
        return None
    check_number("deadline_s", deadline_s, low=0)
    return now + deadline_s
