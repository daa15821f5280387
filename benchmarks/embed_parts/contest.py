"""The C++ program beside Python, on the same frames in turns: equality first, then latency; then the program's rate."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spadeline.engine import Detector
from spadeline.engine.bench.bench import prepared
from spadeline.engine.images.reading import read_image
from spadeline.engine.images.resizing import as_rgb
from spadeline.engine.inspect.detector import Frame
from spadeline.engine.json_data import to_json
from spadeline.engine.settings import Need
from spadeline.engine.units import latency

from embed_parts.program import STAGES, Program, start, write_frames
from shared_parts.subjects import Subject

BLOCK = 48  # frames of one contestant before the next one's turn: some tenths of a second
BACKBONE_EVERY = 4  # turns: the yardstick's time hardly depends on the frames


def measure(subject: Subject, options: argparse.Namespace, program: Path) -> dict[str, Any]:
    """Measure a subject; ``options`` have threads, need, frames, seconds, inspectors and rate_seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of fewer images than k_gallery: the document says how many
        detector = Detector.load(subject.recipe.folder, device="cpu", threads=options.threads)
    frames = [as_rgb(read_image(image.path)) for image in subject.frames]
    result: dict[str, Any] = {"rows": [], "allocations": {}, "throughput": []}
    with tempfile.TemporaryDirectory(prefix="spadeline-embed-") as folder:
        file = Path(folder) / "frames"
        write_frames(frames, file)
        where = (program, subject.recipe.folder, file)
        with start(*where, inspectors=1, threads=options.threads) as asked:
            contest = Contest(subject, detector, frames, asked)
            for need in options.need:
                contest.compare(need)
                everything, by_library = asked.allocations()
                result["allocations"][need] = {"all": everything / len(frames), "library": by_library / len(frames)}
                for group, indices in subject.groups().items():
                    times = contest.hold(need, indices, frames=options.frames, seconds=options.seconds)
                    result["rows"].append({"need": need, "group": group, "frames": len(indices), "contestants": times})
        for inspectors in options.inspectors:
            with start(*where, inspectors=inspectors, threads=1) as asked:
                for need in options.need:
                    asked.need(need)
                    rate = asked.rate(options.rate_seconds)
                    row = {"need": need, "inspectors": inspectors, "frames_per_s": rate}
                    result["throughput"].append(row | {"resident_bytes": asked.resident_bytes()})
    result["detector"] = {name: value for name, value in detector.info.items() if name != "recipe"}
    return result


class Contest:
    """Both doors of one recipe, and the backbone alone."""

    def __init__(self, subject: Subject, detector: Detector, frames: Sequence[Frame], program: Program) -> None:
        self._subject, self._detector, self._frames, self._program = subject, detector, frames, program
        self._placed = [prepared(detector, frame)[None] for frame in frames]

    def compare(self, need: Need) -> None:
        """Set a need, and compare the results of all frames; this warms both up, too.

        Raises
        ------
        SystemExit
            A label differs, or what the need asks for of map and mask.
        """
        self._program.need(need)
        for index, found in enumerate(self._program.results(self._subject.recipe.input_size)):
            truth = self._detector.predict(self._frames[index], need=need)
            label, anomaly_map, mask = found
            same = {
                "label": label == truth.pred_label,
                "mask": need == "label" or np.array_equal(mask, truth.pred_mask),
                "map": need != "map" or np.array_equal(anomaly_map, truth.anomaly_map),
            }
            for what, equal in same.items():
                if not equal:
                    frame = self._subject.frames[index].path
                    raise SystemExit(
                        f"{self._subject.name}: {frame}: the {what} of C++ isn't Python's; no time is worth reporting"
                    )

    def hold(self, need: Need, indices: Sequence[int], *, frames: int, seconds: float) -> dict[str, Any]:
        """Time both doors in blocks of frames, and the backbone in some of the turns; return figures by contestant.

        No turn begins after so many seconds, except the first.
        """
        times: dict[str, list[NDArray[np.float64]]] = {"C++": [], "Python": [], "backbone alone": []}
        start, done, turn = time.perf_counter(), 0, 0
        while done < frames and (turn == 0 or time.perf_counter() - start < seconds):
            count = min(BLOCK, frames - done)
            # One more is the first, untimed: the contestant before has filled the caches with its own data.
            chosen = [indices[(done + place) % len(indices)] for place in range(-1, count)]
            times["C++"].append(self._program.time(chosen))
            times["Python"].append(self._predict(chosen, need))
            if turn % BACKBONE_EVERY == 0:
                times["backbone alone"].append(self._extract(chosen))
            done, turn = done + count, turn + 1
        return {name: _figures(np.concatenate(blocks)) for name, blocks in times.items()}

    def _predict(self, indices: Sequence[int], need: Need) -> NDArray[np.float64]:
        seconds = []
        for index in indices:
            start = time.perf_counter()
            found = self._detector.predict(self._frames[index], color="rgb", need=need)
            whole = time.perf_counter() - start
            seconds.append([whole, *(found.timings_s[stage] for stage in STAGES)])
        return np.array(seconds[1:])

    def _extract(self, indices: Sequence[int]) -> NDArray[np.float64]:
        seconds = []
        for index in indices:
            start = time.perf_counter()
            self._detector.extractor.extract(self._placed[index])
            seconds.append([time.perf_counter() - start])
        return np.array(seconds[1:])


def _figures(seconds: NDArray[np.float64]) -> dict[str, Any]:
    """Return a contestant's latency, and where it has stages, the medians of each, and of what is left of the call."""
    figures: dict[str, Any] = {"latency": to_json(latency(seconds[:, 0].tolist()))}
    if seconds.shape[1] > 1:
        by_stage = dict(zip(STAGES, seconds[:, 1:].T, strict=True)) | {"rest": seconds[:, 0] - seconds[:, 1:].sum(1)}
        figures["stages_s"] = {stage: statistics.median(taken.tolist()) for stage, taken in by_stage.items()}
    return figures
