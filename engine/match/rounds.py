"""A verdict before all distances are known: the typed door to the matcher's rounds (``csrc/matcher/rounds.hpp``)."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _native
from ..checks import check_integer
from ..errors import InputError
from ..result import Statistics
from ..settings import LARGEST_WINDOW, MOST_NEIGHBOURS, Need
from .matcher import Levels, Matcher
from .validation import checked_ids, checked_ignore, checked_query


class MapBounds(NamedTuple):
    """What is known of one query's anomaly map.

    Attributes
    ----------
    anomaly_map
        (H, W) float32: the map's upper bound; the map itself if it was asked for, and decided.
    lower_map
        (H, W) float32: the map's lower bound; equal to the upper one wherever all distances are known.
    neighbours
        (h, w, kappa, 3) int32 as (image, y, x), nearest first: the nearest that were found; -1 where ignored, and where
        fewer were found.
    decided
        The bounds say all that was asked for. False: time was up before that.
    largest
        The largest distance that is known, or its root; it may be beyond what the map can hold.
    statistics
        What it took.
    map_s
        Seconds that the bounds of the map took, of those that the call took.
    """

    anomaly_map: NDArray[np.float32]
    lower_map: NDArray[np.float32]
    neighbours: NDArray[np.int32]
    decided: bool
    largest: float
    statistics: Statistics
    map_s: float


def decisive(theta: float) -> tuple[float, float]:
    """Return two float32 numbers: up to the first a pixel is normal, above the second it is anomalous.

    A mask compares the map with theta in float32, a label compares its maximum in float64. The two differ at one number
    at most, where theta is rounded up. So between the two numbers, a pixel needs its own value.
    """
    largest = float(np.finfo(np.float32).max)
    rounded = np.float32(min(max(theta, -largest), largest))
    below = np.nextafter(rounded, np.float32(-math.inf)) if float(rounded) > theta else rounded
    return float(below), float(rounded)


def has_rounds(matcher: Matcher) -> bool:
    """Return whether a matcher can give a verdict before it knows all distances: on the CPU, where it has bounds."""
    return matcher.device == "cpu" and matcher.path == "pruned"


def bound_map(
    matcher: Matcher,
    query_levels: Levels,
    image_ids: Sequence[int] | NDArray[np.int64],
    heatmap: _native.Heatmap,
    *,
    size: tuple[int, int],
    theta: float,
    need: Need,
    root: bool = False,
    deadline: float | None = None,
    kappa: int = 1,
    window: int | None = None,
    ignore: NDArray[np.bool_] | None = None,
) -> MapBounds:
    """Find out as much of one query's anomaly map as is needed, on the CPU.

    A matcher without rounds (see :func:`has_rounds`) finds all distances, whatever is needed. Its dense path, too, ends
    at the deadline.

    Parameters
    ----------
    matcher
        On the CPU, and not of path ``"reference"``.
    query_levels, image_ids, kappa, window, ignore
        As for :meth:`.Matcher.match`. The nearest images should come first.
    heatmap
        Makes the map of the distances.
    size
        (H, W) of the map.
    theta
        A pixel of the map above it is anomalous.
    need
        ``"map"``: the whole map. ``"mask"``: which pixels are anomalous. ``"label"``: whether any is.
    root
        The map is made of the distances' roots.
    deadline
        When to stop, by ``time.perf_counter()``; None: when all is found out.

    Raises
    ------
    InputError
        As :meth:`.Matcher.match`.
    """
    check_integer("kappa", kappa, low=1, high=MOST_NEIGHBOURS)
    if window is not None:
        check_integer("window", window, low=0, high=LARGEST_WINDOW)
    if ignore is not None:
        ignore = checked_ignore(ignore, matcher.sizes[0])
    levels, ids = checked_query(query_levels, "query"), checked_ids(image_ids)
    distances, neighbours = np.empty(matcher.sizes[0]), np.empty((*matcher.sizes[0], kappa, 3), np.int32)
    upper, lower = np.empty(size, np.float32), np.empty(size, np.float32)
    try:
        answer = matcher.native.inspect(
            (levels, ids, distances, neighbours),
            heatmap,
            upper,
            lower,
            need=need,
            root=root,
            thresholds=decisive(theta),
            remaining_s=None if deadline is None else deadline - time.perf_counter(),
            kappa=kappa,
            window=window,
            ignore=ignore,
        )
    except (ValueError, RuntimeError) as error:
        raise InputError(str(error)) from None
    decided, largest, map_s = (answer.pop(name) for name in ("decided", "largest", "map_s"))
    return MapBounds(upper, lower, neighbours, decided, largest, Statistics(path=matcher.path, **answer), map_s)
