"""Lines that inspect side by side; each opens its own detector again whenever the recipe has changed.

Every frame must come out once, in its place, and its outcome must be the one that it has alone.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spadeline.engine import Detector, FrameError, Result, SpadelineError

from soak_parts.changes import Changes, names
from soak_parts.frames import Sent, outcome
from soak_parts.vitals import Vitals, look

MOST_NAMED = 10  # faults


class Run:
    """A run of many frames on several lines: what went in, what came out, and the faults that were found.

    Attributes
    ----------
    looks
        Vitals, taken evenly by frames.
    counts
        taken, results, anomalous, errors, loads, faults.
    named
        The first faults, one sentence for each.
    """

    def __init__(
        self,
        sent: Sequence[Sent],
        order: Sequence[int],
        expected: Mapping[tuple[str, ...], Sequence[str]],
        changes: Changes,
        *,
        change_every: int,
        look_every: int,
    ) -> None:
        self._sent, self._order, self._expected, self._changes = sent, order, expected, changes
        self._change_every, self._look_every = change_every, look_every
        self._lock = threading.Lock()
        # Allocated before the run: what is noted in it must not look like lost memory.
        self._seconds = np.zeros(len(order))
        self.looks: list[Vitals] = []
        self.counts: Counter[str] = Counter()
        self.named: list[str] = []
        self.took_s = 0.0

    @property
    def seconds(self) -> NDArray[np.float64]:
        """Return each inspected frame's time."""
        return self._seconds[: self.counts["results"]]

    def run(self, lines: Sequence[Callable[[], Detector]]) -> None:
        """Inspect all frames; each line opens its detector by the function."""
        start = time.monotonic()
        threads = [threading.Thread(target=self._line, args=(load,), name=f"line {load}") for load in lines]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        except BaseException:  # for Ctrl-C: frames in work are finished, and no others begin
            self._order = ()
            for thread in threads:
                thread.join()
            raise
        self.took_s = time.monotonic() - start
        out = self.counts["results"] + self.counts["errors"]
        if not self.counts["taken"] == out == len(self._order):
            self.counts["faults"] += 1
            text = f"expected {len(self._order)} frames in and out, got {self.counts['taken']} in and {out} out"
            self.named.insert(0, text)  # first: other faults may follow from it

    def fault(self, text: str) -> None:
        """Count a fault, and keep its text if it is one of the first."""
        with self._lock:
            self.counts["faults"] += 1
            if len(self.named) < MOST_NAMED:
                self.named.append(text)

    def _line(self, load: Callable[[], Detector]) -> None:
        try:
            while self.counts["taken"] < len(self._order):
                self._inspect_until_a_change(load)
        except Exception as error:  # noqa: BLE001 - the other lines go on, and the report names it
            self.fault(f"a line ended: {type(error).__name__}: {error}")

    def _inspect_until_a_change(self, load: Callable[[], Detector]) -> None:
        seen = self._changes.made
        detector = load()
        with self._lock:
            self.counts["loads"] += 1
        state = names(detector.recipe)
        if state not in self._expected:
            raise SpadelineError(f"expected a recipe in one of its states, got one of the images {', '.join(state)}")
        expected = self._expected[state]
        pulled: deque[int] = deque()

        def camera() -> Iterator[Any]:
            while self._changes.made == seen and (which := self._next()) is not None:
                pulled.append(which)
                yield self._sent[which].frame

        with closing(detector.stream(camera())) as results:
            for place, result in enumerate(results):
                if not pulled:
                    self.fault(f"expected no result without a frame, got one in place {place}")
                    continue
                self._check(place, result, pulled.popleft(), expected)
        for which in pulled:
            self.fault(f"frame {self._sent[which].name}: expected a result, got none")

    def _next(self) -> int | None:
        with self._lock:
            number = self.counts["taken"]
            if number >= len(self._order):
                return None
            self.counts["taken"] += 1
        if number % self._change_every == self._change_every - 1:
            self._changes.ask()
        return int(self._order[number])

    def _check(self, place: int, result: Result | FrameError, which: int, expected: Sequence[str]) -> None:
        name, got = self._sent[which].name, outcome(result)
        if isinstance(result, FrameError) and result.index != place:
            self.fault(f"frame {name}: expected an error of place {place}, got one of {result.index}")
        if got != expected[which]:
            self.fault(f"frame {name}, place {place}: expected {expected[which]:.300}, got {got:.300}")
        with self._lock:
            if isinstance(result, FrameError):
                self.counts["errors"] += 1
            else:
                self._seconds[self.counts["results"]] = sum(result.timings_s.values())
                self.counts["results"] += 1
                self.counts["anomalous"] += result.pred_label
            out = self.counts["results"] + self.counts["errors"]
        if out % self._look_every == 0:
            self.looks.append(look(out))
