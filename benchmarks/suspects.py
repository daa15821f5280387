"""How often `fit` names defective images among the normal ones as suspects, and how often it names good ones.

Every image of a data set in MVTec AD's layout is matched once with every other. From these distances the leave-one-out
scores of any selection follow by minima; they equal those of a fit (kappa = 1, everything else at its default).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from spadeline.engine import Recipe, Settings, fit
from spadeline.engine.fitting.suspects import far_above, near_copies
from spadeline.engine.folders.dataset import find_dataset
from spadeline.engine.inspect.heatmap import Heatmap
from spadeline.engine.inspect.scoring import open_matcher

HARM = 1.2  # a contamination counts if it raises the threshold to so many times that of the good images alone
DRAWS = 30  # selections of good images alone, and of each number of defective ones
SETTINGS = Settings()


class Scored:
    """A data set's images, each matched with each other: good ones to fit on, other good ones, defective ones."""

    def __init__(self, folder: Path, extractor: Path, threads: int | None) -> None:
        dataset = find_dataset(folder)
        good = [image.path for image in dataset.test if not image.label]
        bad = [image.path for image in dataset.test if image.label]
        self.train, self.good = len(dataset.train), len(dataset.train) + len(good)
        paths = [*dataset.train, *good, *bad]
        with tempfile.TemporaryDirectory() as temporary:
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

    def _map_score(self, image: int, others: NDArray[np.intp]) -> float:
        nearest = others[np.argsort(self.embedded[image, others], kind="stable")][: SETTINGS.k_gallery]
        return float(self.heatmap.anomaly_map(self.distances[image, nearest].min(axis=0)).max())


def main() -> None:
    """Print a line for each data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="data sets with train/good and test/<kind>")
    parser.add_argument("--extractor", type=Path, required=True)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    print("| data set | contaminations that raise theta by a fifth | … that are told | warnings, good images alone |")
    print("| --- | ---: | ---: | ---: |")
    for folder in options.folders:
        scored = Scored(folder, options.extractor, options.threads)
        told = [named for named, harms in _contaminated(scored) if harms]
        false = [bool(far_above(scored.map_scores(images))) for images in _clean(scored)]
        share = f"{sum(told)} of {len(told)}" if told else "–"
        print(f"| {folder.name} | {len(told)} | {share} | {sum(false)} of {len(false)} |", flush=True)
        if scored.near:
            print(f"<!-- {folder.name}: {scored.near} pairs nearly equal each other -->")


def _contaminated(scored: Scored) -> Iterator[tuple[bool, bool]]:
    """Yield whether a defective image is named, and whether the defective ones raise theta, for 1 to 3 of them."""
    rng, count = np.random.default_rng(0), len(scored.distances)
    good = np.arange(scored.train)
    clean = scored.map_scores(good).max()
    for number in (1, 2, 3):
        chosen = list(combinations(range(scored.good, count), number))
        for index in rng.permutation(len(chosen))[:DRAWS]:
            scores = scored.map_scores(np.concatenate([good, chosen[index]]))
            named = far_above(scores)
            yield any(image >= scored.train for image in named), bool(scores[scored.train :].max() > HARM * clean)


def _clean(scored: Scored) -> Iterator[NDArray[np.intp]]:
    """Yield the good images to fit on, then random selections of twelve or more of all good ones."""
    rng = np.random.default_rng(0)
    yield np.arange(scored.train)
    for _ in range(DRAWS):
        yield rng.permutation(scored.good)[: rng.integers(12, scored.good + 1)]


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


if __name__ == "__main__":
    main()
