"""Docstrings to Markdown: a Sphinx role such as ``:class:`.Detector``` becomes a link, or code where no page has it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import griffe

PAGE = Path(__file__).resolve().parents[1] / "reference" / "python.md"
_ROLE = re.compile(r":(?:class|func|meth|mod|attr|data|exc):`~?\.*(?P<name>[\w.]+)`")
_SHOWN = {name.rpartition(".")[2]: name for name in re.findall(r"^::: (\S+)", PAGE.read_text(), re.MULTILINE)}


def linked(text: str) -> str:
    """Return a docstring with its roles as Markdown."""
    return _ROLE.sub(lambda role: _link(role["name"]), text)


def _link(name: str) -> str:
    parts = name.split(".")
    for index, part in enumerate(parts):
        if part in _SHOWN:
            return f"[`{'.'.join(parts[index:])}`][{'.'.join((_SHOWN[part], *parts[index + 1 :]))}]"
    return f"`{parts[-1]}`"


class Roles(griffe.Extension):
    """Rewrites every docstring that is read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite an object's docstring."""
        if obj.docstring is not None:
            obj.docstring.value = linked(obj.docstring.value)
