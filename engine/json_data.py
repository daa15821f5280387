"""Frozen dataclasses of measurements as JSON holds them, and back.

A field's key in JSON is its name. Where that can't be, :func:`keyed` gives the key: ``from`` is a word of Python's own,
and ``p99.9_s`` is no name. Nothing is judged: a reader gets what the writer wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, field, fields, is_dataclass
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

Kind = TypeVar("Kind")


def keyed(key: str) -> Any:
    """Declare a dataclass's field that has another key in JSON than its name."""
    return field(metadata={"key": key})


def to_json(value: Any) -> Any:
    """Return dataclasses and mappings as dicts, sequences as lists, all else as it is."""
    if is_dataclass(value):
        return {_key(part): to_json(getattr(value, part.name)) for part in fields(value)}
    if isinstance(value, Mapping):
        return {key: to_json(part) for key, part in value.items()}
    return [to_json(part) for part in value] if isinstance(value, list | tuple) else value


def from_json(kind: type[Kind], value: Mapping[str, Any]) -> Kind:
    """Return a dataclass from what :func:`to_json` made of it.

    A key that is missing stands for the field's default; a key that no field has is passed over. So documents of
    earlier and later versions can be read.

    Raises
    ------
    KeyError
        A key is missing, and its field has no default.
    TypeError
        A value is no mapping or sequence where the dataclass has one.
    """
    hints = get_type_hints(kind)
    parts = {
        part.name: _part(hints[part.name], value[_key(part)])
        for part in fields(kind)  # type: ignore[arg-type] # of a dataclass
        if _key(part) in value or (part.default is MISSING and part.default_factory is MISSING)
    }
    return kind(**parts)


def _part(hint: Any, value: Any) -> Any:
    """Return a field's value by its type: dataclasses in tuples, in mappings and beside None are made, too."""
    if is_dataclass(hint):
        return from_json(hint, value)  # type: ignore[arg-type] # a class, no instance
    if NoneType in get_args(hint):
        kinds = [kind for kind in get_args(hint) if kind is not NoneType]
        return None if value is None else _part(kinds[0], value)
    if get_origin(hint) is tuple:
        return tuple(_part(get_args(hint)[0], part) for part in value)
    if get_origin(hint) is Mapping:
        return {key: _part(get_args(hint)[1], part) for key, part in value.items()}
    return value


def _key(part: Field[Any]) -> str:
    return str(part.metadata.get("key", part.name))
