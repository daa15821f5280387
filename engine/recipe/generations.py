"""Which files of a recipe's folder are live: one writer's lock, the switch to a new generation, what is then removed.

recipe.json decides. It is replaced by rename, once all files that it names are on the disk, so a process killed
at any moment leaves what was live before or what is live after. What is in the files is not decided here.

Nothing is removed that isn't known to be ours, and names alone prove nothing. A writer makes its files in a folder of
its own, WRITING_NAME, which the next writer clears away. Before it moves them out, a journal in there says which they
are, and which ones they replace: by name, size and inode. A file that fits its entry is removed, unless recipe.json
names it: it was moved before a kill, or replaced. All else in the recipe's folder is somebody's.
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
from .manifest_json import LARGEST_MANIFEST, from_json, to_json

MANIFEST_NAME = "recipe.json"
LOCK_NAME = ".lock"
WRITING_NAME = ".spadeline-writing"
JOURNAL_NAME = "journal.json"
LARGEST_JOURNAL = 1 << 16  # bytes; a recipe has some 20 files

# Of a file by its name: size and inode, which a move doesn't change.
Entries = dict[str, tuple[int, int]]


@contextmanager
def only_writer(folder: Path) -> Iterator[Path]:
    """Hold the folder's lock and yield an empty folder to write into; clear away what is of no use before and after.

    Raises
    ------
    OutputError
        The lock or the folder can't be had.
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
            # Whatever happened, recipe.json says what is live now: the switch may have come before the error.
            _clear(folder)
    finally:
        lock.release()


def switch(folder: Path, manifest: Manifest) -> None:
    """Make a manifest the live one, wholly or not at all: its new files lie in the writer's folder, durable."""
    own, encoded = folder / WRITING_NAME, to_json(manifest)
    with FileWriter(own / MANIFEST_NAME) as file:
        file.write(encoded)
        file.finish()
    names = {file.name for file in manifest.files.values()}
    moved = _entries(own, names)
    if moved:
        replaced = {name: size for name, size in (_live_files(folder) or {}).items() if name not in names}
        # A file of another size than recorded isn't the one that was written.
        entries = {name: entry for name, entry in _entries(folder, replaced).items() if entry[0] == replaced[name]}
        with FileWriter(own / JOURNAL_NAME) as file:
            file.write(json.dumps({"moved": moved, "replaced": entries}).encode("ascii"))
            file.finish()
        sync_folder(own)
        for name in moved:
            _move(own / name, folder / name)
        sync_folder(folder)  # the new names must be durable before anything points to them
    with writing(folder / MANIFEST_NAME):
        (own / MANIFEST_NAME).replace(folder / MANIFEST_NAME)
    sync_folder(folder)


def read_manifest(folder: Path) -> bytes:
    """Return the content of recipe.json; RecipeError when there is none that a reader would take."""
    return _read_whole(folder / MANIFEST_NAME, LARGEST_MANIFEST)


def next_generation(folder: Path) -> int:
    """Return a number that no file in the folder has: above the live ones, or the first free one when they run out."""
    with writing(folder):
        taken = _numbers(path.name for path in folder.iterdir())
    above = max(_numbers(_live_files(folder) or ()), default=0) + 1
    while above in taken:
        above += 1
    if above <= LAST_GENERATION:
        return above
    free = 1
    while free in taken:
        free += 1
    return free


def stray_files(folder: Path) -> list[str]:
    """Return the files with a recipe's kind of name where recipe.json is gone or damaged: whose they are is unknown."""
    if _live_files(folder) is not None:
        return []
    with writing(folder):
        return sorted(path.name for path in folder.iterdir() if re.search(NUMBERED, path.name))


def _numbers(names: Iterable[str]) -> set[int]:
    return {int(match[1]) for name in names if (match := re.search(NUMBERED, name))}


def _live_files(folder: Path) -> dict[str, int] | None:
    """Return the sizes of the files that recipe.json names; None where there is no recipe.json that can be read."""
    try:
        manifest = from_json(read_manifest(folder), folder / MANIFEST_NAME)
    except RecipeError:
        return None
    return {file.name: file.size for file in manifest.files.values()}


def _clear(folder: Path) -> None:
    """Remove the files of a switch that never came, or those that the switch replaced; then the writer's folder.

    What can't be removed takes space and does no harm.
    """
    own = folder / WRITING_NAME
    if not os.path.lexists(own) or not stat.S_ISDIR(own.lstat().st_mode):
        return
    live, (moved, replaced) = _live_files(folder), _read_journal(own / JOURNAL_NAME)
    unwanted = replaced if live is not None else {}  # one that was damaged since may name any of them
    if os.path.lexists(own / MANIFEST_NAME):  # not switched: what was moved never was live
        unwanted = moved
    for name in unwanted.keys() - (live or {}).keys():
        with suppress(OSError):
            if _entry(folder / name) == unwanted[name]:
                (folder / name).unlink()
    with suppress(OSError):
        (own / JOURNAL_NAME).unlink(
            missing_ok=True
        )  # first: without the manifest beside it, it would mean another thing
        for path in own.iterdir():
            path.unlink()
        own.rmdir()


def _move(source: Path, target: Path) -> None:
    with writing(target):
        if os.path.lexists(target):
            raise OutputError(f"{target}: can't be written: a file of this name came meanwhile")
        source.rename(target)


def _entries(folder: Path, names: Collection[str]) -> Entries:
    """Return the entries of those files that are in the folder."""
    return {name: entry for name in sorted(names) if (entry := _entry(folder / name))}


def _entry(path: Path) -> tuple[int, int] | None:
    """Return a file's size and inode; None where there is no ordinary file."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return (status.st_size, status.st_ino) if stat.S_ISREG(status.st_mode) else None


def _read_journal(path: Path) -> tuple[Entries, Entries]:
    """Return what was to be moved, and what it replaces; nothing where there is no journal, or half of one."""
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
