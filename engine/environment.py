"""The machine and the versions of a measurement. A time without them says nothing."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from . import _native

PACKAGES = (
    "spadeline",
    "numpy",
    "opencv-python-headless",
    "faiss-cpu",
    "faiss-gpu",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-openvino",
    "scikit-learn",
    "torch",
    "torchvision",
)


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What a measurement was made on.

    Attributes
    ----------
    threads
        Those that the measurement was given.
    instruction_sets
        The matcher's, best first.
    memory_bytes
        All of the machine's memory.
    versions
        Of Python and of the installed packages, by name.
    date
        UTC, ISO 8601.
    """

    processor: str
    cores: int | None
    threads: int
    instruction_sets: tuple[str, ...]
    memory_bytes: int
    system: str
    versions: Mapping[str, str]
    date: str


def environment(threads: int) -> Environment:
    """Return this machine and its versions, for a measurement on so many threads."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return Environment(
        processor=_processor(),
        cores=os.cpu_count(),
        threads=threads,
        instruction_sets=tuple(_native.instruction_sets()),
        memory_bytes=memory_bytes(),
        system=platform.platform(),
        versions=versions,
        date=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    )


def memory_bytes() -> int:
    """Return the machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _processor() -> str:
    """Return the processor's name. Linux has none on Arm: there it is the board's name, or the architecture's."""
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    board = " ".join(_lines("/proc/device-tree/model")).strip("\0 ")
    return board or platform.processor() or platform.machine()


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
