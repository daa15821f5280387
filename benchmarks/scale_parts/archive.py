"""An archive to score: a folder with as many image files as asked for, made of a data set's."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import cv2
from spadeline.engine.folders.dataset import LabelledImage
from spadeline.engine.images.reading import read_image
from spadeline.engine.images.resizing import as_rgb

from shared_parts.again import as_if_taken_again


def write_copies(frames: Sequence[LabelledImage], folder: Path, count: int, *, bad_share: float) -> list[Path]:
    """Copy good and defective images in turn, with the share of defective ones the same throughout; return the paths.

    Copies are the camera's own files: their bytes and the time to decode them are those of an archive.
    """
    folder.mkdir()
    groups = [[frame.path for frame in frames if frame.label == bad] for bad in (False, True)]
    if not all(groups):
        bad_share = float(not groups[False])
    paths = []
    for index in range(count):
        bad = int((index + 1) * bad_share) - int(index * bad_share)  # 1 where the number of bad ones grows
        before = int(index * bad_share)
        group = groups[bad]
        original = group[(before if bad else index - before) % len(group)]
        paths.append(folder / f"{index:06}{original.suffix}")
        shutil.copyfile(original, paths[-1])
    return paths


def write_again(paths: Sequence[Path], folder: Path, count: int) -> list[Path]:
    """Write images as if they were taken again, so that each has nearest images of its own; return the paths."""
    folder.mkdir()
    written = []
    for index in range(count):
        image = as_if_taken_again(as_rgb(read_image(paths[index % len(paths)])), seed=index)
        written.append(folder / f"{index:06}.png")
        cv2.imwrite(str(written[-1]), image[..., ::-1])
    return written
