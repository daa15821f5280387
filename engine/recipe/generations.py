"""Which files of a recipe's folder are live: the lock of one writer, the switch to a new generation, and clearing away.

The live files are those that recipe.json names. It is replaced by a rename, once all of these files are on the disk. So
a process that is killed at any moment leaves either the recipe of before or the new one. What the files hold is not
decided here.

Only files that are known to be spadeline's are removed, and a name alone proves nothing. A writer makes its files in a
folder of its own, WRITING_NAME, which the next writer clears away. Before it moves the files out, it writes a journal
there, which lists them and the files that they replace by name, size and inode. A file that fits its entry, and that
recipe.json doesn't name, was moved before a kill, or replaced. It is removed. All other files in the recipe's folder
belong to somebody else and stay.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import OutputError, RecipeError
from ..files import FileWriter, reading, sync_folder, writing
from .manifest import LAST_GENERATION, NUMBERED, Manifest
from .manifest_json import LARGEST_MANIFEST, manifest_from_json, manifest_to_json

MANIFEST_NAME = "recipe.json"
LOCK_NAME = ".lock"
WRITING_NAME = ".spadeline-writing"
JOURNAL_NAME = "journal.json"
LARGEST_JOURNAL = 1 << 16  # bytes; a recipe has some 20 files

# Size and inode of files, by their names. A move changes neither.
Entries = dict[str, tuple[int, int]]


@contextmanager
def only_writer(folder: Path) -> Iterator[Path]:
    """Hold the folder's lock and yield an empty folder to write into. Clear away useless files before and after.

    Raises
    ------
    OutputError
        The lock or the folder can't be made.
    RecipeError
        Another process has the lock.
    """
    lock = FileLock(folder / LOCK_NAME, timeout=0)
    with writing(folder / LOCK_NAME):
        try:
            lock.acquire()
        except Timeout:
            raise RecipeError(f"{folder}: is being written by another process") from None
    own = folder / WRITING_NAME
    try:
        _clear(folder)
        with writing(own):
            own.mkdir()
        try:
            yield own
        finally:
            # After an error, too, recipe.json says what is live: the switch may have come before the error.
            _clear(folder)
    finally:
        lock.release()


def switch(folder: Path, manifest: Manifest) -> None:
    """Make a manifest the live one, wholly or not at all. Its new files lie in the writer's folder and are durable."""
    own, encoded = folder / WRITING_NAME, manifest_to_json(manifest)
    with FileWriter(own / MANIFEST_NAME) as file:
        file.write(encoded)
        file.finish()
    names = {file.name for file in manifest.files.values()}
    moved = _entries(own, names)
    if moved:
        replaced = {name: size for name, size in (_live_files(folder) or {}).items() if name not in names}
        # A file that doesn't have the recorded size isn't the one that spadeline wrote.
        entries = {name: entry for name, entry in _entries(folder, replaced).items() if entry[0] == replaced[name]}
        with FileWriter(own / JOURNAL_NAME) as file:
            file.write(json.dumps({"moved": moved, "replaced": entries}).encode("ascii"))
            file.finish()
        sync_folder(own)
        for name in moved:
            _move(own / name, folder / name)
        sync_folder(folder)  # the new names must be durable before recipe.json names them
    with writing(folder / MANIFEST_NAME):
        (own / MANIFEST_NAME).replace(folder / MANIFEST_NAME)
    sync_folder(folder)


def read_manifest(folder: Path) -> bytes:
    """Return the content of recipe.json. RecipeError if there is none, or it is longer than a reader takes."""
    return _read_whole(folder / MANIFEST_NAME, LARGEST_MANIFEST)


def next_generation(folder: Path) -> int:
    """Return a number that no file in the folder has: above the live ones, or the first free one if those run out."""
    with writing(folder):
        taken = _numbers(path.name for path in folder.iterdir())
    number = max(_numbers(_live_files(folder) or ()), default=0) + 1
    while number in taken:
        number += 1
    if number <= LAST_GENERATION:
        return number
    free = 1
    while free in taken:
        free += 1
    return free


def stray_files(folder: Path) -> list[str]:
    """Return the files that are named as a recipe's, if recipe.json is gone or damaged: their owner is unknown."""
    if _live_files(folder) is not None:
        return []
    with writing(folder):
        return sorted(path.name for path in folder.iterdir() if re.search(NUMBERED, path.name))


def _numbers(names: Iterable[str]) -> set[int]:
    return {int(match[1]) for name in names if (match := re.search(NUMBERED, name))}


def _live_files(folder: Path) -> dict[str, int] | None:
    """Return the sizes of the files that recipe.json names; None if there is no recipe.json that can be read."""
    try:
        manifest = manifest_from_json(read_manifest(folder), folder / MANIFEST_NAME)
    except RecipeError:
        return None
    return {file.name: file.size for file in manifest.files.values()}


def _clear(folder: Path) -> None:
    """Remove the new files if the switch didn't come, or the replaced ones if it did; then the writer's folder.

    A file that can't be removed takes space and does no harm.
    """
    own = folder / WRITING_NAME
    if not os.path.lexists(own) or not stat.S_ISDIR(own.lstat().st_mode):
        return
    live, (moved, replaced) = _live_files(folder), _read_journal(own / JOURNAL_NAME)
    unwanted = replaced if live is not None else {}  # a recipe.json that was damaged since may name any of them
    if os.path.lexists(own / MANIFEST_NAME):  # the switch didn't come, so the moved files never were live
        unwanted = moved
    for name in unwanted.keys() - (live or {}).keys():
        with suppress(OSError):
            if _entry(folder / name) == unwanted[name]:
                (folder / name).unlink()
    with suppress(OSError):
        # The journal goes first: without the manifest beside it, it would say that the switch had come.
        (own / JOURNAL_NAME).unlink(missing_ok=True)
        for path in own.iterdir():
            path.unlink()
        own.rmdir()


def _move(source: Path, target: Path) -> None:
    with writing(target):
        if os.path.lexists(target):
            raise OutputError(f"{target}: can't be written: a file of this name came meanwhile")
        source.rename(target)


def _entries(folder: Path, names: Collection[str]) -> Entries:
    """Return the entries of the files that are in the folder."""
    return {name: entry for name in sorted(names) if (entry := _entry(folder / name))}


def _entry(path: Path) -> tuple[int, int] | None:
    """Return a file's size and inode; None if there is no ordinary file."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return (status.st_size, status.st_ino) if stat.S_ISREG(status.st_mode) else None


def _read_journal(path: Path) -> tuple[Entries, Entries]:
    """Return the files to move and the files that they replace; none if the journal is missing or incomplete."""
    try:
        content = json.loads(_read_whole(path, LARGEST_JOURNAL))
        moved, replaced = (
            {name: (int(size), int(inode)) for name, (size, inode) in content[key].items()}
            for key in ("moved", "replaced")
        )
    except (RecipeError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}, {}
    return moved, replaced


def _read_whole(path: Path, most: int) -> bytes:
    with reading(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise RecipeError(f"{path}: expected at most {most} bytes, got {size}")
        return file.read(size)
