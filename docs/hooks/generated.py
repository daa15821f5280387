"""Reference pages that are made from the code: ``<!-- generated: NAME -->`` is replaced when the site is built.

``commands`` comes from the command line's own parser, ``settings`` from the fields of the class Settings, ``errors``
from the exceptions' classes, ``columns`` from those of a scored image's row. So they always say what the code does.
"""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Callable, Iterator
from functools import partial

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page
from spadeline.engine import SpadelineError
from spadeline.engine.cli.arguments import command_parser
from spadeline.engine.declared import Setting
from spadeline.engine.scale import COLUMNS
from spadeline.engine.settings import all_settings

WIDTH = 100  # characters of a line of usage
_MARKER = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Fill a page's markers."""
    return _MARKER.sub(lambda marker: PARTS[marker[1]](), markdown)


def commands() -> str:
    """Return a section for each command: what it does, its usage, its options."""
    return "\n".join(line for name, parser, text in _commands() for line in _command(name, parser, text))


def _commands() -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    for action in command_parser(version="")._actions:  # noqa: SLF001 - argparse has no public way to its commands
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            texts = {choice.dest: choice.help or "" for choice in action._choices_actions}  # noqa: SLF001
            for name, parser in action.choices.items():
                yield name, parser, texts[name]


def _command(name: str, parser: argparse.ArgumentParser, text: str) -> Iterator[str]:
    parser.formatter_class = partial(argparse.HelpFormatter, width=WIDTH)
    yield f"\n## spadeline {name}\n"
    yield f"{text[:1].upper()}{text[1:]}.\n"
    yield f"```\n{parser.format_usage().removeprefix('usage: ').strip()}\n```\n"
    yield "| argument | default | meaning |\n|---|---|---|"
    for action in parser._actions:  # noqa: SLF001
        if action.dest != "help":
            default, meaning = _default_and_meaning(action)
            yield f"| `{_argument(action)}` | {default} | {_cell(meaning)} |"


def _argument(action: argparse.Action) -> str:
    value = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    if action.choices is not None:
        value = " or ".join(str(choice) for choice in action.choices)
    names = ", ".join(action.option_strings)
    taken = [value] if action.nargs != 0 or not names else []
    return " ".join([*filter(None, [names]), *taken, *(["…"] if action.nargs == "+" else [])])


def _default_and_meaning(action: argparse.Action) -> tuple[str, str]:
    """Return an argument's default, which its help text may have in brackets at its end, and the text without it."""
    text = action.help or ""
    in_brackets = re.fullmatch(r"(.*) \((.*)\)", text) if action.option_strings else None
    if action.required:
        return "required", text
    if action.nargs == 0 or (action.default is None and in_brackets is None):
        return "", text
    if action.default is None or (in_brackets and in_brackets[2] == str(action.default).removesuffix(".0")):
        return in_brackets[2], in_brackets[1]
    return f"`{action.default}`", text


def settings() -> str:
    """Return a table of all settings: name, default, values, meaning."""
    rows = [
        f"| `{setting.name}` | `{_plain(setting.default)}` | {_values(setting)} | {_cell(setting.text)} |"
        for setting in all_settings()
    ]
    return "\n".join(["| setting | default | values | meaning |", "|---|---|---|---|", *rows])


def _plain(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _values(setting: Setting) -> str:
    return ", ".join(f'`"{choice}"`' for choice in setting.choices) or f"`{setting.values}`"


def errors() -> str:
    """Return the tree of exceptions, and what each of them means."""
    rows = [f"| {'&emsp;' * depth}`{kind.__name__}` | {_bases(kind)} | {_meaning(kind)} |" for kind, depth in _tree()]
    return "\n".join(["| exception | also is | raised for |", "|---|---|---|", *rows])


def _tree(kind: type[Exception] = SpadelineError, depth: int = 0) -> Iterator[tuple[type[Exception], int]]:
    yield kind, depth
    for child in kind.__subclasses__():
        yield from _tree(child, depth + 1)


def _bases(kind: type[Exception]) -> str:
    others = (base for base in kind.__bases__ if not issubclass(base, SpadelineError) and base is not Exception)
    return ", ".join(f"`{base.__name__}`" for base in others)


def _meaning(kind: type[Exception]) -> str:
    return _cell(inspect.getdoc(kind) or "")


def columns() -> str:
    """Return a table of the columns that ``spadeline score`` writes."""
    return "\n".join(
        ["| column | holds |", "|---|---|", *(f"| `{name}` | {_cell(text)} |" for name, text in COLUMNS.items())]
    )


def _cell(text: str) -> str:
    text = re.sub(r":\w+:`~?\.*([\w.]+)`", r"`\1`", text)  # a docstring's roles: see roles.py
    return " ".join(text.split()).replace("|", "\\|").replace("``", "`").replace("%%", "%")


PARTS: dict[str, Callable[[], str]] = {
    "commands": commands,
    "settings": settings,
    "errors": errors,
    "columns": columns,
}
