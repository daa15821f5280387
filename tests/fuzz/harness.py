"""Fuzz one target: every seed of its corpus, then changed copies of them, each in a child process with limits.

A case is accepted, or refused by a SpadelineError. Everything else is a failure: another exception (``raised``), a
process that died (``died``), more time (``time``) or memory (``memory``) than the target allows. The case is kept, with
a text beside it that says what happened. The same seed makes the same cases: number n of seed s is drawn from
``[s, n]`` alone.

Libraries don't fit. Hypothesis draws values, but limits neither time nor memory, and it dies with the process; other
tests use it to draw values. Atheris follows the coverage of Python's lines alone, while hangs and large allocations
happen in native decoders. Its cases are strings of bytes, while some of ours are folders, and it stops at the first
failure.
"""

import contextlib
import importlib
import itertools
import json
import os
import pkgutil
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
PATHS = str(ROOT), str(ROOT / "benchmarks")  # folders that a target may import from
NO_TARGETS = {"harness", "worker", "mutations", "__main__"}
START_S = 120.0  # longest time of imports, on a busy machine
LOOK_S = 0.02  # between two looks at an attempt's memory: at 2 GB/s, 40 MB are written in that time
LAST_WORDS_S = 2.0  # longest time for the traceback of a process that is ended
RENEWED_AFTER = 1000  # attempts of a process: memory that libraries keep must not add up
SAID_AGAIN_S = 60.0
LONGEST_DETAIL = 10_000


class Outcome(NamedTuple):
    """The outcome of one attempt."""

    kind: str  # accepted, refused, raised, died, time, memory
    where: str  # the place, which tells this failure from others of its kind
    detail: str

    @property
    def failed(self):
        return self.kind not in ("accepted", "refused")


class Failure(NamedTuple):
    """An attempt that failed, and where its case is kept."""

    seed: str  # name of the seed
    origin: str  # name of the seed; of a changed copy, also the random seed and the number that it was drawn with
    kept: Path
    outcome: Outcome

    @property
    def sort(self):
        return sort(self.seed, self.outcome)

    def __str__(self):
        return f"{self.origin}: {self.outcome.kind}, {self.outcome.where}\n  kept: {self.kept}"


def sort(seed, outcome):
    """Return what tells a failure from others: the line that raised an error, or else the seed that it comes from."""
    return outcome.kind, outcome.where, "" if outcome.kind == "raised" else seed


@dataclass
class Tally:
    """The results of fuzzing one target."""

    target: str
    seed: int
    kinds: Counter = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)  # only the first failure of each sort
    seconds: float = 0.0

    def is_new(self, seed, outcome):
        """Count an attempt, and return whether it is the first failure of its sort."""
        self.kinds[outcome.kind] += 1
        return outcome.failed and sort(seed, outcome) not in {failure.sort for failure in self.failures}

    def __str__(self):
        attempts = sum(self.kinds.values())
        counts = ", ".join(f"{count:,} {kind}" for kind, count in sorted(self.kinds.items()))
        return f"{self.target}: {attempts:,} attempts, {attempts / max(self.seconds, 1e-9):.1f} a second: {counts}"


def targets():
    """Return the names of the targets in this folder."""
    modules = pkgutil.iter_modules([str(Path(__file__).parent)])
    return sorted(module.name for module in modules if module.name not in NO_TARGETS)


def fuzz(module, keep, *, seed, mutations=None, seconds=None, say=None):
    """Attempt a target's seeds and then changed copies of those that pass.

    Parameters
    ----------
    module
        The target's module, as it is imported.
    keep
        Folder for the cases of failures, and for temporary files.
    seed
        Seed of the random changes.
    mutations, seconds
        Number of changed copies to attempt, and longest time. None: no limit.
    say
        Called with each failure, and about once a minute with the tally.
    """
    target, say = importlib.import_module(module), say or (lambda _: None)
    tally, start = Tally(module.rpartition(".")[2], seed), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="at-work-", dir=keep) as work, Worker(module, target, Path(work)) as worker:

        def attempt(case, name, origin):
            outcome = worker.attempt(case)
            if outcome.kind == "time":  # on a busy machine, an attempt may stall once
                outcome = worker.attempt(case)
            tally.seconds = time.monotonic() - start
            if tally.is_new(name, outcome):
                kept = _keep(Path(keep), tally, case, origin, outcome)
                tally.failures.append(Failure(name, origin, kept, outcome))
                say(tally.failures[-1])
            return outcome.failed

        folder = Path(work, "corpus")
        folder.mkdir()
        target.corpus(folder)
        passed = [case for case in sorted(folder.iterdir()) if not attempt(case, case.name, case.name)]
        said = time.monotonic()
        for number in itertools.count() if mutations is None else range(mutations):
            if not passed or (seconds is not None and time.monotonic() - start >= seconds):
                break
            rng = np.random.default_rng([seed, number])
            source = passed[rng.integers(len(passed))]
            case = Path(work, f"{number}{source.suffix}")
            origin = f"{source.name}, changed by seed {seed}, number {number}"
            try:
                target.mutate(rng, source, case)
            except Exception as error:
                error.add_note(f"a fault of mutate, not of what is fuzzed: {origin}")
                raise
            attempt(case, source.name, origin)
            _remove(case)
            if time.monotonic() - said > SAID_AGAIN_S:
                said = time.monotonic()
                say(tally)
    return tally


class Worker:
    """A child process that attempts one case after the other. If it dies or is killed, a new one goes on."""

    def __init__(self, module, target, work):
        self._command = [sys.executable, "-X", "faulthandler", "-m", f"{__package__}.worker", module]
        self._limits = target.SECONDS, target.MEMORY_BYTES
        self._work, self._log = work, work / "standard-error.txt"
        self._process, self._attempts = None, 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._end(signal.SIGKILL)

    def attempt(self, case):
        """Return the outcome of a case within the limits."""
        if self._attempts >= RENEWED_AFTER:
            self._end(signal.SIGKILL)
        if self._process is None:
            self._start()
        self._attempts += 1
        os.truncate(self._log, 0)
        seconds, most_bytes = self._limits
        with contextlib.suppress(BrokenPipeError):  # the process may have died since the last attempt
            self._process.stdin.write(json.dumps(str(case)).encode() + b"\n")
        over, answer = self._answer(seconds, _resident(self._process.pid) + most_bytes)
        if over:
            self._end(signal.SIGABRT)  # makes faulthandler write the traceback
            limit = f"over {seconds:g} s" if over == "time" else f"over {most_bytes:,} bytes"
            return Outcome(over, limit, self._said())
        if answer is None:
            code = self._process.wait()
            self._end(signal.SIGKILL)
            return Outcome("died", signal.Signals(-code).name if code < 0 else f"exit code {code}", self._said())
        if answer["seconds"] > seconds:
            return Outcome("time", f"over {seconds:g} s", f"{answer['seconds']:.2f} s")
        if answer["added_bytes"] > most_bytes:
            return Outcome("memory", f"over {most_bytes:,} bytes", f"{answer['added_bytes']:,} bytes")
        return Outcome(answer["kind"], answer["where"], answer["detail"])

    def _start(self):
        path = os.pathsep.join(filter(None, (*PATHS, os.environ.get("PYTHONPATH"))))
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, bufsize=0,
                cwd=self._work, env=os.environ | {"PYTHONPATH": path}, start_new_session=True,
            )  # fmt: skip
        self._attempts = 0
        if self._answer(START_S, sys.maxsize)[1] != "ready":
            self._end(signal.SIGABRT)
            raise RuntimeError(f"{' '.join(self._command)}: expected a process that is ready, got: {self._said()}")

    def _answer(self, seconds, most_resident):
        """Return which limit was reached, if any, and the answer of the process; None if it has ended."""
        end, line = time.monotonic() + seconds, b""
        while not line.endswith(b"\n"):
            if select.select([self._process.stdout], [], [], LOOK_S)[0]:
                if not (more := os.read(self._process.stdout.fileno(), 1 << 16)):
                    return None, None
                line += more
            elif time.monotonic() > end:
                return "time", None
            elif _resident(self._process.pid) > most_resident:
                return "memory", None
        return None, json.loads(line)

    def _end(self, how):
        """End the process and all processes that it started."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            self._process.send_signal(how)
            self._process.wait(LAST_WORDS_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
        self._process = None

    def _said(self):
        return self._log.read_bytes()[-LONGEST_DETAIL:].decode(errors="replace")


def _resident(process):
    """Return a process's resident bytes; 0 if it has ended."""
    try:
        pages = Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _keep(keep, tally, case, origin, outcome):
    """Move a case to the folder of failures, write beside it what happened, and return its path."""
    name = f"{tally.target}-{outcome.kind}-{tally.seed}-{case.name}"
    kept = keep / name
    _remove(kept)
    case.rename(kept)
    text = f"{tally.target}, {origin}\n{outcome.kind}: {outcome.where}\n\n{outcome.detail}\n"
    kept.with_name(f"{name}.txt").write_text(text, encoding="utf-8", errors="backslashreplace")
    return kept


def _remove(case):
    """Remove a case, be it a file or a folder, if it exists."""
    if case.is_dir() and not case.is_symlink():
        shutil.rmtree(case)
    else:
        case.unlink(missing_ok=True)
