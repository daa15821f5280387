"""One class by one extractor: features are extracted once, to the disk; then figures follow for any setting.

The steps are those of fit, predict and eval, so the figures equal ``spadeline eval``'s. Thresholds need each normal
image scored without itself, for each setting anew: that is as many matches as there are normal images.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spadeline.engine.errors import InputError
from spadeline.engine.evaluate.truth import true_regions
from spadeline.engine.extract.extractor import Extractor
from spadeline.engine.features import Features
from spadeline.engine.fitting.copies import pixels_digest, without_copies
from spadeline.engine.fitting.thresholds import leave_one_out
from spadeline.engine.images.reading import read_image
from spadeline.engine.images.resizing import as_rgb, place
from spadeline.engine.images.turning import degrees_of, turned
from spadeline.engine.inspect.scoring import Scorer
from spadeline.engine.recipe.changes import create_recipe
from spadeline.engine.recipe.recipe import Recipe
from spadeline.engine.recipe.records import ImageRecord
from spadeline.engine.settings import Framing, Settings, Storage

from accuracy_parts.classes import ImageClass
from accuracy_parts.figures import RATES, SCORES, Answers, class_figures

WIDEST_FIRST: tuple[Storage, ...] = ("float32", "float16")


class ScoredClass:
    """A class's features, extracted in one way: a recipe for each storage, and the test images' features beside them.

    Parameters
    ----------
    folder
        An empty folder for the features.
    image_class
        The class.
    extractor, extractor_path
        The extractor of the features, and its file.
    framing, angles, storages
        Those of the settings that will be asked for.
    advance
        Called after each image.
    """

    def __init__(
        self,
        folder: Path,
        image_class: ImageClass,
        extractor: Extractor,
        extractor_path: Path,
        *,
        framing: Framing,
        angles: int,
        storages: Sequence[Storage],
        advance: Callable[[], object],
    ) -> None:
        self._class = image_class
        self._recipes: dict[str, Recipe] = {}

        def store(storage: Storage, features: Iterator[tuple[ImageRecord, Features]]) -> Recipe:
            return create_recipe(
                folder / storage,
                extractor_path=extractor_path,
                features=features,
                count=len(image_class.train) * angles,
                settings=Settings(framing=framing, angles=angles, storage=storage),
                level_names=extractor.level_names,
                level_shapes=extractor.level_shapes,
                input_size=extractor.input_size,
                embedding_size=extractor.embedding_size,
            )

        # A feature rounds to the same float16 whether it comes from float32 or not.
        widest, *narrower = (storage for storage in WIDEST_FIRST if storage in storages)
        taken = _train_features(image_class.train, extractor, framing, angles, advance)
        self._recipes[widest] = store(widest, taken)
        for storage in narrower:
            self._recipes[storage] = store(storage, _stored_features(self._recipes[widest]))
        self._level_names = extractor.level_names
        self._tests: list[Path] = []
        self._masks: list[NDArray[np.int32] | None] = []
        for index, image in enumerate(image_class.test):
            frame = read_image(image.path)
            features = _features(frame, image.path, extractor, framing)
            self._tests.append(folder / f"{index}.npz")
            levels: dict[str, Any] = dict(zip(extractor.level_names, features.levels, strict=True))
            np.savez(self._tests[-1], embedding=features.embedding, **levels)
            self._masks.append(true_regions(image, frame, extractor.input_size, framing=framing))
            advance()

    def figures(self, settings: Settings, *, threads: int, advance: Callable[[], object]) -> dict[str, Any]:
        """Score every test image and return the figures by name, None with a reason where one isn't defined.

        Raises
        ------
        InputError
            The settings don't fit the features: the weights are for another number of levels, or kappa is too large.
        """
        recipe = self._recipes[settings.storage].with_settings(settings)
        scorer = Scorer(recipe, threads=threads)
        image_scores, maps = [], []
        for path in self._tests:
            with np.load(path) as stored:
                scores = scorer.score([stored[name][0] for name in self._level_names], stored["embedding"][0])
            image_scores.append(scores.image_score)
            maps.append(scores.anomaly_map)
            advance()
        answers = Answers(image_scores, maps, _normal_scores(recipe, threads, advance))
        return class_figures(self._class.test, self._masks, answers)


def _normal_scores(recipe: Recipe, threads: int, advance: Callable[[], object]) -> dict[str, tuple[float, ...]]:
    """Return both scores of each normal image, left out of its own retrieval; none where that leaves nothing."""
    if len(recipe.originals) < 2 or not without_copies(recipe.images):
        return dict.fromkeys(SCORES, ())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the report names classes of fewer images than k_gallery
        made = leave_one_out(recipe, false_alarm_rate=RATES[0], threads=threads, on_progress=lambda *_: advance())
    return {"image_score": made.image_scores, "map_score": made.map_scores}


def _train_features(
    paths: Sequence[Path], extractor: Extractor, framing: Framing, angles: int, advance: Callable[[], object]
) -> Iterator[tuple[ImageRecord, Features]]:
    for path in paths:
        frame = as_rgb(read_image(path))
        record = ImageRecord(path.as_posix(), pixels_sha256=pixels_digest(frame))
        yield record, _features(frame, path, extractor, framing)
        for degrees in degrees_of(angles):
            yield record.turned(degrees, None), _features(turned(frame, degrees), path, extractor, framing)
        advance()


def _stored_features(recipe: Recipe) -> Iterator[tuple[ImageRecord, Features]]:
    for index, record in enumerate(recipe.images):
        yield record, recipe.features(index)


def _features(frame: NDArray[np.uint8], path: Path, extractor: Extractor, framing: Framing) -> Features:
    try:
        image, _ = place(as_rgb(frame), extractor.input_size, framing=framing)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return extractor.extract(image[None])
