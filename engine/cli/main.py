"""The command line: ``spadeline export | fit | predict | eval | …``. The library itself never prints.

Results go to standard output. Progress and warnings go to standard error. Whatever goes wrong ends with an exit code of
:mod:`.exit_codes`. What each command does stands in :mod:`.commands`.
"""

from __future__ import annotations

import shlex
import sys
import traceback
import warnings
from collections.abc import Sequence
from importlib import metadata
from io import TextIOWrapper
from typing import TextIO

from ..errors import SpadelineError
from .arguments import parse
from .commands import COMMANDS
from .exit_codes import FAILED, INTERRUPTED
from .terminal import RESULTS, say, say_lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a file's name may have characters that the terminal's encoding lacks
            stream.reconfigure(errors="backslashreplace")
    options = parse(arguments, version=metadata.version("spadeline"))
    options.typed = shlex.join(["spadeline", *(sys.argv[1:] if arguments is None else arguments)])
    RESULTS.lost = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default", UserWarning)  # each text is shown once
            warnings.showwarning = _show_warning
            code = COMMANDS[options.command](options)
    except SpadelineError as error:
        say(str(error))
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has ended, as `| head` does
        pass
    except OSError as error:  # such as a name that is too long for any file
        say(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except Exception:  # noqa: BLE001 - not caught, it would exit with 1, which means that an image is anomalous
        say_lines(traceback.format_exc())
    else:
        return FAILED if RESULTS.lost else code
    return FAILED


def _show_warning(
    message: Warning | str,
    category: type[Warning],  # noqa: ARG001 - all of these belong to the hook's signature
    filename: str,  # noqa: ARG001
    lineno: int,  # noqa: ARG001
    file: TextIO | None = None,  # noqa: ARG001
    line: str | None = None,  # noqa: ARG001
) -> None:
    say(f"warning: {message}")
