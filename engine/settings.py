"""Every setting that changes a score or a verdict.

Values are checked when the object is made, so a Settings that exists can be used, wherever it came from. Whether a
value suits the images at hand (more neighbours than images, say) is decided where it is used.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from .checks import (
    check_choice,
    check_integer,
    check_number,
    check_text,
)
from .errors import InputError

FrameShape = Literal["error", "warn", "any"]
Framing = Literal["whole", "paper"]
Upsampling = Literal["nearest", "bilinear"]
Distance = Literal["squared", "root"]
Storage = Literal["float32", "float16"]
LabelRule = Literal["map", "image", "either"]
FrameCheck = Literal["on", "off"]

MOST_IMAGES = 2**31 - 1  # image ids are int32 in the matcher
MOST_NEIGHBOURS = 1000  # the matcher's results are (h, w, kappa): a recipe must not ask for unbounded memory
LARGEST_WINDOW = 2**31 - 1
LARGEST_SIGMA = 1000.0  # pixels; the smoothing kernel is 8 sigma long
MOST_LEVELS = 4
# What faiss takes or refuses in good order: elsewhere in its grammar are strings that end the process, or that take all
# of its memory, and what they describe does nothing more for embeddings as few and as long as these.
INDEX_FACTORY = r"(PCA[1-9][0-9]{0,3},)?(Flat|SQ8|SQfp16|LSH|HNSW([2-9]|[1-9][0-9]{1,2})|IVF[1-9][0-9]{0,6},(Flat|SQ8))"
SMALLEST_WEIGHT, LARGEST_WEIGHT = 1e-6, 1e6  # beyond, a level is better left out, or taken alone


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every setting that changes a score or a verdict.

    Attributes
    ----------
    framing
        ``"whole"``: the whole frame, resized. ``"paper"``: resized to 8/7 of the input size, its centre
        cropped.
    k_score
        Nearest normal images whose mean squared distance is the image score; clamped to the number of images.
    k_gallery
        Nearest normal images whose pixels form the gallery; clamped likewise.
    kappa
        Nearest gallery pixels averaged into a pixel's score.
    window
        Pixels of the coarsest level that a match may lie away, in y and in x; None: anywhere.
    level_weights
        One factor a level, finest first, 1e-6 to 1e6: two pixels' distance is the sum over the levels of weight times
        squared L2 distance. None: all 1. A list becomes a tuple.
    upsampling
        How coarse levels reach the finest grid.
    distance
        ``"squared"`` L2 distances, or their square ``"root"``.
    sigma
        Gaussian smoothing of the anomaly map, in pixels of the extractor's input.
    index_factory
        faiss description of the retrieval index; ``"Flat"`` is exact, others are for very many images: ``"SQ8"``,
        ``"SQfp16"``, ``"LSH"``, ``"HNSW32"``, ``"IVF64,Flat"`` or ``"IVF64,SQ8"``, with numbers of your own, also
        behind ``"PCA64,"``.
    storage
        Number type of the stored gallery. ``"float16"`` takes half the room; on a pretrained ResNet it moved no pixel
        of an anomaly map by more than 1e-4 of its maximum. Features beyond 65504 need ``"float32"``.
    label_rule
        What makes a frame anomalous: the anomaly map above theta, the image score above tau, or either.
    frame_check
        Whether a frame is also anomalous if it is far darker, brighter, flatter or less sharp than all normal images,
        or like none of them: see :mod:`.frame_check`.
    frame_shape
        What to make of a frame of other proportions, height to width, than all normal images: an ``"error"``, a warning
        (``"warn"``), or nothing (``"any"``).
    """

    framing: Framing = "whole"
    k_score: int = 5
    k_gallery: int = 50
    kappa: int = 1
    window: int | None = None
    level_weights: tuple[float, ...] | None = None
    upsampling: Upsampling = "nearest"
    distance: Distance = "squared"
    sigma: float = 4.0
    index_factory: str = "Flat"
    storage: Storage = "float16"
    label_rule: LabelRule = "map"
    frame_check: FrameCheck = "on"
    frame_shape: FrameShape = "error"

    def __post_init__(self) -> None:
        check_choice("framing", self.framing, get_args(Framing))
        check_integer("k_score", self.k_score, low=1, high=MOST_IMAGES)
        check_integer("k_gallery", self.k_gallery, low=1, high=MOST_IMAGES)
        check_integer("kappa", self.kappa, low=1, high=MOST_NEIGHBOURS)
        if self.window is not None:
            check_integer("window", self.window, low=0, high=LARGEST_WINDOW)
        if self.level_weights is not None:
            object.__setattr__(self, "level_weights", _weights(self.level_weights))
        check_choice("upsampling", self.upsampling, get_args(Upsampling))
        check_choice("distance", self.distance, get_args(Distance))
        check_number("sigma", self.sigma, low=0, high=LARGEST_SIGMA)
        check_text("index_factory", self.index_factory)
        if not re.fullmatch(INDEX_FACTORY, self.index_factory):
            raise InputError(
                "index_factory: expected Flat, SQ8, SQfp16, LSH, HNSW<2 to 999>, IVF<lists>,Flat or IVF<lists>,SQ8, or "
                f"one of them behind PCA<dimensions>, got {self.index_factory!r:.100}"
            )
        check_choice("storage", self.storage, get_args(Storage))
        check_choice("label_rule", self.label_rule, get_args(LabelRule))
        check_choice("frame_check", self.frame_check, get_args(FrameCheck))
        check_choice("frame_shape", self.frame_shape, get_args(FrameShape))


def _weights(values: object) -> tuple[float, ...]:
    if not isinstance(values, tuple | list) or not 1 <= len(values) <= MOST_LEVELS:
        raise InputError(f"level_weights: expected 1 to {MOST_LEVELS} numbers, one a level, got {values!r:.100}")
    for index, value in enumerate(values):
        check_number(f"level_weights[{index}]", value, low=SMALLEST_WEIGHT, high=LARGEST_WEIGHT)
    return tuple(float(value) for value in values)
