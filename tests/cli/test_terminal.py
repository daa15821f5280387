"""Printed text has no control characters for a terminal, and messages have a bounded length."""

import io
import shutil
import sys

import pytest
from spadeline.engine import DependencyError
from spadeline.engine.cli.main import main
from spadeline.engine.cli.terminal import MOST_SAID, Results, escaped, say, shortened
from spadeline.engine.optional import imported


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a b/ü 部品.png", "a b/ü 部品.png"),
        ("\x1b[2J\x07", "\\x1b[2J\\x07"),
        ("a\nb\r\tc\x7f", "a\\nb\\r\\tc\\x7f"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202egnp.exe\u2066", "\\u202egnp.exe\\u2066"),
        ("a\u2028b\u200bc\U000e0041", "a\\u2028b\\u200bc\\U000e0041"),
        ("نمی\u200cخواهم", "نمی\u200cخواهم"),
    ],
)
def test_control_characters_of_names_are_escaped(text, shown):
    assert escaped(text) == shown
    assert escaped(text, keep=text) == text


def test_messages_are_short():
    assert shortened("x" * MOST_SAID) == "x" * MOST_SAID
    text = shortened("begin" + "x" * 10_000_000 + "end")
    assert len(text) <= MOST_SAID + 3
    assert text.startswith("begin")
    assert text.endswith("end")


@pytest.mark.parametrize("stream", [None, object()])
def test_messages_without_standard_error_are_dropped(monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream)
    say("unheard")


def test_a_closed_file_loses_results(monkeypatch, capsys):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    results = Results()
    results.print("first")
    results.print("second")
    assert results.lost
    assert capsys.readouterr().err == "spadeline: standard output: can't be written: I/O operation on closed file\n"


HOSTILE = "\x1b[2J\n\u202e.png"


def test_no_hostile_name_reaches_the_terminal(recipe_folder, parts, tmp_path, capsys):
    folder = tmp_path / "images\x1b[1m"
    folder.mkdir()
    shutil.copy(parts / "test" / "good" / "100.png", folder / ("good" + HOSTILE))
    (folder / ("bad" + HOSTILE)).write_bytes(b"no image")
    recipe = shutil.copytree(recipe_folder, tmp_path / "recipe\x1b[3m\n")
    for arguments, code in (
        (["predict", recipe, folder], 2),
        (["predict", recipe, folder, "--overlays", tmp_path / "o\x1b[4m"], 2),
        (["predict", tmp_path / ("no" + HOSTILE), folder], 2),
        (["add", recipe, folder / ("good" + HOSTILE)], 0),
        (["info", recipe], 0),
        (["remove", recipe, HOSTILE], 2),
        (["fit", folder, "--extractor", "x" + HOSTILE, "--recipe", tmp_path / "r"], 2),
    ):
        assert main([str(argument) for argument in arguments]) == code
        out, err = capsys.readouterr()
        for text in (out, err):
            assert not {"\x1b", "\u202e"} & set(text)
            assert not any(line.startswith(".png") for line in text.splitlines())
        assert "\\x1b" in out + err
    with pytest.raises(SystemExit):
        main(["info", str(recipe), HOSTILE])
    assert not {"\x1b", "\u202e"} & set(capsys.readouterr().err)


def test_no_error_quotes_megabytes(recipe_folder, parts, tmp_path, capsys):
    recipe = shutil.copytree(recipe_folder, tmp_path / "recipe")
    text = (recipe / "recipe.json").read_text()
    (recipe / "recipe.json").write_text(text.replace('"settings"', '"' + "s" * 1_000_000 + '"', 1))
    for arguments in (
        ["info", recipe],
        ["remove", recipe_folder, "n" * 1_000_000],
        ["info", "p" * 1_000_000],
        ["calibrate", recipe_folder, "--index-factory", "f" * 1_000_000],
        ["export", tmp_path / "x.onnx", "--backbone", "b" * 1_000_000],
    ):
        assert main([str(argument) for argument in arguments]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert len(err) < 2 * MOST_SAID
    with pytest.raises(SystemExit):
        main(["info", "r", "u" * 1_000_000])
    assert len(capsys.readouterr().err) < 2 * MOST_SAID


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("raise ImportError('libgomp.so.1: cannot allocate memory')", "libgomp.so.1: cannot allocate memory"),
        ("import nothing_of_that_name", "No module named 'nothing_of_that_name'"),
        ("raise MemoryError", "out of memory"),
        ("raise OSError(12, 'Cannot allocate memory')", "[Errno 12] Cannot allocate memory"),
        ("raise RuntimeError", "RuntimeError"),
    ],
)
def test_what_is_installed_is_not_called_missing(tmp_path, monkeypatch, text, said):
    (tmp_path / "half_broken.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "half_broken", raising=False)
    with pytest.raises(DependencyError) as caught:
        imported("half_broken", "pip install it")
    assert str(caught.value) == f"half-broken is installed, but can't be imported: {said}"


def test_what_is_missing_comes_with_the_command():
    with pytest.raises(DependencyError, match=r"^no-such-package is not installed: pip install it$"):
        imported("no_such_package.part", "pip install it")
