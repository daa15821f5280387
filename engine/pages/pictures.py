"""The small pictures in pages: frames, anomaly maps, and the nearest normal images."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import InputError
from ..images.decoding import read_picture
from ..images.resizing import Placement, as_rgb, place
from ..images.turning import turned
from ..inspect.overlay import overlay
from ..recipe.records import ImageRecord
from ..settings import Framing

_THUMBNAIL_SIDE = 320  # pixels of the longer side: sharp at the size shown, and a page of some 2 MB


@dataclass(frozen=True, kw_only=True)
class Case:
    """One image for the macro in ``cases.html``.

    Each of ``scores`` is name, value, the threshold's symbol, and its value. ``pictures`` are data URLs by caption.
    """

    name: str
    wrong: bool
    verdict: str
    scores: tuple[tuple[str, float, str, float], ...]
    nearest_normal: str
    pictures: dict[str, str]


def thumbnail(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture that is at most as large as a page shows it."""
    factor = _THUMBNAIL_SIDE / max(picture.shape[:2])
    if factor >= 1:
        return picture
    width, height = (max(round(side * factor), 1) for side in (picture.shape[1], picture.shape[0]))
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def heat_picture(
    frame: NDArray[np.uint8],
    anomaly_map: NDArray[np.float32],
    theta: float,
    *,
    framing: Framing,
    ignore: NDArray[np.bool_] | None,
) -> NDArray[np.uint8]:
    """Return the thumbnail of an RGB frame with its map; the map is drawn on the small frame, so lines stay sharp."""
    small = thumbnail(frame)
    _, placement = place(frame, anomaly_map.shape[:2], framing=framing)
    y, x = small.shape[0] / frame.shape[0], small.shape[1] / frame.shape[1]
    placement = Placement(placement.scale_y * y, placement.scale_x * x, placement.top * y, placement.left * x)
    return overlay(small, anomaly_map, theta, placement=placement, ignore=ignore)


def normal_picture(record: ImageRecord, path: Path | None) -> NDArray[np.uint8] | None:
    """Return the thumbnail of the picture that was fitted; None if the file is gone or another picture.

    The hash is compared, since many folders hold a name such as 000.png.
    """
    try:
        picture = None if path is None else read_picture(path)
    except InputError:  # it can't be read, or isn't an image any more
        return None
    if picture is None or picture.sha256 != record.sha256:
        return None
    rgb = as_rgb(picture.pixels)
    return thumbnail(turned(rgb, record.degrees) if record.degrees else rgb)


def data_url(picture: NDArray[np.uint8]) -> str:
    """Return a picture as a URL that holds it, so that a page needs no file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
