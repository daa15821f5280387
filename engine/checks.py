"""Checks of single values: type and range, and one sentence when a value doesn't fit.

``bool`` never passes as a number, and NaN never passes. So a value that passes can be written as strict JSON and read
back as the same value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from .errors import InputError

# A time in UTC: fewer of ISO 8601's forms than Python's datetime reads, and those of csrc/library.
_UTC = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d([.,]\d+)?)?(Z|[+-]00:?00)", re.ASCII)


def check_integer(name: str, value: object, *, low: int, high: int) -> None:
    """Raise InputError unless ``value`` is an int with ``low <= value <= high``."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InputError(f"{name}: expected an integer from {low} to {high}, got {value!r:.100}")


def check_number(name: str, value: object, *, low: float = -math.inf, high: float = math.inf) -> None:
    """Raise InputError unless ``value`` is a finite int or float with ``low <= value <= high``."""
    number = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        with suppress(OverflowError):  # an int may lie beyond float's range
            number = float(value)
    if not (math.isfinite(number) and low <= number <= high):
        limits = f" of {low:g} or more" if math.isinf(high) else f" from {low:g} to {high:g}"
        raise InputError(f"{name}: expected a finite number{limits if low > -math.inf else ''}, got {value!r:.100}")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise InputError unless ``value`` is one of ``choices``."""
    if not isinstance(value, str) or value not in choices:
        raise InputError(f"{name}: expected one of {', '.join(choices)}, got {value!r:.100}")


def described(value: object) -> str:
    """Return what an error text says of a value: the dtype and shape of an array, the type of anything else."""
    if not isinstance(value, np.ndarray):
        return type(value).__name__
    masked = "masked " if isinstance(value, np.ma.MaskedArray) else ""
    return f"{masked}{value.dtype} {value.shape}"


def is_array(value: object) -> TypeGuard[NDArray[Any]]:
    """Whether this is an array whose numbers all count. A masked array isn't: its mask would be lost silently."""
    return isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray)


def check_sequence(name: str, value: object, *, of: str) -> None:
    """Raise InputError unless ``value`` is a list, a tuple or another sequence that isn't text."""
    if not isinstance(value, Sequence) or isinstance(value, str | bytes | bytearray):
        raise InputError(f"{name}: expected a list of {of}, got {described(value)}")


def check_text(name: str, value: object, *, longest: int = 4096) -> None:
    """Raise InputError unless ``value`` is text that isn't empty and that UTF-8 or a POSIX file name can hold.

    Bytes of a file name that can't be decoded become lone low surrogates (``os.fsdecode``). Other surrogates are
    refused, since JSON may turn them into a pair.
    """
    if not isinstance(value, str) or not 0 < len(value) <= longest:
        raise InputError(f"{name}: expected text of 1 to {longest} characters, got {value!r:.100}")
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise InputError(f"{name}: expected text without lone surrogates, got {value!r:.100}") from None


def check_digest(name: str, value: object) -> None:
    """Raise InputError unless ``value`` is a SHA-256 in lower-case hex."""
    if not (isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value)):
        raise InputError(f"{name}: expected 64 hexadecimal digits, got {value!r:.100}")


def check_instance(name: str, value: object, kind: type) -> None:
    """Raise InputError unless ``value`` is of ``kind``."""
    if not isinstance(value, kind):
        raise InputError(f"{name}: expected {kind.__name__}, got {type(value).__name__}")


def check_shape(name: str, value: object, **limits: int) -> None:
    """Raise InputError unless ``value`` is a tuple of one size for each axis named, from 1 to the limit given."""
    if not isinstance(value, tuple) or len(value) != len(limits):
        raise InputError(f"{name}: expected ({', '.join(limits)}), got {value!r:.100}")
    for (axis, limit), size in zip(limits.items(), value, strict=True):
        check_integer(f"{name}: {axis}", size, low=1, high=limit)


def check_instances(name: str, values: object, kind: type) -> None:
    """Raise InputError unless ``values`` is a tuple whose elements are all of ``kind``."""
    check_instance(name, values, tuple)
    for index, value in enumerate(values):  # type: ignore[arg-type, var-annotated]
        check_instance(f"{name}[{index}]", value, kind)


def check_unique(name: str, values: Iterable[str]) -> None:
    """Raise InputError if a value comes twice."""
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise InputError(f"{name}: {value!r:.100} comes twice")
        seen.add(value)


def check_utc(name: str, value: object) -> None:
    """Raise InputError unless a value is a time in UTC as ISO 8601."""
    check_text(name, value, longest=100)
    fits = False
    with suppress(ValueError):  # no such day
        fits = _UTC.fullmatch(str(value)) is not None and bool(datetime.fromisoformat(str(value)))
    if not fits:
        raise InputError(f"{name}: expected a time in UTC as ISO 8601, got {value!r:.100}")
