r"""Text for the terminal: results to standard output, all else to standard error, nothing that could command it.

A file's name may hold a line break, an escape sequence or a mark that reverses the text after it: such characters are
printed as ``\x1b``. Standard error may be closed or full: what would go there is dropped. Results that can't be
delivered don't end a run, since overlays may be what somebody waits for; they end it as failed.
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
_JOINERS = "\u200c\u200d"  # of Persian, of Indic scripts and of emoji: they change no order


def escaped(text: str, *, keep: str = "") -> str:
    """Return text whose control and format characters, but those in ``keep``, are written as escapes."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character if character in keep or not _commands(character) else _escape(character) for character in text
    )


def shortened(text: str, longest: int = MOST_SAID) -> str:
    """Return text of at most about ``longest`` characters: its beginning and its end."""
    return text if len(text) <= longest else f"{text[: longest // 2]} … {text[-longest // 2 :]}"


def say(text: str) -> None:
    """Print one line to standard error, if there is one."""
    _write(sys.stderr, f"spadeline: {escaped(shortened(text))}")


def say_lines(text: str) -> None:
    """Print text of several lines, such as a traceback, to standard error, if there is one."""
    _write(sys.stderr, escaped(shortened(text, 10 * MOST_SAID), keep="\n"))


class Results:
    """What a command prints to standard output.

    Attributes
    ----------
    lost : bool
        Whether anything couldn't be delivered.
    """

    def __init__(self) -> None:
        self.lost = False

    def print(self, text: str) -> None:
        """Print text of one line or more, at once: whoever reads it waits for it.

        Raises
        ------
        BrokenPipeError
            The reader has gone, as ``| head`` does.
        """
        stream = sys.stdout
        try:
            if stream is None:
                raise OSError(None, "it is closed")  # noqa: TRY301 - the same end as the system's own refusals
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
    """Print one JSON document as a command's result; ``default`` turns what JSON lacks into what it has."""
    RESULTS.print(json.dumps(value, indent=2, allow_nan=False, default=default))


def _write(stream: object, text: str) -> None:
    with suppress(OSError, ValueError, AttributeError):  # full, gone, closed, or None
        tqdm.write(text, file=stream)


def _commands(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp") and character not in _JOINERS


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
