"""A detector in a process of its own: fitted, opened, and asked for frames over a pipe.

Each runs in the environment where its libraries are installed. Both sides import this module, so it imports no library
but NumPy; the contestant's module imports the others. Fitting and inspecting are two processes, so that the memory of
the second is what a machine on the line needs.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Threads of libraries wait for more work in a busy loop, and would take processors from the next detector.
COOL_DOWN_S = 0.2
MOST_TOLD = 400  # characters of an error
BENCHMARKS = Path(__file__).absolute().parents[1]
PACKAGES = (
    "anomalib", "timm", "torch", "torchvision", "openvino", "onnx", "onnxruntime", "faiss-cpu",
    "opencv-python-headless", "numpy",
)  # fmt: skip

Frame = NDArray[np.uint8]


@dataclass(frozen=True)
class Job:
    """What all detectors are fitted on, and the frames that they inspect.

    Attributes
    ----------
    method
        A method that the contestant's module knows.
    extractor
        The ONNX file of the backbone.
    probe
        An .npz with ``image`` (H, W, 3) uint8, and ONNX Runtime's outputs for it, by name.
    train
        A folder of normal images.
    frames
        An .npz with the frames to inspect, (h, w, 3) uint8 RGB, in the order of its names.
    input_size
        (H, W) of the extractor's input.
    images, k_score, threads
        How many normal images' pixels are searched; how many images an image score averages; how many threads run.
    """

    method: str
    extractor: Path
    probe: Path
    train: Path
    frames: Path
    input_size: tuple[int, int]
    images: int
    k_score: int
    threads: int

    def read_frames(self) -> list[Frame]:
        """Load all frames."""
        with np.load(self.frames) as stored:
            return [stored[name] for name in stored.files]


@dataclass(frozen=True)
class Answer:
    """A detector's answer to a frame.

    Attributes
    ----------
    anomaly_map
        (H, W) floats; of the extractor's input size.
    score
        The image's, by the detector's own rule.
    embedding_score
        The mean squared distance of the image's embedding to the nearest ones; None: the detector has no embedding.
    label, mask
        The verdict, and (H, W) bool, where; None: its thresholds aren't made of normal images.
    """

    anomaly_map: NDArray[np.floating]
    score: float
    embedding_score: float | None = None
    label: bool | None = None
    mask: NDArray[np.bool_] | None = None


# No library in a peer's environment may send or store usage data.
QUIET = {"ORT_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


class DetectorError(Exception):
    """A detector can't take part; the text says why."""


class DetectorProcess:
    """A contestant's module in a process of its own.

    Parameters
    ----------
    python
        The interpreter.
    module
        It has ``fit(job, folder)``; ``open_detector(job, folder, runtime)``, which returns the function from a frame to
        its answer, and the number type that it computes in; and ``files(job, folder, runtime)``, all that a line needs.
    environment
        Further variables of its environment.
    """

    def __init__(
        self, python: Path, module: str, threads: int, *, environment: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self._pipe, child_pipe = Pipe()
        # Some libraries write caches into the folder where they run.
        self._scratch = tempfile.TemporaryDirectory(prefix="spadeline-detector-")
        self._said = Path(self._scratch.name) / "stderr"
        paths = [str(BENCHMARKS)]
        if python == Path(sys.executable):  # another Python has its own packages
            paths += filter(None, [os.environ.get("PYTHONPATH")])
        settings = {
            "PYTHONPATH": os.pathsep.join(paths),
            "OMP_NUM_THREADS": str(threads),
            "TRUST_REMOTE_CODE": "1",
            **QUIET,
            **environment,
        }
        command = [str(python), "-m", "detectors_parts.process", str(child_pipe.fileno()), module]
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                command,
                cwd=self._scratch.name,
                pass_fds=[child_pipe.fileno()],
                stdout=subprocess.DEVNULL,
                stderr=said,
                env=os.environ | settings,
            )
        child_pipe.close()

    def ask(self, what: str, *arguments: object) -> Any:
        """Call a method on the other side and return its answer; raises DetectorError."""
        try:
            self._pipe.send((what, arguments))
            fault, answer = self._pipe.recv()
        except (EOFError, OSError):
            code = self._process.wait()
            lines = self._said.read_text(errors="replace").split("\n")
            last = next((line.strip()[:MOST_TOLD] for line in reversed(lines) if line.strip()), "")
            raise DetectorError(f"its process ended with code {code}" + (f": {last}" if last else "")) from None
        if fault:
            raise DetectorError(fault)
        return answer

    def close(self) -> None:
        """End the process, whatever it is doing: nobody needs its answer any more."""
        self._pipe.close()
        self._process.terminate()
        self._process.wait()
        self._scratch.cleanup()


class _Served:
    """The other side: the methods that :meth:`DetectorProcess.ask` may call."""

    def __init__(self, module: str) -> None:
        self._name = module
        self._detect: Callable[[Frame], Answer]
        self._frames: list[Frame] = []

    def versions(self) -> dict[str, str]:
        """Return the versions of Python and of the installed libraries."""
        found = {"python": platform.python_version()}
        for package in PACKAGES:
            with suppress(importlib.metadata.PackageNotFoundError):
                found[package] = importlib.metadata.version(package)
        return found

    def fit(self, job: Job, folder: Path) -> None:
        """Write a model."""
        importlib.import_module(self._name).fit(job, folder)

    def open(self, job: Job, folder: Path, runtime: str) -> tuple[str, int]:
        """Open the model; return the number type that it computes in, and the bytes that are deployed."""
        module = importlib.import_module(self._name)
        self._detect, precision = module.open_detector(job, folder, runtime)
        self._frames = job.read_frames()
        return precision, sum(path.stat().st_size for path in module.files(job, folder, runtime))

    def answer(self, index: int) -> tuple[Answer, float]:
        """Return one frame's answer, and the seconds that it took."""
        start = time.perf_counter()
        found = self._detect(self._frames[index])
        return found, time.perf_counter() - start

    def inspect(self) -> tuple[list[float], float]:
        """Inspect all frames in turn; return the seconds of each, and of all with the loop."""
        self._detect(self._frames[-1])  # the detector before this one has filled the caches with its own data
        seconds = []
        first = time.perf_counter()
        for frame in self._frames:
            start = time.perf_counter()
            self._detect(frame)
            seconds.append(time.perf_counter() - start)
        return seconds, time.perf_counter() - first

    def process_id(self) -> int:
        """Return this process's id, by which the benchmark reads its memory."""
        return os.getpid()


def serve(pipe: Connection, module: str) -> None:
    """Answer requests until the pipe is closed."""
    served = _Served(module)
    while True:
        try:
            what, arguments = pipe.recv()
        except EOFError:  # the benchmark has ended
            return
        fault, answer = "", None
        try:
            answer = getattr(served, what)(*arguments)
        except ModuleNotFoundError as error:
            fault = f"{error.name} is not installed in {sys.prefix}"
        except Exception as error:  # noqa: BLE001 - the report names any reason
            fault = f"{type(error).__name__}: {' '.join(str(error).split())[:MOST_TOLD]}"
        time.sleep(COOL_DOWN_S)
        pipe.send((fault, answer))


if __name__ == "__main__":
    from detectors_parts import process  # classes that are sent must be those of the module, not of this script

    process.serve(Connection(int(sys.argv[1])), sys.argv[2])
