"""How a setting is declared: what a field of :class:`.Settings` says about itself, and the check of its value.

Which settings there are, and what each means, stands in :mod:`.settings`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from .checks import check_choice, check_integer, check_number, check_text
from .errors import InputError


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is declared of one setting.

    Attributes
    ----------
    name
        Name of the field in :class:`.Settings`.
    default
        Its default value.
    kind
        Type of the value, or of each number in a list: int, float or str.
    summary
        What the setting is, in one phrase: the help text of its option.
    details
        Further sentences for the reference, where there is more to know.
    choices
        All values, where it is a choice.
    limits
        Smallest and largest number.
    unit
        Unit of the number.
    most
        Longest list; 0 for a single value.
    form
        What is expected, where neither choices nor limits say it all.
    pattern
        Regular expression that a text must match.
    unset
        What None stands for. Empty where None isn't allowed.
    metavar
        Name of the value in the usage of the option, where it isn't the setting's own.
    built_in
        Whether the features stored in a recipe depend on it. Only ``fit`` takes such a setting.
    """

    name: str
    default: Any
    kind: type
    summary: str
    details: str = ""
    choices: tuple[str, ...] = ()
    limits: tuple[float, float] = (-math.inf, math.inf)
    unit: str = ""
    most: int = 0
    form: str = ""
    pattern: str = ""
    unset: str = ""
    metavar: str | None = None
    built_in: bool = False

    @property
    def option(self) -> str:
        """Its option on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def phrase(self) -> str:
        """The summary with the unit."""
        return f"{self.summary}, in {self.unit}" if self.unit else self.summary

    @property
    def default_text(self) -> str:
        """The default as help texts show it."""
        return self.unset if self.default is None else f"{self.default:g}" if self.kind is float else str(self.default)

    @property
    def values(self) -> str:
        """The allowed values as the reference shows them."""
        if self.choices:
            return ", ".join(f'"{choice}"' for choice in self.choices)
        text = self.form or f"{self.kind.__name__}, {self.limits[0]:.10g} to {self.limits[1]:.10g}"
        return f"None, or {text}" if self.unset else text

    @property
    def text(self) -> str:
        """The meaning in whole sentences."""
        meaning_of_none = f"None: {self.unset}." if self.unset else ""
        sentences = [f"{self.phrase[0].upper()}{self.phrase[1:]}.", meaning_of_none, self.details]
        return " ".join(sentence for sentence in sentences if sentence)

    def checked(self, value: object) -> Any:
        """Return a value as Settings holds it, which is a tuple for a list.

        Raises
        ------
        InputError
            The value isn't allowed.
        """
        if value is None and self.unset:
            return None
        if self.choices:
            check_choice(self.name, value, self.choices)
        elif self.most:
            return self._checked_numbers(value)
        elif self.kind is str:
            check_text(self.name, value)
            if not re.fullmatch(self.pattern, str(value)):
                raise InputError(f"{self.name}: expected {self.form}, got {value!r:.100}")
        else:
            self._check_number(self.name, value)
        return value

    def _checked_numbers(self, values: object) -> tuple[float, ...]:
        if not isinstance(values, tuple | list) or not 1 <= len(values) <= self.most:
            raise InputError(f"{self.name}: expected {self.form}, got {values!r:.100}")
        for index, value in enumerate(values):
            self._check_number(f"{self.name}[{index}]", value)
        return tuple(float(value) for value in values)

    def _check_number(self, name: str, value: object) -> None:
        low, high = self.limits
        if self.kind is int:
            check_integer(name, value, low=int(low), high=int(high))
        else:
            check_number(name, value, low=low, high=high)


def about(summary: str, **more: Any) -> dict[str, Any]:
    """Return the metadata of a field that is a setting; ``more`` are further attributes of :class:`Setting`."""
    return {"summary": summary} | more


def declared(kind: type) -> tuple[Setting, ...]:
    """Return what a dataclass declares of its settings, in the order of its fields."""
    types = get_type_hints(kind)
    return tuple(
        Setting(name=each.name, default=each.default, **_of_type(types[each.name]), **each.metadata)
        for each in fields(kind)
    )


def _of_type(annotation: Any) -> dict[str, Any]:
    """Return what a field's annotation says: ``choices`` of a Literal, and the ``kind`` of value."""
    if get_origin(annotation) is Literal:
        return {"kind": str, "choices": get_args(annotation)}
    kind = next((part for part in get_args(annotation) if part is not NoneType), annotation)  # int of int | None
    return {"kind": get_args(kind)[0] if get_origin(kind) is tuple else kind}
