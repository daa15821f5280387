"""Map, mask and label of the same frames side by side: equality first, then time, good and defective frames apart.

The map is the truth: a mask must be the map's, pixel by pixel, and so must each label; bounds must hold it. In each
round one contestant after the other inspects all frames, back to back after one that isn't timed: so every frame finds
the caches as another frame of the same contestant left them, as on a line.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray
from spadeline.engine.json_data import to_json
from spadeline.engine.result import Statistics
from spadeline.engine.settings import Need
from spadeline.engine.units import latency

from shared_parts import command
from shared_parts.subjects import Subject, subjects

if TYPE_CHECKING:
    from page_parts.chapter import Chapter

NEEDS: tuple[Need, ...] = get_args(Need)
FEWEST_ROUNDS, FEWEST_RUNS = 5, 100  # a 99th percentile takes a hundred runs
SAME_MAP = 1e-6  # of its maximum: what float32 rounds, where another path's distances differ in float64's last bits


@dataclass(frozen=True)
class Verdict:
    """What a contestant says of a frame.

    Attributes
    ----------
    label, mask
        Whether it is anomalous, and (H, W) bool, where.
    upper, lower
        (H, W): bounds of the map; the map itself where that is what was asked for.
    decided
        Whether what was asked for is known.
    statistics
        What the matcher had to compute.
    stages_s
        Seconds by stage.
    """

    label: bool
    mask: NDArray[np.bool_]
    upper: NDArray[np.float32]
    lower: NDArray[np.float32]
    decided: bool
    statistics: Statistics
    stages_s: Mapping[str, float]


@dataclass(frozen=True)
class Contestant:
    """Who inspects frames.

    Attributes
    ----------
    name
        A need, or another name in the document.
    inspect
        From a frame's index to the verdict; None: it gives none, such as a backbone alone.
    equal
        What must be as the map's: "map", "mask" or "label"; None where there is no verdict.
    every_round
        Whether it takes part in each round; if not, in the first alone, as a yardstick whose time the frames hardly
        change.
    """

    name: str
    inspect: Callable[[int], Verdict | None]
    equal: Need | None
    every_round: bool = True


def run(
    benchmark: str,
    measure: Callable[[Subject, argparse.Namespace], dict[str, Any]],
    options: argparse.Namespace,
    chapter: Callable[[Mapping[str, Any]], Chapter],
) -> None:
    """Measure each subject, say in a sentence what it took, write the report after each, and print all of it.

    ``measure`` returns a subject's rows, as :func:`hold` makes them, and other facts.
    """
    document = command.begin(f"{benchmark}_needs", options.threads) | {"results": []}
    for subject in subjects(options):
        result = to_json(subject.facts() | measure(subject, options))
        print(chapter(document | {"results": [result]}).finding, flush=True)
        document["results"].append(result)
        command.write(document, options.json)  # after each subject: a run may be cut short
    command.show(chapter, document)


@dataclass(eq=False)
class _Entry:
    """A contestant's runs."""

    who: Contestant
    seconds: dict[int, list[float]] = field(default_factory=dict)  # by frame
    stages_s: dict[int, list[Mapping[str, float]]] = field(default_factory=dict)
    verdicts: dict[int, tuple[bool, int]] = field(default_factory=dict)  # label and guarded cells


def hold(
    subject: Subject, contestants: Sequence[Contestant], *, rounds: int | None, seconds: float
) -> list[dict[str, Any]]:
    """Compare all verdicts with the first contestant's, which must be the map; then time all; return their rows.

    Parameters
    ----------
    rounds
        None: at least ``FEWEST_ROUNDS``, and as many as make ``FEWEST_RUNS``.
    seconds
        No round begins after this time, except the first.

    Raises
    ------
    SystemExit
        A verdict isn't the map's.
    """
    entries = [_Entry(contestant) for contestant in contestants]
    count = len(subject.frames)
    for index in range(count):  # this warms all up, too
        verdicts = [entry.who.inspect(index) for entry in entries]
        truth = verdicts[0]
        assert truth is not None  # noqa: S101 - the map is a verdict
        for entry, verdict in zip(entries, verdicts, strict=True):
            if verdict is None or entry.who.equal is None:
                continue
            if fault := difference(verdict, truth, entry.who.equal):
                frame = subject.frames[index].path
                raise SystemExit(f"{subject.name}: {entry.who.name} of {frame}: {fault}; no time is worth reporting")
            entry.verdicts[index] = verdict.label, verdict.statistics.guarded_cells
    start = time.perf_counter()
    for done in range(rounds or max(FEWEST_ROUNDS, math.ceil(FEWEST_RUNS / count))):
        if done and time.perf_counter() - start >= seconds:
            break
        for entry in entries:
            if done == 0 or entry.who.every_round:
                _inspect_all(entry, count)
    return [_row(entry, subject) for entry in entries]


def _inspect_all(entry: _Entry, count: int) -> None:
    entry.who.inspect(count - 1)  # the contestant before this one has filled the caches with its own data
    for index in range(count):
        start = time.perf_counter()
        verdict = entry.who.inspect(index)
        entry.seconds.setdefault(index, []).append(time.perf_counter() - start)
        if verdict is not None:
            entry.stages_s.setdefault(index, []).append(verdict.stages_s)


def difference(verdict: Verdict, truth: Verdict, equal: Need) -> str:
    """Return what isn't as the map says; an empty text: all that must be equal is."""
    if not verdict.decided:
        return "it isn't decided, though there is no deadline"
    if verdict.label != truth.label:
        return f"the label is {verdict.label}, expected {truth.label}"
    if equal != "label" and (differing := np.argwhere(verdict.mask != truth.mask)).size:
        return f"the mask differs in {len(differing)} pixels, first in {tuple(differing[0].tolist())}"
    if equal == "map":
        error = float(np.abs(verdict.upper - truth.upper).max() / max(truth.upper.max(), 1e-12))
        return "" if error <= SAME_MAP else f"the map differs by {error:.1e} of its maximum, allowed {SAME_MAP:.0e}"
    if not ((verdict.lower <= truth.upper).all() and (truth.upper <= verdict.upper).all()):
        return "its bounds don't hold the map"
    return ""


def _row(entry: _Entry, subject: Subject) -> dict[str, Any]:
    everything = [seconds for index in sorted(entry.seconds) for seconds in entry.seconds[index]]
    return {"name": entry.who.name, "latency": to_json(latency(everything))} | {
        group: _figures(entry, indices, subject) for group, indices in subject.groups().items()
    }


def _figures(entry: _Entry, indices: Sequence[int], subject: Subject) -> dict[str, Any]:
    """Return medians over frames of the medians over runs, and the slowest frame."""
    by_frame = {index: statistics.median(entry.seconds[index]) for index in indices}
    slowest = max(by_frame, key=by_frame.__getitem__)
    path = subject.frames[slowest].path
    figures: dict[str, Any] = {
        "frames": len(indices),
        "runs": sum(len(entry.seconds[index]) for index in indices),
        "median_s": statistics.median(by_frame.values()),
        "slowest_s": by_frame[slowest],
        "slowest_frame": f"{path.parent.name}/{path.name}",
    }
    if entry.verdicts:
        figures["anomalous"] = sum(entry.verdicts[index][0] for index in indices)
        figures["guarded_cells"] = statistics.median(entry.verdicts[index][1] for index in indices)
        figures["slowest_guarded_cells"] = entry.verdicts[slowest][1]
        figures["stages_s"] = _stages([entry.stages_s[index] for index in indices])
    return figures


def _stages(frames: Iterable[Sequence[Mapping[str, float]]]) -> dict[str, float]:
    """Return each stage's median over frames of the medians over runs."""
    by_frame = [{stage: statistics.median(run[stage] for run in runs) for stage in runs[0]} for runs in frames]
    return {stage: statistics.median(times[stage] for times in by_frame) for stage in by_frame[0]}
