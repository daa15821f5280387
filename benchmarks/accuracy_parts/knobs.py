"""The settings that accuracy.py measures: the protocols, and one knob turned at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from spadeline.engine.errors import InputError
from spadeline.engine.settings import Settings, preset

Value: TypeAlias = Any  # of a setting: a number, text, None, or a tuple of weights

PROTOCOLS = {"defaults": preset("default"), "paper": preset("paper")}
# The values of --sweep; those of level_weights depend on the extractor. Some classes have no more than 50 images.
SWEPT: dict[str, tuple[Value, ...]] = {
    "k_gallery": (1, 3, 5, 10, 20, 50),
    "k_score": (1, 3, 5, 10, 20, 50),
    "kappa": (1, 3, 5, 10, 20),
    "window": (0, 1, 2, 4, None),
    "upsampling": ("nearest", "bilinear"),
    "distance": ("squared", "root"),
    "level_weights": (),
    "sigma": (0.0, 2.0, 4.0, 6.0, 8.0),
    "framing": ("whole", "paper"),
    "angles": (1, 4, 12),
    "storage": ("float16", "float32"),
}
HEAVIER = 4.0  # the weight of the level that a default sweep favours


@dataclass(frozen=True)
class Point:
    """One setting to measure: a protocol as it is, or with one knob turned."""

    protocol: str
    knob: str | None
    value: Value
    settings: Settings


def parse_knob(text: str) -> tuple[str, tuple[Value, ...]]:
    """Return name and values of ``name=v1,v2,…``; ``none`` stands for None, ``1:2:4`` for weights of three levels.

    Raises
    ------
    InputError
        Another form, an unknown knob, or a value that its setting refuses.
    """
    name, _, listed = text.partition("=")
    if name not in SWEPT or not listed:
        raise InputError(f"--knob: expected NAME=VALUE,… with one of {', '.join(SWEPT)}, got {text!r}")
    values = tuple(_value(name, word) for word in listed.split(","))
    for value in values:
        replace(PROTOCOLS["defaults"], **{name: value})
    return name, values


def points(protocols: Sequence[str], knobs: Mapping[str, Sequence[Value]]) -> list[Point]:
    """Return the protocols, then each knob's values around the first protocol."""
    base = protocols[0]
    return [Point(name, None, None, PROTOCOLS[name]) for name in protocols] + [
        Point(base, knob, value, replace(PROTOCOLS[base], **{knob: value}))
        for knob, values in knobs.items()
        for value in values
    ]


def default_knobs(levels: int) -> dict[str, tuple[Value, ...]]:
    """Return the values of --sweep; level_weights are equal for so many levels, then each level is heavier in turn."""
    favoured = [tuple(HEAVIER if level == heavy else 1.0 for level in range(levels)) for heavy in range(levels)]
    return SWEPT | {"level_weights": (None, *favoured)}


def label(value: Value) -> str:
    """Return a value as ``--knob`` takes it."""
    if value is None:
        return "none"
    if isinstance(value, tuple | list):  # JSON has only lists
        return ":".join(f"{weight:g}" for weight in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _value(name: str, word: str) -> Value:
    if word == "none":
        return None
    try:
        if name == "level_weights":
            return tuple(float(weight) for weight in word.split(":"))
        return float(word) if name == "sigma" else int(word)
    except ValueError:
        return word  # text; a setting refuses other values in its own sentence


def as_json(point: Point) -> dict[str, Any]:
    """Return the fields that tell this point of the sweep from others."""
    return {"protocol": point.protocol, "knob": point.knob, "value": point.value}
