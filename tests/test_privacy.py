"""No process sends or records anything: which files it leaves in an empty home, and which sockets it opens."""

import functools
import os
import re
import shutil
import subprocess
import sys

import pytest

pytest.importorskip("onnxruntime")

HOMES = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME")
# These variables would turn ONNX Runtime's telemetry off anyway, or give matplotlib another folder.
OTHERS = {"ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS", "MPLCONFIGDIR", "CI", "TF_BUILD", "GITHUB_ACTIONS"}


def started(command, home, **variables):
    """Run a command with an empty folder as its home."""
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if name not in OTHERS}
    environment |= {name: str(home / name if name != "HOME" else home) for name in HOMES} | variables
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300)
    assert done.returncode in (0, 1), done.stderr
    return done


def left(home):
    return sorted(str(path.relative_to(home)) for path in home.rglob("*"))


COMMANDS = {
    "predict": ("predict", "{recipe}", "{parts}/test/good", "--overlays", "{work}/overlays", "--device", "cpu"),
    "info": ("info", "{recipe}", "--verify"),
    "add": ("add", "{recipe}", "{parts}/test/good/100.png", "--device", "cpu"),
    "calibrate": ("calibrate", "{recipe}", "--kappa", "1"),
    "fit": ("fit", "{parts}", "--extractor", "{extractor}", "--recipe", "{work}/fitted", "--device", "cpu"),
    "eval": ("eval", "{recipe}", "{parts}", "--device", "cpu"),
    "bench": ("bench", "{recipe}", "--runs", "4", "--warm-up", "1", "--seconds", "1", "--device", "cpu"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_leaves_its_home_empty_and_opens_no_socket(recipe_folder, extractor_path, parts, tmp_path, command):
    recipe = shutil.copytree(recipe_folder, tmp_path / "recipe")
    places = {"recipe": recipe, "parts": parts, "work": tmp_path, "extractor": extractor_path}
    arguments = [sys.executable, "-m", "spadeline.command", *(part.format(**places) for part in COMMANDS[command])]
    trace = tmp_path / "trace"
    traced = ["strace", "-f", "-e", "trace=network", "-o", str(trace), *arguments] if may_trace() else arguments
    started(traced, tmp_path / "home")
    assert left(tmp_path / "home") == []
    if traced is arguments:
        pytest.skip("the home is empty; what goes to the network isn't seen: no strace that may trace")
    assert re.findall(r"^\d+ +\w+\(.*$", trace.read_text(), re.MULTILINE) == []  # not even a local socket


@functools.cache
def may_trace():
    """Whether strace is installed and allowed to trace."""
    command = ["strace", "-o", os.devnull, sys.executable, "-c", ""]
    return (
        shutil.which("strace") is not None and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )


SESSION = "import onnxruntime; onnxruntime.InferenceSession({path!r}, providers=['CPUExecutionProvider'])"


def test_importing_spadeline_first_keeps_onnx_runtime_quiet(extractor_path, tmp_path):
    code = "import spadeline.engine; " + SESSION.format(path=str(extractor_path))
    assert started([sys.executable, "-c", code], tmp_path / "home").stderr == ""
    assert left(tmp_path / "home") == []


def test_a_child_process_is_quiet_as_well(extractor_path, tmp_path):
    inner = SESSION.format(path=str(extractor_path))
    code = f"import spadeline.engine, subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}], check=True)"
    started([sys.executable, "-c", code], tmp_path / "home")
    assert left(tmp_path / "home") == []


def test_the_users_own_setting_stays(tmp_path):
    code = "import os, spadeline.engine; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    assert started([sys.executable, "-c", code], tmp_path / "home").stdout == "1\n"
    assert started([sys.executable, "-c", code], tmp_path / "other", ORT_DISABLE_TELEMETRY="0").stdout == "0\n"


@pytest.mark.parametrize(("version", "warned"), [("1.32.0", True), ("1.29", True), ("1.28.9", False)])
def test_onnx_runtime_before_spadeline_is_said(tmp_path, version, warned):
    """Its telemetry is then on, and can't be turned off."""
    code = f"import sys, types; sys.modules['onnxruntime'] = types.SimpleNamespace(__version__='{version}'); "
    said = started([sys.executable, "-c", code + "import spadeline.engine"], tmp_path / "home").stderr
    text = f"onnxruntime {version} was imported before spadeline, so its telemetry is on in this process; import "
    assert (text + "spadeline.engine first, or set ORT_DISABLE_TELEMETRY=1" in said) == warned
    quiet = started(
        [sys.executable, "-c", code + "import spadeline.engine"], tmp_path / "set", ORT_DISABLE_TELEMETRY="1"
    )
    assert quiet.stderr == ""
