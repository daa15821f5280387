"""The machine and the versions behind a measurement: without them a figure of time means nothing."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import Any

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
    """Return what was measured on, fit for JSON.

    Returns
    -------
    dict
        processor, cores, threads (the ones given), memory_bytes, system, versions (python and installed packages by
        name), date (UTC, ISO 8601).
    """
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "memory_bytes": memory_bytes(),
        "system": platform.platform(),
        "versions": versions,
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }


def memory_bytes() -> int:
    """Return the machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
