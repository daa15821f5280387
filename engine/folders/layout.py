"""The roles of the folders at one place, by their names, and whether the folders below agree with them.

Only names are read. A role that isn't clear is an error that names the folders, since a guess might take defects for
normal images.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from .listing import contents, list_images, walk
from .mask_names import masks_beside_images
from .roles import NEVER_NORMAL, Role, folded, role_of, understood

MOST_NAMED = 5  # folders in an error text


@dataclass(frozen=True)
class Place:
    """The folders at one place. Those in a container, such as ``Data/Images``, count as if they lay at the place.

    Attributes
    ----------
    folder
        The place.
    by_role
        Folders whose names say what is in them, sorted, by their roles.
    others
        The other folders, sorted.
    images
        Images that lie beside the folders.
    """

    folder: Path
    by_role: Mapping[Role, tuple[Path, ...]]
    others: tuple[Path, ...]
    images: tuple[Path, ...]

    @property
    def folders(self) -> tuple[Path, ...]:
        """Every folder at the place, sorted."""
        return tuple(sorted((*self.others, *(path for paths in self.by_role.values() for path in paths))))

    def all(self, role: Role) -> tuple[Path, ...]:
        """Return the folders of a role."""
        return self.by_role.get(role, ())

    def one(self, role: Role) -> Path | None:
        """Return the folder of a role, or None if there is none. InputError if there are several."""
        found = self.all(role)
        if len(found) > 1:
            raise InputError(f"{self.folder}: expected one folder that means {role}, got {names(found)}")
        return found[0] if found else None


def look(folder: Path) -> Place:
    """Sort the folders at a place by their roles.

    Raises
    ------
    InputError
        Two folders whose names differ in case or separators alone, or as :func:`.listing.contents` does.
    """
    by_role: dict[Role, list[Path]] = {}
    others: list[Path] = []
    images: list[Path] = []
    seen: set[str] = set()  # a link in a container may lead back to the place
    waiting = [folder]
    while waiting:
        found = contents(waiting.pop())
        seen.add(os.path.realpath(found.folder))
        images += found.images
        for path in found.folders:
            role = role_of(path)
            if role is None:
                others.append(path)
            elif role != "container":
                by_role.setdefault(role, []).append(path)
            elif os.path.realpath(path) not in seen:
                waiting.append(path)
    for paths in by_role.values():
        paths.sort()
        check_spellings(folder, paths)
    return Place(folder, {role: tuple(paths) for role, paths in by_role.items()}, tuple(sorted(others)), tuple(images))


def check_spellings(folder: Path, paths: Iterable[Path]) -> None:
    """Raise InputError if two folders differ in case or separators alone, since one of them may be a leftover."""
    seen: dict[str, Path] = {}
    for path in paths:
        if other := seen.get(folded(path.name)):
            raise InputError(f"{folder}: expected one spelling of a folder's name, got {names((other, path))}")
        seen[folded(path.name)] = path


def training(place: Place) -> tuple[Path, tuple[Path, ...], list[Path]]:
    """Find the normal images to fit on at a place that has a folder of training images.

    Returns
    -------
    tuple
        The folder that their names are relative to, the folders that hold them, and those that are left out.

    Raises
    ------
    InputError
        There are several folders of training images, or none of normal images in it, or it isn't clear which images
        are meant.
    """
    train = place.one("train")
    if train is None:
        raise InputError(f"{place.folder}: expected a folder of training images, got none")
    if labelled := (*place.all("normal"), *place.all("abnormal")):
        raise InputError(f"{place.folder}: expected one layout, got {train.name} and {names(labelled)}; keep one there")
    train_place = look(train)
    normal = train_place.all("normal")
    if not normal:
        raise InputError(
            f"{train}: expected a folder of normal images in it ({understood('normal')}), got "
            f"{names(train_place.folders) or 'none'}; give {train} itself if all of its images are normal"
        )
    if train_place.images:
        raise InputError(
            f"{train}: expected its images in folders alone, got {train_place.images[0].name} beside {names(normal)}; "
            f"give {normal[0]} if it holds what is meant"
        )
    left_out = [path for path in (*place.folders, *train_place.folders) if path not in (train, *normal)]
    return normal[0] if len(normal) == 1 else train, normal, left_out


def normal_below(folder: Path) -> list[Path]:
    """Return the images of a folder of normal ones.

    Raises
    ------
    InputError
        A folder below has another role, or folders of normal images lie beside images that may not be normal, or a mask
        lies beside its image.
    """
    images = list_images(folder)
    places = list(_places(folder, images))
    for _, folders, _ in places:
        for path, example in folders.items():
            if role_of(path) in NEVER_NORMAL:
                better = next((str(other) for other in folders if role_of(other) == "normal"), "a class's train/good")
                raise InputError(
                    f"{folder}: expected normal images only, got a folder with {path.name} ({example}); give the "
                    f"folder that holds normal images alone, such as {better}"
                )
    for place, folders, image in places:
        normal = [path for path in folders if role_of(path) in ("normal", "train")]
        others = [path for path in folders if path not in normal]
        if normal and (others or image):
            came = names(others) if others else f"images such as {image.name}" if image else ""
            raise InputError(
                f"{folder}: expected normal images only, got {names(normal)} beside {came} in {place}, which may not "
                f"be normal; give {normal[0]} if it holds what is meant"
            )
    for mask, image in masks_beside_images(images).items():
        raise InputError(
            f"{folder}: expected normal images only, got {mask}, by its name the mask of {image.name}; move masks into "
            "a folder of their own"
        )
    return images


def abnormal_below(folder: Path) -> list[Path]:
    """Return the images of a folder of abnormal ones.

    Raises
    ------
    InputError
        A folder below has another role.
    """
    images = list_images(folder)
    for _, folders, _ in _places(folder, images):
        for path, example in folders.items():
            if (role := role_of(path)) not in (None, "abnormal", "container"):
                raise InputError(
                    f"{folder}: expected abnormal images only, got a folder that means {role} by its name: {path} "
                    f"({example})"
                )
    return images


def _places(folder: Path, images: Iterable[Path]) -> Iterator[tuple[Path, dict[Path, Path], Path | None]]:
    """Yield each folder on the way to an image, with an image of each folder in it and an image that lies in it."""
    folders_in: dict[Path, dict[Path, Path]] = {}
    image_in: dict[Path, Path] = {}
    for image in images:
        image_in.setdefault(image.parent, image)
        inner = image.parent
        while inner != folder and inner not in folders_in.setdefault(inner.parent, {}):
            folders_in[inner.parent][inner] = image
            inner = inner.parent
    for place in sorted({*folders_in, *image_in}):
        yield place, folders_in.get(place, {}), image_in.get(place)


def has_images(folder: Path) -> bool:
    """Whether there is an image in a folder or below it."""
    return any(place.images for place in walk(folder))


def names(paths: Sequence[Path]) -> str:
    """Return the names of folders as text, the first ones if there are many."""
    return ", ".join(path.name for path in paths[:MOST_NAMED]) + (", …" if len(paths) > MOST_NAMED else "")
