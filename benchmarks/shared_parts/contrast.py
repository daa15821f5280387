"""How near a frame's nearest pixels lie, as a part of the distance of random ones: how much bounds can rule out.

Distances are squared, as the matcher's are. At a ratio near 1 all are alike, and no bound parts them. The smaller the
ratio, the more pairs a bound rules out.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from spadeline.engine.extract.extractor import Extractor
from spadeline.engine.images.reading import read_image
from spadeline.engine.images.resizing import as_rgb, place
from spadeline.engine.inspect.scores import Retrieved
from spadeline.engine.inspect.scoring import Scorer
from spadeline.engine.match.cells import from_cells, level_shifts

from shared_parts.subjects import Subject

MOST_IMAGES, PAIRS = 8, 256  # that random pairs come from; pairs in each image


class Found(NamedTuple):
    """A frame's features, (c, h, w) each, finest first, and the normal images that it is compared with."""

    levels: Sequence[NDArray[np.floating]]
    retrieved: Retrieved


def features(subject: Subject, scorer: Scorer, threads: int) -> Iterator[Found]:
    """Yield what the recipe's extractor and retrieval find of each frame."""
    recipe = subject.recipe
    extractor = Extractor(recipe.extractor_file, device="cpu", threads=threads)
    for image in subject.frames:
        picture, _ = place(as_rgb(read_image(image.path)), recipe.input_size, framing=recipe.settings.framing)
        found = extractor.extract(picture[None])
        yield Found([level[0] for level in found.levels], scorer.retrieve(found.embedding[0]))


def contrast(subject: Subject, threads: int) -> dict[str, float]:
    """Return the median ratio of each group of a subject's frames: see :func:`nearest_per_random`."""
    scorer = Scorer(subject.recipe, threads=threads, gallery="mapped")
    ratios = [nearest_per_random(scorer, found) for found in features(subject, scorer, threads)]
    return {group: statistics.median(ratios[index] for index in indices) for group, indices in subject.groups().items()}


def nearest_per_random(scorer: Scorer, found: Found) -> float:
    """Return the mean over a frame's pixels of the nearest distance, divided by the mean distance of random pairs."""
    ids = found.retrieved.nearest_images
    nearest = scorer.matcher.match(found.levels, ids).distances.mean()
    rng = np.random.default_rng(0)
    images = rng.choice(ids, min(MOST_IMAGES, len(ids)), replace=False)
    return float(nearest / np.mean([_random_pairs(scorer, found.levels, int(image), rng) for image in images]))


def _random_pairs(
    scorer: Scorer, levels: Sequence[NDArray[np.floating]], image: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return the distances of random pixels of a frame to random pixels of one normal image."""
    sizes, weights = scorer.matcher.sizes, scorer.matcher.weights
    height, width = sizes[0]
    (y, normal_y), (x, normal_x) = rng.integers(height, size=(2, PAIRS)), rng.integers(width, size=(2, PAIRS))
    total = np.zeros(PAIRS)
    for level, cells, size, shift, weight in zip(
        levels, scorer.gallery.levels, sizes, level_shifts(sizes), weights, strict=True
    ):
        normal = from_cells(np.asarray(cells[image : image + 1]), *size)[0]
        query = level[:, y >> shift, x >> shift].astype(np.float64)
        total += weight * np.square(query - normal[:, normal_y >> shift, normal_x >> shift]).sum(axis=0)
    return total
