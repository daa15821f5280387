"""Time a detector's frames: single runs and their percentiles, and frames a second.

Frames take turns, so that a warm cache favours none of them. Nothing is timed before it has warmed up.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..inspect.detector import Detector, Frame
from ..inspect.stream import FrameError
from ..json_data import from_json
from ..result import Result
from ..settings import Need
from ..units import latency
from .documents import FrameLatency, SlowestFrame, StageTimes, StreamSplit, Throughput

BATCH = 8
FEWEST_TURNS = 3  # of each frame, whatever the time allowed: a median of fewer says little


class Runs(NamedTuple):
    """Times of a detector's frames, one after the other.

    Attributes
    ----------
    seconds
        Of each run.
    frames
        Index of each run's frame.
    stages_s
        Seconds by stage, each list as long as ``seconds``.
    results
        The last result of each frame.
    decided
        Of each run: whether its result was decided.
    """

    seconds: list[float]
    frames: list[int]
    stages_s: dict[str, list[float]]
    results: list[Result]
    decided: list[bool]

    def figures(self, begins_at: str) -> FrameLatency:
        """Return the latency, each stage's part of it, and the slowest frame by its median."""
        medians = self.medians_s()
        slowest = int(np.argmax(medians))
        return FrameLatency(
            **vars(latency(self.seconds)),
            begins_at=begins_at,
            stages_s={
                stage: StageTimes(p50_s=statistics.median(taken), mean_s=statistics.fmean(taken))
                for stage, taken in self.stages_s.items()
            },
            slowest_frame=SlowestFrame(
                frame=slowest,
                p50_s=medians[slowest],
                match_statistics=self.results[slowest].match_statistics,
            ),
            undecided=self.decided.count(False),
        )

    def medians_s(self) -> list[float]:
        """Return each frame's median."""
        taken: list[list[float]] = [[] for _ in self.results]
        for frame, seconds in zip(self.frames, self.seconds, strict=True):
            taken[frame].append(seconds)
        return [statistics.median(times) for times in taken]


def measure_latency(
    detector: Detector,
    frames: Sequence[Frame],
    *,
    runs: int,
    warm_up: int,
    seconds: float,
    need: Need | None = None,
    deadline_s: float | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Runs:
    """Inspect the frames in turns and time each call.

    Parameters
    ----------
    runs, warm_up
        How many runs are timed, and how many come before them.
    seconds
        No run begins after this time, except that each frame has ``FEWEST_TURNS`` if ``runs`` allow them. Warming up
        ends after a tenth of this time.
    need, deadline_s
        As for :meth:`.Detector.predict`.
    on_progress
        Called with the number of runs done, and with ``runs``.

    Raises
    ------
    InputError
        A frame that can't be used.
    """
    for done in _until(warm_up, 0, seconds / 10):
        detector.predict(frames[done % len(frames)], need=need, deadline_s=deadline_s)
    measured = Runs([], [], {}, [], [])
    for done in _until(max(runs, len(frames)), FEWEST_TURNS * len(frames), seconds):
        index = done % len(frames)
        start = time.perf_counter()
        result = detector.predict(frames[index], need=need, deadline_s=deadline_s)
        measured.seconds.append(time.perf_counter() - start)
        measured.frames.append(index)
        measured.results[index : index + 1] = [result]
        measured.decided.append(result.decided)
        for stage, taken in result.timings_s.items():
            measured.stages_s.setdefault(stage, []).append(taken)
        if on_progress is not None:
            on_progress(done + 1, runs)
    return measured


def measure_throughput(
    detector: Detector,
    frames: Sequence[Frame],
    alone: Runs,
    *,
    seconds: float,
    batches: Sequence[int] = (BATCH,),
    depths: Sequence[int | None] = (None,),
    need: Need | None = None,
    deadline_s: float | None = None,
) -> list[Throughput]:
    """Measure frames a second of ``predict`` in a loop, ``predict_batch`` and ``stream``.

    Parameters
    ----------
    frames
        Each way inspects all of them in turns, since they differ in the time that they take. The detector warms up on
        them first: see :meth:`.Detector.warm_up`.
    alone
        The loop, which has been timed before.
    seconds
        About how long one size of batches and one depth take together.
    batches
        Sizes of a batch.
    depths
        Of the stream: see :meth:`.Detector.stream`.
    need, deadline_s
        As for :meth:`.Detector.predict`. A batch's frames and those that a stream reads ahead wait for each other, so
        more of them are undecided.
    """
    how: dict[str, Any] = {"need": need, "deadline_s": deadline_s}
    detector.warm_up(frames, need=need)
    threads = detector.info["threads"]
    rate, share = len(alone.seconds) / sum(alone.seconds), alone.decided.count(False) / len(alone.decided)
    ways = [
        Throughput(mode="predict", batch=None, split=None, frames_per_s=rate, threads=threads, undecided_share=share)
    ]
    for batch in batches:
        detector.predict_batch([frames[index % len(frames)] for index in range(batch)], **how)
        rate, share = _rate(_batched(detector, frames, batch, seconds / 2, how))
        ways.append(
            Throughput(
                mode="predict_batch",
                batch=batch,
                split=None,
                frames_per_s=rate,
                threads=threads,
                undecided_share=share,
            )
        )
    for depth in depths:
        turns = (frames[done % len(frames)] for done in _until(10**9, len(frames), seconds / 2))
        rate, share = _rate(detector.stream(turns, depth=depth, **how))
        ways.append(
            Throughput(
                mode="stream",
                batch=None,
                depth=depth,
                split=from_json(StreamSplit, detector.info["split"]),
                frames_per_s=rate,
                threads=threads,
                undecided_share=share,
            )
        )
    return ways


def _rate(results: Iterable[Result | FrameError]) -> tuple[float, float]:
    """Return frames a second, and the share of those that weren't decided."""
    inspected = undecided = 0
    start = time.perf_counter()
    for result in results:
        inspected += 1
        undecided += isinstance(result, Result) and not result.decided
    return inspected / (time.perf_counter() - start), undecided / inspected


def _batched(
    detector: Detector, frames: Sequence[Frame], batch: int, seconds: float, how: Mapping[str, Any]
) -> Iterator[Result]:
    """Inspect batches that go round through all frames, at least once."""
    turns = itertools.cycle(frames)
    for _ in _until(10**9, math.ceil(len(frames) / batch), seconds):
        yield from detector.predict_batch(list(itertools.islice(turns, batch)), **how)


def _until(most: int, least: int, seconds: float) -> Iterator[int]:
    """Count to ``most``; stop earlier once the time is over and ``least`` is reached."""
    start = time.perf_counter()
    for done in range(most):
        if done >= least and time.perf_counter() - start >= seconds:
            return
        yield done
