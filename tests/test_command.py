"""The command as a process: its exit codes after failures of any kind, and its standard streams."""

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys

import pytest

pytest.importorskip("onnxruntime")


def command(*arguments, redirect="", code=None, **options):
    """Run the command from a shell, which can close a stream or limit memory first."""
    start = ["-m", "spadeline.command"] if code is None else ["-c", code]
    shell = ["sh", "-c", f'ulimit -c 0; exec "$@" {redirect}', "sh", sys.executable, *start, *map(str, arguments)]
    return subprocess.run(shell, capture_output=True, text=True, check=False, **{"timeout": 120} | options)


@pytest.fixture
def good(parts):
    return parts / "test" / "good" / "100.png"


@pytest.fixture
def scratched(parts):
    return parts / "test" / "scratch" / "200.png"


def test_codes_of_what_goes_well(recipe_folder, good, scratched):
    done = command("predict", recipe_folder, good)
    assert (done.returncode, done.stderr) == (0, "")
    assert command("predict", recipe_folder, scratched).returncode == 1
    assert command("predict", recipe_folder, "nowhere.png").returncode == 2
    assert command("predict").returncode == 2
    assert command("--version").returncode == 0


@pytest.mark.parametrize("redirect", ["2>&-", "2>/dev/full", "<&- 2>&-"])
def test_standard_error_may_be_gone(recipe_folder, parts, good, scratched, redirect, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    for image, code, label in ((good, 0, "normal"), (scratched, 1, "ANOMALOUS"), (tmp_path / "bad.png", 2, None)):
        done = command("predict", recipe_folder, image, redirect=redirect)
        assert done.returncode == code
        assert done.stdout.split()[:1] == [label] * (label is not None)


def test_what_warns_goes_on_without_standard_error(parts, extractor_path, tmp_path):
    arguments = ("fit", parts, "--extractor", extractor_path, "--recipe", tmp_path / "r")
    done = command(*arguments, redirect="2>&-")
    assert done.returncode == 0
    assert "12 normal images" in done.stdout


def test_a_closed_stream_lends_its_number_to_no_file(recipe_folder, scratched, tmp_path):
    """Otherwise a library's messages to descriptor 2 would go into the first file that is opened."""
    code = "import os; from spadeline import command; command._open_missing_streams(); print(os.open('/dev/zero', 0))"
    assert int(command(code=code, redirect="<&- 2>&-").stdout) > 2


@pytest.mark.parametrize("redirect", [">&-", ">/dev/full", "<&- >&- 2>&-"])
@pytest.mark.parametrize("json_", [[], ["--json"]])
def test_results_that_cannot_be_delivered_are_a_failure(recipe_folder, good, scratched, redirect, json_, tmp_path):
    done = command(
        "predict", recipe_folder, good, scratched, "--overlays", tmp_path / "o", *json_, redirect=redirect
    )  # fmt: skip
    assert done.returncode == 2
    if "2>" not in redirect:
        reason = "it is closed" if redirect == ">&-" else "No space left on device"
        assert done.stderr == f"spadeline: standard output: can't be written: {reason}\n"
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["100.png", "200.png"]
    assert command("info", recipe_folder, redirect=redirect).returncode == 2


def test_a_reader_that_goes_ends_it_quietly(recipe_folder, parts):
    shell = (
        f"{sys.executable} -m spadeline.command predict {recipe_folder} {parts}/test | head -1; echo ${{PIPESTATUS[0]}}"
    )
    done = subprocess.run(["/bin/bash", "-c", shell], capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.splitlines()[-1] == "2"
    assert done.stderr == ""


def test_no_memory_never_means_anomalous(recipe_folder, good):
    """Imports fail in Python or outside it: OpenBLAS calls exit(1), or waits for ever."""
    seen = set()
    for megabytes in (60, 100, 150, 300, 600, 700, 800):
        limit = megabytes << 20

        def limited(limit=limit):
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

        with contextlib.suppress(subprocess.TimeoutExpired):
            done = command("predict", recipe_folder, good, preexec_fn=limited, timeout=20)
            assert done.returncode != 1, done.stderr
            assert "Traceback" not in done.stderr
            seen.add(done.returncode)
    assert 2 in seen


FAKE = "import sys; sys.path.insert(0, {folder!r}); from spadeline.command import main; main()"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("raise ImportError('libfoo.so: cannot\\nopen')", "got ImportError: libfoo.so: cannot open"),
        ("raise MemoryError", "got MemoryError"),
        ("raise SystemExit(1)", None),
        ("raise SystemExit('text')", None),
        ("raise OSError('\\x1b[2J' + 'x' * 1_000_000)", "got OSError: \\x1b[2Jxxx"),
        ("import tqdm.nowhere", "got ModuleNotFoundError: No module named 'tqdm.nowhere'"),
    ],
)
def test_a_package_that_fails_to_load_is_a_failure(tmp_path, text, said):
    (tmp_path / "filelock.py").write_text(text)
    done = command("info", "r", code=FAKE.format(folder=str(tmp_path)))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert len(done.stderr) < 1000
    if said:
        assert f"spadeline: expected its packages to load and the command to run, {said}" in done.stderr


def test_a_librarys_own_exit_is_an_abort(tmp_path):
    """OpenBLAS calls exit if it gets no memory, in any thread."""
    (tmp_path / "filelock.py").write_text("import ctypes; ctypes.CDLL(None).exit(1)")
    done = command("info", "r", code=FAKE.format(folder=str(tmp_path)))
    assert done.returncode in (-signal.SIGABRT, 128 + signal.SIGABRT)


def test_an_interrupt_while_loading(tmp_path):
    (tmp_path / "filelock.py").write_text("raise KeyboardInterrupt")
    assert command("info", "r", code=FAKE.format(folder=str(tmp_path))).returncode == 130


@pytest.mark.parametrize(
    "fault", ["1 / 0", "exec('def f(): f()\\nf()')", "raise MemoryError", "sys.exit(1)", "raise OSError"]
)
def test_a_fault_inside_is_a_failure(fault):
    code = f"import sys; from spadeline.engine.cli.commands import COMMANDS\ndef fail(_):\n    {fault}\nCOMMANDS['info'] = fail\n"
    assert command("info", "r", code=code + "from spadeline.command import main; main()").returncode == 2


def test_an_end_by_signal_is_one():
    code = "import os, signal; from spadeline.engine.cli.commands import COMMANDS; COMMANDS['info'] = lambda _: os.kill(os.getpid(), 11)\n"
    done = command("info", "r", code=code + "from spadeline.command import main; main()")
    assert done.returncode in (-signal.SIGSEGV, 128 + signal.SIGSEGV)


def test_an_extractor_that_was_given_up_holds_nothing_up(parts, tmp_path):
    pytest.importorskip("onnx")
    from . import graphs

    environment = os.environ | {"SPADELINE_EXTRACTOR_SECONDS": "1", "SPADELINE_EXTRACTOR_BYTES": str(4 << 30)}
    path = graphs.save(graphs.long_product(), tmp_path / "x.onnx")
    done = command("fit", parts, "--extractor", path, "--recipe", tmp_path / "r", "--device", "cpu", env=environment)
    assert done.returncode == 2
    assert "within 1 s, got one that takes longer: SPADELINE_EXTRACTOR_SECONDS allows more\n" in done.stderr


def test_an_overlay_that_cannot_be_written_swallows_no_verdict(recipe_folder, good, scratched, tmp_path):
    folder = tmp_path / "overlays"
    (folder / "200.png").mkdir(parents=True)
    longest = shutil.copy(good, tmp_path / ("x" * 251 + ".png"))  # its overlay is first written under a longer name
    images = (scratched, longest, good)
    done = command("predict", recipe_folder, *images, "--overlays", folder)
    assert done.returncode == 2
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["ANOMALOUS", "normal", "normal"]
    first, second = done.stderr.splitlines()
    assert first == f"spadeline: {folder / '200.png'}: can't be written: it is a folder"
    assert second.endswith("can't be written: File name too long")
    done = command("predict", recipe_folder, *images, "--overlays", folder, "--json")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 2
    assert done.stderr == ""
    assert [record["pred_label"] for record in records] == [True, False, False]
    assert ["overlay_error" in record for record in records] == [True, True, False]
    assert (folder / "100.png").is_file()
    assert sorted(path.name for path in folder.iterdir()) == ["100.png", "200.png"]
