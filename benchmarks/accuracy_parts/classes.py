"""The data sets that accuracy.py measures on: their classes, and what identifies a class's images.

A folder in one of the layouts of ``spadeline eval`` is a class, and a folder of such folders is a set of classes. Only
names and bytes are read; no image is decoded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from spadeline.engine.cli.demo import write_cells
from spadeline.engine.errors import InputError
from spadeline.engine.folders.dataset import PARTS, LabelledImage, find_dataset, has_layout
from spadeline.engine.folders.layout import look
from spadeline.engine.folders.listing import list_images

Cells = Literal["mono", "poly"]
CELLS: tuple[Cells, ...] = get_args(Cells)


@dataclass(frozen=True, eq=False)
class ImageClass:
    """One product: normal images to fit on, labelled ones to evaluate on."""

    name: str
    folder: Path
    train: tuple[Path, ...]
    test: tuple[LabelledImage, ...]

    @property
    def files(self) -> Iterator[tuple[str, Path]]:
        """Each image and mask with its role: train, normal, abnormal, mask."""
        yield from (("train", path) for path in self.train)
        for image in self.test:
            yield "abnormal" if image.label else "normal", image.path
            yield from (("mask", path) for path in image.mask_paths)

    @property
    def counts(self) -> dict[str, int]:
        """The number of images of each sort."""
        abnormal = sum(image.label for image in self.test)
        with_mask = sum(bool(image.mask_paths) for image in self.test)
        return {
            "train": len(self.train), "normal": len(self.test) - abnormal,
            "abnormal": abnormal, "abnormal_with_mask": with_mask,
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class DataSet:
    """Classes over which means are taken, and the folders beside them that are no classes, with the reason."""

    name: str
    classes: tuple[ImageClass, ...]
    left_out: Mapping[str, str]


def open_data_sets(folders: Sequence[Path], train: Mapping[str, Path]) -> list[DataSet]:
    """Find the classes of each folder.

    ``train`` names a folder of normal images for each class that has none of its own to fit on.

    Raises
    ------
    InputError
        A folder holds no class; a class has no images to fit or to evaluate on, or a broken layout; images to fit on
        are among those to evaluate on, or no class needs them.
    """
    unused = dict(train)
    data_sets = [_open(folder, unused) for folder in folders]
    if unused:
        raise InputError(f"--train: expected classes that have no train/good, got {', '.join(unused)}")
    return data_sets


def solar_cells(folder: Path, kinds: Sequence[Cells]) -> DataSet:
    """Write solar cells of each kind as the demo does, and return them as a data set.

    Raises
    ------
    DependencyError, OutputError
        elpv-dataset isn't installed, or the folder can't be written.
    """
    for kind in kinds:
        write_cells(folder / kind, kind=kind)
    return DataSet("elpv", tuple(_class(folder / kind, {}) for kind in kinds), {})


def digest(image_class: ImageClass, advance: Callable[[], object]) -> str:
    """Return a SHA-256 over all images and masks in their order: moving or renaming them doesn't change it."""
    parts = []
    for role, path in image_class.files:
        try:
            with path.open("rb") as file:
                parts.append((role, hashlib.file_digest(file, "sha256").hexdigest()))
        except OSError as error:
            raise InputError(f"{path}: can't be read: {error.strerror}") from error
        advance()
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _open(folder: Path, train: dict[str, Path]) -> DataSet:
    if not folder.is_dir() or has_layout(folder):
        return DataSet(folder.absolute().name, (_class(folder, train),), {})
    classes, left_out = [], {}
    for below in look(folder).folders:
        if has_layout(below):
            classes.append(_class(below, train))
        else:
            left_out[below.name] = f"none of {', '.join(PARTS)} in it"
    if not classes:
        raise InputError(
            f"{folder}: expected a class, with train/good and test/<kind>, or normal and abnormal, or a folder of "
            "classes, got neither"
        )
    return DataSet(folder.absolute().name, tuple(classes), left_out)


def _class(folder: Path, train: dict[str, Path]) -> ImageClass:
    name = folder.absolute().name
    dataset = find_dataset(folder)
    if not dataset.test:
        raise InputError(f"{folder}: expected test images in test/good and test/<kind>, got none")
    images = dataset.train
    if not images:
        if name not in train:
            raise InputError(f"{folder}: expected normal images to fit on, got none; name them: --train {name}=FOLDER")
        images = tuple(list_images(train.pop(name)))
    tested = {image.path.resolve() for image in dataset.test}
    if both := [path for path in images if path.resolve() in tested]:
        raise InputError(f"{both[0]}: expected an image to fit on that isn't evaluated on, too")
    return ImageClass(name, folder, images, dataset.test)
