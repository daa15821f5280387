r"""Text for the terminal: results to standard output, everything else to standard error, and no control characters.

A file's name may hold a line break, an escape sequence or a mark that reverses the text after it. Such characters are
printed as escapes, such as ``\x1b``. Standard error may be closed or full. Its messages are then dropped. If results
can't be written, the run goes on, since the user may want the overlays. It then ends as failed.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tqdm import tqdm

MOST_SAID = 4000  # characters of one message: a path has up to 4095 bytes
_JOINERS = "\u200c\u200d"  # Persian, Indic scripts and emoji need them; they don't change the order of text


def escaped(text: str, *, keep: str = "") -> str:
    """Return text with control and format characters, except those in ``keep``, written as escapes."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character if character in keep or not _commands(character) else _escape(character) for character in text
    )


def shortened(text: str, longest: int = MOST_SAID) -> str:
    """Return the beginning and the end of a text, about ``longest`` characters, or all of it if it is shorter."""
    return text if len(text) <= longest else f"{text[: longest // 2]} … {text[-longest // 2 :]}"


def say(text: str) -> None:
    """Print one line to standard error, if it is open."""
    _write(sys.stderr, f"spadeline: {escaped(shortened(text))}")


def say_lines(text: str) -> None:
    """Print text of several lines, such as a traceback, to standard error, if it is open."""
    _write(sys.stderr, escaped(shortened(text, 10 * MOST_SAID), keep="\n"))


class Results:
    """Prints the results of a command to standard output.

    Attributes
    ----------
    lost : bool
        Whether a result couldn't be written.
    """

    def __init__(self) -> None:
        self.lost = False

    def print(self, text: str) -> None:
        """Print text of one line or more, and flush it, so that a reader gets it at once.

        Raises
        ------
        BrokenPipeError
            The reader has ended, as ``| head`` does.
        """
        stream = sys.stdout
        try:
            if stream is None:
                raise OSError(None, "it is closed")  # noqa: TRY301 - handled like an error of the system
            with tqdm.external_write_mode(file=stream):
                stream.write(escaped(text, keep="\n") + "\n")
                stream.flush()
        except BrokenPipeError:
            self.lost = True
            raise
        except (OSError, ValueError) as error:  # ValueError: a closed file object
            if not self.lost:
                say(f"standard output: can't be written: {getattr(error, 'strerror', None) or error}")
            self.lost = True


RESULTS = Results()


def print_json(value: Any, *, default: Callable[[Any], Any] | None = None) -> None:
    """Print a command's result as one JSON document; ``default`` converts values that JSON lacks."""
    RESULTS.print(json.dumps(value, indent=2, allow_nan=False, default=default))


def _write(stream: object, text: str) -> None:
    with suppress(OSError, ValueError, AttributeError):  # the stream is full, broken, closed or None
        tqdm.write(text, file=stream)


def _commands(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp") and character not in _JOINERS


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
