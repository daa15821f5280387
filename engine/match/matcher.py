"""The typed door to the native matcher: validates, owns the buffers, names the path taken.

No arithmetic happens here. ``csrc/README.md`` has the formula, the layout and the accuracy rule.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Self, get_args

import numpy as np
from numpy.typing import NDArray

from .. import _native
from ..checks import check_choice, check_instance, check_integer, check_sequence
from ..errors import DeviceError, InputError
from ..resources import MOST_THREADS, processors
from ..result import Statistics
from ..settings import LARGEST_WINDOW, MOST_NEIGHBOURS, Upsampling
from . import reference
from .cells import from_cells, level_shifts, to_cells
from .codes import LevelCodes, can_encode, encode_gallery
from .validation import (
    Path,
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

MatcherDevice = Literal["cpu", "cuda"]
Levels = Sequence[NDArray[np.floating]]

INSTRUCTION_SET_VARIABLE = "SPADELINE_INSTRUCTION_SET"


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
    weights
        A factor for each level's squared distance, finest first, 1e-6 to 1e6; all 1 by default.
    threads
        Size of the matcher's own team of threads; by default the processors that this process may use, as its affinity
        and its container's quota allow.
    path
        ``"pruned"``: native, branch and bound over the levels, by codes of the gallery, which are made here.
        ``"dense"``: native, every pair, each level's products at its own resolution.
        ``"reference"``: NumPy float64, slow, the definition.
        ``"auto"``: pruned where it can be: nearest upsampling, and a gallery that has codes or can have them.
    upsampling
        ``"nearest"``, or ``"bilinear"`` with half-pixel centres and clamped edges, on the dense path only.
    instruction_set
        ``"auto"``: the best that the machine runs, or what ``SPADELINE_INSTRUCTION_SET`` names; or one of
        :func:`instruction_sets`. The CPU's alone.
    device
        ``"cpu"``, or ``"cuda"``: the first NVIDIA GPU that CUDA shows (``CUDA_VISIBLE_DEVICES`` chooses), to whose
        memory the gallery is copied. There: kappa up to 32, no reference path, and a query's levels all of one number
        type.
    memory_limit
        Bytes of the GPU's memory that the gallery may take; None: what is free but for a tenth, and for 1.6 GB that an
        extractor may need, where that leaves the gallery half. Images that don't fit
        are copied when a query needs them, and replace those that were needed least recently.

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

    def __init__(
        self,
        levels: Levels,
        *,
        weights: Sequence[float] | None = None,
        threads: int | None = None,
        path: Path = "auto",
        upsampling: Upsampling = "nearest",
        instruction_set: str = "auto",
        device: MatcherDevice = "cpu",
        memory_limit: int | None = None,
    ) -> None:
        check_gallery(levels)
        check_choice("path", path, get_args(Path))
        check_choice("upsampling", upsampling, get_args(Upsampling))
        sizes = tuple((level.shape[2], level.shape[3]) for level in levels)
        shifts = level_shifts(sizes)
        cells = [to_cells(level, shifts[-1] - shift) for level, shift in zip(levels, shifts, strict=True)]
        wanted = path == "pruned" or (path == "auto" and upsampling == "nearest")
        codes = encode_gallery(cells) if wanted and can_encode(tuple(level.shape[1] for level in levels)) else None
        self._open(cells, sizes, codes, weights, threads, path, upsampling, instruction_set, device, memory_limit)

    @classmethod
    def from_cells(
        cls,
        cells: Levels,
        sizes: Sequence[tuple[int, int]],
        *,
        codes: Sequence[LevelCodes] | None = None,
        weights: Sequence[float] | None = None,
        threads: int | None = None,
        path: Path = "auto",
        upsampling: Upsampling = "nearest",
        instruction_set: str = "auto",
        device: MatcherDevice = "cpu",
        memory_limit: int | None = None,
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
        weights, threads, path, upsampling, instruction_set, device, memory_limit
            As in the constructor. Features aren't checked here: a gallery pixel with one that isn't finite is never
            matched, and ``match`` reports it only where there is no other.
        """
        check_choice("path", path, get_args(Path))
        check_choice("upsampling", upsampling, get_args(Upsampling))
        check_choice("upsampling", upsampling, get_args(Upsampling))
        arrays = checked_cells(cells)
        pairs = checked_sizes(sizes, len(arrays))
        if codes is not None:
            check_codes(codes)
        matcher = cls.__new__(cls)
        matcher._open(  # noqa: SLF001 - our own
            arrays, pairs, codes, weights, threads, path, upsampling, instruction_set, device, memory_limit
        )
        return matcher

    def _open(
        self,
        cells: list[NDArray[np.floating]],
        sizes: tuple[tuple[int, int], ...],
        codes: Sequence[LevelCodes] | None,
        weights: Sequence[float] | None,
        threads: int | None,
        path: Path,
        upsampling: Upsampling,
        instruction_set: str,
        device: MatcherDevice,
        memory_limit: int | None,
    ) -> None:
        check_choice("device", device, get_args(MatcherDevice))
        if memory_limit is not None:
            check_integer("memory_limit", memory_limit, low=1, high=2**62)
            if device != "cuda":
                raise InputError(f"memory_limit: expected device 'cuda' with it, got {device!r:.100}")
        threads = processors() if threads is None else threads
        check_integer("threads", threads, low=1, high=MOST_THREADS)
        check_instance("instruction_set", instruction_set, str)
        if instruction_set == "auto":
            instruction_set = os.environ.get(INSTRUCTION_SET_VARIABLE, "auto")
        self.path = resolved_path(path, upsampling, codes)
        self.device = device
        self.upsampling = upsampling
        self.sizes = sizes
        self.weights = checked_weights(weights, len(cells))
        self._cells = cells
        self._guard_share = _native.GUARD_SHARE
        used = None
        if codes is not None and self.path == "pruned":
            used = [(level.basis, level.projected, level.rotated) for level in codes]
        gallery = (cells, sizes, level_shifts(sizes))
        self.native: Any
        try:
            if device == "cuda":
                check_cuda(self.path)
                limit = -1 if memory_limit is None else memory_limit
                self.native = _native.CudaMatcher(
                    *gallery, memory_limit=limit, upsampling=upsampling, weights=self.weights, codes=used
                )
                self.instruction_set, self.threads = self.native.architecture, 0
                self.resident_images = self.native.resident
            else:
                self.native = _native.Matcher(
                    *gallery,
                    threads=threads,
                    instruction_set=instruction_set,
                    upsampling=upsampling,
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
        return int(self.native.reachable(-1 if window is None else window))

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
            reach = -1 if window is None else window
            share = self._guard_share
            counts = self.native.match(requests, kappa=kappa, window=reach, ignore=ignore, guard_share=share)
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
