"""The contest of benchmarks/detectors.py, held by processes whose detector is a fake."""

import sys
from pathlib import Path

import numpy as np
import pytest
from spadeline.engine.resources import Memory

from detectors_parts import contest as detector_contest
from detectors_parts.contest import Contestant, DetectorContest, _choose_anew, _Entry
from detectors_parts.judging import Truth, difference_of, differing_verdict
from detectors_parts.process import Answer, DetectorError, DetectorProcess, Job

OWN_PYTHON = Path(sys.executable)

# A detector whose map is the frame's red channel. The method's name says what it does wrong.
FAKE = """
import os, sys, time
from detectors_parts import process
from detectors_parts.process import Answer

asked = []
process.COOL_DOWN_S = 0  # a fake has no threads that would wait in a busy loop

def fit(job, folder):
    if job.method == "unfit":
        raise ValueError("no good parts\\nat all")
    (folder / "model").write_bytes(b"12345")

def files(job, folder, runtime):
    return [folder / "model"]

def open_detector(job, folder, runtime):
    if job.method == "foreign":
        import no_such_package
    if job.method == "late":
        process._Served.process_id = lambda served: os._exit(4)
    return lambda frame: inspect(job.method, frame), "bfloat16"

def inspect(method, frame):
    asked.append(frame)
    if method == "loud":
        print("a warning\\nlibrary.so: cannot open\\n", file=sys.stderr, flush=True)
        os._exit(5)
    if method == "dead" or (method == "tired" and len(asked) == 10):
        os._exit(3)
    time.sleep(0.06 if method == "slow" or (method == "late for defects" and frame.max() > 100) else 0.004)
    if method == "blind":
        return Answer(frame[..., 0], 0.0, 0.0, False, frame[..., 0] > 300)
    found = frame[..., 0].astype("float32")
    if method == "other":
        found[3, 4] *= 1.01
    if method == "large":
        found = found.repeat(2, axis=0)
    if method == "nan":
        found[0, 0] = float("nan")
    embedding = None if method == "no embedding" else float(found.mean())
    return Answer(found, float(found.max()), embedding, bool(found.max() > 100), found > 100)
"""


@pytest.fixture
def fakes(tmp_path, monkeypatch):
    """A module that the processes find, and six frames of which the last three have a defect."""
    (tmp_path / "fake.py").write_text(FAKE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    frames = np.random.default_rng(0).integers(0, 100, (6, 16, 16, 3), np.uint8)
    masks = np.zeros((6, 16, 16), bool)
    masks[3:, 4:8, 4:8] = True
    frames[masks] += 120
    np.savez(tmp_path / "frames.npz", *frames)
    (tmp_path / "train").mkdir()
    for name in ("train/0.png", "extractor.onnx", "probe.npz"):
        (tmp_path / name).write_bytes(name.encode())
    paths = [tmp_path / name for name in ("extractor.onnx", "probe.npz", "train", "frames.npz")]
    job = Job("", *paths, (16, 16), 5, 2, 1)
    return job, Truth(masks.any((1, 2)), list(masks), (16, 16))


def contestant(job, method, *, python=OWN_PYTHON, same=False, name="", runtime="any", verdict_of=""):
    return Contestant(
        name or method, "fake", method, runtime, python, job.extractor, same_as_ours=same, verdict_of=verdict_of
    )


def contest_of(fakes, contestants, folder, *, seconds=0.05):
    job, truth = fakes
    steps = []
    contest = DetectorContest(contestants, job, truth, folder, on_progress=steps.append)
    rows = contest.hold(contest.fit(), seconds=seconds)
    return {row["name"]: row for row in rows}, contest.left_out, steps


@pytest.fixture(autouse=True)
def fake_code(tmp_path, monkeypatch):
    # A model's folder is named by a digest of its code, which the contest looks for beside itself.
    monkeypatch.setattr(detector_contest, "CODE", tmp_path)
    monkeypatch.setattr(detector_contest, "OWN_CODE", tmp_path / "own")
    (tmp_path / "own").mkdir()
    (tmp_path / "detectors_parts").mkdir()
    (tmp_path / "detectors_parts" / "torch_backbone.py").write_text("")


def test_accuracy_speed_and_size_come_from_the_contestant(fakes, tmp_path):
    rows, left_out, _ = contest_of(
        fakes, [contestant(fakes[0], "ours"), contestant(fakes[0], "no embedding")], tmp_path
    )
    assert left_out == {}
    for row in rows.values():
        assert (row["image_rocauc"], row["image_rocauc_by_map"], row["pixel_rocauc"], row["aupro_0.3"]) == (1, 1, 1, 1)
        assert (row["model_bytes"], row["precision"]) == (5, "bfloat16")
        assert row["latency"]["runs"] % 6 == 0
        assert row["latency"]["min_s"] <= row["latency"]["p50_s"] <= row["latency"]["max_s"]
        assert 0 < row["frames_per_s"] <= 1 / row["latency"]["mean_s"]
        assert row["peak_bytes"] >= row["resident_bytes"] > 1e6
    assert rows["ours"]["image_rocauc_by_embedding"] == 1
    assert rows["no embedding"]["image_rocauc_by_embedding"] is None


def test_without_masks_there_are_no_pixel_figures(fakes, tmp_path):
    job, truth = fakes
    unknown = Truth(
        truth.labels,
        [None if label else mask for label, mask in zip(truth.labels, truth.masks, strict=True)],
        truth.size,
    )
    rows, _, _ = contest_of((job, unknown), [contestant(job, "ours")], tmp_path)
    assert (rows["ours"]["pixel_rocauc"], rows["ours"]["aupro_0.3"]) == (None, None)
    assert rows["ours"]["image_rocauc"] == 1


def test_who_cannot_take_part_is_named_with_the_reason(fakes, tmp_path):
    job, _ = fakes
    nobody = tmp_path / "nowhere" / "python"
    methods = ("unfit", "foreign", "dead", "loud", "large", "nan")
    missing = [contestant(job, "homeless", python=None), contestant(job, "lost", python=nobody)]
    rows, left_out, _ = contest_of(
        fakes, [contestant(job, "ours"), *(contestant(job, method) for method in methods), *missing], tmp_path
    )
    assert list(rows) == ["ours"]
    assert left_out == {
        "unfit": "ValueError: no good parts at all",
        "foreign": f"no_such_package is not installed in {sys.prefix}",
        "dead": "its process ended with code 3",
        "loud": "its process ended with code 5: library.so: cannot open",
        "large": "expected maps of (16, 16), got (32, 16)",
        "nan": "its map or score isn't finite",
        "homeless": "no environment with its libraries was named: set_up_peers.sh makes one, --peers names it",
        "lost": f"{nobody} doesn't exist; set_up_peers.sh makes an environment for the peers",
    }


def test_who_fails_while_being_timed_is_left_out_and_the_others_go_on(fakes, tmp_path):
    entries = [contestant(fakes[0], method) for method in ("ours", "tired", "no embedding")]
    rows, left_out, _ = contest_of(fakes, entries, tmp_path)
    assert list(rows) == ["ours", "no embedding"]
    assert left_out == {"tired": "its process ended with code 3"}
    assert all(row["latency"]["runs"] >= 6 for row in rows.values())


def test_who_dies_after_its_last_frame_takes_no_other_row_along(fakes, tmp_path):
    rows, left_out, _ = contest_of(fakes, [contestant(fakes[0], method) for method in ("late", "ours")], tmp_path)
    assert list(rows) == ["ours"]
    assert left_out == {"late": "its process ended with code 4"}


def test_a_spade_must_have_our_maps(fakes, tmp_path):
    job, _ = fakes
    entries = [contestant(job, "ours"), contestant(job, "same", same=True), contestant(job, "other", same=True)]
    rows, left_out, _ = contest_of(fakes, entries, tmp_path)
    assert rows["same"]["difference_to_spadeline"] == 0
    assert list(left_out) == ["other"]
    assert left_out["other"].startswith("its maps or scores differ from spadeline's by ")


def test_a_spade_without_ours_is_left_out(fakes, tmp_path):
    job, _ = fakes
    _, left_out, _ = contest_of(fakes, [contestant(job, "unfit"), contestant(job, "same", same=True)], tmp_path)
    assert left_out["same"] == "its maps can't be compared with spadeline's, which was left out"


def test_who_gives_bounds_must_give_the_verdicts_of_the_whole_map(fakes, tmp_path):
    job, _ = fakes
    entries = [
        contestant(job, "ours"),
        contestant(job, "same", runtime="mask", verdict_of="ours"),
        contestant(job, "blind", runtime="label", verdict_of="ours"),
        contestant(job, "lost", runtime="label", verdict_of="nobody"),
    ]
    rows, left_out, _ = contest_of(fakes, entries, tmp_path)
    assert list(rows) == ["ours", "same"]
    assert rows["same"]["verdict_of"] == "ours"
    assert {rows["same"][key] for key in rows["same"] if "rocauc" in key or "aupro" in key} == {None}
    assert left_out == {
        "blind": "its verdicts aren't those of ours: frame 3 has the label False, expected True",
        "lost": "its verdicts can't be compared with those of nobody, which was left out",
    }


def test_a_mask_that_differs_is_no_verdict():
    here, nowhere = np.eye(2) > 0, np.zeros((2, 2), bool)
    whole, bounds = ([Answer(np.eye(2), 1.0, None, True, mask)] for mask in (here, nowhere))
    assert differing_verdict(bounds, whole, masks=True) == "frame 0 has another mask"
    assert differing_verdict(bounds, whole, masks=False) == differing_verdict(whole, whole, masks=True) == ""


def test_good_and_defective_frames_have_medians_of_their_own(fakes, tmp_path):
    rows, _, _ = contest_of(fakes, [contestant(fakes[0], "late for defects")], tmp_path)
    medians = rows["late for defects"]["median_s"]
    assert 0.004 <= medians["good"] < medians["defective"]
    assert medians["defective"] >= 0.06


@pytest.mark.parametrize(
    ("available", "anew"),
    [(60, []), (59, ["b", "c"]), (40, ["b", "c"]), (39, ["a", "b", "c"]), (5, ["a", "b", "c"])],
)
def test_as_few_processes_as_must_be_are_started_anew(available, anew):
    entries = []
    for name, peak in (("b", 20), ("c", 30), ("a", 10)):
        who = Contestant(name, "fake", name, "any", OWN_PYTHON, Path())
        entries.append(_Entry(who, None, "float32", 1, memory=Memory(0, 0, peak)))
    _choose_anew(entries, available)
    assert sorted(entry.contestant.name for entry in entries if entry.anew) == anew


@pytest.mark.parametrize("available", [10**15, 0])
def test_processes_that_do_not_fit_take_turns_one_at_a_time(fakes, tmp_path, monkeypatch, available):
    alive, most = set(), []

    class Watched(DetectorProcess):
        def __init__(self, *arguments, **environment):
            super().__init__(*arguments, **environment)
            alive.add(self)
            most.append(len(alive))

        def close(self):
            super().close()
            alive.discard(self)

    monkeypatch.setattr(detector_contest, "DetectorProcess", Watched)
    monkeypatch.setattr(detector_contest, "available_memory", lambda: available)
    monkeypatch.setattr(detector_contest, "TURNS", 2)
    # Their answers, 0.03 s on an idle machine, must not take as long as the rounds: nobody would run in turns then.
    both = [contestant(fakes[0], method) for method in ("ours", "no embedding")]
    rows, left_out, _ = contest_of(fakes, both, tmp_path, seconds=1)
    assert left_out == {}
    assert max(most) == (2 if available else 1)
    assert not alive
    for row in rows.values():
        assert row["started_anew"] == (not available)
        assert row["latency"]["runs"] % 6 == 0
        assert row["peak_bytes"] > 1e6


def test_whose_answers_took_too_long_has_been_timed(fakes, tmp_path):
    rows, _, _ = contest_of(fakes, [contestant(fakes[0], "ours"), contestant(fakes[0], "slow")], tmp_path, seconds=0.3)
    assert rows["slow"]["latency"]["runs"] == 5  # the first of six warmed up
    assert rows["slow"]["latency"]["min_s"] >= 0.06
    assert rows["ours"]["latency"]["runs"] > 5


def test_what_was_fitted_is_taken_again_until_an_input_changes(fakes, tmp_path):
    job, _ = fakes
    for fitted in (True, False):
        _, _, steps = contest_of(fakes, [contestant(job, "ours")], tmp_path)
        assert ("fitting ours" in steps) == fitted
    metadata, code = tmp_path / "anomalib-1.dist-info" / "METADATA", tmp_path / "own" / "fitting.py"
    metadata.parent.mkdir()
    for path in (job.probe, metadata, code):
        path.write_bytes(b"Name: another\nVersion: 9\n")
        for fitted in (True, False):
            _, _, steps = contest_of(fakes, [contestant(job, "ours")], tmp_path)
            assert ("fitting ours" in steps) == fitted, path


def test_a_process_that_cannot_start_says_so():
    process = DetectorProcess(Path("/bin/false"), "fake", 1)
    with pytest.raises(DetectorError, match="its process ended with code 1"):
        process.ask("versions")
    process.close()


def test_differences_are_of_maps_and_both_scores():
    scores = np.full((2, 2), 4.0)
    ours = [Answer(scores, 4.0, 2.0)]
    assert difference_of([Answer(scores + np.eye(2), 4.0, 2.0)], ours) == 0.25
    assert difference_of([Answer(scores, 6.0, 2.0)], ours) == 0.5
    assert difference_of([Answer(scores, 4.0, 4.0)], ours) == 1
    assert difference_of([Answer(scores, 4.0, None)], ours) == 0
