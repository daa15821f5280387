"""An extractor's outputs: pyramid levels and an embedding, in the host's memory or in the GPU's."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEVEL_NAME = "layer[1-9][0-9]?"  # a regular expression; a narrow one, since a recipe's files are named after its levels


class Features(NamedTuple):
    """The features of n images, in the host's memory.

    Attributes
    ----------
    levels
        (n, c, h, w) float32 or float16 each, finest first.
    embedding
        (n, d) float32.
    """

    levels: tuple[NDArray[np.floating], ...]
    embedding: NDArray[np.float32]


class Stream(NamedTuple):
    """A CUDA stream, and the object that must live as long as work runs on it.

    Attributes
    ----------
    address
        The stream's address.
    owner
        The object that owns the stream.
    """

    address: int
    owner: object


class DeviceFeatures(NamedTuple):
    """The features of one image; the levels stay in the memory where they were made.

    Attributes
    ----------
    levels
        The address of each level, (c, h, w), finest first; valid until the next image is extracted.
    half
        Whether the levels are float16; else they are float32.
    embedding
        (d,) float32, on the host.
    """

    levels: tuple[int, ...]
    half: bool
    embedding: NDArray[np.float32]
