"""The ``spadeline`` command's door: whatever fails behind it ends with exit code 2, imports included.

Exit code 1 means that an image is anomalous, and a Python that fails exits with 1. So nothing is imported here that
could fail, the rest is imported where failures are caught, and closed standard streams are put in order before.
"""

from __future__ import annotations

import os
import sys

FAILED, INTERRUPTED = 2, 130


def main() -> int:
    """Run the command line and return its exit code: 1 for nothing but an anomalous image."""
    _open_missing_streams()
    code = FAILED
    try:
        code = _run()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except SystemExit as stop:  # argparse's 0 or 2; a library's 1, or text, is a failure
        code = stop.code if isinstance(stop.code, int) and stop.code != 1 else FAILED if stop.code else 0
    except BaseException as error:  # noqa: BLE001 - whatever it is, it's no anomalous image
        _say(error)
    return code if _flushed() else FAILED


def _run() -> int:
    from spadeline.engine.cli import main as run  # noqa: PLC0415 - may fail: no memory, a broken library

    return run()


def _open_missing_streams() -> None:
    """Give standard streams that are closed a place: files opened later would take theirs, and be written into.

    Python has None where one was closed at its start; :mod:`spadeline.engine.terminal` knows what that means.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - for as long as the process lives


def _say(error: BaseException) -> None:
    """Print one sentence about what kept the command from running."""
    try:
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        print(f"spadeline: expected to start, got {text[:1000]!r}", file=sys.stderr)
    except Exception:  # noqa: BLE001, S110 - nothing is left to say it with
        pass


def _flushed() -> bool:
    """Flush standard output; where that fails, see that Python's own attempt at its end succeeds, and quietly."""
    flushed = True
    for stream, descriptor in ((sys.stdout, 1), (sys.stderr, 2)):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            flushed = flushed and descriptor == 2
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    return flushed
