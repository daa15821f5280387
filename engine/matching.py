"""The typed door to the native matcher: validates, owns the buffers, names the path taken.

No arithmetic happens here. ``csrc/README.md`` has the formula, the layout and the accuracy rule.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from . import _native, reference
from .cells import from_cells, level_shifts, to_cells
from .checks import check_choice, check_integer
from .errors import InputError
from .extractor import MOST_THREADS
from .settings import LARGEST_WINDOW, MOST_NEIGHBOURS, Upsampling

if TYPE_CHECKING:
    from .recipe import Recipe

Path = Literal["auto", "dense", "reference"]
Levels = Sequence[NDArray[np.floating]]

INSTRUCTION_SET_VARIABLE = "SPADELINE_INSTRUCTION_SET"


def instruction_sets() -> tuple[str, ...]:
    """Return the instruction sets that this machine can run, best first; the last is always ``"scalar"``."""
    return tuple(_native.instruction_sets())


class Matcher:
    """The kappa nearest gallery pixels of every query pixel, over a pyramid of feature levels.

    ``D(p, r) = sum over levels of |f_l(p) - g_l(r)|^2``, both sides upsampled to the finest level; the distance of p
    is the mean of the kappa smallest D(p, r) over all pixels r of the images asked for. Distances are exact for the
    gallery as stored: candidates are found in float32 by a proven lower bound and decided in float64.

    Parameters
    ----------
    levels
        The gallery: one (n, c, h, w) array a level, finest first, all float32 or all float16, finite. Each level is the
        one before halved once or more, rounded up. They are copied into the matcher's layout.
    threads
        Size of the matcher's own team of threads; the machine's processors by default.
    path
        ``"auto"`` and ``"dense"``: native, every pair, each level's products at its own resolution.
        ``"reference"``: NumPy float64, slow, the definition.
    upsampling
        ``"nearest"``, or ``"bilinear"`` with half-pixel centres and clamped edges (1.6 to 1.9 times as slow).
    instruction_set
        ``"auto"``: the best that the machine runs, or what ``SPADELINE_INSTRUCTION_SET`` names; or one of
        :func:`instruction_sets`.

    Raises
    ------
    InputError
        An array of the wrong type, size or content, or an unknown option.

    Notes
    -----
    Source: Cohen and Hoshen, "Sub-Image Anomaly Detection with Deep Pyramid Correspondences", arXiv 2005.02357.
    Calls from several threads take turns.

    Examples
    --------
    >>> gallery = [np.zeros((3, 8, 4, 6), np.float32), np.zeros((3, 16, 2, 3), np.float32)]
    >>> matcher = Matcher(gallery, threads=1)
    >>> query = [np.ones((8, 4, 6), np.float32), np.ones((16, 2, 3), np.float32)]
    >>> distances, neighbours = matcher.match(query, [0, 2])
    >>> distances.shape, float(distances[0, 0]), neighbours[0, 0].tolist()
    ((4, 6), 24.0, [[0, 0, 0]])
    """

    def __init__(
        self,
        levels: Levels,
        *,
        threads: int | None = None,
        path: Path = "auto",
        upsampling: Upsampling = "nearest",
        instruction_set: str = "auto",
    ) -> None:
        _check_gallery(levels)
        sizes = tuple((level.shape[2], level.shape[3]) for level in levels)
        shifts = level_shifts(sizes)
        cells = [to_cells(level, shifts[-1] - shift) for level, shift in zip(levels, shifts, strict=True)]
        self._open(cells, sizes, threads, path, upsampling, instruction_set)

    @classmethod
    def from_cells(
        cls,
        cells: Levels,
        sizes: Sequence[tuple[int, int]],
        *,
        threads: int | None = None,
        path: Path = "auto",
        upsampling: Upsampling = "nearest",
        instruction_set: str = "auto",
    ) -> Self:
        """Open a gallery that is already in the cell-blocked layout (a recipe's memory maps), without a copy.

        Parameters
        ----------
        cells
            One (n, rows, columns, block, c) array a level, finest first: see :mod:`spadeline.engine.cells`.
        sizes
            (h, w) of each level.
        threads, path, upsampling, instruction_set
            As in the constructor. Features aren't checked here: one that isn't finite is reported by ``match``.
        """
        matcher = cls.__new__(cls)
        matcher._open(list(cells), tuple(sizes), threads, path, upsampling, instruction_set)  # noqa: SLF001 - our own
        return matcher

    @classmethod
    def from_recipe(
        cls, recipe: Recipe, *, threads: int | None = None, path: Path = "auto", instruction_set: str = "auto"
    ) -> Self:
        """Open a recipe's gallery where it lies, with the upsampling that its settings name."""
        return cls.from_cells(
            recipe.levels,
            [(height, width) for _, height, width in recipe.level_shapes],
            threads=threads,
            path=path,
            upsampling=recipe.settings.upsampling,
            instruction_set=instruction_set,
        )

    def _open(
        self,
        cells: list[NDArray[np.floating]],
        sizes: tuple[tuple[int, int], ...],
        threads: int | None,
        path: Path,
        upsampling: Upsampling,
        instruction_set: str,
    ) -> None:
        check_choice("path", path, get_args(Path))
        check_choice("upsampling", upsampling, get_args(Upsampling))
        threads = os.cpu_count() or 1 if threads is None else threads
        check_integer("threads", threads, low=1, high=MOST_THREADS)
        if instruction_set == "auto":
            instruction_set = os.environ.get(INSTRUCTION_SET_VARIABLE, "auto")
        self.path: Literal["dense", "reference"] = "reference" if path == "reference" else "dense"
        self.upsampling = upsampling
        self.sizes = sizes
        self._cells = cells
        self._shifts = level_shifts(sizes)
        try:
            self._native = _native.Matcher(
                cells,
                sizes,
                self._shifts,
                threads=threads,
                instruction_set=instruction_set,
                upsampling=upsampling,
            )
        except ValueError as error:
            raise InputError(str(error)) from None

    @property
    def instruction_set(self) -> str:
        """The instruction set in use."""
        return self._native.instruction_set

    @property
    def threads(self) -> int:
        """The size of the matcher's team of threads."""
        return self._native.threads

    def reachable(self, window: int | None) -> int:
        """Pixels of one image that every query pixel can reach: kappa's limit, times the images searched."""
        return self._native.reachable(-1 if window is None else window)

    def match(
        self,
        query_levels: Levels,
        image_ids: Sequence[int] | NDArray[np.int64],
        *,
        kappa: int = 1,
        window: int | None = None,
        out: tuple[NDArray[np.float64], NDArray[np.int32]] | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        """Match every pixel of one query.

        Parameters
        ----------
        query_levels
            (c, h, w) a level, finest first, float32 or float16, finite.
        image_ids
            The gallery images to search, distinct.
        kappa
            Nearest gallery pixels to average over.
        window
            Search radius in pixels of the coarsest level; None searches the whole image.
        out
            Arrays to write the results to, of exactly their shapes and types.

        Returns
        -------
        distances
            (h, w) float64: mean squared distance to the kappa nearest, in the features' own units.
        neighbours
            (h, w, kappa, 3) int32 as (image, y, x), nearest first; ties go to the smaller (image, y, x).

        Raises
        ------
        InputError
            A query of the wrong shape or with features that aren't finite, ids out of range or twice, kappa above the
            number of pixels within reach, a wrong ``out``.
        """
        check_integer("kappa", kappa, low=1, high=MOST_NEIGHBOURS)
        if window is not None:
            check_integer("window", window, low=0, high=LARGEST_WINDOW)
        ids = np.asarray(image_ids)
        if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
            raise InputError(f"image_ids: expected integers (k,), got {ids.dtype} {ids.shape}")
        ids = np.ascontiguousarray(ids, np.int64)
        query = [np.ascontiguousarray(level) for level in query_levels]
        height, width = self.sizes[0]
        if out is None:
            out = np.empty((height, width)), np.empty((height, width, kappa, 3), np.int32)
        distances, neighbours = out
        reach = -1 if window is None else window
        try:
            if self.path == "reference":
                gallery = [from_cells(level, *size) for level, size in zip(self._cells, self.sizes, strict=True)]
                distances[:], neighbours[:] = reference.match(
                    query, gallery, ids, kappa=kappa, window=window, upsampling=self.upsampling
                )
            else:
                self._native.match(query, ids, kappa=kappa, window=reach, distances=distances, neighbours=neighbours)
        except (ValueError, RuntimeError) as error:
            raise InputError(str(error)) from None
        return distances, neighbours


def _check_gallery(levels: Levels) -> None:
    if not levels:
        raise InputError("levels: expected at least one, got none")
    for index, level in enumerate(levels):
        if not isinstance(level, np.ndarray):
            raise InputError(f"levels: expected arrays (n, c, h, w), got {type(level).__name__} at level {index}")
        if level.ndim != 4 or level.dtype not in (np.float32, np.float16) or level.dtype != levels[0].dtype:
            raise InputError(
                f"levels: expected (n, c, h, w) arrays, all float32 or all float16, got {level.dtype} "
                f"{level.shape} at level {index}"
            )
        if level.size == 0 or len(level) != len(levels[0]):
            raise InputError(
                f"levels: expected {len(levels[0])} images at every level, at least one, none empty, got "
                f"{level.shape} at level {index}"
            )
        if not np.isfinite(level).all():
            place = tuple(int(i) for i in np.argwhere(~np.isfinite(level))[0])
            raise InputError(
                f"level {index}: expected finite features, got {level[place]} at (image, channel, y, x) = {place}"
            )
