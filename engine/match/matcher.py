"""The typed door to the native matcher: validates, owns the buffers, names the path taken.

No arithmetic happens here. ``csrc/README.md`` has the formula, the layout and the accuracy rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Self, Unpack

import numpy as np
from numpy.typing import NDArray

from .. import _native
from ..checks import check_integer, check_sequence
from ..errors import DeviceError, InputError
from ..resources import asked_instruction_set, processors
from ..result import Statistics
from ..settings import LARGEST_WINDOW, MOST_NEIGHBOURS
from . import reference
from .cells import from_cells, level_shifts, to_cells
from .codes import LevelCodes, can_encode, encode_gallery
from .options import MatcherKeywords, MatcherOptions
from .validation import (
    check_codes,
    check_cuda,
    check_gallery,
    check_out,
    checked_cells,
    checked_ids,
    checked_ignore,
    checked_query,
    checked_sizes,
    checked_weights,
    resolved_path,
)

Levels = Sequence[NDArray[np.floating]]


class Match(NamedTuple):
    """One query's result.

    Attributes
    ----------
    distances
        (h, w) float64: mean squared distance to the kappa nearest, in the features' own units; 0 where ignored.
    neighbours
        (h, w, kappa, 3) int32 as (image, y, x), nearest first; ties go to the smaller (image, y, x); -1 where ignored.
    statistics
        What it took.
    """

    distances: NDArray[np.float64]
    neighbours: NDArray[np.int32]
    statistics: Statistics


def instruction_sets() -> tuple[str, ...]:
    """Return the instruction sets that this machine can run, best first; the last is always ``"scalar"``."""
    return tuple(_native.instruction_sets())


class Matcher:
    """The kappa nearest gallery pixels of every query pixel, over a pyramid of feature levels.

    ``D(p, r) = sum over levels of weight_l * |f_l(p) - g_l(r)|^2``, both sides upsampled to the finest level; the
    distance of p is the mean of the kappa smallest D(p, r) over all pixels r of the images asked for. Distances are
    exact for the gallery as stored, on every path: proven lower bounds rule pairs out, and float64 decides. What
    float64 rounds away is below (channels + kappa + 3) * 2^-53 of a distance with nearest upsampling; with bilinear
    upsampling it may be more where large features cancel, as in the definition itself (``csrc/README.md``, "Decision").

    Parameters
    ----------
    levels
        The gallery: one (n, c, h, w) array a level, finest first, all float32 or all float16, finite. Each level is the
        one before halved once or more, rounded up. They are copied into the matcher's layout.
    **options
        The fields of :class:`.MatcherOptions`, as keywords.

    Attributes
    ----------
    path : str
        What ``"auto"`` came to: "pruned", "dense" or "reference".
    instruction_set : str
        The one in use; on a GPU its architecture, as "sm_87".
    threads : int
        Size of the team of threads; 0 on a GPU.
    resident_images : int
        Gallery images that lie where the matcher works at once: all, but on a GPU with too little memory.

    Raises
    ------
    InputError
        An array of the wrong type, size or content, or an unknown option.
    DeviceError
        No GPU, none that works, or not enough memory on it; or a build without CUDA.

    Notes
    -----
    Source: Cohen and Hoshen, "Sub-Image Anomaly Detection with Deep Pyramid Correspondences", arXiv 2005.02357.
    Calls from several threads take turns.

    Examples
    --------
    >>> gallery = [np.zeros((3, 8, 4, 6), np.float32), np.zeros((3, 16, 2, 3), np.float32)]
    >>> matcher = Matcher(gallery, threads=1)
    >>> query = [np.ones((8, 4, 6), np.float32), np.ones((16, 2, 3), np.float32)]
    >>> match = matcher.match(query, [0, 2])
    >>> match.distances.shape, float(match.distances[0, 0]), match.neighbours[0, 0].tolist()
    ((4, 6), 24.0, [[0, 0, 0]])
    """

    def __init__(self, levels: Levels, **options: Unpack[MatcherKeywords]) -> None:
        chosen = MatcherOptions(**options)
        check_gallery(levels)
        sizes = tuple((level.shape[2], level.shape[3]) for level in levels)
        shifts = level_shifts(sizes)
        cells = [to_cells(level, shifts[-1] - shift) for level, shift in zip(levels, shifts, strict=True)]
        wanted = chosen.path == "pruned" or (chosen.path == "auto" and chosen.upsampling == "nearest")
        codes = encode_gallery(cells) if wanted and can_encode(tuple(level.shape[1] for level in levels)) else None
        self._open(cells, sizes, codes, chosen)

    @classmethod
    def from_cells(
        cls,
        cells: Levels,
        sizes: Sequence[tuple[int, int]],
        *,
        codes: Sequence[LevelCodes] | None = None,
        **options: Unpack[MatcherKeywords],
    ) -> Self:
        """Open a gallery that is already in the cell-blocked layout, as a recipe's is, without a copy.

        Parameters
        ----------
        cells
            One (n, rows, columns, block, c) array a level, finest first: see :mod:`spadeline.engine.match.cells`.
        sizes
            (h, w) of each level.
        codes
            The levels' codes: see :mod:`spadeline.engine.match.codes`. Without them there is no pruned path.
        **options
            The fields of :class:`.MatcherOptions`, as keywords.

        Notes
        -----
        Features aren't checked here: a gallery pixel with one that isn't finite is never matched, and ``match`` reports
        it only where there is no other.
        """
        chosen = MatcherOptions(**options)
        arrays = checked_cells(cells)
        pairs = checked_sizes(sizes, len(arrays))
        if codes is not None:
            check_codes(codes)
        matcher = cls.__new__(cls)
        matcher._open(arrays, pairs, codes, chosen)  # noqa: SLF001 - our own
        return matcher

    def _open(
        self,
        cells: list[NDArray[np.floating]],
        sizes: tuple[tuple[int, int], ...],
        codes: Sequence[LevelCodes] | None,
        options: MatcherOptions,
    ) -> None:
        self.path = resolved_path(options.path, options.upsampling, codes)
        self.device = options.device
        self.upsampling = options.upsampling
        self.sizes = sizes
        self.weights = checked_weights(options.weights, len(cells))
        self._cells = cells
        used = None
        if codes is not None and self.path == "pruned":
            used = [(level.basis, level.projected, level.rotated) for level in codes]
        instruction_set = options.instruction_set
        if instruction_set == "auto":
            instruction_set = asked_instruction_set()
        gallery = (cells, sizes[0], level_shifts(sizes))
        self.native: Any
        try:
            if self.device == "cuda":
                check_cuda(self.path)
                self.native = _native.CudaMatcher(
                    *gallery,
                    memory_limit=options.memory_limit,
                    upsampling=self.upsampling,
                    weights=self.weights,
                    codes=used,
                )
                self.instruction_set, self.threads = self.native.architecture, 0
                self.resident_images = self.native.resident
            else:
                self.native = _native.Matcher(
                    *gallery,
                    threads=processors() if options.threads is None else options.threads,
                    instruction_set=instruction_set,
                    upsampling=self.upsampling,
                    weights=self.weights,
                    codes=used,
                )
                self.instruction_set, self.threads = self.native.instruction_set, self.native.threads
                self.resident_images = len(cells[0])
        except ValueError as error:
            raise InputError(str(error)) from None
        except _native.DeviceError as error:
            raise DeviceError(f"device: {error}") from None

    def reachable(self, window: int | None) -> int:
        """Pixels of one image that every query pixel can reach: kappa's limit, times the images searched."""
        if window is not None:
            check_integer("window", window, low=0, high=LARGEST_WINDOW)
        return int(self.native.reachable(window))

    def match(
        self,
        query_levels: Levels,
        image_ids: Sequence[int] | NDArray[np.int64],
        *,
        kappa: int = 1,
        window: int | None = None,
        ignore: NDArray[np.bool_] | None = None,
        out: tuple[NDArray[np.float64], NDArray[np.int32]] | None = None,
    ) -> Match:
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
        ignore
            (h, w) bool at the finest level: pixels of the query that aren't scored; None: all are.
        out
            Arrays to write distances and neighbours to, of exactly their shapes and types, C-contiguous, and in memory
            that nothing else here uses.

        Raises
        ------
        InputError
            A query of the wrong shape or with features that aren't finite, ids out of range or twice, kappa above the
            number of pixels within reach, a wrong ``ignore`` or ``out``.
        """
        return self._match([query_levels], [image_ids], kappa, window, ignore, out)[0]

    def match_batch(
        self,
        queries: Sequence[Levels],
        image_ids: Sequence[Sequence[int] | NDArray[np.int64]],
        *,
        kappa: int = 1,
        window: int | None = None,
        ignore: NDArray[np.bool_] | None = None,
    ) -> list[Match]:
        """Match several queries, side by side: each thread takes whole ones, so that none waits for another.

        Results are those of :meth:`match`, to the last bit.

        Parameters
        ----------
        queries
            Each as for :meth:`match`.
        image_ids
            The gallery images to search for each query.
        kappa, window, ignore
            As for :meth:`match`, for all queries alike.

        Raises
        ------
        InputError
            As for :meth:`match`; the text names the query.
        """
        check_sequence("queries", queries, of="queries")
        if not isinstance(image_ids, np.ndarray):
            check_sequence("image_ids", image_ids, of="each query's ids")
        if len(queries) != len(image_ids):
            raise InputError(f"image_ids: expected ids for each of {len(queries)} queries, got {len(image_ids)}")
        return self._match(queries, image_ids, kappa, window, ignore, None)

    def _match(
        self,
        queries: Sequence[Levels],
        image_ids: Sequence[Sequence[int] | NDArray[np.int64]],
        kappa: int,
        window: int | None,
        ignore: NDArray[np.bool_] | None,
        out: tuple[NDArray[np.float64], NDArray[np.int32]] | None,
    ) -> list[Match]:
        check_integer("kappa", kappa, low=1, high=MOST_NEIGHBOURS)
        if window is not None:
            check_integer("window", window, low=0, high=LARGEST_WINDOW)
        height, width = self.sizes[0]
        if ignore is not None:
            ignore = checked_ignore(ignore, self.sizes[0])
        requests = []
        for index, (query, ids) in enumerate(zip(queries, image_ids, strict=True)):
            levels = checked_query(query, "query" if len(queries) == 1 else f"query {index},")
            if out is None:  # one query's alone
                results = np.empty((height, width)), np.empty((height, width, kappa, 3), np.int32)
            else:
                masks = [] if ignore is None else [ignore]
                results = check_out(out, self.sizes[0], kappa, [*levels, *masks, *self._cells])
            requests.append((levels, checked_ids(ids), *results))
        try:
            counts = self.native.match(requests, kappa=kappa, window=window, ignore=ignore)
            if self.path == "reference":  # over what was found: the checks are the same
                counts = [self._match_by_reference(*request, kappa, window, ignore) for request in requests]
        except _native.DeviceError as error:
            raise DeviceError(f"device: {error}") from None
        except (ValueError, RuntimeError) as error:
            raise InputError(str(error)) from None
        return [
            Match(distances, neighbours, Statistics(path=self.path, **count))
            for (_, _, distances, neighbours), count in zip(requests, counts, strict=True)
        ]

    def _match_by_reference(
        self,
        query: Levels,
        ids: NDArray[np.int64],
        distances: NDArray[np.float64],
        neighbours: NDArray[np.int32],
        kappa: int,
        window: int | None,
        ignore: NDArray[np.bool_] | None,
    ) -> dict[str, Any]:
        gallery = [from_cells(level, *size) for level, size in zip(self._cells, self.sizes, strict=True)]
        distances[:], neighbours[:] = reference.match(
            query,
            gallery,
            ids,
            kappa=kappa,
            window=window,
            upsampling=self.upsampling,
            weights=self.weights,
            ignore=ignore,
        )
        return {"pairs": 0, "passed": (0,) * len(gallery), "exact": 0, "guarded_cells": 0}
