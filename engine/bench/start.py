"""From nothing to the first result: what a line waits for after a restart, and the memory that it then takes.

``python -m spadeline.engine.bench.start RECIPE FRAME.npy`` is a process that does just that and prints its stamps; the
operating system may have the files in its cache, as it mostly has after the first start.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import SpadelineError
from ..inspect.detector import Detector, Frame
from ..recipe.recipe import Recipe

STARTS = 3


def measure_start(
    recipe: Recipe, frame: Frame, load_options: Mapping[str, Any], *, starts: int = STARTS
) -> dict[str, float | int]:
    """Start processes that load a recipe and inspect one frame, and take the median of each figure.

    Parameters
    ----------
    load_options
        For :meth:`.Detector.load`: device, threads, … in JSON's types.
    starts
        How many processes.

    Returns
    -------
    dict
        import_s: from the process's start until spadeline is imported; load_s: :meth:`.Detector.load`; first_result_s:
        the first :meth:`.Detector.predict`; process_to_first_result_s: all of these; resident_bytes after it, the
        gallery included, or of a mapped one the pages that were read; peak_bytes: the most there ever was.

    Raises
    ------
    SpadelineError
        The process fails; the text is its own.
    """
    with tempfile.TemporaryDirectory(prefix="spadeline-start-") as folder:
        path = Path(folder, "frame.npy")
        np.save(path, frame)
        # -P: not what lies in the working folder under a module's name.
        command = [sys.executable, "-P", "-m", __name__, str(recipe.folder), str(path), json.dumps(load_options)]
        figures = [_start(command) for _ in range(starts)]
    return {name: statistics.median_low([figure[name] for figure in figures]) for name in figures[0]}


def _start(command: list[str]) -> dict[str, float | int]:
    begun = time.monotonic()  # one clock for all processes of a machine
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own module
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise SpadelineError(f"start: expected a process that inspects a frame, got: {said[-1] if said else 'nothing'}")
    stamps = json.loads(done.stdout)
    return {
        "import_s": stamps["imported"] - begun,
        "load_s": stamps["loaded"] - stamps["imported"],
        "first_result_s": stamps["inspected"] - stamps["loaded"],
        "process_to_first_result_s": stamps["inspected"] - begun,
        "resident_bytes": stamps["resident_bytes"],
        "peak_bytes": stamps["peak_bytes"],
    }


def _main(folder: str, frame_path: str, load_options: str) -> None:
    stamps: dict[str, float | int] = {"imported": time.monotonic()}
    detector = Detector.load(folder, **json.loads(load_options))
    stamps["loaded"] = time.monotonic()
    detector.predict(np.load(frame_path))
    stamps["inspected"] = time.monotonic()
    # getrusage's peak would start from that of the process that started this one.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    for name, key in (("resident_bytes", "VmRSS"), ("peak_bytes", "VmHWM")):
        found = re.search(rf"^{key}:\s+(\d+) kB", status, re.MULTILINE)
        stamps[name] = 1024 * int(found[1]) if found else 0
    sys.stdout.write(json.dumps(stamps, allow_nan=False))


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # the process that measures has shown them
    _main(*sys.argv[1:])
