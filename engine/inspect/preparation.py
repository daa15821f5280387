"""A camera frame in the host's memory, made ready for the extractor; and what the frame check looks at.

Resizing lies in ``images/resizing.py``; which proportions a frame may have, in ``images/frame_shape.py``.
"""

from __future__ import annotations

import copy
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from ..images.frame_facts import FrameFacts, frame_facts
from ..images.frame_shape import FrameShapes
from ..images.resizing import Color, FrameResizer, Placement
from ..recipe.recipe import Recipe


class Prepared(NamedTuple):
    """A frame as the extractor takes it.

    Attributes
    ----------
    image
        (H, W, 3) uint8 RGB, of the extractor's input size.
    placement
        Where the image lies in the frame.
    frame_size
        The frame's own (height, width).
    facts
        What the frame check looks at; None: the recipe asks for no check.
    """

    image: NDArray[np.uint8]
    placement: Placement
    frame_size: tuple[int, int]
    facts: FrameFacts | None


class Preparation:
    """Prepares a recipe's frames. May be shared by threads.

    Parameters
    ----------
    recipe
        The recipe.
    threads
        Of the team that resizes a large frame.

    Attributes
    ----------
    input_size
        (H, W) of the extractor's input.
    framing
        How a frame is placed in the input.
    checks_frames
        Whether the recipe asks for the frame check, and knows all of its images' facts.
    """

    def __init__(self, recipe: Recipe, *, threads: int) -> None:
        self.input_size = recipe.input_size
        self.framing = recipe.settings.framing
        self.checks_frames = recipe.settings.frame_check == "on" and recipe.frame_facts is not None
        self._shapes = frame_shapes(recipe)
        self._ignore = recipe.ignore
        self._resizer = FrameResizer(recipe.input_size, framing=self.framing, threads=threads)

    def on_one_thread(self) -> Self:
        """Return what prepares another caller's frames with the caller's thread alone."""
        other = copy.copy(self)
        other._resizer = FrameResizer(self.input_size, framing=self.framing, threads=1)  # noqa: SLF001 - our own
        return other

    def prepare(self, frame: NDArray[np.uint8], color: Color) -> Prepared:
        """Prepare one frame.

        Raises
        ------
        InputError
            A frame of another dtype or shape, one that is too small, or one of other proportions than the normal
            images', unless the recipe's ``frame_shape`` allows it.
        """
        image, placement = self._resizer.prepare(frame, color=color)
        frame_size = frame.shape[:2]
        self._shapes.check(frame_size)
        return Prepared(image, placement, frame_size, self.facts(image))

    def facts(self, image: NDArray[np.uint8]) -> FrameFacts | None:
        """Return what the frame check looks at, of an image as the extractor takes it; None: there is no check."""
        return frame_facts(image, self._ignore) if self.checks_frames else None


def frame_shapes(recipe: Recipe) -> FrameShapes:
    """Return the proportions that a recipe's frames may have; any, where it doesn't know all of its images' sizes."""
    prepared = recipe.input_size if recipe.settings.framing == "whole" else None
    return FrameShapes(recipe.frame_sizes or (), rule=recipe.settings.frame_shape, prepared=prepared)
