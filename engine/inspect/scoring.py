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
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from .. import _native
from ..errors import InputError, RecipeError
from ..match.gpu import Inspector
from ..match.matcher import Matcher
from ..match.options import MatcherDevice
from ..match.rounds import bound_map, has_rounds
from ..recipe.held import GalleryPlace
from ..recipe.recipe import Recipe
from ..resources import available_memory, processors
from ..result import Statistics
from .gpu_index import MOST_FOUND
from .heatmap import LARGEST_DISTANCE, Heatmap, check_largest, ignored_distances
from .retrieval import Retrieval
from .scores import Retrieved, Scores

if TYPE_CHECKING:
    from ..features import DeviceFeatures
    from ..settings import Need

# Bytes of memory that a frame takes at most, as measured: the matcher's for each position of the finest level, its
# results' for each position and neighbour, and those of the map and its steps for each pixel.
MATCHER_BYTES, NEIGHBOUR_BYTES, MAP_BYTES = 24_000, 24, 32


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


class BaseScorer:
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
    threads
        Of what runs on the CPU.
    rounds
        Whether a need other than "map" ends the search earlier. Else all distances are computed, whatever the need.
    """

    rounds = False

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
        self.threads = threads = processors() if threads is None else threads
        self._recipe, self._settings = recipe, settings
        self.gallery = recipe.gallery.hold(gallery)
        embeddings = self.gallery.embeddings
        if not np.isfinite((embeddings.min(), embeddings.max())).all():
            raise RecipeError(f"{recipe.embeddings.file.path}: expected finite numbers, got NaN or infinity")
        gpu = device == "cuda" and min(max(settings.k_score, settings.k_gallery), count) <= MOST_FOUND
        self.retrieval = Retrieval(embeddings, factory=settings.index_factory, threads=threads, gpu=gpu)
        self.matcher = open_matcher(recipe, threads=threads, device=device, memory_limit=memory_limit)

    def retrieve(self, embedding: NDArray[np.float32], *, exclude: int | None = None) -> Retrieved:
        """Find the normal images to match with, and score the image by their embeddings.

        Parameters
        ----------
        embedding
            (d,).
        exclude
            A normal image to leave out with all that were turned from it: in leave-one-out calibration, the scored one.

        Raises
        ------
        InputError
            An embedding that isn't finite, or is beyond comparison with the normal images'.
        DeviceError
            The GPU fails.
        """
        start, settings = time.perf_counter(), self._settings
        k = max(settings.k_score, settings.k_gallery)
        family = None if exclude is None else self._recipe.family(exclude)
        nearest, squared = self.retrieval.nearest(embedding, k, exclude=family)
        score = _native.image_score(squared[: settings.k_score], root=settings.distance == "root")
        return Retrieved(score, nearest[: settings.k_gallery], float(squared[0]), time.perf_counter() - start)


class Scorer(BaseScorer):
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
        self._theta = math.inf if recipe.calibration is None else recipe.calibration.theta.value
        self._search: dict[str, Any] = {  # keywords of the matcher
            "kappa": self._settings.kappa,
            "window": self._settings.window,
            "ignore": self._heatmap.ignored_distances,
        }
        self.rounds = has_rounds(self.matcher)

    def on_one_thread(self) -> Self:
        """Return a scorer for another caller that uses the caller's thread alone; index and gallery are shared."""
        other = copy.copy(self)
        other.threads = 1
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
        """Score one image by all of its distances.

        Parameters
        ----------
        levels
            (c, h, w) each, finest first.
        embedding, exclude
            As for :meth:`retrieve`.

        Raises
        ------
        InputError
            Features of the wrong shape or that aren't finite, features so far from the normal images' that the score
            isn't finite, or kappa above the number of gallery pixels within reach.
        """
        return self.search(levels, self.retrieve(embedding, exclude=exclude))

    def search(
        self,
        levels: Sequence[NDArray[np.floating]],
        retrieved: Retrieved,
        *,
        need: Need = "map",
        deadline: float | None = None,
    ) -> Scores:
        """Match one image's pixels with those of the images that were retrieved, and make its map.

        Parameters
        ----------
        levels
            (c, h, w) each, finest first.
        need
            What the map must be exact in; "label": in whether any of it is above theta.
        deadline
            When the search must end, by ``time.perf_counter()``; None: when it is done.

        Raises
        ------
        InputError
            As :meth:`score`.
        """
        if deadline is not None and time.perf_counter() >= deadline:
            return self.unsearched(retrieved, decided=False)
        if need == "map" and deadline is None:
            return self._by_all_distances(levels, retrieved)
        start = time.perf_counter()
        found = bound_map(
            self.matcher,
            levels,
            retrieved.nearest_images,
            self._heatmap.native,
            size=self._recipe.input_size,
            theta=self._theta,
            root=self._settings.distance == "root",
            need=need,
            deadline=deadline,
            **self._search,
        )
        taken_s = time.perf_counter() - start
        check_largest(found.largest)
        return Scores(
            retrieved=retrieved,
            map_score=_highest(found.anomaly_map),
            anomaly_map=found.anomaly_map,
            lower_map=found.lower_map,
            decided=found.decided,
            neighbours=found.neighbours,
            match_statistics=found.statistics,
            timings_s={"match": taken_s - found.map_s, "map": found.map_s},
        )

    def _by_all_distances(self, levels: Sequence[NDArray[np.floating]], retrieved: Retrieved) -> Scores:
        start = time.perf_counter()
        match = self.matcher.match(levels, retrieved.nearest_images, **self._search)
        matched = time.perf_counter()
        smooth = self._heatmap.anomaly_map(match.distances, root=self._settings.distance == "root")
        return Scores(
            retrieved=retrieved,
            map_score=_highest(smooth),
            anomaly_map=smooth,
            lower_map=smooth,
            neighbours=match.neighbours,
            match_statistics=match.statistics,
            timings_s={"match": matched - start, "map": time.perf_counter() - matched},
        )

    def unsearched(self, retrieved: Retrieved, *, decided: bool) -> Scores:
        """Return what is known of an image without matching its pixels: the bounds that hold for any map.

        Parameters
        ----------
        decided
            Whether no more was asked for.
        """
        recipe, kappa = self._recipe, self._settings.kappa
        nothing = (0,) * len(recipe.level_shapes)
        upper = np.full(recipe.input_size, LARGEST_DISTANCE, np.float32)
        if recipe.ignore is not None:
            upper[recipe.ignore] = 0
        return Scores(
            retrieved=retrieved,
            map_score=float(upper.max()),
            anomaly_map=upper,
            lower_map=np.zeros_like(upper),
            decided=decided,
            neighbours=np.full((*recipe.level_shapes[0][1:], kappa, 3), -1, np.int32),
            match_statistics=Statistics(
                path=self.matcher.path, pairs=0, passed=nothing, exact=0, guarded_cells=0, passes=0
            ),
            timings_s={"match": 0.0, "map": 0.0},
        )


class DeviceScorer(BaseScorer):
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
        retrieved = self.retrieve(features.embedding)
        start = time.perf_counter()
        inspection = self.inspector.inspect(features.levels, retrieved.nearest_images, half=features.half)
        return Scores(
            retrieved=retrieved,
            map_score=_highest(inspection.anomaly_map),
            anomaly_map=inspection.anomaly_map,
            lower_map=inspection.anomaly_map,
            mask=inspection.mask,
            neighbours=inspection.neighbours,
            match_statistics=inspection.statistics,
            timings_s={"match": time.perf_counter() - start, "map": 0.0},
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
