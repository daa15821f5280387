"""From one image's features to its scores: retrieval, matching, the anomaly map.

:class:`Scorer` takes features in the host's memory, :class:`DeviceScorer` features on the GPU. A frame on the line and
a normal image that calibration leaves out of its own retrieval are scored by the same code, so that scores and
thresholds can't drift apart. Verdicts, frames and files are not known here.
"""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, RecipeError
from ..match.gpu import Inspector
from ..match.matcher import Matcher
from ..match.options import MatcherDevice
from ..recipe.held import GalleryPlace
from ..recipe.recipe import Recipe
from ..resources import available_memory, processors
from .gpu_index import MOST_FOUND
from .heatmap import Heatmap, ignored_distances
from .retrieval import Retrieval

if TYPE_CHECKING:
    from ..features import DeviceFeatures
    from ..result import Statistics

# Bytes of memory that a frame takes at most, as measured: the matcher's for each position of the finest level, its
# results' for each position and neighbour, and those of the map and its steps for each pixel.
MATCHER_BYTES, NEIGHBOUR_BYTES, MAP_BYTES = 24_000, 24, 32


@dataclass(frozen=True, eq=False)
class Scores:
    """One image's scores, all of them finite.

    Attributes
    ----------
    image_score
        Mean squared distance to the k_score nearest normal embeddings, or its root if the recipe says so.
    map_score
        Maximum of the anomaly map. The map is never negative and 0 where ignored, so ignored pixels don't count.
    anomaly_map
        (H, W) float32 at the extractor's input size, smoothed; 0 where the recipe ignores it.
    neighbours
        (h, w, kappa, 3) int32 as (image, y, x); -1 where nothing under the pixel is scored.
    nearest_images
        (k_gallery,) int64, nearest first.
    nearest_distance
        Squared distance of the embedding to the nearest normal image's.
    match_statistics
        What the matcher had to compute.
    timings_s
        Seconds by stage: retrieve, match, map.
    mask
        (H, W) bool, the map above the recipe's theta; None on the CPU, where the verdict makes it.
    """

    image_score: float
    map_score: float
    anomaly_map: NDArray[np.float32]
    neighbours: NDArray[np.int32]
    nearest_images: NDArray[np.int64]
    nearest_distance: float
    match_statistics: Statistics
    timings_s: dict[str, float]
    mask: NDArray[np.bool_] | None = None


def open_matcher(
    recipe: Recipe, *, threads: int | None, device: MatcherDevice = "cpu", memory_limit: int | None = None
) -> Matcher:
    """Open a matcher over a recipe's held gallery, with the upsampling and weights of the recipe's settings.

    See :class:`.matcher.Matcher` for the options and for what is raised.
    """
    gallery = recipe.gallery.hold()
    return Matcher.from_cells(
        gallery.levels,
        [(height, width) for _, height, width in recipe.level_shapes],
        codes=gallery.codes,
        weights=recipe.settings.level_weights,
        upsampling=recipe.settings.upsampling,
        threads=threads,
        device=device,
        memory_limit=memory_limit,
    )


def warn_of_clamping(recipe: Recipe) -> None:
    """Warn that a recipe asks for more normal images than it has; the warning names the caller's caller's line."""
    settings, count = recipe.settings, len(recipe.images)
    for name, k in (("k_score", settings.k_score), ("k_gallery", settings.k_gallery)):
        if k > count:
            text = f"{name}: expected at most the recipe's {count} normal images, got {k}; {count} are used"
            warnings.warn(text, UserWarning, stacklevel=3)


def _check_room(recipe: Recipe) -> None:
    """Raise RecipeError if one frame would take more memory than is available; none of it is allocated yet."""
    (_, height, width), (input_height, input_width) = recipe.level_shapes[0], recipe.input_size
    positions, pixels, kappa = height * width, input_height * input_width, recipe.settings.kappa
    needed = positions * (MATCHER_BYTES + kappa * NEIGHBOUR_BYTES) + pixels * MAP_BYTES
    if needed > (available := available_memory()):
        raise RecipeError(
            f"{recipe.folder}: expected levels and a kappa that {available / 1e6:.0f} MB of memory suffice for, got "
            f"{height} x {width} positions, {input_height} x {input_width} pixels and kappa {kappa}, for which a frame "
            f"takes {needed / 1e6:.0f} MB"
        )


class RecipeScorer:
    """A recipe's gallery, held, with the index and the matcher over it: what both scorers have in common.

    A k_score or k_gallery above the number of normal images is clamped to it: see :func:`warn_of_clamping`.

    Attributes
    ----------
    gallery
        The gallery, held.
    retrieval
        The index over the normal images' embeddings.
    matcher
        The matcher.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        threads: int | None,
        device: MatcherDevice,
        memory_limit: int | None,
        gallery: GalleryPlace,
    ) -> None:
        settings, count = recipe.settings, len(recipe.images)
        threads = processors() if threads is None else threads
        self._recipe = recipe
        self._settings = settings
        self.gallery = recipe.gallery.hold(gallery)
        embeddings = self.gallery.embeddings
        if not np.isfinite((embeddings.min(), embeddings.max())).all():
            raise RecipeError(f"{recipe.embeddings.file.path}: expected finite numbers, got NaN or infinity")
        gpu = device == "cuda" and min(max(settings.k_score, settings.k_gallery), count) <= MOST_FOUND
        self.retrieval = Retrieval(embeddings, factory=settings.index_factory, threads=threads, gpu=gpu)
        self.matcher = open_matcher(recipe, threads=threads, device=device, memory_limit=memory_limit)

    def _retrieve(self, embedding: NDArray[np.float32], exclude: int | None) -> tuple[float, NDArray[np.int64], float]:
        """Return the image score, the ids of the images to match with, and the squared distance to the nearest."""
        settings = self._settings
        k = max(settings.k_score, settings.k_gallery)
        nearest, squared = self.retrieval.nearest(embedding, k, exclude=exclude)
        score = float(squared[: settings.k_score].mean(dtype=np.float64))
        if settings.distance == "root":
            score = math.sqrt(score)
        return score, nearest[: settings.k_gallery], float(squared[0])


class Scorer(RecipeScorer):
    """Scores images whose features lie in the host's memory; the matcher and the map are on the CPU.

    Parameters
    ----------
    recipe
        The recipe.
    threads
        For faiss and the matcher; None: the processors that this process may use.
    gallery
        Whether the recipe's gallery is held in memory or mapped: see :meth:`.held.StoredGallery.hold`.

    Raises
    ------
    InputError
        An index that faiss can't make of the embeddings, a gallery that doesn't fit in memory, or an option out of
        range.
    RecipeError
        A file that isn't as recorded, embeddings that aren't finite, or less memory than one frame takes.
    DependencyError
        faiss isn't installed.
    """

    def __init__(self, recipe: Recipe, *, threads: int | None = None, gallery: GalleryPlace = "auto") -> None:
        _check_room(recipe)
        super().__init__(recipe, threads=threads, device="cpu", memory_limit=None, gallery=gallery)
        self._heatmap = _open_heatmap(recipe, threads=self.matcher.threads)

    def on_one_thread(self) -> Self:
        """Return a scorer for another caller that uses the caller's thread alone; index and gallery are shared."""
        other = copy.copy(self)
        other.retrieval = self.retrieval.on_one_thread()
        other.matcher = open_matcher(self._recipe, threads=1)
        other._heatmap = _open_heatmap(self._recipe, threads=1)  # noqa: SLF001 - our own
        return other

    def score(
        self,
        levels: Sequence[NDArray[np.floating]],
        embedding: NDArray[np.float32],
        *,
        exclude: int | None = None,
    ) -> Scores:
        """Score one image.

        Parameters
        ----------
        levels
            (c, h, w) each, finest first.
        embedding
            (d,).
        exclude
            A normal image to leave out: in leave-one-out calibration, the scored image itself.

        Raises
        ------
        InputError
            Features of the wrong shape or that aren't finite, features so far from the normal images' that the score
            isn't finite, or kappa above the number of gallery pixels within reach.
        """
        settings = self._settings
        start = time.perf_counter()
        image_score, gallery, nearest_distance = self._retrieve(embedding, exclude)
        retrieved = time.perf_counter()
        match = self.matcher.match(
            levels, gallery, kappa=settings.kappa, window=settings.window, ignore=self._heatmap.ignored_distances
        )
        matched = time.perf_counter()
        smooth = self._heatmap.anomaly_map(match.distances, root=settings.distance == "root")
        return Scores(
            image_score=image_score,
            map_score=_highest(smooth),
            anomaly_map=smooth,
            neighbours=match.neighbours,
            nearest_images=gallery,
            nearest_distance=nearest_distance,
            match_statistics=match.statistics,
            timings_s={
                "retrieve": retrieved - start,
                "match": matched - retrieved,
                "map": time.perf_counter() - matched,
            },
        )


class DeviceScorer(RecipeScorer):
    """Scores images whose levels the extractor left in the GPU's memory; the matcher and the map are there.

    A flat retrieval is on the GPU, too, if this faiss offers one: see :class:`.retrieval.Retrieval`.

    Parameters
    ----------
    recipe, threads, gallery
        As for :class:`Scorer`.
    memory_limit
        Bytes of the GPU's memory that the gallery may take: see :class:`.matcher.Matcher`.

    Attributes
    ----------
    inspector
        The GPU's matcher and map; the extractor should run on its stream.

    Raises
    ------
    InputError, RecipeError, DependencyError
        As :class:`Scorer`, but the memory that a frame takes isn't checked.
    DeviceError
        The matcher or the retrieval can't run on the GPU.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        threads: int | None = None,
        memory_limit: int | None = None,
        gallery: GalleryPlace = "auto",
    ) -> None:
        super().__init__(recipe, threads=threads, device="cuda", memory_limit=memory_limit, gallery=gallery)
        settings, ignore = recipe.settings, recipe.ignore
        self.inspector = Inspector(
            self.matcher,
            images=min(settings.k_gallery, len(recipe.images)),
            kappa=settings.kappa,
            window=settings.window,
            size=recipe.input_size,
            sigma=settings.sigma,
            root=settings.distance == "root",
            theta=np.inf if recipe.calibration is None else recipe.calibration.theta.value,
            ignore=ignore,
            ignored_distances=None if ignore is None else ignored_distances(ignore, recipe.level_shapes[0][1:]),
        )

    def score(self, features: DeviceFeatures) -> Scores:
        """Score one image.

        Raises
        ------
        InputError
            As :meth:`Scorer.score`.
        DeviceError
            The GPU fails.
        """
        start = time.perf_counter()
        image_score, gallery, nearest_distance = self._retrieve(features.embedding, None)
        retrieved = time.perf_counter()
        inspection = self.inspector.inspect(features.levels, gallery, half=features.half)
        return Scores(
            image_score=image_score,
            map_score=_highest(inspection.anomaly_map),
            anomaly_map=inspection.anomaly_map,
            mask=inspection.mask,
            neighbours=inspection.neighbours,
            nearest_images=gallery,
            nearest_distance=nearest_distance,
            match_statistics=inspection.statistics,
            timings_s={"retrieve": retrieved - start, "match": time.perf_counter() - retrieved, "map": 0.0},
        )


def _open_heatmap(recipe: Recipe, *, threads: int) -> Heatmap:
    finest, settings = recipe.level_shapes[0][1:], recipe.settings
    return Heatmap(finest, recipe.input_size, sigma=settings.sigma, ignore=recipe.ignore, threads=threads)


def _highest(anomaly_map: NDArray[np.float32]) -> float:
    """Return a map's maximum; InputError unless it is finite. NaN or infinity anywhere in the map makes it so."""
    highest = float(anomaly_map.max())
    if not math.isfinite(highest):
        raise InputError(f"anomaly map: expected finite numbers, got {highest}: no verdict can be given")
    return highest
