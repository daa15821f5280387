"""From the matcher's distance map to the anomaly map, its mask and its regions.

``anomaly_map = Gaussian(sigma) of the bilinearly enlarged distances``, over the pixels that aren't ignored. Nothing is
rescaled by an image's own range: two frames' maps can be compared. ``csrc/matcher/heatmap.hpp`` makes the map,
``csrc/runtime/regions.hpp`` the mask and the regions; pictures are drawn in ``overlay.py``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .. import _native
from ..errors import InputError
from ..images.resizing import Placement
from ..resources import asked_instruction_set
from ..result import Region

# Half of float32's range: weighted means of smaller numbers can't round to infinity.
LARGEST_DISTANCE = float(np.finfo(np.float32).max) / 2


class Heatmap:
    """Distance maps to anomaly maps: enlarged to the extractor's input size and smoothed, for one recipe's frames.

    Enlarging is bilinear between pixel centres, and beyond the outermost centres the edge's value holds. The Gaussian
    reaches ``int(4 * sigma + 0.5)`` pixels far. At the border it mirrors the map with the edge pixel repeated, which
    scipy calls ``reflect``.

    With an ignore mask, both steps are weighted means over the scored pixels. So ignored pixels neither raise nor lower
    the map beside them: a defect there keeps its strength. For a pixel that isn't ignored, with s = 1 at the scored
    pixels of the distance map and S = 1 at those of the input::

        enlarged = bilinear(s * distances) / bilinear(s)
        map      = Gaussian(S * enlarged) / Gaussian(S)

    Neither divisor can be 0: the pixel itself is part of Gaussian(S), and the distance map's pixel that covers it
    is scored (see :func:`ignored_distances`) and weighs at least 1/4 in bilinear(s). Both divisors are the same for all
    frames.

    Larger distances never give a smaller map: if no distance of one frame is above the same distance of another, then
    no pixel of its map is, roundings included (``csrc/README.md``, "The anomaly map"). Calls from several threads don't
    wait for each other.

    Parameters
    ----------
    distances_size
        (h, w) of the distance maps, the finest level's.
    size
        (H, W) of the extractor's input, neither side smaller than theirs.
    sigma
        Standard deviation in pixels of the input; 0 leaves the enlarged map as it is.
    ignore
        (H, W) bool: pixels of the input that aren't scored; None: all are.
    threads
        Of the team that makes a map. The caller's thread alone makes a small map, and any map while the team makes
        another one.

    Attributes
    ----------
    ignored_distances
        (h, w) bool, as :func:`ignored_distances` returns it; None: all are scored.
    native
        What makes the maps.

    Raises
    ------
    InputError
        Sizes that don't fit each other, a sigma outside of 0 to 1000, or an instruction set, named by
        ``SPADELINE_INSTRUCTION_SET``, that this machine lacks.
    """

    def __init__(
        self,
        distances_size: tuple[int, int],
        size: tuple[int, int],
        *,
        sigma: float,
        ignore: NDArray[np.bool_] | None = None,
        threads: int = 1,
    ) -> None:
        self._size = size
        self.ignored_distances = None
        if ignore is not None:
            ignore = np.ascontiguousarray(ignore)
            self.ignored_distances = ignored_distances(ignore, distances_size)
        try:
            self.native = _native.Heatmap(
                distances_size,
                size,
                sigma=sigma,
                ignore=ignore,
                ignored_distances=self.ignored_distances,
                threads=threads,
                instruction_set=asked_instruction_set(),
            )
        except ValueError as error:
            raise InputError(str(error)) from None

    def anomaly_map(self, distances: NDArray[np.floating], *, root: bool = False) -> NDArray[np.float32]:
        """Return the (H, W) float32 map of (h, w) float32 or float64 distances, or of their roots; 0 where ignored.

        Raises
        ------
        InputError
            A distance, or root, that isn't a number or that float32 can't hold: the map would hold NaN or infinity.
        """
        anomaly_map = np.empty(self._size, np.float32)
        try:
            largest = self.native.map(np.ascontiguousarray(distances, np.float64), root=root, out=anomaly_map)
        except (ValueError, RuntimeError) as error:
            raise InputError(str(error)) from None
        check_largest(largest)
        return anomaly_map


def check_largest(distance: float) -> None:
    """Raise InputError unless a map of float32 can hold a frame's largest distance, or root."""
    if not distance <= LARGEST_DISTANCE:  # NaN, too, fails this
        raise InputError(
            f"distances: expected numbers up to {LARGEST_DISTANCE:.3g}, which a map of float32 holds, "
            f"got {distance:.3g}: the frame's features are beyond comparison with the normal images'"
        )


def ignored_distances(ignore: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return which pixels of the distance map need no distance: those that cover ignored pixels alone.

    So every scored pixel of the input lies on a pixel of the distance map that has a distance.

    Parameters
    ----------
    ignore
        (H, W) bool, of the extractor's input size.
    size
        (h, w) of the distance map, the finest level's.

    Returns
    -------
    ndarray
        (h, w) bool.
    """
    return _native.ignored_distances(np.ascontiguousarray(ignore), size)


def find_regions(
    anomaly_map: NDArray[np.float32],
    theta: float,
    *,
    placement: Placement,
    frame_size: tuple[int, int],
    mask: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.bool_], tuple[Region, ...]]:
    """Return the mask ``anomaly_map > theta`` and its 8-connected regions, highest score first.

    Parameters
    ----------
    anomaly_map
        (H, W) float32.
    placement
        Where the map lies in the frame.
    frame_size
        (height, width) of the frame: boxes are rounded outwards to its whole pixels and don't leave it.
    mask
        (H, W) bool, if it was made already.

    Returns
    -------
    mask : ndarray
        (H, W) bool.
    regions : tuple of Region
        Regions of equal scores are sorted by the peak's position, row by row. Of equal peaks within a region, the
        first in that order is taken.
    """
    made = mask is None
    mask = np.empty(anomaly_map.shape, np.bool_) if mask is None else np.ascontiguousarray(mask)
    found = _native.find_regions(
        np.ascontiguousarray(anomaly_map),
        theta if made else None,
        mask=mask,
        placement=placement,
        frame_size=frame_size[:2],
    )
    return mask, tuple(Region(*region) for region in found)
