"""The image files of a folder, by their names alone, always in the same order.

No file is opened, so a pipe or a damaged file in the folder does no harm. It is refused when it is read. Files that an
operating system, a file server or an archive puts into folders are left out. Links are followed, and each folder is
visited once. A link to nothing is an error, since its images would be missing silently.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..checks import check_unique
from ..errors import InputError

Source = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

IMAGE_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm"))
# Folders and files of systems, in lower case. Names that begin with a point are left out, too, such as ._image.png.
SYSTEM_NAMES = frozenset((
    "$recycle.bin", "recycler", "recycled", "system volume information", "found.000",  # Windows
    "thumbs.db", "ehthumbs.db", "desktop.ini",
    "__macosx", "network trash folder", "temporary items", "icon\r",  # macOS and its archives
    "lost+found",  # Linux
    "@eadir", "#recycle", "#snapshot", "@tmp", "@sharesnap",  # Synology: thumbnails, bin, snapshots
    "@recycle", "@recently-snapshot", "@__thumb",  # QNAP
    "~snapshot",  # NetApp
))  # fmt: skip


@dataclass(frozen=True)
class Contents:
    """The folders directly in a folder, or links to them, and the files there named like images, sorted by name."""

    folder: Path
    folders: tuple[Path, ...]
    images: tuple[Path, ...]


def contents(folder: str | os.PathLike[str]) -> Contents:
    """Look into one folder, but not into those below.

    Raises
    ------
    InputError
        Not a folder that can be read, or it holds a link to nothing that isn't named like an image.
    """
    root = Path(folder)
    folders, images = [], []
    try:
        with os.scandir(root) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name.lower() in SYSTEM_NAMES:
                    continue
                if _is_folder(entry):
                    folders.append(root / entry.name)
                elif _named_like_an_image(entry.name):
                    images.append(root / entry.name)
    except OSError as error:
        raise InputError(f"{error.filename or root}: expected a readable folder, got: {error.strerror}") from error
    return Contents(root, tuple(sorted(folders)), tuple(sorted(images)))


def walk(folder: str | os.PathLike[str]) -> Iterator[Contents]:
    """Look into a folder and once into each folder below it, however many links lead there.

    A folder is found at its own place rather than by a link, and by the first one by name of several links.

    Raises
    ------
    InputError
        As :func:`contents` does.
    """
    # By real paths: some network file systems give two folders one inode number.
    seen: set[Path] = set()
    waiting, links = [(Path(folder), Path(os.path.realpath(folder)))], list[Path]()
    while waiting or links:
        if waiting:
            current, real = waiting.pop()
        else:
            current = heapq.heappop(links)
            real = Path(os.path.realpath(current))
        if real in seen:
            continue
        seen.add(real)
        found = contents(current)
        for subfolder in found.folders:
            if subfolder.is_symlink():
                heapq.heappush(links, subfolder)
            else:
                # This saves realpath, which asks the disk for each folder above.
                waiting.append((subfolder, real / subfolder.name))
        yield found


def list_images(folder: str | os.PathLike[str]) -> list[Path]:
    """Find image files by suffix in a folder and below, sorted by relative path.

    Raises
    ------
    InputError
        Not a folder that can be read, or it holds no image, or a link to nothing lies below it.
    """
    root = Path(folder)
    check_folder(root, "a folder of images")
    found = [path for place in walk(root) for path in place.images]
    if not found:
        raise InputError(f"{root}: expected at least one image ({', '.join(sorted(IMAGE_SUFFIXES))}), got none")
    return sorted(found, key=lambda path: path.relative_to(root))


def check_folder(path: Path, expected: str) -> None:
    """Raise InputError unless there is a folder at a path."""
    if not path.is_dir():
        raise InputError(f"{path}: expected {expected}, got {'a file' if path.exists() else 'no such path'}")


def named_images(source: Source) -> list[tuple[str, Path]]:
    """Return (name, path) of each image. Names are relative to the folder; if paths are given, they are the names.

    Raises
    ------
    InputError
        No image, or a path that comes twice, or as :func:`list_images` does.
    """
    if isinstance(source, str | os.PathLike):
        if Path(source).is_file():
            return [(Path(source).name, Path(source))]
        return [(path.relative_to(source).as_posix(), path) for path in list_images(source)]
    paths = [Path(path) for path in source]
    if not paths:
        raise InputError("source: expected a folder or at least one image, got none")
    named = [(path.as_posix(), path) for path in paths]
    check_unique("source", (name for name, _ in named))
    return named


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder or a link to one. A link to nothing that is named like an image counts as a file."""
    if not entry.is_symlink():
        return entry.is_dir()
    path = Path(entry.path)
    if not (path.exists() or _named_like_an_image(entry.name)):
        raise InputError(f"{path}: expected a link to a folder or a file, got one to nothing; mend or remove it")
    return path.is_dir()


def _named_like_an_image(name: str) -> bool:
    return Path(name).suffix.lower() in IMAGE_SUFFIXES
