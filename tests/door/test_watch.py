"""The example that watches a folder: a line for each picture, whatever the files hold."""

import json
import os
import queue
import re
import shutil
import signal
import subprocess
import threading
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image
from spadeline.engine import Detector

from ..conftest import part
from .conftest import ROOT, run

pytestmark = pytest.mark.xdist_group("door")
GOOD, SCRATCHED = part(301)[0], part(301, scratched=True)[0]
WAIT_S = 60  # for a line that must come
PAGE = (ROOT / "docs" / "how-to" / "watch-a-folder.md").read_text("utf-8")


@pytest.fixture(scope="module")
def detector(recipe_folder):
    return Detector.load(recipe_folder, device="cpu", threads=2)


def verdict(detector, picture):
    """What a line must say of a picture."""
    result = detector.predict(picture)
    return {"pred_label": result.pred_label, "pred_score": result.pred_score, "reasons": list(result.reasons)}


def without_time(line):
    """Return a line's fields but the time. They are those of the page's lines."""
    record = json.loads(line)
    (shown,) = re.findall("```json\n(.*?)```", PAGE, re.DOTALL)
    assert list(record) in [list(json.loads(line)) for line in shown.splitlines()]
    assert record.pop("ms", 1) > 0
    return record


def watch_once(programs, recipe, folder):
    command = [programs / "watch", recipe, folder, "--once"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=WAIT_S)
    return ended.returncode, [without_time(line) for line in ended.stdout.splitlines()], ended.stderr


@contextmanager
def watching(programs, recipe, folder):
    """Start the program; yield it and a function that returns its next line."""
    with subprocess.Popen([programs / "watch", recipe, folder], stdout=subprocess.PIPE, text=True) as process:
        lines = queue.Queue()
        reader = threading.Thread(target=lambda: [lines.put(line) for line in process.stdout], daemon=True)
        reader.start()
        try:
            yield process, lambda: without_time(lines.get(timeout=WAIT_S))
        finally:
            process.kill()
            reader.join()


def test_each_picture_has_a_line(programs, recipe_folder, detector, tmp_path):
    gray = np.ascontiguousarray(SCRATCHED[..., 0])
    for name, picture in (("a.ppm", GOOD), ("b\"\\\n'.ppm", SCRATCHED), ("c.pgm", gray)):
        Image.fromarray(picture).save(tmp_path / name)
    (tmp_path / "d.ppm").write_bytes(b"P6 # a comment\n96\n# another\n96 255\n" + SCRATCHED.tobytes())
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "folder.ppm").mkdir()
    code, lines, text = watch_once(programs, recipe_folder, tmp_path)
    expected = {"a.ppm": GOOD, "b\"\\\n'.ppm": SCRATCHED, "c.pgm": gray, "d.ppm": SCRATCHED}
    assert lines == [
        {"image": str(tmp_path / name), **verdict(detector, picture)} for name, picture in expected.items()
    ]
    assert (code, text) == (1, "")
    for name in ("b\"\\\n'.ppm", "c.pgm", "d.ppm"):
        (tmp_path / name).unlink()
    assert watch_once(programs, recipe_folder, tmp_path)[0] == 0


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "bytes are missing"),
        (b"P6 96 9", "bytes are missing"),
        (b"P6 96 96 255\n" + SCRATCHED.tobytes()[:-1], "bytes are missing"),
        (b"P6 65536 65536 255\n", "bytes are missing"),
        (b"P6 65537 96 255\n", "expected a picture P5 or P6 of 8 bits"),
        (b"P6 99999999999999999999 96 255\n", "expected a picture P5 or P6 of 8 bits"),
        (b"P6 0 96 255\n", "expected a picture P5 or P6 of 8 bits"),
        (b"P6 96 96 65535\n", "expected a picture P5 or P6 of 8 bits"),
        (b"P3 96 96 255\n", "expected a picture P5 or P6 of 8 bits"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "expected a picture P5 or P6 of 8 bits"),
        (b"P5 7 96 255\n" + bytes(7 * 96), "frame: expected sides of at least 8 pixels, got 96 x 7"),
    ],
)
def test_a_file_that_is_no_picture_has_a_line(programs, recipe_folder, tmp_path, content, error):
    (tmp_path / "a.ppm").write_bytes(content)
    code, lines, _ = watch_once(programs, recipe_folder, tmp_path)
    assert (code, lines) == (2, [{"image": str(tmp_path / "a.ppm"), "error": error}])


def test_half_written_files_are_waited_for(programs, recipe_folder, detector, tmp_path):
    with watching(programs, recipe_folder, tmp_path) as (process, next_line):
        Image.fromarray(GOOD).save(tmp_path / "first.ppm")  # the program runs when its line comes
        assert next_line() == {"image": str(tmp_path / "first.ppm"), **verdict(detector, GOOD)}
        with (tmp_path / "second.ppm").open("wb") as file:
            file.write(b"P6 96 96 255\n" + SCRATCHED.tobytes()[:9000])
            file.flush()
            Image.fromarray(GOOD).save(tmp_path / "third.ppm")
            assert next_line()["image"] == str(tmp_path / "third.ppm")
            file.write(SCRATCHED.tobytes()[9000:])
        assert next_line() == {"image": str(tmp_path / "second.ppm"), **verdict(detector, SCRATCHED)}
        (tmp_path / "fourth.ppm").write_bytes(b"P6 96 96 255\n")
        assert next_line() == {"image": str(tmp_path / "fourth.ppm"), "error": "bytes are missing"}
        Image.fromarray(SCRATCHED).save(tmp_path / "new", format="ppm")
        (tmp_path / "new").replace(tmp_path / "fourth.ppm")
        assert next_line() == {"image": str(tmp_path / "fourth.ppm"), **verdict(detector, SCRATCHED)}
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0


def test_it_ends_when_it_cannot_begin(programs, recipe_folder, tmp_path):
    code, lines, text = watch_once(programs, tmp_path / "none", tmp_path)
    assert (code, lines) == (2, [])
    assert text.startswith(f"{tmp_path / 'none'}")
    code, lines, text = watch_once(programs, recipe_folder, tmp_path / "none")
    assert (code, lines) == (2, [])
    assert str(tmp_path / "none") in text
    ended = subprocess.run([programs / "watch"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (2, "usage: watch RECIPE FOLDER [--once]\n")


def test_the_pages_command_builds_it(installed, tmp_path):
    if shutil.which("pkg-config") is None:
        pytest.skip("no pkg-config")
    command = re.findall("```bash\n(c\\+\\+ .*)\n", PAGE)[0].replace("csrc/", f"{ROOT}/csrc/")
    (package,) = installed.rglob("pkgconfig")
    run("bash", "-c", command, cwd=tmp_path, env=os.environ | {"PKG_CONFIG_PATH": str(package)})
    assert (tmp_path / "watch").is_file()
