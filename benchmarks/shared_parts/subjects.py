"""Data sets with networks: for each pair and input size a recipe of default settings, and the frames to inspect.

The options that choose them are those of matcher.py and pipeline.py. Nothing is timed here.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spadeline.engine import Recipe, Settings, fit
from spadeline.engine.cli.arguments import size
from spadeline.engine.errors import InputError
from spadeline.engine.extract.extractor import Extractor
from spadeline.engine.folders.dataset import Dataset, LabelledImage, find_dataset

from shared_parts.command import check_files
from shared_parts.resized import resized_extractor

GROUPS = {"good": False, "defective": True}  # of frames, by their label
LEAST_SIDE = 32  # of an input: a ResNet halves it five times, and ONNX Runtime may crash on empty arrays
OPTIONS = {  # that --data goes with, by their names in the parsed options
    "data", "dense", "device", "extractor", "input_size", "json", "most_queries", "recipes", "rounds", "seconds",
    "threads",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Subject:
    """A data set with one network at one input size.

    Attributes
    ----------
    data, network
        The name of the set's folder, and of the network's file.
    recipe
        Fitted with default settings on all images of train/good.
    frames
        Of its test images.
    """

    data: str
    network: str
    recipe: Recipe
    frames: Sequence[LabelledImage]

    @property
    def name(self) -> str:
        """What a message calls it."""
        height, width = self.recipe.input_size
        return f"{self.data}, {self.network}, {height}x{width}"

    @property
    def theta(self) -> float:
        """The map's threshold."""
        assert self.recipe.calibration is not None  # noqa: S101 - fit made it
        return self.recipe.calibration.theta.value

    def facts(self) -> dict[str, Any]:
        """Return what a document says of it; cells are the coarsest level's positions, which the guard counts."""
        recipe = self.recipe
        _, rows, columns = recipe.level_shapes[-1]
        return {
            "data": self.data,
            "network": self.network,
            "input_size": recipe.input_size,
            "images": min(recipe.settings.k_gallery, len(recipe.images)),
            "cells": rows * columns,
            "theta": self.theta,
        }

    def groups(self) -> dict[str, list[int]]:
        """Return the indices of the good and of the defective frames, where there are any."""
        indices = {
            name: [index for index, frame in enumerate(self.frames) if frame.label == label]
            for name, label in GROUPS.items()
        }
        return {name: found for name, found in indices.items() if found}


def add_subjects(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the options that choose subjects, and how long they are measured; return their group."""
    group = parser.add_argument_group("several data sets: map, mask and label side by side")
    text = (
        "data sets with train/good and test, as MVTec AD's; each is fitted with default settings, with each extractor"
    )
    group.add_argument("--data", nargs="+", type=Path, metavar="FOLDER", help=text)
    group.add_argument("--recipes", type=Path, metavar="FOLDER", help="with --data: recipes stay here for the next run")
    text = "with --data: rounds over all frames of a set; default: at least 5, and as many as make 100 runs"
    group.add_argument("--rounds", type=int, metavar="N", help=text)
    return group


def add_input(group: argparse._ArgumentGroup) -> None:
    """Add the option of the input's size."""
    text = "the extractor's input; default: its own"
    group.add_argument("--input", nargs="+", type=size, dest="input_size", metavar="HxW", help=text)


def check_input(parser: argparse.ArgumentParser, sizes: Sequence[tuple[int, int] | None]) -> None:
    """End the run for an input that is too small."""
    if any(min(sides) < LEAST_SIDE for sides in sizes if sides is not None):
        parser.error(f"--input: expected sides of {LEAST_SIDE} or more, got {sizes}")


def check_subjects(parser: argparse.ArgumentParser, options: argparse.Namespace, *, numbers: Sequence[int]) -> None:
    """End the run for options that don't go together with --data; ``numbers`` must be 1 or more."""
    for name, value in vars(options).items():
        if name not in OPTIONS and value != parser.get_default(name):
            parser.error(f"--data: expected only options of {', '.join(sorted(OPTIONS))} with it, got {name}")
    if not options.extractor:
        parser.error("--data: expected --extractor with it, got none")
    for name, paths in (("--data", options.data), ("--extractor", options.extractor)):
        names = [path.resolve().stem for path in paths]
        if len(set(names)) < len(names):
            parser.error(f"{name}: expected names that differ, got {' '.join(names)}")
    check_input(parser, options.input_size or [])
    least = min([*numbers, *(number for number in (options.rounds, options.most_queries) if number is not None)])
    if least < 1 or options.seconds < 0:
        parser.error(f"expected numbers of 1 or more, got {min(least, options.seconds)}")
    check_files(parser, options.json, options.recipes)


def check_without(parser: argparse.ArgumentParser, options: argparse.Namespace, *names: str) -> None:
    """End the run for options, by their names in the parsed ones, that only --data has a use for."""
    for name in names:
        if getattr(options, name) != parser.get_default(name):
            parser.error(f"{name}: expected --data with it, got none")


def subjects(options: argparse.Namespace) -> Iterator[Subject]:
    """Fit and yield each data set with each extractor at each input size.

    ``options`` have data, extractor, input_size, recipes, most_queries (of the good frames, and of the others) and
    threads, a number.

    Raises
    ------
    InputError
        A folder without train/good or without test images.
    """
    with _folder(options.recipes) as folder:
        for path in options.data:
            dataset = find_dataset(path)
            if not dataset.train or not dataset.test:
                raise InputError(f"{path}: expected a data set with train/good and test")
            frames = _chosen(dataset, options.most_queries)
            for extractor in options.extractor:
                for wanted in options.input_size or [None]:
                    recipe = _recipe(dataset, extractor, wanted, folder, options.threads)
                    yield Subject(path.resolve().name, extractor.stem, recipe, frames)


def _chosen(dataset: Dataset, most: int | None) -> list[LabelledImage]:
    """Return all test images, or so many good and so many defective ones, evenly spread over the kinds."""
    chosen = []
    for label in GROUPS.values():
        frames = [image for image in dataset.test if image.label == label]
        count = min(len(frames), most or len(frames))
        chosen += [frames[index * len(frames) // count] for index in range(count)]
    return chosen


def _recipe(dataset: Dataset, extractor: Path, wanted: tuple[int, int] | None, folder: Path, threads: int) -> Recipe:
    """Fit on a data set, or open the recipe of the same images, network, size and settings that lies there."""
    if wanted is None:
        wanted = Extractor(extractor, device="cpu").input_size
    digest = hashlib.sha256(repr((wanted, Settings())).encode())
    for path in (extractor, *dataset.train):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    height, width = wanted
    name = f"{dataset.folder.resolve().name}-{extractor.stem}-{height}x{width}-{digest.hexdigest()[:12]}"
    if (folder / name / "recipe.json").exists():
        return Recipe.load(folder / name)
    graph = resized_extractor(extractor, wanted, folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of fewer images than k_gallery: the document says how many
        return fit(dataset.train, folder / name, extractor=graph, device="cpu", threads=threads)


@contextmanager
def _folder(wanted: Path | None) -> Iterator[Path]:
    if wanted is not None:
        wanted.mkdir(exist_ok=True)
        yield wanted
        return
    with tempfile.TemporaryDirectory(prefix="spadeline-recipes-") as folder:
        yield Path(folder)
