"""Where a test image is truly anomalous: its masks, and their regions in the geometry of its anomaly map."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..folders.dataset import LabelledImage
from ..images.reading import read_mask
from ..images.resizing import Placement, as_rgb, place
from ..settings import Framing


def true_regions(
    image: LabelledImage, frame: NDArray[np.uint8], size: tuple[int, int], *, framing: Framing
) -> NDArray[np.int32] | None:
    """Return where a test image is anomalous, in the geometry of its anomaly map.

    Regions are the 8-connected ones of the mask itself, since a crack may fall apart at the map's size. A region so
    small that no map pixel's centre lies in it gets the map pixel that holds its centroid, unless another region has
    that pixel. A region outside of the part of the frame that the framing shows gets no pixel.

    Parameters
    ----------
    image
        The test image.
    frame
        Its pixels, as :func:`.images.reading.read_image` returns them.
    size
        (H, W) of the anomaly map, the extractor's input.
    framing
        The recipe's.

    Returns
    -------
    ndarray or None
        (H, W) int32: the number of each pixel's region, 0 where normal; None for an abnormal image without a mask.

    Raises
    ------
    InputError
        A mask that can't be read, or of another size than its image.
    """
    if not image.mask_paths:
        return None if image.label else np.zeros(size, np.int32)
    _, placement = place(as_rgb(frame), size, framing=framing)
    mask = defect_mask(image, (frame.shape[0], frame.shape[1]))
    _, regions, _, centroids = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    placed = _placed(np.asarray(regions, np.int32), size, placement)
    for number in np.setdiff1d(np.arange(1, len(centroids)), placed):
        column, row = centroids[number]
        y, x = (int(np.floor(place_ + 0.5)) for place_ in placement.to_input(row, column))
        if 0 <= y < size[0] and 0 <= x < size[1] and placed[y, x] == 0:
            placed[y, x] = number
    return placed


def defect_mask(image: LabelledImage, frame_size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the pixels that any of an image's masks marks: (h, w) bool, all false without a mask.

    Raises
    ------
    InputError
        A mask that can't be read, or not of the frame's (height, width).
    """
    mask = np.zeros(frame_size, bool)
    for path in image.mask_paths:
        mask |= read_mask(path, frame_size=frame_size)
    return mask


def _placed(regions: NDArray[np.int32], size: tuple[int, int], placement: Placement) -> NDArray[np.int32]:
    """Return regions in the anomaly map's geometry: each map pixel takes the value under its centre."""
    rows = (np.arange(size[0]) + 0.5) * placement.scale_y + placement.top
    columns = (np.arange(size[1]) + 0.5) * placement.scale_x + placement.left
    return regions[np.ix_(rows.astype(np.intp), columns.astype(np.intp))]
