"""What every export does first and last: it looks for the packages that it needs, and makes its file durable."""

from __future__ import annotations

import os
from pathlib import Path

from ..engine.files import writing
from ..engine.optional import RUNTIME, imported


def require_packages(*packages: str) -> None:
    """Import these packages and ONNX Runtime now: a missing one is better known before a download than after."""
    commands = dict.fromkeys(packages, "pip install 'spadeline[export]'")
    commands["onnxruntime"] = RUNTIME
    for package, command in commands.items():
        imported(package, command)


def write_durably(path: Path, content: bytes, *, target: Path) -> None:
    """Write a reserved file: its bytes are on the disk before it gets the name of `target`."""
    with writing(target), path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
