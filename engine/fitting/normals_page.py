"""A recipe's normal images as one self-contained HTML page: those that decide its thresholds, with their nearest ones.

A person looks at them, and removes what isn't normal with a command that the page shows. ``suspects.py`` finds the
suspect images; the few that are shown are scored again for their maps. The page loads nothing and runs nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..calibration import Threshold, threshold
from ..errors import InputError
from ..extract.extractor import Extractor
from ..files import replace_file
from ..folders.normal_images import NormalImages
from ..images.reading import read_image, read_placed
from ..images.resizing import as_rgb
from ..inspect.scores import Scores
from ..inspect.scoring import Scorer
from ..pages.page import render
from ..pages.pictures import Case, data_url, heat_picture, normal_picture, thumbnail
from ..pages.score_charts import sorted_scores
from ..pages.sections import plain
from ..recipe.recipe import Recipe
from ..recipe.records import Calibration
from ..units import four_digits
from .suspects import Suspects, deciding_scores, far_above, far_below, find_suspects, removal_command, usual_score

MOST_CASES = 12  # images that are shown of each kind; the page names the others
FEWEST_CASES = 4  # images that are shown at least: if fewer are suspect, the next ones follow


def write_normals_page(
    path: str | os.PathLike[str],
    recipe: Recipe,
    *,
    images: NormalImages | None = None,
    threads: int | None = None,
) -> None:
    """Write the page as a whole, or nothing of it; missing folders are made.

    Parameters
    ----------
    path
        The HTML file; one that is there is replaced.
    recipe
        A recipe with thresholds, and with the names of the images that they come from.
    images
        The images that it was fitted on, for pictures; None: the page shows names and scores alone.
    threads
        As for :meth:`.Detector.load`.

    Raises
    ------
    InputError
        Thresholds are missing, or an older version made them; a normal image can't be read any more.
    OutputError
        The file can't be written; one that was there is as before.
    ExtractorError, RecipeError, DependencyError
        As :class:`.Extractor` and :class:`.Scorer` raise them; jinja2 or matplotlib isn't installed.
    """
    calibration = recipe.calibration
    if calibration is None or calibration.image_names is None:
        came = "none" if calibration is None else "ones of an older version"
        raise InputError(
            f"{recipe.folder}: expected thresholds whose images are known, got {came}; spadeline calibrate makes them"
        )
    shown = _Shown(recipe, calibration, calibration.image_names, dict(images.named) if images else {}, threads)
    suspects = find_suspects(recipe)
    far = [*suspects.above, *(name for name in shown.highest() if name not in suspects.above)]
    low = [*dict.fromkeys([*suspects.below, *(image for image, _ in suspects.near_copies)])]
    names = {image.name for image in recipe.images}
    page = render(
        "normals.html",
        filters={"number": four_digits, "plain": plain, "settings": asdict},
        title=f"Normal images of {recipe.folder.resolve().name}",
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        recipe=recipe,
        calibration=calibration,
        figures=[shown.figures(name) for name in ("map_scores", "image_scores")],
        suspects=suspects,
        charts=[(title, shown.chart(name)) for name, title in _TITLES.items()],
        above=[shown.case(name, suspects) for name in far[: max(FEWEST_CASES, min(len(suspects.above), MOST_CASES))]],
        below=[shown.case(name, suspects) for name in low[:MOST_CASES]],
        remove_above=removal_command(recipe, kept) if (kept := [n for n in suspects.above if n in names]) else None,
        remove_below=removal_command(recipe, kept) if (kept := [n for n in low if n in names]) else None,
        changed=calibration.method == "leave-one-out" and not names.issuperset(calibration.image_names),
    )
    replace_file(Path(path), page)


_TITLES = {"map_scores": "map maximum", "image_scores": "image score"}
_SYMBOLS = {"map_scores": "θ", "image_scores": "τ"}


class _Shown:
    """The texts, charts and pictures of a recipe's scored images; maps are made when they are asked for."""

    def __init__(
        self,
        recipe: Recipe,
        calibration: Calibration,
        names: Sequence[str],
        files: Mapping[str, Path],
        threads: int | None,
    ) -> None:
        self._recipe, self._names, self._files, self._threads = recipe, names, files, threads
        self._scores = {name: np.array(getattr(calibration, name)) for name in _TITLES}
        self._thresholds = {"map_scores": calibration.theta, "image_scores": calibration.tau}
        self._position = {name: index for index, name in enumerate(self._names)}
        self._held = {image.name: index for index, image in enumerate(recipe.images)}

    def highest(self) -> list[str]:
        """Return all images, sorted by the scores that the label rule uses, in multiples of their thresholds."""
        deciding = deciding_scores(self._recipe.settings)
        ratio = np.max([self._scores[name] / max(self._thresholds[name].value, 1e-30) for name in deciding], axis=0)
        return [self._names[index] for index in np.argsort(-ratio, kind="stable")]

    def figures(self, name: str) -> tuple[str, Threshold, float]:
        """Return a threshold's symbol, the threshold, and its value without the images far above the others."""
        return _SYMBOLS[name], self._thresholds[name], self._without_far(name)

    def chart(self, name: str) -> str:
        """Return all images' scores as SVG."""
        scores, settings = self._scores[name], self._recipe.settings
        far = [*far_above(scores), *far_below(scores, settings)]
        return sorted_scores(
            scores, self._names, far, self._thresholds[name].value, what=_TITLES[name], symbol=_SYMBOLS[name]
        )

    def case(self, name: str, suspects: Suspects) -> Case:
        """Return an image's case: its scores, its verdict and its pictures."""
        like = [other for image, other in suspects.near_copies if image == name]
        scored, path = self._rescored(name), self._files.get(name)
        pictures: dict[str, NDArray[np.uint8]] = {}
        if path is not None:
            frame = as_rgb(read_image(path))
            pictures["image"] = thumbnail(frame)
            if scored is not None:
                settings, theta = self._recipe.settings, self._without_far("map_scores")
                pictures["anomaly map"] = heat_picture(
                    frame, scored.anomaly_map, theta, framing=settings.framing, ignore=self._recipe.ignore
                )
        nearest = None
        if like:
            nearest = self._recipe.images[self._held[like[0]]]
        elif scored is not None and len(scored.retrieved.nearest_images):
            nearest = self._recipe.images[scored.retrieved.nearest_images[0]]
        file = None if nearest is None else self._files.get(nearest.original or nearest.name)
        if nearest is not None and (normal := normal_picture(nearest, file)) is not None:
            pictures["nearest normal image"] = normal
        return Case(
            name=name,
            wrong=name in suspects.above or name in suspects.below or bool(like),
            verdict=self._verdict(name, suspects, like),
            scores=self._scores_of(name),
            nearest_normal="not known" if nearest is None else nearest.name,
            pictures={caption: data_url(picture) for caption, picture in pictures.items()},
        )

    def _verdict(self, name: str, suspects: Suspects, like: Sequence[str]) -> str:
        if like:
            return f"nearly equals {like[0]}"
        index = self._position[name]
        times = max(
            float(self._scores[score][index] / max(usual_score(self._scores[score]), 1e-30))
            for score in deciding_scores(self._recipe.settings)
        )
        if name in suspects.below:
            return "far below the others"
        return f"{times:.1f} times the usual{', far above the others' if name in suspects.above else ''}"

    def _scores_of(self, name: str) -> tuple[tuple[str, float, str, float], ...]:
        index = self._position.get(name)
        if index is None:  # an exact copy, or an image that was added later
            return ()
        return tuple(
            (title, float(self._scores[score][index]), _SYMBOLS[score], self._thresholds[score].value)
            for score, title in _TITLES.items()
        )

    def _without_far(self, name: str) -> float:
        """Return the threshold of the scores that aren't far above the others; colours and figures refer to it."""
        scores = self._scores[name]
        rest = np.delete(scores, far_above(scores))
        return threshold(rest, false_alarm_rate=self._thresholds[name].false_alarm_rate).value

    def _rescored(self, name: str) -> Scores | None:
        """Score an image as it was scored for the thresholds; None if it is in neither recipe nor folder."""
        if (index := self._held.get(name)) is not None:
            features = self._recipe.features(index)
            return self._scorer.score([level[0] for level in features.levels], features.embedding[0], exclude=index)
        path = self._files.get(name)
        if path is None:
            return None
        placed = read_placed(path, self._recipe.input_size, framing=self._recipe.settings.framing)
        features = self._extractor.extract(placed[None])
        return self._scorer.score([level[0] for level in features.levels], features.embedding[0])

    @cached_property
    def _scorer(self) -> Scorer:
        return Scorer(self._recipe, threads=self._threads)

    @cached_property
    def _extractor(self) -> Extractor:
        return Extractor(self._recipe.extractor_file, device="cpu", threads=self._threads)
