"""The C++ program: built against the installed library, started with a recipe and frames, and asked line by line."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from spadeline.engine.errors import DependencyError, InputError, SpadelineError
from spadeline.engine.inspect.detector import Frame
from spadeline.engine.settings import Need

SOURCE = Path(__file__).parent
NEEDS: dict[Need, int] = {"map": 1, "mask": 2, "label": 3}  # spadeline_need
STAGES = ("prepare", "extract", "retrieve", "match", "map")
_ENDS = ("ready", "done")


class ProgramError(SpadelineError):
    """The program ended with an error."""


def build(installed: Path, folder: Path) -> Path:
    """Build the program in a folder, and return its path.

    Parameters
    ----------
    installed
        The prefix that libspadeline.so was installed with.

    Raises
    ------
    DependencyError
        There is no CMake.
    InputError
        No library is installed there, or no program can be built with it.
    """
    if not any(installed.rglob("spadelineConfig.cmake")):
        raise InputError(f"{installed}: expected the prefix of an installed libspadeline.so, found none below it")
    cmake = shutil.which("cmake", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if cmake is None:
        raise DependencyError("expected cmake on the PATH, which builds the C++ program, found none")
    for arguments in (["-S", SOURCE, "-B", folder, f"-DCMAKE_PREFIX_PATH={installed.resolve()}"], ["--build", folder]):
        done = subprocess.run([cmake, *map(str, arguments)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            reason = " ".join((done.stderr or done.stdout).split())
            raise InputError(f"{installed}: expected a library that a C++ program can be built with, got: {reason}")
    return folder / "embed"


def write_frames(frames: Sequence[Frame], path: Path) -> None:
    """Write RGB frames as the program reads them."""
    with path.open("wb") as file:
        for frame in frames:
            file.write(np.array(frame.shape[:2], np.int64).tobytes())
            file.write(frame.tobytes())


class Program:
    """A process of the program with its inspectors, which keep their need from one question to the next."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process, self._folder = process, folder
        self._answer()

    def need(self, need: Need) -> None:
        """Set what the next inspections need; each inspector warms up for it."""
        self._ask(f"need {NEEDS[need]}")

    def results(self, input_size: tuple[int, int]) -> Iterator[tuple[bool, NDArray[np.float32], NDArray[np.bool_]]]:
        """Yield each frame's label, map and mask."""
        path = self._folder / "results"
        self._ask(f"results {path}")
        one = np.dtype([("label", "?"), ("map", "<f4", input_size), ("mask", "?", input_size)])
        for result in np.fromfile(path, one):
            yield bool(result["label"]), result["map"], result["mask"]

    def time(self, indices: Sequence[int]) -> NDArray[np.float64]:
        """Inspect frames, the first one untimed; return (n - 1, 6) seconds: of the call, and of each stage."""
        lines = self._ask("time " + " ".join(map(str, indices)))
        return np.array([[float(number) for number in line.split()] for line in lines]).reshape(-1, 1 + len(STAGES))

    def rate(self, seconds: float) -> float:
        """Return the frames a second of all inspectors together."""
        frames, taken = self._ask(f"rate {seconds}")[0].split()
        return int(frames) / float(taken)

    def allocations(self) -> tuple[int, int]:
        """Inspect all frames; return how often memory was allocated, and how often of these by libspadeline.so."""
        everything, by_library = self._ask("allocations")[0].split()
        return int(everything), int(by_library)

    def resident_bytes(self) -> int:
        """Return the process's memory that is resident now."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return 1024 * int(re.findall(r"^VmRSS:\s*(\d+) kB", status, re.MULTILINE)[0])

    def _ask(self, question: str) -> list[str]:
        stdin = self._pipe(self._process.stdin)
        stdin.write(question + "\n")
        stdin.flush()
        return self._answer()

    def _answer(self) -> list[str]:
        lines: list[str] = []
        for line in self._pipe(self._process.stdout):
            if line.strip() in _ENDS:
                return lines
            lines.append(line)
        raise ProgramError(f"embed: {self._pipe(self._process.stderr).read().strip()}")

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None  # noqa: S101 - start() makes all three
        return pipe


@contextmanager
def start(program: Path, recipe: Path, frames: Path, *, inspectors: int, threads: int) -> Iterator[Program]:
    """Start the program with so many inspectors of so many threads each, and end it."""
    command = [program, recipe, frames, inspectors, threads]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*map(str, command)], text=True, **pipes) as process:  # type: ignore[call-overload]
        try:
            yield Program(process, frames.parent)
        finally:
            process.kill()  # it has nothing to save
