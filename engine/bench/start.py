"""From nothing to the first result: how long a line waits after a restart, and how much memory the process then has.

``python -m spadeline.engine.bench.start RECIPE FRAME.npy OPTIONS`` is a process that does just that and prints its
times as JSON. The operating system may have the files in its cache, as it mostly has after the first start.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import SpadelineError
from ..inspect.detector import Detector, Frame
from ..recipe.recipe import Recipe
from ..resources import process_memory
from ..settings import Need
from .documents import Start

STARTS = 3


def measure_start(recipe: Recipe, frame: Frame, load_options: Mapping[str, Any], *, need: Need | None = None) -> Start:
    """Start ``STARTS`` processes that load a recipe and inspect one frame, and return the median of each figure.

    Parameters
    ----------
    load_options
        For :meth:`.Detector.load`: device, threads, … in JSON's types.
    need
        What the frame's result must be exact in; None: what the recipe says.

    Raises
    ------
    SpadelineError
        The process fails; the text is its own.
    """
    with tempfile.TemporaryDirectory(prefix="spadeline-start-") as folder:
        path = Path(folder, "frame.npy")
        np.save(path, frame)
        # -P: a file in the working folder can't take the place of a module of the same name.
        options = json.dumps([load_options, need])
        command = [sys.executable, "-P", "-m", __name__, str(recipe.folder), str(path), options]
        starts = [vars(_start(command)) for _ in range(STARTS)]
    names = [part.name for part in fields(Start)]
    return Start(**{name: statistics.median_low([start[name] for start in starts]) for name in names})


def _start(command: list[str]) -> Start:
    begun = time.monotonic()  # one clock for all processes of a machine
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own module
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise SpadelineError(f"start: expected a process that inspects a frame, got: {said[-1] if said else 'nothing'}")
    stamps = json.loads(done.stdout)
    return Start(
        import_s=stamps["imported"] - begun,
        load_s=stamps["loaded"] - stamps["imported"],
        first_result_s=stamps["inspected"] - stamps["loaded"],
        process_to_first_result_s=stamps["inspected"] - begun,
        resident_bytes=stamps["resident_bytes"],
        peak_bytes=stamps["peak_bytes"],
    )


def _main(folder: str, frame_path: str, options: str) -> None:
    stamps: dict[str, float | int] = {"imported": time.monotonic()}
    load_options, need = json.loads(options)
    detector = Detector.load(folder, **load_options)
    stamps["loaded"] = time.monotonic()
    detector.predict(np.load(frame_path), need=need)
    stamps["inspected"] = time.monotonic()
    memory = process_memory()
    stamps |= {"resident_bytes": memory.resident_bytes, "peak_bytes": memory.peak_bytes}
    sys.stdout.write(json.dumps(stamps, allow_nan=False))


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # the process that measures has shown them
    _main(*sys.argv[1:])
