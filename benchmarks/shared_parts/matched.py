"""A data set's images, each matched once with each other: scores of any selection follow by minima.

They equal those of a fit with kappa = 1 and everything else at its default.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from spadeline.engine import Recipe, Settings, fit
from spadeline.engine.fitting.suspects import near_copies
from spadeline.engine.folders.dataset import find_dataset
from spadeline.engine.inspect.heatmap import Heatmap
from spadeline.engine.inspect.scoring import open_matcher

SETTINGS = Settings()


class Matched:
    """A data set's images, each matched with each other: good ones to fit on, other good ones, defective ones."""

    def __init__(self, folder: Path, extractor: Path, threads: int | None) -> None:
        dataset = find_dataset(folder)
        good = [image.path for image in dataset.test if not image.label]
        bad = [image.path for image in dataset.test if image.label]
        self.train, self.good = len(dataset.train), len(dataset.train) + len(good)
        paths = [*dataset.train, *good, *bad]
        with tempfile.TemporaryDirectory() as temporary:
            with warnings.catch_warnings():  # that defective images are among them
                warnings.simplefilter("ignore")
                recipe = fit(paths, temporary, extractor=extractor, threads=threads)
            if len(recipe.images) < len(paths):
                raise SystemExit(f"{folder}: expected images without copies")
            self.distances = _distances(recipe, threads)
            embeddings = np.asarray(recipe.embeddings, np.float64)
            self.near = sum(max(pair) < self.train for pair in near_copies(recipe))
            self.heatmap = Heatmap(recipe.level_shapes[0][1:], recipe.input_size, sigma=SETTINGS.sigma)
        self.embedded = np.square(embeddings[:, None] - embeddings).sum(-1)

    def map_scores(self, images: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the map maximum of each image of a selection; the gallery is the others."""
        return np.array([self._map_score(image, images[images != image]) for image in images])

    def map_scores_against(self, images: NDArray[np.intp], gallery: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the map maximum of each of some images; the gallery are others."""
        return np.array([self._map_score(image, gallery) for image in images])

    def _map_score(self, image: int, others: NDArray[np.intp]) -> float:
        nearest = others[np.argsort(self.embedded[image, others], kind="stable")][: SETTINGS.k_gallery]
        return float(self.heatmap.anomaly_map(self.distances[image, nearest].min(axis=0)).max())


def _distances(recipe: Recipe, threads: int | None) -> NDArray[np.float32]:
    """Return (n, n, h, w): each image's distances when the gallery is one other image."""
    count = len(recipe.images)
    matcher = open_matcher(recipe, threads=threads)
    distances = np.zeros((count, count, *recipe.level_shapes[0][1:]), np.float32)
    for query in range(count):
        levels = [level[0] for level in recipe.features(query).levels]
        for other in range(count):
            distances[query, other] = matcher.match(levels, np.array([other])).distances
    return distances
