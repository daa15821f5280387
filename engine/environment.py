"""The machine and the versions of a measurement. A time without them says nothing."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import Any

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


def environment(threads: int) -> dict[str, Any]:
    """Return the machine and the versions, ready for JSON.

    Returns
    -------
    dict
        processor, cores, threads (as given), instruction_sets (the matcher's, best first), memory_bytes, system,
        versions (of python and of the installed packages, by name), date (UTC, ISO 8601).
    """
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "instruction_sets": list(_native.instruction_sets()),
        "memory_bytes": memory_bytes(),
        "system": platform.platform(),
        "versions": versions,
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }


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
