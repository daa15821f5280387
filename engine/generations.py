"""Which files of a recipe's folder are live: one writer's lock, the switch to a new generation, the sweep.

recipe.json decides. It is replaced by rename, once all files that it names are on the disk, so a process killed
at any moment leaves what was live before or what is live after. Files of no live generation are what killed
writers left; the next writer sweeps them. What is in the files is not decided here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from .derived import CODE_KINDS
from .errors import InputError, RecipeError
from .extractor import LEVEL_NAME
from .files import FileWriter, reading, sync_folder, writing
from .gallery import EMBEDDINGS
from .ignore import IGNORE
from .manifest import EXTRACTOR_NAME, GENERATION, LARGEST_MANIFEST, Manifest, from_json, to_json

MANIFEST_NAME = "recipe.json"
TEMPORARY_NAME = "recipe.json.tmp"
LOCK_NAME = ".lock"
# All names that a writer may leave behind, and so all that the sweep may remove.
ARRAY = rf"{EMBEDDINGS}|{IGNORE}|(({'|'.join(CODE_KINDS)})-)?{LEVEL_NAME}"
OWN_NAME = rf"{EXTRACTOR_NAME}|({ARRAY})-{GENERATION}\.npy|{re.escape(TEMPORARY_NAME)}"


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; remove what killed writers left, and what this one leaves if it fails.

    Raises
    ------
    InputError
        No writer has ever been here, and yet there are files of a recipe's names: somebody else's.
    OutputError
        The lock can't be had.
    RecipeError
        Another process has it.
    """
    _check_foreign(folder)
    lock = FileLock(folder / LOCK_NAME, timeout=0)
    with writing(folder / LOCK_NAME):
        try:
            lock.acquire()
        except Timeout:
            raise RecipeError(f"{folder}: is being written by another process") from None
    try:
        # A damaged recipe.json may have vouched for any file but for its own successor, which is never live.
        live = _live_names(folder, unreadable=_own_names(folder) - {TEMPORARY_NAME})
        _sweep(folder, live)
        try:
            yield
        finally:
            # Whatever happened, recipe.json says what is live now: the switch may have come before the error.
            _sweep(folder, _live_names(folder, unreadable=live))
    finally:
        lock.release()


def switch(folder: Path, manifest: Manifest) -> None:
    """Make a manifest, whose files are durable, the live one: wholly, or not at all."""
    encoded = to_json(manifest)
    sync_folder(folder)  # the new names must be durable before anything points to them
    temporary = folder / TEMPORARY_NAME
    with FileWriter(temporary) as file:
        file.write(encoded)
        file.finish()
    with writing(folder / MANIFEST_NAME):
        temporary.replace(folder / MANIFEST_NAME)
    sync_folder(folder)


def read_manifest(folder: Path) -> bytes:
    """Return the content of recipe.json; RecipeError when there is none that a reader would take."""
    path = folder / MANIFEST_NAME
    with reading(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > LARGEST_MANIFEST:
            raise RecipeError(f"{path}: expected at most {LARGEST_MANIFEST} bytes, got {size}")
        return file.read(size)


def _check_foreign(folder: Path) -> None:
    """Keep the sweep away from files that no writer left, by their names alone: each writer leaves a lock."""
    names = sorted(_own_names(folder))  # first: those that a writer makes meanwhile come after its lock
    if names and not any(os.path.lexists(folder / name) for name in (LOCK_NAME, MANIFEST_NAME)):
        raise InputError(
            f"{folder}: expected no files of a recipe's names where there is no recipe, got {names[0]}; "
            "move them, or write to another folder"
        )


def _own_names(folder: Path) -> set[str]:
    with writing(folder):
        return {path.name for path in folder.iterdir() if re.fullmatch(OWN_NAME, path.name)}


def _live_names(folder: Path, *, unreadable: set[str]) -> set[str]:
    """Return the names that recipe.json vouches for; ``unreadable`` when it is there and can't be read."""
    if not os.path.lexists(folder / MANIFEST_NAME):
        return set()
    try:
        manifest = from_json(read_manifest(folder), folder / MANIFEST_NAME)
    except RecipeError:
        return unreadable
    return {file.name for file in manifest.files.values()}


def _sweep(folder: Path, live: set[str]) -> None:
    for name in _own_names(folder) - live:
        with suppress(OSError):  # it takes space, it does no harm, and the next writer tries again
            (folder / name).unlink()


def next_generation(folder: Path) -> int:
    """Return a generation above every one that the folder holds or recipe.json names."""
    names = _own_names(folder) | _live_names(folder, unreadable=set())
    return 1 + max((int(match[1]) for name in names if (match := re.search(r"-(\d+)\.", name))), default=0)


def check_source(source: Path, folder: Path) -> None:
    """Refuse an extractor that the sweep would take for a killed writer's."""
    own = re.fullmatch(OWN_NAME, source.name) and source.resolve().parent == folder.resolve()
    if own and source.name not in _live_names(folder, unreadable={source.name}):
        raise InputError(f"{source}: expected a name that isn't the recipe's own, or a place outside of {folder}")
