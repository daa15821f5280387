"""The process in which attempts run: ``python -m tests.fuzz.worker MODULE``, started and watched by :mod:`.harness`.

It takes a case's path a line from standard input, as JSON, and answers each with a line that says what became of it.
Whatever the code under test prints goes to standard error, as its file descriptors do.
"""

import importlib
import json
import os
import resource
import sys
import time
import traceback
from pathlib import Path

from spadeline.engine import SpadelineError
from spadeline.engine.resources import process_memory

LONGEST_TEXT = 10_000  # an error may name two paths of 4,096 bytes each, but must not quote a file's content


def forget_peak():
    """Begin a new peak. A kernel that can't do so keeps the peak of the process, so that only a higher one counts."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def judge(attempt, case):
    """Return the outcome of an attempt: accepted, refused, or raised with the error and its place."""
    try:
        attempt(case)
    except SpadelineError as error:
        text = str(error)
        if len(text) > LONGEST_TEXT:
            where = f"a {type(error).__name__} of {len(text):,} characters"
            return {"kind": "raised", "where": where, "detail": text[:LONGEST_TEXT]}
        return {"kind": "refused", "where": "", "detail": f"{type(error).__name__}: {text}"}
    except BaseException as error:  # noqa: BLE001 - SystemExit is a failure, too
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
        return {"kind": "raised", "where": where, "detail": "".join(traceback.format_exception(error))[-LONGEST_TEXT:]}
    return {"kind": "accepted", "where": "", "detail": ""}


def main(module):
    """Attempt the cases from standard input until it ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump may take gigabytes
    attempt = importlib.import_module(module).attempt
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        forget_peak()
        before = process_memory()
        start = time.perf_counter()
        answer = judge(attempt, Path(json.loads(line)))
        answer["seconds"] = time.perf_counter() - start
        peak = process_memory().peak_bytes
        answer["added_bytes"] = peak - before.resident_bytes if peak > before.peak_bytes else 0
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
