"""A folder of labelled images: which files are normal, which are abnormal, and where their masks lie.

Only names are read; no file is opened. A mask that is missing or fits no image is an error, since figures without that
image would be taken for figures of all images.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import InputError
from .layout import Place, abnormal_below, check_spellings, has_images, look, names, normal_below, training
from .listing import check_folder
from .mask_names import find_masks
from .roles import Role, understood

PARTS: tuple[Role, ...] = ("train", "test", "normal", "abnormal")  # a folder that holds one of them is a data set


@dataclass(frozen=True, kw_only=True)
class LabelledImage:
    """One image of a test set.

    Attributes
    ----------
    path
        The image's file.
    label
        True: abnormal.
    kind
        Its folder's name: "good" or the kind of defect; in the plain layout any name, such as "normal" or "NG".
    mask_paths
        The files that together mark the pixels of the defects. Empty without masks.
    """

    path: Path
    label: bool
    kind: str
    mask_paths: tuple[Path, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Taken:
    """A folder of test images: its path below the data set's, how many images it has, and how many have masks."""

    folder: str
    label: bool
    images: int
    with_mask: int


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The images of a folder to fit and to evaluate on.

    Attributes
    ----------
    folder
        The folder.
    layout
        Its layout, one of the two of :func:`find_dataset`.
    train
        Normal images to fit on, none of which is a test image. Empty in the plain layout, and without a train folder.
    test
        Images to evaluate on, sorted by kind, then by name. Empty without a test folder.
    train_folder
        Names of images in a recipe that is fitted on this folder are relative to it. None without a train folder.
    taken
        The folders that the test images come from.
    """

    folder: Path
    layout: Literal["mvtec", "plain"]
    train: tuple[Path, ...]
    test: tuple[LabelledImage, ...]
    train_folder: Path | None = None
    taken: tuple[Taken, ...] = ()

    def check_test(self) -> None:
        """Raise InputError unless there are images to evaluate on."""
        if not self.test:
            raise InputError(f"{self.folder}: expected test images in test/good and test/<kind>, got none")


def find_dataset(folder: str | os.PathLike[str]) -> Dataset:
    """Recognise one of two layouts by the roles that :mod:`.roles` gives to folders' names.

    Layout of MVTec AD: ``train/good``, ``test/good``, ``test/<kind>``, and ``ground_truth/<kind>`` with a mask for each
    abnormal image. Either train or test may be missing, and so may ground_truth.

    Plain layout: ``normal``, ``abnormal`` and, if there are masks, ``masks``. Not every image needs a mask.

    The names of masks are those of :mod:`.mask_names`. Masks may also lie beside their images.

    Raises
    ------
    InputError
        Not a folder, neither layout, a part of the layout is missing, or the role of a folder isn't clear. The text
        names the folder.
    """
    root = Path(folder)
    check_folder(root, "a data set's folder")
    place = look(root)
    if place.all("train") or place.all("test"):
        return _mvtec(place)
    if place.all("normal") or place.all("abnormal"):
        return _plain(place)
    came = f"neither in {names(place.folders)}" if place.folders else "neither"
    raise InputError(
        f"{root}: expected train/good and test/<kind>, or normal and abnormal, got {came}; understood as normal: "
        f"{understood('normal')}; as abnormal: {understood('abnormal')}"
    )


def has_layout(folder: Path) -> bool:
    """Whether a folder is a data set's: it holds a part of one of the layouts."""
    place = look(folder)
    return any(place.all(role) for role in PARTS)


def _mvtec(place: Place) -> Dataset:
    root = place.folder
    if labelled := (*place.all("normal"), *place.all("abnormal")):
        parts = names((*place.all("train"), *place.all("test")))
        raise InputError(f"{root}: expected one layout, got {parts} and {names(labelled)}; keep one of them there")
    test_folder, truth = place.one("test"), place.one("masks")
    base, train = None, list[Path]()
    if place.all("train"):
        base, folders, _ = training(place)
        train = [path for folder in folders for path in normal_below(folder)]
    if test_folder is None:
        return Dataset(folder=root, layout="mvtec", train=tuple(train), test=(), train_folder=base)
    test = look(test_folder)
    if test.images and test.folders:
        raise InputError(f"{test_folder}: expected test images in folders alone, got {test.images[0].name} beside them")
    if inner := test.one("masks"):
        if truth is not None:
            raise InputError(f"{root}: expected one folder of masks, got {truth} and {inner}")
        truth = inner
    if unclear := (*test.all("train"), *test.all("test"), *test.all("aside")):
        raise InputError(f"{test_folder}: expected the folders good and one per kind of defect, got {names(unclear)}")
    kinds = sorted((*test.all("normal"), *test.all("abnormal"), *test.others), key=lambda path: path.name)
    if not kinds:
        raise InputError(f"{test_folder}: expected the folders good and one per kind of defect, got none")
    check_spellings(test_folder, kinds)
    images = _labelled(kinds, test.all("normal"), truth, each_masked=truth is not None)
    return Dataset(
        folder=root,
        layout="mvtec",
        train=tuple(train),
        test=tuple(image for kind in images.values() for image in kind),
        train_folder=base,
        taken=_taken(root, images),
    )


def _plain(place: Place) -> Dataset:
    root, normal, abnormal = place.folder, place.all("normal"), place.all("abnormal")
    if not abnormal or not normal:
        lacking: Literal["normal", "abnormal"] = "normal" if abnormal else "abnormal"
        raise InputError(
            f"{root}: expected a folder of {lacking} images ({understood(lacking)}) beside "
            f"{names((*normal, *abnormal))}, got {names(place.others) or 'none'}"
        )
    if unclear := [path for path in place.others if has_images(path)]:
        raise InputError(
            f"{root}: expected folders of normal and of abnormal images, got {names(unclear)} beside "
            f"{names((*normal, *abnormal))}; name it as one of {understood('normal')} or {understood('abnormal')}"
        )
    images = _labelled((*normal, *abnormal), normal, place.one("masks"), each_masked=False)
    test = tuple(image for kind in images.values() for image in kind)
    return Dataset(folder=root, layout="plain", train=(), test=test, taken=_taken(root, images))


def _labelled(
    kinds: Sequence[Path], normal: Sequence[Path], truth: Path | None, *, each_masked: bool
) -> dict[Path, list[LabelledImage]]:
    """Return the images of each kind, the abnormal ones with their masks."""
    abnormal = {kind: abnormal_below(kind) for kind in kinds if kind not in normal}
    masks = find_masks(abnormal, truth, each=each_masked)
    labelled: dict[Path, list[LabelledImage]] = {}
    for kind in kinds:
        paths = [path for path in abnormal[kind] if path in masks] if kind in abnormal else normal_below(kind)
        labelled[kind] = [
            LabelledImage(path=path, label=kind in abnormal, kind=kind.name, mask_paths=masks.get(path, ()))
            for path in paths
        ]
    return labelled


def _taken(root: Path, images: dict[Path, list[LabelledImage]]) -> tuple[Taken, ...]:
    return tuple(
        Taken(
            folder=kind.relative_to(root).as_posix(),
            label=any(image.label for image in found),
            images=len(found),
            with_mask=sum(bool(image.mask_paths) for image in found),
        )
        for kind, found in images.items()
    )
