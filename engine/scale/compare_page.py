"""A comparison of two scored folders as one self-contained HTML page: counts, and the changed images with both maps.

The page loads nothing and runs nothing. A map is the one that the run wrote, if it is exact; else the recipe computes
it once more, if it is still the one that scored. What can't be shown is left out, and the page says why.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, RecipeError, SpadelineError
from ..files import replace_file
from ..images.resizing import as_rgb
from ..inspect.detector import Detector
from ..pages.page import render
from ..pages.pictures import data_url, heat_picture, thumbnail
from ..pages.sections import plain
from ..resources import processors
from ..units import four_digits
from .comparing import Change, ChangedImage, Comparison, Side, Verdict
from .found_again import Pixels, find_images, find_maps
from .local_recipes import LocalRecipe, find_recipes, open_recipes

MOST_CASES = 12  # images that are shown of each kind; the page counts the others
_SYMBOLS = {"map": "θ", "image": "τ", "either": "threshold"}
_HEADINGS: dict[Change, str] = {
    "normal to anomalous": "Normal in A, anomalous in B",
    "anomalous to normal": "Anomalous in A, normal in B",
    "to error": "Judged in A, an error in B",
    "from error": "An error in A, judged in B",
}


@dataclass(frozen=True, kw_only=True)
class _Case:
    """One image as the page shows it: each of ``lines`` is the side and what it says; pictures are URLs by caption."""

    name: str
    lines: tuple[tuple[str, str], ...]
    remarks: tuple[str, ...]
    pictures: dict[str, str]


def write_comparison(path: str | os.PathLike[str], comparison: Comparison) -> None:
    """Write the page as a whole, or nothing of it; missing folders are made.

    A recipe that was given by its address is fetched. A relative path, which the rows of Parquet files may have, leads
    from the current folder, as when the image was scored.

    Parameters
    ----------
    path
        The HTML file; one that is there is replaced.

    Raises
    ------
    OutputError
        The file can't be written; one that was there is as before.
    DependencyError
        jinja2 isn't installed.
    """
    shown = {change: _first(comparison.changed, change) for change in get_args(Change)}
    paths = [image.path for images in shown.values() for image in images]
    maps = [_Maps(name, side, paths) for name, side in (("A", comparison.a), ("B", comparison.b))]
    frames = _frames(comparison, paths)
    cases = {change: [_case(image, frames[image.path], maps) for image in images] for change, images in shown.items()}
    page = render(
        "comparison.html",
        filters={"plain": plain},
        title=f"{comparison.a.recipe} (A) and {comparison.b.recipe} (B)",
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        comparison=comparison,
        notices=[*comparison.notices, *(notice for side in maps for notice in side.notices)],
        kinds=[(change, _HEADINGS[change], cases[change]) for change in cases if cases[change]],
    )
    replace_file(Path(path), page)


def _first(changed: Sequence[ChangedImage], change: Change) -> list[ChangedImage]:
    return [image for image in changed if image.change == change][:MOST_CASES]


def _frames(comparison: Comparison, paths: Sequence[str]) -> dict[str, Pixels | InputError]:
    """Return the images' pixels, or why they can't be read: from A's source, else from B's."""
    frames = find_images(comparison.a.source, paths)
    failed = [path for path, frame in frames.items() if isinstance(frame, InputError)]
    if failed and comparison.b.source != comparison.a.source:
        others = find_images(comparison.b.source, failed)
        frames |= {path: frame for path, frame in others.items() if not isinstance(frame, InputError)}
    return frames


class _Maps:
    """One side's anomaly maps of the images that are shown: those that were written, else made once more.

    Attributes
    ----------
    notices
        Why there are none, or not all.
    """

    def __init__(self, name: str, side: Side, paths: Sequence[str]) -> None:
        self.name, self.side = name, side
        self.notices: list[str] = []
        try:
            self._written = find_maps(side, paths)
        except InputError as error:
            self._written = {}
            self._miss(error)

    def line(self, verdict: Verdict) -> str:
        """Return in one line what this side says of an image."""
        if verdict.pred_score is None:
            return f"error: {verdict.error}"
        label = f"anomalous ({verdict.reason})" if verdict.label else "normal"
        symbol, threshold = _SYMBOLS[self.side.label_rule], four_digits(self.side.threshold)
        return f"{label}, score {four_digits(verdict.pred_score)} ({symbol} = {threshold})"

    def picture(self, path: str, frame: Pixels, verdict: Verdict) -> tuple[NDArray[np.uint8] | None, str | None]:
        """Return the map of an image drawn over it, if there is one; and a remark, if one is due.

        Raises
        ------
        InputError
            The image can't be inspected any more.
        """
        remark, anomaly_map = None, self._written.get(path)
        if anomaly_map is None:
            if self._detector is None:
                return None, None
            result = self._detector.predict(frame, need="map")
            anomaly_map = result.anomaly_map
            if result.pred_label != verdict.label:
                now = "anomalous" if result.pred_label else "normal"
                remark = f"{self.name}'s recipe says {now} now: the image isn't the one that was scored."
        ignore = self._recipe.recipe.ignore if isinstance(self._recipe, LocalRecipe) else None
        framing = self.side.framing
        return heat_picture(as_rgb(frame), anomaly_map, self.side.theta, framing=framing, ignore=ignore), remark

    @cached_property
    def _recipe(self) -> LocalRecipe | SpadelineError:
        """The recipe that scored, or why its folder doesn't hold it."""
        try:
            (local,) = find_recipes(self.side.folder)
            if local.sha256 != self.side.sha256:
                return RecipeError(f"{self.side.folder}: its recipe.json has changed since the images were scored")
        except SpadelineError as error:
            return error
        return local

    @cached_property
    def _detector(self) -> Detector | None:
        if not isinstance(self._recipe, LocalRecipe):
            self._miss(self._recipe)
            return None
        try:
            (opened,) = open_recipes([self._recipe], threads=processors(), gallery="mapped")
        except SpadelineError as error:
            self._miss(error)
            return None
        return opened.detector

    def _miss(self, error: SpadelineError) -> None:
        self.notices.append(f"Anomaly maps of {self.name} are missing. {error}.")


def _case(image: ChangedImage, frame: Pixels | InputError, maps: Sequence[_Maps]) -> _Case:
    pictures: dict[str, NDArray[np.uint8]] = {}
    remarks = []
    verdicts = (image.a, image.b)
    if isinstance(frame, InputError):
        remarks.append(f"No picture: {frame}.")
    else:
        pictures["frame"] = thumbnail(as_rgb(frame))
        for side, verdict in zip(maps, verdicts, strict=True):
            if verdict.label is None:
                continue
            try:
                picture, remark = side.picture(image.path, frame, verdict)
            except InputError as error:
                picture, remark = None, f"No map of {side.name}: {error}."
            if picture is not None:
                pictures[f"{side.name}: anomaly map"] = picture
            if remark:
                remarks.append(remark)
    return _Case(
        name=image.path,
        lines=tuple((side.name, side.line(verdict)) for side, verdict in zip(maps, verdicts, strict=True)),
        remarks=tuple(remarks),
        pictures={caption: data_url(picture) for caption, picture in pictures.items()},
    )
