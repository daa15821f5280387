"""The ``spadeline`` command's door: whatever fails behind it ends with exit code 2, imports included.

Exit code 1 means that an image is anomalous, but a Python that fails exits with 1, too, and so does OpenBLAS where it
gets no memory, past Python. So nothing is imported here that could fail, the rest is imported where failures are
caught, and who calls C's exit meets an abort. A process that a signal ends is said to have ended so by the system.
"""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress
from typing import NoReturn

FAILED, INTERRUPTED = 2, 130
_MOST_SAID = 600


def main() -> NoReturn:
    """Run the command line and end the process: with 1 for nothing but an anomalous image."""
    _open_missing_streams()
    _watch_exits()
    code = _code()
    with suppress(Exception):
        atexit._run_exitfuncs()  # noqa: SLF001 - what Python's own end would call
    # Not by Python's own end, which calls C's exit, and takes down what may still be at work in a thread given up on.
    os._exit(code if _flushed() else FAILED)


def _code() -> int:
    try:
        from spadeline.engine.cli.main import main as run  # noqa: PLC0415 - may fail: no memory, a broken library

        return run()
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as stop:  # argparse's 0 or 2; a library's 1, or text, is a failure
        if isinstance(stop.code, int) and stop.code != 1:
            return stop.code
        return FAILED if stop.code else 0
    except BaseException as error:  # noqa: BLE001 - whatever it is, it's no anomalous image
        _say(error)
        return FAILED


def _open_missing_streams() -> None:
    """Give standard streams that are closed a place: files opened later would take theirs, and be written into."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if sys.stderr is None:  # standard output stays None: results would be lost there, and that must be known
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - as long as the process lives


def _watch_exits() -> None:
    """Let a library that calls C's exit end in SIGABRT: it may be in a thread for which no Python code can run."""
    with suppress(Exception):  # nothing depends on it but such an end
        import ctypes  # noqa: PLC0415 - may fail as well

        library = ctypes.CDLL(None)
        library.on_exit(library.abort, None)  # glibc's


def _say(error: BaseException) -> None:
    """Print one sentence about what kept the command from running."""
    text = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")
    if len(text) > _MOST_SAID:  # NumPy's advice is long, and the reason stands at its end
        text = f"{text[: _MOST_SAID // 2]} … {text[-_MOST_SAID // 2 :]}"
    shown = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
    with suppress(Exception):  # nothing is left to say it with
        print(f"spadeline: expected its packages to load and the command to run, got {shown}", file=sys.stderr)


def _flushed() -> bool:
    """Flush the standard streams; whether all of standard output has gone where it was to go."""
    with suppress(OSError, ValueError):
        sys.stderr.flush()
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError):
        return False
    return True
