"""Entry point of the ``spadeline`` command. Every failure ends with exit code 2, also one while modules are imported.

Exit code 1 means that an image is anomalous. But a Python that fails also exits with 1, and so does OpenBLAS, without
Python, if it gets no memory. So this module imports nothing that could fail at its top, and imports the rest where
failures are caught. A library that calls C's exit ends in an abort. If a signal ends the process, the system says so.
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
    """Run the command line and end the process. Only an anomalous image ends it with 1."""
    _open_missing_streams()
    _watch_exits()
    code = _code()
    with suppress(Exception):
        atexit._run_exitfuncs()  # noqa: SLF001 - Python would call them at its own end
    # Python's own end would call C's exit, and destroy objects that an abandoned thread may still be working with.
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
    except BaseException as error:  # noqa: BLE001 - no error of any kind is an anomalous image
        _say(error)
        return FAILED


def _open_missing_streams() -> None:
    """Open closed standard streams. Files opened later would get their numbers, and messages would go into them."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest free number
    if sys.stderr is None:  # standard output stays None, so that lost results are noticed
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - open until the process ends


def _watch_exits() -> None:
    """Let a library that calls C's exit end in SIGABRT. It may do so in a thread in which no Python code can run."""
    with suppress(Exception):  # without it, the command works as well
        import ctypes  # noqa: PLC0415 - the import may fail

        library = ctypes.CDLL(None)
        library.on_exit(library.abort, None)  # on_exit is glibc's


def _say(error: BaseException) -> None:
    """Print in one sentence why the command can't run."""
    text = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")
    if len(text) > _MOST_SAID:  # NumPy's error is long, and the reason stands at its end
        text = f"{text[: _MOST_SAID // 2]} … {text[-_MOST_SAID // 2 :]}"
    shown = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
    with suppress(Exception):  # if printing fails, there is no other way to tell
        print(f"spadeline: expected its packages to load and the command to run, got {shown}", file=sys.stderr)


def _flushed() -> bool:
    """Flush the standard streams. Return whether all of standard output was written."""
    with suppress(OSError, ValueError):
        sys.stderr.flush()
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError):
        return False
    return True
