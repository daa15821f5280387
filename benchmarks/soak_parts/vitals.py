"""Figures that must not drift during a run: memory, open files, threads, and a frame's time; they are read on Linux."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from spadeline.engine.resources import process_memory

TENTHS = 10
FEWEST_TO_JUDGE = 20_000  # frames: in a shorter run filling caches look like a drift
MOST_BYTES_PER_FRAME = 50.0  # 10 MB in 200,000 frames; the smallest frame's result, if kept, would be 40 kB
MOST_DRIFT = 1.25  # of a frame's median time, divided by the yardstick's drift
YARDSTICK = np.random.default_rng(0).random(30_000)


class Vitals(NamedTuple):
    """The figures at one time."""

    frames: int
    resident_bytes: int
    files: int
    threads: int
    yardstick_s: float


def look(frames: int) -> Vitals:
    """Read the figures, and time the yardstick: a sort, whose time changes only if the machine's speed does."""
    start = time.perf_counter()
    np.sort(YARDSTICK)
    taken = time.perf_counter() - start
    files, threads = (sum(1 for _ in Path("/proc/self", kind).iterdir()) for kind in ("fd", "task"))
    return Vitals(frames, process_memory().resident_bytes, files, threads, taken)


def look_at_rest(frames: int) -> Vitals:
    """Read the figures after all detectors are gone."""
    gc.collect()
    return look(frames)


def drift(looks: Sequence[Vitals], seconds: NDArray[np.floating[Any]], rest: tuple[Vitals, Vitals]) -> dict[str, Any]:
    """Return how memory and time moved over a run.

    Parameters
    ----------
    looks
        Taken during the run, evenly by frames; at least ten.
    seconds
        Each inspected frame's time, in the run's order.
    rest
        Figures before and after the run.

    Returns
    -------
    dict
        memory: medians of the second and the last tenth, and the growth in bytes a frame between them; the first tenth
        warms up. latency: p50_s and p99_s of the first and the last tenth, medians of the yardstick, and the drift,
        which is the ratio of the p50s divided by the yardstick's ratio. files, threads: at rest, before and after.
    """
    tenths = [looks[len(looks) * tenth // TENTHS : len(looks) * (tenth + 1) // TENTHS] for tenth in range(TENTHS)]
    early, late = (
        (statistics.median(look.frames for look in tenth), statistics.median(look.resident_bytes for look in tenth))
        for tenth in (tenths[1], tenths[-1])
    )
    yardstick = [statistics.median(look.yardstick_s for look in tenth) for tenth in (tenths[0], tenths[-1])]
    share = max(len(seconds) // TENTHS, 1)
    times = [
        {"p50_s": float(np.percentile(part, 50)), "p99_s": float(np.percentile(part, 99))}
        for part in (seconds[:share], seconds[-share:])
    ]
    return {
        "memory": {
            "early_bytes": early[1],
            "late_bytes": late[1],
            "peak_bytes": max(look.resident_bytes for look in looks),
            "bytes_per_frame": (late[1] - early[1]) / max(late[0] - early[0], 1),
        },
        "latency": {
            "first": times[0] | {"yardstick_s": yardstick[0]},
            "last": times[1] | {"yardstick_s": yardstick[1]},
            "drift": times[1]["p50_s"] / times[0]["p50_s"] * yardstick[0] / yardstick[1],
        },
        "files": {"before": rest[0].files, "after": rest[1].files},
        "threads": {"before": rest[0].threads, "after": rest[1].threads},
    }


def faults(drifted: dict[str, Any], frames: int) -> list[str]:
    """Return a sentence for each bound that a run broke; memory and time are judged only in long runs."""
    found = [
        f"{what}: expected no more at rest than before, {drifted[what]['before']}, got {drifted[what]['after']}"
        for what in ("files", "threads")
        if drifted[what]["after"] > drifted[what]["before"]
    ]
    if frames < FEWEST_TO_JUDGE:
        return found
    if (grown := drifted["memory"]["bytes_per_frame"]) > MOST_BYTES_PER_FRAME:
        found.append(f"memory: expected at most {MOST_BYTES_PER_FRAME:g} bytes more a frame, got {grown:.1f}")
    if (ratio := drifted["latency"]["drift"]) > MOST_DRIFT:
        found.append(f"latency: expected at most {MOST_DRIFT:g} times the first tenth's median, got {ratio:.2f}")
    return found
