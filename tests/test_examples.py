"""Every example in the documentation runs."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest
import spadeline.engine

from .conftest import part

README = Path(__file__).resolve().parents[1] / "README.md"
MODULES = [module.name for module in pkgutil.walk_packages(spadeline.engine.__path__, "spadeline.engine.")]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


def test_some_docstring_has_an_example():
    finder = doctest.DocTestFinder(exclude_empty=True)
    modules = [importlib.import_module(name) for name in MODULES]
    assert sum(len(test.examples) for module in modules for test in finder.find(module)) >= 5


def test_the_readmes_python(parts, extractor_path, tmp_path, capsys):
    (program,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
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
    exec(program, names)  # noqa: S102 - the README is ours
    assert names["result"].pred_label
    assert "(" in capsys.readouterr().out
    assert 0 <= names["image"] < 12


def test_what_the_promises_are_tested_by_is_there():
    named = set(
        re.findall(r"`(tests/[\w/]+(?:\.py)?|benchmarks/\w+\.py)`", README.with_name("SECURITY.md").read_text())
    )
    assert len(named) > 5
    for name in named:
        assert (README.parent / name).exists(), name


def test_the_readmes_commands_exist():
    from spadeline.engine.cli.commands import COMMANDS

    used = set(re.findall(r"spadeline (\w+) ", README.read_text()))
    assert used & set(COMMANDS) >= {"export", "fit", "predict", "eval"}
