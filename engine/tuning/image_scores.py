"""Scores of the same images under many settings, each step computed once.

Retrieval depends on ``k_score`` and ``k_gallery``, distances on ``k_gallery``, ``kappa``, ``window`` and
``level_weights``, the map on ``sigma``, too, and thresholds and verdicts on nothing further. Distances aren't kept:
when they are known, the map's maximum is computed for every sigma that will be tried.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..inspect.heatmap import Heatmap
from ..inspect.scores import Retrieved
from ..inspect.scoring import Scorer
from ..recipe.recipe import Recipe
from ..settings import Settings

Advance = Callable[[], object]


class Queried(NamedTuple):
    """An image to score.

    Attributes
    ----------
    levels
        Reads its levels: (1, c, h, w) each, finest first.
    embedding
        (d,) float32.
    exclude
        The normal image that it is, which is left out of its own retrieval; None: it is none of them.
    """

    levels: Callable[[], tuple[NDArray[np.floating], ...]]
    embedding: NDArray[np.float32]
    exclude: int | None = None


class ImageScore(NamedTuple):
    """One image's scores under some settings."""

    retrieved: Retrieved
    map_score: float


class _Matched(NamedTuple):
    """What matching the images gave: a map maximum for each sigma and image, and seconds for each image."""

    map_scores: dict[float, list[float]]
    seconds: list[float]


class ImageScores:
    """The scores of some images under any settings that need no other features.

    Parameters
    ----------
    recipe
        The recipe.
    images
        The images.
    sigmas
        All that will be asked for.
    threads
        As for :class:`.Scorer`.
    """

    def __init__(
        self, recipe: Recipe, images: Sequence[Queried], *, sigmas: Sequence[float], threads: int | None
    ) -> None:
        self._recipe, self._images, self._threads = recipe, images, threads
        self._sigmas = tuple(dict.fromkeys(sigmas))
        self._retrieved: dict[Settings, list[Retrieved]] = {}
        self._matched: dict[Settings, _Matched] = {}

    def __len__(self) -> int:
        return len(self._images)

    def are_matched(self, settings: Settings) -> bool:
        """Whether the images' distances under these settings were computed already."""
        return self._matching(settings) in self._matched

    def scores(self, settings: Settings, advance: Advance = lambda: None) -> list[ImageScore]:
        """Return each image's scores, exactly as :class:`.Scorer` computes them.

        Parameters
        ----------
        advance
            Called after each image that is matched.

        Raises
        ------
        InputError
            As :meth:`.Scorer.score`, for example a kappa above the number of pixels within reach.
        """
        if not self.are_matched(settings):
            self._match(settings, advance)
        scores = self._matched[self._matching(settings)].map_scores[settings.sigma]
        return [ImageScore(*pair) for pair in zip(self._retrieve(settings), scores, strict=True)]

    def match_seconds(self, settings: Settings) -> list[float]:
        """Return how long matching took under these settings, an entry for each image."""
        return self._matched[self._matching(settings)].seconds

    def _retrieve(self, settings: Settings) -> list[Retrieved]:
        own = self._recipe.settings
        key = replace(own, k_score=settings.k_score, k_gallery=settings.k_gallery)
        if key not in self._retrieved:
            scorer = Scorer(self._recipe.with_settings(key), threads=self._threads)
            self._retrieved[key] = [scorer.retrieve(image.embedding, exclude=image.exclude) for image in self._images]
        return self._retrieved[key]

    def _match(self, settings: Settings, advance: Advance) -> None:
        recipe = self._recipe.with_settings(settings)
        scorer, root = Scorer(recipe, threads=self._threads), settings.distance == "root"
        heatmaps = {
            sigma: Heatmap(
                recipe.level_shapes[0][1:],
                recipe.input_size,
                sigma=sigma,
                ignore=recipe.ignore,
                threads=scorer.matcher.threads,
            )
            for sigma in self._sigmas
        }
        ignored = heatmaps[settings.sigma].ignored_distances
        found = _Matched({sigma: [] for sigma in self._sigmas}, [])
        for image, retrieved in zip(self._images, self._retrieve(settings), strict=True):
            levels = [level[0] for level in image.levels()]
            start = time.perf_counter()
            match = scorer.matcher.match(
                levels, retrieved.nearest_images, kappa=settings.kappa, window=settings.window, ignore=ignored
            )
            found.seconds.append(time.perf_counter() - start)
            for sigma, heatmap in heatmaps.items():
                anomaly_map = heatmap.anomaly_map(match.distances, root=root)
                found.map_scores[sigma].append(float(anomaly_map.max()))
            advance()
        self._matched[self._matching(settings)] = found

    def _matching(self, settings: Settings) -> Settings:
        """Return the recipe's settings with those that distances depend on."""
        names = ("k_gallery", "kappa", "window", "level_weights")
        return replace(self._recipe.settings, **{name: getattr(settings, name) for name in names})
