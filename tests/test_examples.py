"""Every example in the documentation runs."""

import doctest
import importlib
import pkgutil
import re
import shlex
from pathlib import Path

import pytest
import spadeline.engine
from spadeline.engine.cli.arguments import command_parser

from .conftest import part

README = Path(__file__).resolve().parents[1] / "README.md"
DOCS = README.with_name("docs")
PAGES = [README, *sorted(DOCS.rglob("*.md"))]
MODULES = [module.name for module in pkgutil.walk_packages(spadeline.engine.__path__, "spadeline.engine.")]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


def test_some_docstring_has_an_example():
    finder = doctest.DocTestFinder(exclude_empty=True)
    modules = [importlib.import_module(name) for name in MODULES]
    assert sum(len(test.examples) for module in modules for test in finder.find(module)) >= 5


def blocks(page, language):
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", [README, DOCS / "quickstart.md"], ids=lambda page: page.stem)
def test_the_first_python(page, parts, extractor_path, tmp_path, capsys):
    (program,) = blocks(page, "python")
    for written, real in (
        ("images/good", parts / "train" / "good"),
        ("my_recipe", tmp_path / "my_recipe"),
        ("wide_resnet50_2.onnx", extractor_path),
        ("k_gallery=20", "k_gallery=8"),
    ):
        assert written in program
        program = program.replace(written, str(real))
    frame, _ = part(301, scratched=True)
    names = {"frame": frame}
    exec(program, names)  # noqa: S102 - the program is ours
    assert names["result"].pred_label
    assert "(" in capsys.readouterr().out
    assert 0 <= names["image"] < 12


def test_the_other_pages_python(recipe_folder, capsys):
    run_elsewhere = (
        README,
        DOCS / "quickstart.md",
        *(DOCS / "how-to" / f"{name}.md" for name in ("other-languages", "archives")),
    )
    pages = [page for page in PAGES if blocks(page, "python") and page not in run_elsewhere]
    assert [page.name for page in pages] == ["meet-a-takt.md", "python.md"]
    frame, _ = part(301, scratched=True)
    names = {"frame": frame, "camera": [frame, frame[0, 0], frame]}
    for program in blocks(pages[1], "python"):
        exec(program.replace('"my_recipe"', repr(str(recipe_folder))), names)  # noqa: S102 - the program is ours
    verdict, *streamed, matched, error = capsys.readouterr().out.splitlines()
    assert verdict.startswith("True ")
    assert len(streamed) == 3  # the second frame is none
    assert streamed[1].startswith("1 frame: expected ")
    assert matched.startswith("(8, 8) ")
    assert error == "frame: expected a uint8 array, got float32"


def test_a_stream_with_a_deadline(recipe_folder, capsys):
    """The program of the page about takts says what it is about each kind of frame."""
    (program,) = blocks(DOCS / "how-to" / "meet-a-takt.md", "python")
    good, _ = part(115)
    scratched, _ = part(301, scratched=True)
    # The frame check knows of the scratched part before anything is searched.
    undecided = "anomalous until somebody has looked: time was up"
    for deadline, told in (("60", ["good", "anomalous"]), ("0", [undecided, "anomalous"])):
        names = {"camera": [good, scratched, good[0, 0]]}
        written = program.replace('"my_recipe"', repr(str(recipe_folder))).replace("0.04", deadline)
        exec(written, names)  # noqa: S102 - the program is ours
        *said, error = capsys.readouterr().out.splitlines()
        assert said == told
        assert error.startswith("no verdict: frame: expected ")


def test_what_the_promises_are_tested_by_is_there():
    named = set(
        re.findall(r"`(tests/[\w/]+(?:\.py)?|benchmarks/\w+\.py)`", README.with_name("SECURITY.md").read_text())
    )
    assert len(named) > 5
    for name in named:
        assert (README.parent / name).exists(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(README.parent)))
def test_commands_are_understood(page):
    """Those in blocks, as they stand there."""
    for block in blocks(page, "bash"):
        for line in block.splitlines():
            for command in line.split("&&"):
                _, found, typed = command.split(" #")[0].partition("spadeline ")
                if found and "pip" not in command:
                    command_parser(version="").parse_args(shlex.split(typed.split(" | ")[0]))


def test_options_are_those_of_a_command():
    """Those in sentences: a command's name is followed by nothing that it doesn't take."""
    parser = command_parser(version="")
    commands = next(action.choices for action in parser._actions if action.dest == "command")
    seen = set()
    for page in PAGES:
        for name, rest in re.findall(r"`spadeline ([a-z]+)([^`\n]*)`", page.read_text(encoding="utf-8")):
            options = re.findall(r"(?<!\S)--[\w-]+", rest)
            assert name in commands, (page, name)
            assert {*options} <= {*commands[name]._option_string_actions}, (page, name, options)
            seen.add(name)
    assert seen >= {"bench", "calibrate", "export", "eval", "add"}
