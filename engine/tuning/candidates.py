"""Other extractors and angles to try: each gets a recipe of the same images and settings, in a folder of its own.

No thresholds are made here; each trial makes its own.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import ExtractorError, InputError
from ..extract.extractor import Extractor
from ..extract.providers import Device
from ..files import reading
from ..fitting.copies import digests, some
from ..fitting.prepared import PreparedImage, Progress, extract, prepare_images
from ..folders.listing import Source
from ..folders.normal_images import NormalImages, normal_images
from ..images.frame_shape import Size
from ..recipe.changes import create_recipe
from ..recipe.manifest import EXTRACTOR
from ..recipe.recipe import Recipe


@dataclass(frozen=True, eq=False)
class Candidate:
    """What to try in place of a recipe's features.

    Attributes
    ----------
    path, extractor
        The extractor and its file.
    replaces
        Whether it is another one than the recipe's.
    angles
        The number of angles of each normal image.
    images
        The recipe's normal images as the extractor takes them, in the recipe's order.
    """

    path: Path
    extractor: Extractor
    replaces: bool
    angles: int
    images: tuple[PreparedImage, ...]

    @property
    def title(self) -> str:
        """What it is called in progress."""
        return self.path.name + (f", {self.angles} angles" if self.angles > 1 else "")

    def fit(self, recipe: Recipe, folder: Path, on_progress: Progress | None) -> Recipe:
        """Make a recipe without thresholds. Its settings are those of ``recipe``, and so is its mask.

        Level weights go if the extractor has another number of levels.
        """
        opened, settings = self.extractor, replace(recipe.settings, angles=self.angles)
        if len(opened.level_names) != len(recipe.level_names):
            settings = replace(settings, level_weights=None)
        how: dict[str, Any] = {"ignore": recipe.ignore, "angles": self.angles, "stage": f"{self.title}: normal images"}
        return create_recipe(
            folder,
            extractor_path=self.path,
            features=extract(self.images, opened, settings.framing, on_progress, **how),
            count=len(self.images) * self.angles,
            settings=settings,
            level_names=opened.level_names,
            level_shapes=opened.level_shapes,
            input_size=opened.input_size,
            embedding_size=opened.embedding_size,
            ignore=recipe.ignore,
        )


def open_candidates(
    recipe: Recipe,
    paths: Sequence[str | os.PathLike[str]],
    angles: Sequence[int],
    images: Source | NormalImages | None,
    *,
    device: Device,
    threads: int | None,
    on_progress: Progress | None,
) -> list[Candidate]:
    """Open extractors and read the recipe's normal images for them, to try each with each number of angles.

    The recipe's own extractor and number are among them; both together are left out.

    Raises
    ------
    InputError
        Extractors or angles without images or the other way round, a number of angles that isn't allowed, images that
        aren't all of the recipe's, one that can't be read, or a mask that doesn't fit an extractor's input.
    ExtractorError
        As :class:`.Extractor` raises it.
    """
    if not paths and not angles and images is None:
        return []
    if images is None:
        raise InputError("images: expected the recipe's normal images along with extractors or angles to try, got none")
    if not paths and not angles:
        raise InputError("extractors: expected at least one to try along with images, or angles to try, got none")
    own = recipe.settings.angles
    numbers = dict.fromkeys([own, *(replace(recipe.settings, angles=number).angles for number in angles)])
    given = normal_images(images)
    candidates, prepared = list[Candidate](), dict[Size, tuple[PreparedImage, ...]]()
    for path in [None, *_others(recipe, paths)]:
        file = recipe.extractor_file if path is None else path
        if path is None and len(numbers) == 1:
            continue
        opened = Extractor(file, device=device, threads=threads)
        size = opened.input_size
        if recipe.ignore is not None and size != recipe.input_size:
            raise InputError(
                f"{path}: expected an input of {recipe.input_size[0]} x {recipe.input_size[1]}, for which the recipe's "
                f"ignore mask was made, got {size[0]} x {size[1]}; fit a recipe with it and the mask, and tune that"
            )
        if size not in prepared:
            prepared[size] = _those_of(recipe, given, size, on_progress)
        candidates += [
            Candidate(path or recipe.extractor_path, opened, path is not None, number, prepared[size])
            for number in numbers
            if path is not None or number != own
        ]
    return candidates


def _others(recipe: Recipe, paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Return the paths of files that differ from the recipe's extractor and from each other."""
    found = {recipe.files[EXTRACTOR].sha256: Path()}
    for path in map(Path, paths):
        with reading(path, refusal=ExtractorError) as file:
            found.setdefault(hashlib.file_digest(file, "sha256").hexdigest(), path)
    return list(found.values())[1:]


def _those_of(
    recipe: Recipe, given: NormalImages, size: Size, on_progress: Progress | None
) -> tuple[PreparedImage, ...]:
    """Read images and return those that are the recipe's, in its order and under its names.

    A warning names those that aren't. They may have been removed from the recipe, or held out for thresholds.
    """

    def show(_: str, done: int, total: int) -> None:
        if on_progress:
            on_progress(f"read normal images, {size[0]} x {size[1]}", done, total)

    images = prepare_images(given.named, size, recipe.settings.framing, show, ignore=recipe.ignore)
    by_digest = {digest: image for image in reversed(images) for digest in digests(image.record)}
    originals = recipe.originals
    found = [next((by_digest[each] for each in digests(own) if each in by_digest), None) for own in originals]
    if missing := [own.name for own, image in zip(originals, found, strict=True) if image is None]:
        raise InputError(
            f"{given.source}: expected the recipe's {len(originals)} normal images, got a folder without "
            f"{len(missing)} of them: {some(missing)}"
        )
    known = {digest for own in originals for digest in digests(own)}
    if others := [image.record.name for image in images if known.isdisjoint(digests(image.record))]:
        text = f"{len(others)} of {len(images)} images aren't the recipe's and are left out: {some(others)}"
        warnings.warn(text, UserWarning, stacklevel=4)
    pairs = zip(originals, found, strict=True)
    return tuple(replace(image, record=replace(image.record, name=own.name)) for own, image in pairs if image)
