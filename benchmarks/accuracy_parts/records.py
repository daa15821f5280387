"""Records of what accuracy.py has measured: a file for each class and setting, so that a killed run can go on.

A record's name is the SHA-256 of everything that its figures depend on: images and masks, the extractor's file and
what ran it, every setting, spadeline's own code, the versions of libraries, and the processor. If any of these differs,
there is no such record, and the class is measured. A file appears by a rename, so it is whole or missing.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import spadeline.engine
from filelock import FileLock, Timeout
from spadeline.engine.errors import InputError
from spadeline.engine.files import replace_file, writing

LOCK, SCRATCH = ".lock", "features"


class Records:
    """A folder of records, which one process at a time writes; use it in a ``with`` statement.

    Raises
    ------
    InputError
        Another process uses the folder, or a record can't be read.
    OutputError
        The folder can't be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = FileLock(folder / LOCK, timeout=0)

    def __enter__(self) -> Self:
        with writing(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire()
            except Timeout:
                raise InputError(f"{self._folder}: another run is writing its records here") from None
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def find(self, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the record of this key; None: there is none yet."""
        path = self._path(key)
        try:
            found = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: expected a record as it was written, got: {error}; remove it") from error
        if not isinstance(found, dict) or found.get("key") != json.loads(json.dumps(key)):  # tuples are lists by now
            raise InputError(f"{path}: expected a record as it was written, got one that was changed; remove it")
        return dict(found["measured"])

    def write(self, key: Mapping[str, Any], measured: Mapping[str, Any]) -> None:
        """Store the figures of this key."""
        encoded = json.dumps({"key": key, "measured": measured}, indent=2, allow_nan=False).encode()
        replace_file(self._path(key), encoded + b"\n")

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Lend an empty folder for one class's features, and empty it afterwards; a killed run may have left files."""
        folder = self._folder / SCRATCH
        with writing(folder):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _path(self, key: Mapping[str, Any]) -> Path:
        return self._folder / f"{hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()}.json"


def code_digest() -> str:
    """Return a SHA-256 of the code that computes the figures: the engine with its compiled part, and what calls it."""
    engine, parts = Path(spadeline.engine.__file__).parent, Path(__file__).parent
    files = sorted(path for pattern in ("*.py", "_native*.so", "_native*.pyd") for path in engine.rglob(pattern))
    return files_digest([*files, *(parts / name for name in ("figures.py", "scored.py", "tuned.py"))])


def files_digest(paths: Iterable[Path]) -> str:
    """Return a SHA-256 of files' contents, in their order."""
    return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in paths)).hexdigest()
