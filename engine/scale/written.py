"""What a run has written: Parquet files in parts, one folder for each recipe. ``description.py`` has what describes it.

A part holds the rows of some images, in each recipe's folder under the same name. It counts once all recipes have it,
so an image has rows of all recipes or of none, whenever the process ends. Each file is written whole or not at all.
Names that begin with "_" or "." are passed over by those who read a folder of Parquet files.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from filelock import FileLock, Timeout

from ..errors import InputError, OutputError, ScaleError
from ..files import replace_file, writing
from ..optional import imported
from .addresses import RAY, pyarrow
from .description import DESCRIPTION, Counts, Description, check_same, read_description, write_description

LOCK = ".lock"
PART = "part-{:08}.parquet"
PART_NAME = re.compile(r"part-(\d{8})\.parquet")
PARTIAL = re.compile(r"\.(part-\d{8}\.parquet|_score\.json)\.[0-9a-f]{8}\.partial")  # what a kill leaves
# A part is written when it has so many images, or is so old: what a kill loses is scored again.
PART_IMAGES, PART_SECONDS = 1024, 20.0
PART_BYTES = 256 << 20  # with maps, a part is full sooner


class Written:
    """A folder that rows are written into. Open one with :func:`open_written`.

    Attributes
    ----------
    paths
        The images that have rows, written or waiting for the next part.
    """

    def __init__(self, folder: Path, description: Description) -> None:
        self._folder, self._description = folder, description
        self._names = [recipe.name for recipe in description.recipes]
        self._part = _remove_incomplete(folder, self._names)
        self.paths: set[str] = set()
        for name in self._names:
            self.paths.update(read_rows(folder / folder_of(name), ["path"])["path"].to_pylist())
        self._waiting: list[Any] = []
        self._since = time.monotonic()

    def add(self, rows: Any) -> None:
        """Take the rows of some images, with all recipes' rows of each; a part that is full is written.

        Raises
        ------
        OutputError
            The part can't be written.
        ScaleError
            An image has rows already, or lacks those of a recipe.
        """
        paths = set(rows["path"].to_pylist())
        if not self.paths.isdisjoint(paths) or len(rows) != len(paths) * len(self._names):
            raise ScaleError(f"expected each image once, got {len(rows)} rows for {sorted(paths)[:3]}, …")
        self.paths |= paths
        self._waiting.append(rows)
        images = sum(map(len, self._waiting)) // len(self._names)
        full = images >= PART_IMAGES or sum(table.nbytes for table in self._waiting) >= PART_BYTES
        if full or time.monotonic() - self._since >= PART_SECONDS:
            self.write_part()

    def write_part(self) -> None:
        """Write what waits; it then survives a kill. Raises OutputError."""
        if self._waiting:
            rows = pyarrow().concat_tables(self._waiting)
            compute, parquet = imported("pyarrow.compute", RAY), imported("pyarrow.parquet", RAY)
            number = self._part + 1  # the same one again after a failure: no rows stand in two parts
            for name in self._names:
                content = io.BytesIO()
                own = rows.filter(compute.equal(rows["recipe"], name))
                parquet.write_table(own.sort_by("path"), content, compression="zstd")
                replace_file(self._folder / folder_of(name) / PART.format(number), content.getvalue())
            self._part = number
        self._waiting, self._since = [], time.monotonic()

    def finish(self) -> Counts:
        """Write what waits, count all rows that are written, and say that the run is complete."""
        self.write_part()
        scored, errors, anomalous = {}, {}, {}
        for name in self._names:
            rows = read_rows(self._folder / folder_of(name), ["label", "error"])
            errors[name] = len(rows) - rows["error"].null_count
            scored[name] = len(rows) - rows["label"].null_count
            anomalous[name] = rows["label"].to_pylist().count(True)
        counts = Counts(images=len(self.paths), scored=scored, errors=errors, anomalous=anomalous)
        write_description(self._folder, replace(self._description, counts=counts))
        return counts


@contextmanager
def open_written(folder: Path, description: Description, *, resume: bool) -> Iterator[Written]:
    """Open a folder to write into, and keep other runs out of it.

    Parameters
    ----------
    resume
        Take up the run that the folder holds, if there is one.

    Raises
    ------
    InputError
        The folder holds files and isn't to be taken up, or the run there has other recipes or options.
    OutputError
        The folder can't be written, or another process writes into it.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, timeout=0)
    with writing(folder / LOCK):
        try:
            lock.acquire()
        except Timeout:
            raise OutputError(f"{folder}: is being written by another process") from None
    try:
        _remove_partial(folder)
        if (folder / DESCRIPTION).exists():
            was = read_description(folder)
            if any(parts_in(folder / folder_of(recipe.name)) for recipe in was.recipes):  # else it ended before any row
                check_same(folder, was, description, resume=resume)
        elif others := sorted(path.name for path in folder.iterdir() if path.name != LOCK):
            raise InputError(f"out: expected a new folder or an empty one, got {folder} with {', '.join(others[:3])}")
        write_description(folder, description)
        written = Written(folder, description)
        try:
            yield written
        except BaseException:  # Ctrl-C, too: what the workers have done is kept
            written.write_part()
            raise
    finally:
        lock.release()


def folder_of(recipe: str) -> str:
    """Return the name of a recipe's folder below that of the run; readers take a "=" in it for a column."""
    return quote(recipe, safe=" ")


def read_rows(folder: Path, columns: Sequence[str]) -> Any:
    """Return some columns of all parts in a recipe's folder, by the parts' numbers.

    Raises
    ------
    InputError
        A part can't be read.
    """
    arrow, parquet = pyarrow(), imported("pyarrow.parquet", RAY)
    tables = []
    for path in parts_in(folder).values():
        try:
            tables.append(parquet.read_table(path, columns=list(columns), partitioning=None))
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:300].rstrip(". ")
            raise InputError(f"{path}: expected a Parquet file that can be read, got: {reason}") from error
    return arrow.concat_tables(tables) if tables else arrow.table({name: [] for name in columns})


def parts_in(folder: Path) -> dict[int, Path]:
    """Return the parts in a folder, by their numbers."""
    if not folder.is_dir():
        return {}
    numbered = ((PART_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    return dict(sorted((int(name[1]), path) for name, path in numbered if name))


def _remove_partial(folder: Path) -> None:
    """Remove the files of our own that a kill left half written, in a folder and in those directly below it."""
    for path in (*folder.glob(".*.partial"), *folder.glob("*/.*.partial")):
        if PARTIAL.fullmatch(path.name):
            with writing(path):
                path.unlink()


def _remove_incomplete(folder: Path, names: Sequence[str]) -> int:
    """Remove parts that not all recipes have: the run ended while they were written. Return the highest number left."""
    parts = [parts_in(folder / folder_of(name)) for name in names]
    complete = set.intersection(*map(set, parts))
    for own in parts:
        for number, path in own.items():
            if number not in complete:
                with writing(path):
                    path.unlink()
    return max(complete, default=0)
