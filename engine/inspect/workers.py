"""A stream's workers: one frame at a time with all threads, or several frames with one thread each.

One frame with N threads leaves threads idle where a step is too small or waits for another. N frames with one thread
each don't. They need only one more session of ONNX Runtime, since a session without threads of its own runs in its
callers' threads. Two frames with N/2 threads each would need the weights once more for every worker, so that isn't
offered. Extracting one frame while matching another was measured to be slower than either.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Any, Literal

from ..checks import check_integer
from ..result import Result
from .stream import FrameError, Inspect, run_stream

ROUNDS, LEAST_ROUND_S = 3, 0.2  # of each candidate, in turns: other programs then disturb all candidates alike

Predict = Callable[..., Result]  # it inspects a frame; color, need and deadline are keywords


class Team:
    """Detectors that take one frame at a time each; a frame waits until one of them is idle.

    A detector's streams share one team, so that together they take no more processors than one stream does.
    """

    def __init__(self, members: Sequence[Predict]) -> None:
        self._idle: SimpleQueue[Predict] = SimpleQueue()
        for member in members:
            self._idle.put(member)

    def predict(self, frame: Any, **how: Any) -> Result:
        """Let an idle member inspect a frame; ``how`` are its keywords."""
        member = self._idle.get()
        try:
            return member(frame, **how)
        finally:
            self._idle.put(member)


class Split:
    """The number of workers of a detector's streams, and where it came from.

    Parameters
    ----------
    threads
        Threads of a single worker.
    worker_threads
        Threads of each of several workers.
    most
        The largest number of workers that makes sense.
    given
        The user's number of workers; None: ``most``, until :meth:`choose` finds a faster one.
    open_members
        Called with a number of workers, it returns a function for each that inspects a frame; none if the detector
        itself serves all workers.

    Raises
    ------
    InputError
        More workers than make sense, or fewer than one.
    """

    def __init__(
        self,
        *,
        threads: int,
        worker_threads: int,
        most: int,
        given: int | None,
        open_members: Callable[[int], Sequence[Predict]],
    ) -> None:
        if given is not None:
            check_integer("workers", given, low=1, high=most)
        self._workers = most if given is None else given
        self._threads, self._worker_threads = threads, worker_threads
        self._most, self._open_members = most, open_members
        self._chosen: Literal["default", "given", "measured"] = "default" if given is None else "given"
        self._measured: dict[int, float] = {}
        self._team: Team | None = None
        self._changing = threading.Lock()

    @property
    def info(self) -> dict[str, Any]:
        """Workers, threads of each, how the number was chosen, and the candidates' frames a second; fit for JSON."""
        measured = [self._describe(workers) | {"frames_per_s": rate} for workers, rate in self._measured.items()]
        return self._describe(self._workers) | {"chosen": self._chosen, "measured": measured}

    def workers(self, alone: Predict) -> tuple[int, Predict]:
        """Return the number of workers and what they call; open the detectors that they need.

        Parameters
        ----------
        alone
            What the detector itself inspects a frame with.
        """
        with self._changing:
            if self._workers > 1 and self._team is None and (members := self._open_members(self._workers)):
                self._team = Team(members)
            return self._workers, alone if self._team is None else self._team.predict

    def choose(self, alone: Predict, frames: Sequence[Any], how: Mapping[str, Any]) -> None:
        """Measure the candidates on these frames and keep the fastest; if the number was given, measure that one.

        Parameters
        ----------
        alone
            As for :meth:`workers`.
        how
            The keywords that each call of it has.
        """
        if self._chosen == "given":
            workers, predict = self.workers(alone)
            self._measured = frames_per_s({workers: partial(predict, **how)}, frames)
            return
        # Half of them, because two threads of one core may slow each other down.
        candidates = sorted({1, max(1, self._most // 2), self._most})
        members = self._open_members(self._most) if self._most > 1 else []
        together = Team(members).predict if members else alone
        ways = {workers: partial(alone if workers == 1 else together, **how) for workers in candidates}
        rates = frames_per_s(ways, frames)
        fastest = max(rates, key=lambda workers: rates[workers])
        with self._changing:
            self._workers, self._chosen, self._measured = fastest, "measured", rates
            self._team = Team(members[:fastest]) if members and fastest > 1 else None

    def _describe(self, workers: int) -> dict[str, int]:
        return {"workers": workers, "threads_each": self._threads if workers == 1 else self._worker_threads}


def frames_per_s(candidates: Mapping[int, Inspect], frames: Sequence[Any]) -> dict[int, float]:
    """Return the frames a second of each number of workers: the best of ``ROUNDS``, after a round that doesn't count.

    Raises
    ------
    SpadelineError
        As :meth:`.Detector.predict`.
    """
    at_once = 2 * max(candidates)  # a multiple of most candidates' workers, which then get equally many frames
    frames = frames[:: -(-len(frames) // at_once)]  # evenly spread, the same for all candidates
    best = dict.fromkeys(candidates, 0.0)
    for turn in range(1 + ROUNDS):
        for workers, inspect in candidates.items():
            count, start = 0, time.perf_counter()
            while count == 0 or time.perf_counter() - start < LEAST_ROUND_S:
                repeated = itertools.islice(itertools.cycle(frames), at_once)
                for result in run_stream(inspect, repeated, workers=workers):
                    if isinstance(result, FrameError):
                        raise result.error
                count += at_once
            if turn:
                best[workers] = max(best[workers], count / (time.perf_counter() - start))
    return best
