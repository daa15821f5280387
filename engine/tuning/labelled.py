"""Labelled images on their way to a choice of settings: read, extracted, and kept on the disk meanwhile.

No setting that is tried changes features, so each image passes each extractor once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..extract.extractor import Extractor
from ..files import writing
from ..fitting.copies import find_copies, warn_of_copies
from ..fitting.prepared import PreparedImage, Progress, extract, prepare_images
from ..folders.dataset import Dataset
from ..images.frame_facts import FrameFacts
from ..inspect.preparation import frame_shapes
from ..recipe.recipe import Recipe
from .halves import Halves, Named, split
from .image_scores import Queried


class LabelledQuery(NamedTuple):
    """A labelled image whose levels lie on the disk.

    Attributes
    ----------
    query
        The image as it is scored.
    label
        True: abnormal.
    facts
        What the frame check looks at, if the recipe asks for one.
    """

    query: Queried
    label: bool
    facts: FrameFacts | None


@dataclass(frozen=True, eq=False)
class Prepared:
    """Labelled images that were read, and their halves."""

    images: tuple[PreparedImage, ...]
    labels: tuple[bool, ...]
    halves: Halves


def prepare(recipe: Recipe, dataset: Dataset, on_progress: Progress | None) -> Prepared:
    """Read a data set's labelled images and split them.

    Exact copies of the recipe's images, or of each other, are left out with a warning: on both sides of a comparison,
    an image proves nothing.

    Raises
    ------
    InputError
        An image that can't be read, or of other proportions than the recipe's, or too few images.
    """
    dataset.check_test()
    named = [(image.path.relative_to(dataset.folder).as_posix(), image.path) for image in dataset.test]
    images = prepare_images(
        named,
        recipe.input_size,
        recipe.settings.framing,
        on_progress,
        ignore=recipe.ignore,
        shapes=frame_shapes(recipe),
    )
    firsts, copies = find_copies([image.record for image in images], among=recipe.images)
    warn_of_copies(copies, len(images))
    labels = tuple(dataset.test[index].label for index in firsts)
    halves = split([Named(named[index][0], dataset.test[index].kind, dataset.test[index].label) for index in firsts])
    return Prepared(tuple(images[index] for index in firsts), labels, halves)


def prepare_for(recipe: Recipe, prepared: Prepared, on_progress: Progress | None) -> Prepared:
    """Read prepared images again for a recipe with an extractor of another input size. The halves stay.

    Raises
    ------
    InputError
        An image that can't be read any more.
    """
    named = [(image.record.name, image.path) for image in prepared.images]
    images = prepare_images(named, recipe.input_size, recipe.settings.framing, on_progress, ignore=recipe.ignore)
    return replace(prepared, images=tuple(images))


def store(
    recipe: Recipe,
    prepared: Prepared,
    extractor: Extractor,
    folder: Path,
    on_progress: Progress | None,
    *,
    stage: str = "extract",
) -> tuple[LabelledQuery, ...]:
    """Extract labelled images and write their features into a folder, a file for each.

    Raises
    ------
    ExtractorError, InputError
        As :func:`.prepared.extract`.
    OutputError
        The folder can't be written, or the disk is full.
    """
    extracted = extract(
        prepared.images, extractor, recipe.settings.framing, on_progress, ignore=recipe.ignore, stage=stage
    )
    stored = []
    for index, ((record, features), label) in enumerate(zip(extracted, prepared.labels, strict=True)):
        path = folder / f"{index}.npz"
        with writing(path):
            np.savez(path, *features.levels)
        query = Queried(partial(_read, path, len(features.levels)), features.embedding[0])
        stored.append(LabelledQuery(query, label, record.facts))
    return tuple(stored)


def _read(path: Path, count: int) -> tuple[NDArray[np.floating], ...]:
    with np.load(path) as stored:
        return tuple(stored[f"arr_{index}"] for index in range(count))
