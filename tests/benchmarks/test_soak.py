"""The soak finds frames that are lost, mixed up or changed, and figures that grow."""

import itertools
import json
import mmap
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from spadeline.engine import Detector, FrameError, InputError, Recipe, Settings, SpadelineError, fit

from page_parts import sections
from soak_parts import changes as changes_module
from soak_parts import frames, vitals
from soak_parts.changes import Changes, change, names
from soak_parts.lines import Run
from soak_parts.vitals import Vitals

from ..conftest import part
from .scripts import BENCHMARKS, run


def test_a_short_run(tmp_path):
    pytest.importorskip("onnx")
    done = run("--frames", 600, "--change-every", 100, "--json", tmp_path / "soak.json", script="soak.py")
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads((tmp_path / "soak.json").read_text())
    (result,) = document["results"]
    counts = result["frames"]
    assert counts["taken"] == counts["results"] + counts["errors"] == 600
    assert counts["errors"] > 20
    assert 100 < counts["anomalous"] < counts["results"] - 100
    assert result["changes"] == 6
    assert result["loads"] >= 3
    assert result["faults"] == {"count": 0, "first": []}
    assert not result["judged"]
    assert "A soak of 600 frames lost none and mixed up none." in done.stdout
    assert "The frames were too few to judge memory and time." in done.stdout
    chapter = sections.chapter(document, "soak")
    assert chapter.finding == "A soak of 600 frames lost none and mixed up none."
    assert chapter.tables["counts"].rows[0][0] == "600"
    assert len(chapter.tables["drift"].rows) == 6


def test_ctrl_c_ends_it_and_leaves_nothing(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "soak.py"), "--json", str(tmp_path / "soak.json")]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            end = time.monotonic() + 60
            while not list(tmp_path.glob("spadeline-soak-*/recipe/*-3.npy")):  # the warm-up begins then
                assert time.monotonic() < end
                time.sleep(0.01)
            process.send_signal(
                signal.SIGTERM
            )  # it ends the soak as Ctrl-C does, also where a shell made it ignore SIGINT
            assert process.communicate(timeout=60)[1].endswith("soak.py: interrupted\n")
        finally:
            process.kill()
    assert list(tmp_path.glob("spadeline-*")) == []


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--frames", 99), "--frames: expected 100 or more, got 99"),
        (("--lines", 0), "--lines: expected 1 or more, got 0"),
        (("--change-every", 0), "--change-every: expected 1 or more, got 0"),
        (("--bad", 1), "--bad: expected a share from 0 to below 1, got 1.0"),
        (("--size", "64"), "expected HEIGHTxWIDTH"),
        (("--json", "nowhere/report.json"), "expected a folder that exists"),
    ],
)
def test_options_that_make_no_sense(options, text):
    done = run(*options, script="soak.py")
    assert done.returncode == 2
    assert text in done.stderr


def test_too_few_images_are_one_sentence(parts):
    done = run("--images", parts / "test" / "good" / "100.png", script="soak.py")
    assert done.returncode == 1
    assert done.stderr.startswith("soak.py: ")
    assert "Traceback" not in done.stderr


SENT, EXPECTED, STATE = [frames.Sent(f"frame {n}", n, None) for n in range(5)], [str(n) for n in range(5)], ("image",)


class Unlucky:
    """A detector whose stream does something wrong; a result is a text that names its frame."""

    def __init__(self, wrong):
        self.recipe = SimpleNamespace(images=[SimpleNamespace(name=name) for name in STATE])
        self._wrong = wrong

    def stream(self, camera):
        yield from self._wrong(enumerate(camera))


def plain(index, frame):
    return SimpleNamespace(text=str(frame), timings_s={"all": 0.001}, pred_label=False)


def fine(pulled):
    yield from itertools.starmap(plain, pulled)


def loses_one(pulled):
    yield from (plain(index, frame) for index, frame in pulled if index != 7)


def makes_one_up(pulled):
    yield from fine(pulled)
    yield plain(0, 0)


def changes_one(pulled):
    yield from (plain(index, -1 if index == 7 else frame) for index, frame in pulled)


def says_another_place(pulled):
    yield from (FrameError(6, InputError(str(frame))) if index == 7 else plain(index, frame) for index, frame in pulled)


def ends_early(pulled):
    yield from itertools.islice(fine(list(pulled)), 7)


def fails(pulled):
    yield from itertools.islice(fine(pulled), 7)
    raise MemoryError("no more")


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (fine, []),
        (loses_one, ["place 7: expected", "expected 40 frames in and out, got 40 in and 39 out"]),
        (makes_one_up, ["expected no result without a frame, got one in place 40"]),
        (changes_one, ["place 7: expected 2, got -1"]),
        (says_another_place, ["expected an error of place 7, got one of 6"]),
        (ends_early, ["expected a result, got none"]),
        (fails, ["a line ended: MemoryError: no more"]),
    ],
)
def test_a_stream_that_does_wrong_is_found_out(monkeypatch, wrong, named):
    text = lambda result: str(result.error) if isinstance(result, FrameError) else result.text  # noqa: E731
    monkeypatch.setattr("soak_parts.lines.outcome", text)
    still = SimpleNamespace(made=0, ask=lambda: None)
    order = [n % 5 for n in range(40)]
    tried = Run(SENT, order, {STATE: EXPECTED}, still, change_every=1000, look_every=10)
    tried.run([lambda: Unlucky(wrong)])
    assert (tried.counts["faults"] > 0) == bool(named)
    assert len(tried.named) <= 11
    for text in named:
        assert any(text in fault for fault in tried.named), tried.named


def test_a_recipe_in_another_state_is_a_fault():
    still = SimpleNamespace(made=0, ask=lambda: None)
    tried = Run(SENT, [0] * 40, {("another",): EXPECTED}, still, change_every=1000, look_every=10)
    tried.run([lambda: Unlucky(fine)])
    assert "expected a recipe in one of its states, got one of the images image" in tried.named[1]


def test_a_frame_that_is_taken_for_another_sort_ends_it(recipe_folder):
    detector = Detector.load(recipe_folder, device="cpu", threads=1)
    good, bad = frames.pool([part(300)[0]])
    # Alpha, gaps and read-only memory change nothing: the image, the same again, scratched, gray.
    assert len(set(frames.expected(detector, good))) == len(good) - 3 == 4
    refused = [sent for sent in bad if sent.refused]
    assert all("Error: " in text for text in frames.expected(detector, refused))
    with pytest.raises(SpadelineError, match="frame black: expected one that is refused, got "):
        frames.expected(detector, [frames.Sent("black", part(0)[0], True)])
    with pytest.raises(SpadelineError, match="frame x: expected one that is inspected, got InputError: frame: "):
        frames.expected(detector, [frames.Sent("x", None, False)])


def test_an_outcome_tells_maps_apart_that_differ_in_a_bit(recipe_folder):
    detector = Detector.load(recipe_folder, device="cpu", threads=1)
    result = detector.predict(part(300)[0])
    said = frames.outcome(result)
    assert said == frames.outcome(detector.predict(part(300)[0]))
    result.anomaly_map.view(np.uint32)[5, 5] ^= 1
    assert frames.outcome(result) != said


@pytest.fixture
def changing(tmp_path, parts, extractor_path):
    images = sorted((parts / "train" / "good").iterdir())
    few = Settings(k_score=2, k_gallery=2)
    fit(images[:4], tmp_path / "recipe", extractor=extractor_path, settings=few, false_alarm_rate=0.3, threads=1)
    return tmp_path / "recipe", *images[4:6]


def test_four_changes_are_a_circle(changing):
    folder, first, second = changing
    seen = []
    for _ in range(changes_module.STATES):
        change(*changing)
        seen.append({path.name for path in (first, second)} & set(names(Recipe.load(folder))))
    assert seen == [{first.name}, {first.name, second.name}, {second.name}, set()]


def test_a_change_that_fails_is_a_fault_and_a_killed_one_is_not(changing, monkeypatch):
    monkeypatch.setattr(changes_module, "KILLED_EVERY", 2)
    folder, *_ = changing
    with Changes(*changing, seed=0) as changes:
        for _ in range(4):
            changes.once()
        assert (changes.made, changes.killed, changes.faults) == (4, 2, [])
        (folder / "recipe.json").write_text("{}")
        changes.once()
    assert len(changes.faults) == 1
    assert "recipe.json" in changes.faults[0]


def looks(resident, yardstick=None):
    steady = [0.001] * 100
    return [Vitals(1000 * n, int(resident(1000 * n)), 9, 3, (yardstick or steady)[n]) for n in range(100)]


STEADY = np.full(90_000, 0.002)
REST = Vitals(0, 10**8, 9, 3, 0.001)


def judged(*, resident=lambda frames: 1e8, seconds=STEADY, yardstick=None, after=REST, frames=100_000):
    drifted = vitals.drift(looks(resident, yardstick), seconds, (REST, after))
    return vitals.faults(drifted, frames)


def test_what_stays_is_no_drift():
    assert judged() == []
    assert judged(resident=lambda frames: 1e8 + 49 * frames) == []
    assert judged(resident=lambda frames: min(1e8 + 5000 * frames, 1.5e8)) == []  # caches fill in the first tenth
    assert judged(resident=lambda frames: 1e8 + 1e7 * (frames % 3000 == 0)) == []  # memory comes and goes


def test_what_grows_is_said():
    (memory,) = judged(resident=lambda frames: 1e8 + 60 * frames)
    assert memory == "memory: expected at most 50 bytes more a frame, got 60.0"
    slower = np.linspace(0.002, 0.003, 90_000)
    (latency,) = judged(seconds=slower)
    assert latency == "latency: expected at most 1.25 times the first tenth's median, got 1.44"
    assert (
        judged(seconds=slower, yardstick=np.linspace(0.001, 0.0015, 100).tolist()) == []
    )  # the machine itself became slower
    assert (
        judged(seconds=slower, resident=lambda frames: 1e8 + 60 * frames, frames=19_999) == []
    )  # the run is too short to judge
    files, threads = judged(after=REST._replace(files=10, threads=5), frames=200)
    assert files == "files: expected no more at rest than before, 9, got 10"
    assert threads == "threads: expected no more at rest than before, 3, got 5"


def test_vitals_are_the_process_own():
    before = vitals.look(7)
    held = np.frombuffer(mmap.mmap(-1, 80_000_000), np.uint8)  # not from malloc: it may have freed memory in reserve
    held[:] = 1
    reading, writing = os.pipe()
    after = vitals.look(8)
    os.close(reading)
    os.close(writing)
    assert (before.frames, after.frames, after.files) == (7, 8, before.files + 2)
    assert after.resident_bytes - before.resident_bytes > 0.9 * held.nbytes
    assert before.yardstick_s > 0
