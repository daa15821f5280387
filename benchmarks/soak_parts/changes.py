"""Another process that changes the recipe: on request it adds an image or removes one.

The changes repeat in a cycle, so the gallery has only four states: neither of two images, the first, both, the second.
Now and then the process is killed during a change, and another one goes on. The recipe must then be in the state before
the change or after it.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Self

import numpy as np
from spadeline.engine import Recipe, SpadelineError, add, remove_images

KILLED_EVERY = 10  # changes
LONGEST_BEFORE_KILL_S = 0.2  # a change of a small recipe takes about so long
STATES = 4


def names(recipe: Recipe) -> tuple[str, ...]:
    """Return the names by which a recipe's state is recognised."""
    return tuple(image.name for image in recipe.images)


def change(folder: Path, first: Path, second: Path) -> None:
    """Bring a recipe to its next state: (), (first), (first, second), (second), ()."""
    held = {path for path in (first, second) if path.name in names(Recipe.load(folder))}
    if held in (set(), {first}):
        add(folder, second if held else first, device="cpu", threads=1)
    else:
        remove_images(folder, [(first if first in held else second).name])


class Changes:
    """The process that changes the recipe, and the thread that waits for it.

    Attributes
    ----------
    made
        How many changes were made, with those during which the process was killed.
    faults
        The errors of the process.
    """

    def __init__(self, folder: Path, first: Path, second: Path, *, seed: int) -> None:
        self._command = [sys.executable, __file__, str(folder), str(first), str(second)]
        self._delays = np.random.default_rng(seed)
        self._asked = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._serve, name="changes", daemon=True)
        self._closing = False
        self._wanted = 0
        self.made = self.killed = 0
        self.faults: list[str] = []

    def __enter__(self) -> Self:
        self._process = self._started()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        self._asked.release()
        self._thread.join()
        _end(self._process)

    def ask(self) -> None:
        """Ask for another change; ``made`` counts it when it is done."""
        self._wanted += 1
        self._asked.release()

    def settle(self) -> None:
        """Wait until all changes that were asked for are done."""
        while self.made < self._wanted:
            time.sleep(0.01)

    def _serve(self) -> None:
        while self._asked.acquire() and not self._closing:
            kill = self.made % KILLED_EVERY == KILLED_EVERY - 1
            self._change(kill_after_s=self._delays.uniform(0, LONGEST_BEFORE_KILL_S) if kill else None)

    def once(self) -> None:
        """Make one change, and wait for it."""
        self.ask()
        self.settle()

    def _change(self, *, kill_after_s: float | None = None) -> None:
        """Make one change, or kill the process that makes it."""
        asked, answered = self._process.stdin, self._process.stdout
        print("change", file=asked, flush=True)
        if kill_after_s is None:
            answer = answered.readline().rstrip("\n") if answered else ""
            if answer != "done":
                self.faults.append(f"change {self.made}: {answer or 'the process ended'}")
        else:
            time.sleep(kill_after_s)
            self._process.kill()
            _end(self._process)
            self._process = self._started()
            self.killed += 1
        self.made += 1

    def _started(self) -> subprocess.Popen[str]:
        return subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _end(process: subprocess.Popen[str]) -> None:
    with process:
        process.kill()


def _main(folder: str, first: str, second: str) -> None:
    for _ in sys.stdin:
        try:
            change(Path(folder), Path(first), Path(second))
        except SpadelineError as error:
            print(error, flush=True)
        else:
            print("done", flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
