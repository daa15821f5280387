"""Codes of the gallery's features: what the pruned matcher reads instead of them, most of the time.

Derived data: codes speed the matcher up and never change a result. A level's vectors are centred, rotated and rounded
to bytes by the native encoder (``csrc/README.md`` has the bounds that follow); made here is the basis that the encoder
needs: the gallery's mean, and the directions in which a level varies most.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .. import _native
from ..errors import InputError

CODES_VERSION = 1
MOST_CHANNELS = 1 << 15  # the encoder's limit: beyond, a sum of products of bytes could leave 32 bits
SAMPLE = 1 << 14  # vectors that a basis is made from
# By which a basis's directions may miss being orthonormal (Frobenius): just below the encoder's limit, 1e-3.
LARGEST_DEFECT = 9e-4
PANEL, GROUP, TERM_BYTES, LANES = 16, 4, 16, 16  # csrc/matcher/codes.hpp


class Rows(Protocol):
    """An array that is read one row at a time: in memory, or in a recipe's file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's shape; its first axis counts the rows."""
        ...

    def __getitem__(self, index: int, /) -> NDArray[Any]:
        """Return one row."""
        ...


@dataclass(frozen=True, eq=False)
class LevelCodes:
    """One level's codes.

    Attributes
    ----------
    basis
        (1 + k, c) float32: the mean that is subtracted, then k orthonormal directions; k is 0 at the finest level.
    projected
        (n, groups, record) uint8: codes of what lies in those directions; None at the finest level.
    rotated
        (n, groups, record) uint8: codes of whole vectors; None at the coarsest level, unless it is the only one.
    """

    basis: NDArray[np.float32]
    projected: NDArray[np.uint8] | None
    rotated: NDArray[np.uint8] | None


@dataclass(frozen=True)
class CodeLayout:
    """The shapes of one level's codes.

    Attributes
    ----------
    basis
        (1 + k, c).
    projected, rotated
        (groups, record) of one image; None where the level has no such codes.
    """

    basis: tuple[int, int]
    projected: tuple[int, int] | None
    rotated: tuple[int, int] | None


def can_encode(level_channels: tuple[int, ...]) -> bool:
    """Return whether levels of so many channels can have codes."""
    return max(level_channels) <= MOST_CHANNELS


def code_layout(channels: int, cells: int, block: int, *, finest: bool, coarsest: bool) -> CodeLayout:
    """Return the shapes of a level's codes, with ``block`` positions in each of an image's ``cells`` cells.

    Projected codes keep a quarter of the channels, in whole registers: a ResNet's coarse levels vary in few directions,
    and what the others add is bounded by its norm, so that a quarter of the work prunes nearly as much.
    """
    kept = 0 if finest else max(channels // 4 // LANES, 1) * LANES
    if kept > channels:  # too few for a register: there is nothing to leave out
        kept = 0
    group = PANEL if coarsest else GROUP
    groups = -(-cells * block // group)
    padded = -(-channels // LANES) * LANES
    return CodeLayout(
        basis=(1 + kept, channels),
        projected=None if finest else (groups, group * ((kept or padded) + TERM_BYTES)),
        rotated=(groups, group * (padded + TERM_BYTES)) if finest or not coarsest else None,
    )


def make_basis(cells: Rows, layout: CodeLayout) -> NDArray[np.float32]:
    """Make a level's basis from a sample of its vectors, evenly spread over the gallery.

    The directions span the sample's largest principal components. They are turned among themselves by a random
    rotation, which spreads the variance evenly over them, so that rounding to bytes loses less.

    Parameters
    ----------
    cells
        (n, rows, columns, block, c), float32 or float16; taken image by image, so that it may lie on the disk.
    layout
        The level's: says how many directions there are.

    Returns
    -------
    ndarray
        (1 + k, c) float32.
    """
    count, *block, channels = cells.shape
    vectors = math.prod(block)  # of one image
    step = -(-count * vectors // SAMPLE)
    sample = np.concatenate(
        [
            cells[image].reshape(-1, channels)[-image * vectors % step :: step].astype(np.float64)
            for image in range(count)
        ]
    )
    mean = sample.mean(axis=0)
    size = layout.basis[0] - 1
    if size == 0:
        return np.asarray(mean[None], np.float32)
    centred = sample - mean
    _, components = np.linalg.eigh(centred.T @ centred)  # ascending
    rotation, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((size, size)))
    basis = rotation @ components[:, -size:].T
    return np.asarray(np.concatenate([mean[None], basis]), np.float32)


def encode(
    cells: NDArray[np.floating], basis: NDArray[np.float32], layout: CodeLayout, *, coarsest: bool
) -> LevelCodes:
    """Encode some images' vectors of one level, each image on its own.

    Parameters
    ----------
    cells
        (n, rows, columns, block, c), float32 or float16.
    basis
        (1 + k, c), of :func:`make_basis`, of this gallery or another one.
    layout
        The level's: says which codes there are.
    coarsest
        Whether this is the pyramid's last level, whose records are laid out for many cells at once.

    Raises
    ------
    InputError
        A basis that isn't one.
    """
    cells = np.ascontiguousarray(cells)
    check_basis(basis)
    try:
        return LevelCodes(
            basis,
            _native.encode(cells, basis, coarsest=coarsest) if layout.projected else None,
            _native.encode(cells, basis[:1], coarsest=coarsest) if layout.rotated else None,
        )
    except ValueError as error:
        raise InputError(str(error)) from None


def check_basis(basis: NDArray[np.float32]) -> None:
    """Raise InputError unless a basis is what distances can be bounded by: finite, its directions orthonormal."""
    if not np.isfinite(basis).all():
        raise InputError("basis: expected finite numbers, got NaN or infinity")
    directions = basis[1:].astype(np.float64)
    off = np.linalg.norm(directions @ directions.T - np.eye(len(directions)))
    if not off < LARGEST_DEFECT:
        raise InputError(f"basis: expected orthonormal directions, got ones that are off by {off:.3g}")


def encode_gallery(cells: Sequence[NDArray[np.floating]]) -> list[LevelCodes]:
    """Make the codes of a whole gallery in memory: (n, rows, columns, block, c) a level, finest first."""
    codes = []
    for index, level in enumerate(cells):
        _, rows, columns, block, channels = level.shape
        coarsest = index == len(cells) - 1
        layout = code_layout(channels, rows * columns, block, finest=index == 0, coarsest=coarsest)
        codes.append(encode(level, make_basis(level, layout), layout, coarsest=coarsest))
    return codes
