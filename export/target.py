"""The file that an export writes: beside its target, and renamed only once it is known to be good."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..engine.files import writing
from ..engine.optional import RUNTIME, imported


def require_packages(*packages: str) -> None:
    """Import these packages and ONNX Runtime now: a missing one is better known before a download than after."""
    commands = dict.fromkeys(packages, "pip install 'spadeline[export]'")
    commands["onnxruntime"] = RUNTIME
    for package, command in commands.items():
        imported(package, command)


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Reserve a hidden file beside `target`: renamed to `target` on success, deleted on any failure.

    Reserving comes first: a folder that can't be written is known before anything is downloaded or computed.
    """
    with writing(target):
        if target.is_dir():  # "." and "" are, too, and have no name to put another beside
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
        partial.touch(exist_ok=False)
    try:
        yield partial
        with writing(target):
            partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def write_durably(path: Path, content: bytes, *, target: Path) -> None:
    """Write a reserved file: its bytes are on the disk before it gets the name of `target`."""
    with writing(target), path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
