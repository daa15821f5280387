"""A folder of labelled images: which files are normal, which abnormal, and where their masks lie.

Only names are looked at; nothing is opened. A mask that is missing or fits no image is an error, since a
figure over the others would pass for a figure over all.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .errors import InputError
from .images import list_images


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
        Its folder's name: "good" or the kind of defect; "normal" or "abnormal" in the plain layout.
    mask_path
        The file that marks the defect's pixels; None where there is none.
    """

    path: Path
    label: bool
    kind: str
    mask_path: Path | None


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """What a folder offers to fit and to evaluate on.

    Attributes
    ----------
    folder
        Where it lies.
    layout
        Which of the two layouts of :func:`find_dataset` it has.
    train
        Normal images to fit on, apart from the test images; empty in the plain layout or without train.
    test
        Images to evaluate on, by kind, then by name; empty without test.
    """

    folder: Path
    layout: Literal["mvtec", "plain"]
    train: tuple[Path, ...]
    test: tuple[LabelledImage, ...]

    def check_test(self) -> None:
        """Raise InputError unless there are images to evaluate on."""
        if not self.test:
            raise InputError(f"{self.folder}: expected test images in test/good and test/<kind>, got none")


def find_dataset(folder: str | os.PathLike[str]) -> Dataset:
    """Recognise one of two layouts.

    MVTec AD: ``train/good``, ``test/good``, ``test/<kind>`` and ``ground_truth/<kind>/<stem>_mask.png``.
    Either train or test may be absent, and ground_truth; where it is, every abnormal image has a mask in it.

    Plain: ``normal``, ``abnormal`` and, if there are masks, ``masks``: for an image of abnormal a mask of the
    same stem, or of the stem with ``_mask`` behind it. Not every image needs one.

    Raises
    ------
    InputError
        Not a folder, neither layout, or a part of it is missing; the text names it.
    """
    root = Path(folder)
    if not root.is_dir():
        came = "a file" if root.exists() else "no such path"
        raise InputError(f"{root}: expected a data set's folder, got {came}")
    if (root / "train").is_dir() or (root / "test").is_dir():
        return _mvtec(root)
    if (root / "normal").is_dir() or (root / "abnormal").is_dir():
        return _plain(root)
    raise InputError(f"{root}: expected train/good and test/<kind>, or normal and abnormal, got neither")


def training_folder(folder: str | os.PathLike[str]) -> Path | None:
    """Return where a data set in MVTec AD's layout keeps its normal images to fit on; None in any other folder."""
    good = Path(folder) / "train" / "good"
    return good if good.is_dir() else None


def _mvtec(root: Path) -> Dataset:
    train, test = root / "train", root / "test"
    return Dataset(
        folder=root,
        layout="mvtec",
        train=tuple(list_images(train / "good")) if train.is_dir() else (),
        test=tuple(image for kind in _kinds(test) for image in _of_kind(root, kind)) if test.is_dir() else (),
    )


def _kinds(test: Path) -> list[str]:
    kinds = sorted(path.name for path in test.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not kinds:
        raise InputError(f"{test}: expected the folders good and one per kind of defect, got none")
    return kinds


def _of_kind(root: Path, kind: str) -> list[LabelledImage]:
    folder, truth = root / "test" / kind, root / "ground_truth"
    abnormal = kind != "good"
    images = []
    for path in list_images(folder):
        mask = None
        if abnormal and truth.is_dir():
            mask = truth / kind / path.relative_to(folder).with_name(f"{path.stem}_mask.png")
            if not mask.is_file():
                raise InputError(f"{mask}: expected the mask of {path}, got no such file")
        images.append(LabelledImage(path=path, label=abnormal, kind=kind, mask_path=mask))
    return images


def _plain(root: Path) -> Dataset:
    normal, abnormal = list_images(root / "normal"), list_images(root / "abnormal")
    masks = _plain_masks(root, abnormal) if (root / "masks").is_dir() else {}
    return Dataset(
        folder=root,
        layout="plain",
        train=(),
        test=(
            *(LabelledImage(path=p, label=False, kind="normal", mask_path=None) for p in normal),
            *(LabelledImage(path=p, label=True, kind="abnormal", mask_path=masks.get(p)) for p in abnormal),
        ),
    )


def _plain_masks(root: Path, abnormal: list[Path]) -> dict[Path, Path]:
    """Give each mask to its one image, folders below ``abnormal`` and ``masks`` matching too."""
    by_stem: dict[Path, list[Path]] = {}
    for path in abnormal:
        by_stem.setdefault(path.relative_to(root / "abnormal").with_suffix(""), []).append(path)
    masks: dict[Path, Path] = {}
    for mask in list_images(root / "masks"):
        stem = mask.relative_to(root / "masks").with_suffix("")
        images = by_stem.get(stem) or by_stem.get(stem.with_name(stem.name.removesuffix("_mask")), [])
        if len(images) != 1:
            came = "none" if not images else " and ".join(str(image) for image in images)
            raise InputError(f"{mask}: expected one image of that name in {root / 'abnormal'}, got {came}")
        if images[0] in masks:
            raise InputError(f"{images[0]}: expected one mask, got {masks[images[0]]} and {mask}")
        masks[images[0]] = mask
    return masks
