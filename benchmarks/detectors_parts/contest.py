"""The contest of whole detectors: the order in which they are fitted, opened and asked, what is checked, and the rows.

First every detector inspects every frame once, alone on the machine. Its figures of accuracy come from these maps and
scores, and the maps of a detector that claims to be SPADE must equal spadeline's. Then come rounds: in each round one
detector after the other inspects all frames, until its seconds are used up. If a detector's first answers took longer
than its seconds, no round follows for it: its times are those of the answers, except the first, which warmed up.

Processes that don't fit in memory side by side, by the peaks that they had alone, are started anew for each of their
turns. There are then ``TURNS`` of them, each of several passes over the frames, for all detectors alike.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import spadeline.engine
from spadeline.engine.json_data import to_json
from spadeline.engine.resources import Memory, available_memory, process_memory
from spadeline.engine.units import latency

from detectors_parts.judging import Truth, accuracy, difference_of, differing_verdict, no_accuracy
from detectors_parts.process import Answer, DetectorError, DetectorProcess, Job

# A share of the largest value over all frames: spadeline stores its gallery in float16, and a peer's sums round.
SAME_MAP = 1e-3
BACKBONE = "detectors_parts.torch_backbone"  # of all peers
FITTED = "fitted"  # an empty file, written last
NOTHING = Memory(0, 0, 0)
# PatchCore's coreset makes a temporary array and keeps a small one, thousands of times. By default glibc takes blocks
# of up to 32 MB from the heap once one of them was freed; the small arrays then part the heap, and the temporary ones
# find no room in it again. With 31 images that ran out of 24 GB. Mapped blocks go back to the system: it takes 1 GB.
FITTING = {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
TURNS = 4  # of each detector, where some are started anew for each
CODE = Path(__file__).parents[1]
OWN_CODE = Path(spadeline.engine.__file__).parent


@dataclass(frozen=True)
class Contestant:
    """A detector that takes part.

    Attributes
    ----------
    name
        In the table.
    module, method, runtime
        The module that fits it, that module's method, and the runtime that inspects with the fitted model.
    python
        The interpreter; None: the peers' environment wasn't named.
    extractor
        The backbone's file.
    same_as_ours
        Whether its maps must equal spadeline's.
    verdict_of
        The name of the contestant before it whose labels it must give, and whose masks, too, if its runtime is "mask":
        its own maps are bounds. Empty: its maps are judged.
    """

    name: str
    module: str
    method: str
    runtime: str
    python: Path | None
    extractor: Path
    same_as_ours: bool = False
    verdict_of: str = ""


@dataclass(eq=False)
class _Entry:
    """A row that isn't complete yet."""

    contestant: Contestant
    process: DetectorProcess | None  # None: it isn't running now
    precision: str
    model_bytes: int
    answers: list[Answer] = field(default_factory=list)
    answers_s: list[float] = field(default_factory=list)
    difference: float | None = None  # of its maps and scores from spadeline's
    seconds: list[float] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)  # of each run
    all_s: float = 0.0  # of all passes over the frames, the loop included
    memory: Memory = field(default=NOTHING)  # the most that it had
    anew: bool = False  # its process is started for each of its turns


class DetectorContest:
    """All contestants on the same frames.

    Parameters
    ----------
    contestants
        The first is spadeline with the common extractor: SPADE's maps are compared with its maps.
    job
        The same for all, except for method and extractor, which each contestant has.
    models
        A folder for fitted models. A model of the same inputs that lies there is used again.
    on_progress
        Called with a text about the present step.
    """

    def __init__(
        self,
        contestants: Sequence[Contestant],
        job: Job,
        truth: Truth,
        models: Path,
        *,
        on_progress: Callable[[str], None],
    ) -> None:
        self._contestants, self._job, self._truth, self._models = contestants, job, truth, models
        self._progress = on_progress
        self.left_out: dict[str, str] = {}
        self._versions: dict[Path, dict[str, str]] = {}

    def fit(self) -> list[Contestant]:
        """Fit the models that are missing, and return the contestants that can be opened."""
        ready = []
        for contestant in self._contestants:
            try:
                self._fit(contestant)
                ready.append(contestant)
            except DetectorError as error:
                self.left_out[contestant.name] = str(error)
        return ready

    def _fit(self, contestant: Contestant) -> None:
        python = contestant.python
        if python is None:
            raise DetectorError(
                "no environment with its libraries was named: set_up_peers.sh makes one, --peers names it"
            )
        if not python.exists():
            raise DetectorError(f"{python} doesn't exist; set_up_peers.sh makes an environment for the peers")
        folder = self._folder(contestant)
        if (folder / FITTED).exists():
            return
        self._progress(f"fitting {contestant.name}")
        shutil.rmtree(folder, ignore_errors=True)  # a killed run may have left it
        folder.mkdir(parents=True)
        process = DetectorProcess(python, contestant.module, self._job.threads, environment=FITTING)
        try:
            process.ask("fit", self._job_of(contestant), folder)
        finally:
            process.close()
        (folder / FITTED).touch()

    def _job_of(self, contestant: Contestant) -> Job:
        fields = vars(self._job) | {"method": contestant.method, "extractor": contestant.extractor}
        return Job(**fields)

    def _folder(self, contestant: Contestant) -> Path:
        """Return the model's folder, named by all that the model depends on; anomalib's two runtimes share one."""
        job = self._job
        digest = hashlib.sha256()
        code = [CODE / f"{module.replace('.', '/')}.py" for module in (contestant.module, BACKBONE)]
        if contestant.module == self._contestants[0].module:  # spadeline itself
            code += sorted(path for path in OWN_CODE.iterdir() if path.suffix in (".py", ".so"))
        for path in (contestant.extractor, job.probe, job.frames, *sorted(job.train.iterdir()), *code):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        about = [job.images, job.k_score, str(contestant.python), self._versions_of(contestant)]
        digest.update(json.dumps(about).encode())
        return self._models / f"{contestant.method}-{digest.hexdigest()[:12]}"

    def _versions_of(self, contestant: Contestant) -> dict[str, str]:
        """Return the versions of the libraries where it runs; each Python is asked once."""
        python = contestant.python
        assert python is not None  # noqa: S101 - fit leaves the others out
        if python not in self._versions:
            process = DetectorProcess(python, "", self._job.threads)
            try:
                self._versions[python] = process.ask("versions")
            finally:
                process.close()
        return self._versions[python]

    def hold(self, contestants: Sequence[Contestant], *, seconds: float) -> list[dict[str, Any]]:
        """Let the fitted contestants answer, then time them; return their rows."""
        entries = self._answered(contestants)
        try:
            self._run(entries, seconds)
            return [self._row(entry) for entry in entries]
        finally:
            for entry in entries:
                if entry.process is not None:
                    entry.process.close()

    def _answered(self, contestants: Sequence[Contestant]) -> list[_Entry]:
        """Let each contestant answer, alone; return those whose answers hold."""
        entries: list[_Entry] = []
        for contestant in contestants:
            self._progress(f"answers of {contestant.name}")
            entry = _Entry(contestant, None, "", 0)
            try:
                process = self._start(entry)
                for index in range(len(self._truth.labels)):
                    answer, taken = process.ask("answer", index)
                    entry.answers.append(answer)
                    entry.answers_s.append(taken)
                self._end(entry)
                self._check(entry, entries)
                entries.append(entry)
            except DetectorError as error:
                self._leave_out(entry, error)
        return entries

    def _start(self, entry: _Entry) -> DetectorProcess:
        """Return the process that inspects; it is started, and the detector opened, if it isn't running."""
        if entry.process is None:
            contestant = entry.contestant
            assert contestant.python is not None  # noqa: S101 - it was fitted
            entry.process = DetectorProcess(contestant.python, contestant.module, self._job.threads)
            opened = entry.process.ask("open", self._job_of(contestant), self._folder(contestant), contestant.runtime)
            entry.precision, entry.model_bytes = opened
        return entry.process

    def _end(self, entry: _Entry) -> None:
        """Note a process's memory and end it; raises DetectorError if it has ended before."""
        if entry.process is not None:
            now = process_memory(entry.process.ask("process_id"))
            entry.memory = Memory(*map(max, now, entry.memory))
            entry.process.close()
            entry.process = None

    def _leave_out(self, entry: _Entry, error: DetectorError) -> None:
        self.left_out[entry.contestant.name] = str(error)
        if entry.process is not None:
            entry.process.close()
            entry.process = None

    def _check(self, entry: _Entry, others: Sequence[_Entry]) -> None:
        """Raise DetectorError for maps that can't be judged, or that aren't spadeline's where they should be."""
        for answer in entry.answers:
            if answer.anomaly_map.shape != self._truth.size:
                raise DetectorError(f"expected maps of {self._truth.size}, got {answer.anomaly_map.shape}")
            if not (np.isfinite(answer.anomaly_map).all() and np.isfinite(answer.score)):
                raise DetectorError("its map or score isn't finite")
        if expected := entry.contestant.verdict_of:
            whole = next((other for other in others if other.contestant.name == expected), None)
            if whole is None:
                raise DetectorError(f"its verdicts can't be compared with those of {expected}, which was left out")
            masks = entry.contestant.runtime.startswith("mask")
            if fault := differing_verdict(entry.answers, whole.answers, masks=masks):
                raise DetectorError(f"its verdicts aren't those of {expected}: {fault}")
        if not entry.contestant.same_as_ours:
            return
        if not others or others[0].contestant is not self._contestants[0]:
            raise DetectorError("its maps can't be compared with spadeline's, which was left out")
        entry.difference = difference_of(entry.answers, others[0].answers)
        if not entry.difference <= SAME_MAP:
            raise DetectorError(
                f"its maps or scores differ from spadeline's by {entry.difference:.1e}, allowed {SAME_MAP:.0e}"
            )

    def _run(self, entries: list[_Entry], seconds: float) -> None:
        """Time all in turns; a contestant that fails now is left out, too."""
        for entry in entries:
            if sum(entry.answers_s) > seconds:
                first = 1 if len(entry.answers_s) > 1 else 0  # the first answer warmed up
                entry.seconds, entry.frames = entry.answers_s[first:], [*range(first, len(entry.answers_s))]
                entry.all_s = sum(entry.seconds)
        running = [entry for entry in entries if entry.all_s < seconds]
        _choose_anew(running, available_memory())
        turn_s = seconds / TURNS if any(entry.anew for entry in running) else 0
        while running := [entry for entry in entries if entry.all_s < seconds]:
            self._progress(f"rounds: {min(entry.all_s for entry in running):.0f} of {seconds:.0f} s")
            for entry in running:
                try:
                    self._take_turn(entry, turn_s)
                    if entry.anew or entry.all_s >= seconds:
                        self._end(entry)
                except DetectorError as error:
                    self._leave_out(entry, error)
                    entries.remove(entry)

    def _take_turn(self, entry: _Entry, least_s: float) -> None:
        """Let a contestant inspect all frames, again and again until it has done so for so many seconds."""
        process, before_s = self._start(entry), entry.all_s
        while entry.all_s == before_s or entry.all_s - before_s < least_s:
            taken, all_s = process.ask("inspect")
            entry.seconds += taken
            entry.frames += range(len(taken))
            entry.all_s += all_s

    def _row(self, entry: _Entry) -> dict[str, Any]:
        judged = no_accuracy() if entry.contestant.verdict_of else accuracy(entry.answers, self._truth)
        groups = {"good": False, "defective": True}
        return {
            "name": entry.contestant.name,
            "precision": entry.precision,
            **judged,
            "verdict_of": entry.contestant.verdict_of,
            "difference_to_spadeline": entry.difference,
            "latency": to_json(latency(entry.seconds)),
            "median_s": {group: self._median(entry, label=label) for group, label in groups.items()},
            "frames_per_s": len(entry.seconds) / entry.all_s,
            "model_bytes": entry.model_bytes,
            "resident_bytes": entry.memory.resident_bytes,
            "peak_bytes": entry.memory.peak_bytes,
            "started_anew": entry.anew,
        }

    def _median(self, entry: _Entry, *, label: bool) -> float | None:
        """Return the median over the runs of the frames of a label; None: there are none."""
        runs = zip(entry.frames, entry.seconds, strict=True)
        taken = [seconds for frame, seconds in runs if self._truth.labels[frame] == label]
        return statistics.median(taken) if taken else None


def _choose_anew(entries: Sequence[_Entry], available_bytes: int) -> None:
    """Choose which processes are started anew for each turn: as few as it takes for all running ones to fit.

    The smallest stay. Beside all that stay, the largest of the others must fit.
    """
    by_peak = sorted(entries, key=lambda entry: entry.memory.peak_bytes)
    peaks = [entry.memory.peak_bytes for entry in by_peak]
    staying = max(
        (
            count
            for count in range(len(peaks) + 1)
            if sum(peaks[:count]) + max(peaks[count:], default=0) <= available_bytes
        ),
        default=0,  # even one alone doesn't fit: it is for the system to say so
    )
    for entry in by_peak[staying:]:
        entry.anew = True
