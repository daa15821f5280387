"""Which images of a folder are the normal ones to fit on. ``fit``, ``add`` and int8 calibration share this.

Only names are read. A folder that may also hold other images is refused, since a defect in the gallery would make each
defect like it normal.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .layout import look, normal_below, training
from .listing import Source, named_images


@dataclass(frozen=True, kw_only=True)
class NormalImages:
    """The normal images of a source.

    Attributes
    ----------
    source
        Where they come from, for error texts.
    named
        Name and path of each image. Names are relative to the folder that they were taken from, or the paths as given.
    taken
        How many images come from each subfolder of the source, "." being the source itself. Empty if images were given.
    left_out
        Folders of a data set whose images weren't taken.
    """

    source: str
    named: tuple[tuple[str, Path], ...]
    taken: Mapping[str, int]
    left_out: tuple[str, ...]


def normal_images(source: Source | NormalImages) -> NormalImages:
    """Return the normal images of a source: all images of a folder, or those of ``train/good`` if it is a data set's.

    Paths that are given one by one are taken as they are, since they were chosen one by one.

    Raises
    ------
    InputError
        No image, or a folder that also holds other images, by its name or by that of a folder below it.
    """
    if isinstance(source, NormalImages):
        return source
    if not isinstance(source, str | os.PathLike) or not Path(source).is_dir():
        given = str(source) if isinstance(source, str | os.PathLike) else "source"
        return NormalImages(source=given, named=tuple(named_images(source)), taken={}, left_out=())
    root = Path(source)
    place = look(root)
    base, folders, left_out = training(place) if place.all("train") else (root, (root,), [])
    images = {folder: normal_below(folder) for folder in folders}
    taken = Counter(_part(path, folder, root) for folder, paths in images.items() for path in paths)
    return NormalImages(
        source=str(root),
        named=tuple((path.relative_to(base).as_posix(), path) for paths in images.values() for path in paths),
        taken=dict(taken),
        left_out=tuple(path.relative_to(root).as_posix() for path in left_out),
    )


def _part(image: Path, folder: Path, root: Path) -> str:
    """Return the subfolder of the root that an image counts for: the data set's part, or the first one on its way."""
    if folder != root:
        return folder.relative_to(root).as_posix()
    return image.relative_to(root).parts[0] if image.parent != root else "."
