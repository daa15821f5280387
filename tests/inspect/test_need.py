"""What is needed of a frame, and until when: what is searched for it, and the verdict where nothing is.

That a search in rounds comes to the verdict of the whole map is tested in ``test_need_equality.py``.
"""

import shutil
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from spadeline.engine import Detector, FrameError, InputError, Settings, calibrate
from spadeline.engine.bench.bench import bench
from spadeline.engine.inspect import scoring
from spadeline.engine.inspect.heatmap import LARGEST_DISTANCE
from spadeline.engine.match.matcher import Matcher
from spadeline.engine.recipe.changes import set_calibration
from spadeline.engine.recipe.recipe import Recipe

from ..conftest import part
from ..recipes import as_version_1, as_version_2, as_version_3, edit_manifest
from .streams import BAD, FRAMES, SOON_S

NEEDS = ("map", "mask", "label")
BLACK = np.zeros((96, 96, 3), np.uint8)


@pytest.fixture
def opened(recipe_folder, tmp_path):
    """Open the recipe under a label rule, with thresholds as many times its own, and count what the matcher is asked."""

    def open_(rule="map", *, tau=1.0, theta=1.0, **changes):
        folder = shutil.copytree(recipe_folder, tmp_path / f"recipe-{len(list(tmp_path.iterdir()))}")
        recipe = Recipe.load(folder)
        made = recipe.calibration
        made = replace(
            made,
            tau=replace(made.tau, value=made.tau.value * tau),
            theta=replace(made.theta, value=made.theta.value * theta),
        )
        set_calibration(folder, made, settings=replace(recipe.settings, label_rule=rule, **changes))
        return Detector.load(folder, device="cpu", threads=1)

    return open_


@pytest.fixture
def searches(monkeypatch):
    """The searches, by the names of the functions that make them."""
    calls = []
    for owner, name in ((Matcher, "match"), (scoring, "bound_map")):
        called = getattr(owner, name)
        monkeypatch.setattr(
            owner, name, lambda *a, name=name, called=called, **b: calls.append(name) or called(*a, **b)
        )
    return calls


def assert_unsearched(result, detector, *, mask):
    """Nothing is known of the map but that it isn't negative, and finite."""
    ignore = detector.recipe.ignore
    scored = np.ones(detector.recipe.input_size, bool) if ignore is None else ~ignore
    np.testing.assert_array_equal(result.anomaly_map, np.where(scored, np.float32(LARGEST_DISTANCE), np.float32(0)))
    np.testing.assert_array_equal(result.lower_map, np.zeros(scored.shape, np.float32), strict=True)
    np.testing.assert_array_equal(result.pred_mask, scored & mask)
    assert result.map_score == np.float32(LARGEST_DISTANCE)
    assert len(result.regions) == mask
    assert (result.neighbours == -1).all()
    statistics = result.match_statistics
    assert (statistics.pairs, statistics.exact, statistics.guarded_cells) == (0, 0, 0)
    assert set(statistics.passed) == {0}
    assert result.timings_s["match"] == 0
    assert np.isfinite(result.pred_score)


def threshold(detector):
    made, rule = detector.recipe.calibration, detector.recipe.settings.label_rule
    return {"map": made.theta.value, "image": made.tau.value, "either": 1.0}[rule]


# --- labels that are known without the map ---------------------------------------------------------------------------


@pytest.mark.parametrize("frame", [*FRAMES, BLACK])
def test_the_rule_image_never_calls_the_matcher(opened, searches, frame):
    detector = opened("image")
    whole = detector.predict(frame, need="map")
    assert searches == ["match"]
    result = detector.predict(frame, need="label")
    assert searches == ["match"]
    assert_unsearched(result, detector, mask=False)
    assert (result.need, result.decided) == ("label", True)
    for name in ("pred_label", "pred_score", "image_score", "reasons"):
        assert getattr(result, name) == getattr(whole, name)
    np.testing.assert_array_equal(result.nearest_images, whole.nearest_images)


@pytest.mark.parametrize("deadline_s", [None, 0])
def test_an_image_score_above_tau_settles_the_rule_either(opened, searches, deadline_s):
    detector = opened("either", tau=1e-3)
    result = detector.predict(FRAMES[0], need="label", deadline_s=deadline_s)
    assert searches == []
    assert_unsearched(result, detector, mask=False)
    assert (result.pred_label, result.reasons, result.decided) == (True, ("image",), True)
    assert result.pred_score == result.image_score / detector.recipe.calibration.tau.value > 1


@pytest.mark.parametrize("rule", ["map", "image", "either"])
def test_the_frame_check_settles_the_label(opened, searches, rule):
    detector = opened(rule, tau=1e6, theta=1e6)  # neither score is above its threshold
    whole = detector.predict(BLACK, need="map")
    result = detector.predict(BLACK, need="label")
    assert searches == ["match"]
    assert_unsearched(result, detector, mask=False)
    assert result.decided
    assert (result.pred_label, result.reasons, result.pred_score) == (True, whole.reasons, whole.pred_score)
    assert {"exposure", "contrast"} <= set(result.reasons)


def test_without_the_frame_check_a_black_frame_is_searched(opened, searches):
    opened("map", frame_check="off").predict(BLACK, need="label")
    assert searches == ["bound_map"]


@pytest.mark.parametrize("rule", ["map", "image", "either"])
@pytest.mark.parametrize("need", ["mask", "label"])
def test_frames_get_the_label_of_the_whole_map_from_every_door(opened, rule, need):
    detector = opened(rule)
    frames = [*FRAMES, BLACK, np.full_like(BLACK, 255)]
    whole = [detector.predict(frame, need="map") for frame in frames]
    assert {result.pred_label for result in whole} == {False, True}
    doors = (
        [detector.predict(frame, need=need) for frame in frames],
        detector.predict_batch(frames, need=need),
        list(detector.stream(frames, need=need)),
        list(detector.stream(frames, need=need, deadline_s=1000)),
    )
    for results in doors:
        assert [(result.need, result.decided) for result in results] == [(need, True)] * len(frames)
        assert [result.pred_label for result in results] == [result.pred_label for result in whole]
        assert [result.pred_score > threshold(detector) for result in results] == [r.pred_label for r in whole]
        if need == "mask":
            assert [result.reasons for result in results] == [result.reasons for result in whole]
            for result, expected in zip(results, whole, strict=True):
                np.testing.assert_array_equal(result.pred_mask, expected.pred_mask)


# --- deadlines -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("need", NEEDS)
def test_a_frame_whose_time_is_up_is_anomalous_and_undecided(opened, searches, need):
    detector = opened()
    result = detector.predict(FRAMES[0], need=need, deadline_s=0)
    assert searches == []
    assert_unsearched(result, detector, mask=True)
    assert (result.need, result.decided, result.pred_label, result.reasons) == (need, False, True, ("map",))
    assert result.pred_score > threshold(detector)
    (region,) = result.regions
    assert region.box == (0, 0, 96, 96)
    assert not detector.predict(FRAMES[0]).pred_label


@pytest.mark.parametrize("need", ["map", "mask"])
@pytest.mark.parametrize(("rule", "tau"), [("image", 1e6), ("image", 1e-3), ("either", 1e-3)])
def test_what_settles_the_label_gives_its_score_when_time_is_up(opened, need, rule, tau):
    """The mask isn't known, and the map's largest value must not become the score of a label that it doesn't settle."""
    detector = opened(rule, tau=tau)
    result = detector.predict(FRAMES[0], need=need, deadline_s=0)
    assert_unsearched(result, detector, mask=True)
    assert not result.decided
    assert result.pred_label == (tau < 1) == (result.pred_score > threshold(detector))
    assert result.reasons == (("image",) if tau < 1 else ())
    scale = detector.recipe.calibration.tau.value if rule == "either" else 1.0
    assert result.pred_score == result.image_score / scale


def test_what_is_ignored_is_no_part_of_an_unknown_mask(parts, extractor_path, tmp_path):
    from spadeline.engine import fit

    ignore = np.zeros((96, 96), bool)
    ignore[:, :48] = True
    how = {"extractor": extractor_path, "threads": 1, "settings": Settings(k_gallery=4, sigma=1.5)}
    fit(parts / "train/good", tmp_path / "recipe", ignore=ignore, **how)
    detector = Detector.load(tmp_path / "recipe", device="cpu", threads=1)
    assert_unsearched(detector.predict(FRAMES[0], deadline_s=0), detector, mask=True)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("need", NEEDS)
def test_a_stream_without_time_loses_no_frame(opened, need, workers):
    folder = opened(frame_check="off").recipe.folder
    detector = Detector.load(folder, device="cpu", threads=2, workers=workers)
    frames = [*FRAMES * 2, BAD, *FRAMES]
    results = list(detector.stream(iter(frames), need=need, deadline_s=0))
    assert len(results) == len(frames)
    assert [isinstance(result, FrameError) for result in results] == [frame is BAD for frame in frames]
    inspected = [result for result in results if not isinstance(result, FrameError)]
    assert all(result.pred_label and not result.decided and result.need == need for result in inspected)
    batch = detector.predict_batch(FRAMES, need=need, deadline_s=0)
    assert [result.decided for result in batch] == [False] * len(FRAMES)


def test_a_streams_deadline_counts_from_the_frames_arrival(recipe_folder, monkeypatch):
    """The second frame is read ahead: it arrives while the first one is inspected, which is over only afterwards."""
    detector = Detector.load(recipe_folder, device="cpu", threads=1)
    inspect = Detector._inspect
    asked, delivered, deadlines, begun = [], [], [], []
    second_has_come = threading.Event()

    def waiting(self, frames, *, deadline, **how):
        begun.append(time.perf_counter())
        assert second_has_come.wait(SOON_S)
        deadlines.append(deadline)
        return inspect(self, frames, deadline=deadline, **how)

    monkeypatch.setattr(Detector, "_inspect", waiting)

    def camera():
        for frame in FRAMES[:3]:
            asked.append(time.perf_counter())
            yield frame
            delivered.append(time.perf_counter())  # it is asked for the next one
            if len(delivered) == 2:
                second_has_come.set()

    results = list(detector.stream(camera(), depth=3, deadline_s=100))
    assert [result.decided for result in results] == [True] * 3
    for earliest, deadline, latest in zip(asked, deadlines, delivered, strict=True):
        assert earliest <= deadline - 100 <= latest
    assert deadlines[1] - 100 < begun[1]


def test_predict_gives_the_chain_the_time_that_its_call_leaves(recipe_folder, monkeypatch):
    detector = Detector.load(recipe_folder, device="cpu", threads=1)
    asked = []
    score = detector._chain.score
    monkeypatch.setattr(
        detector._chain, "score", lambda frames, color, what: asked.append(what) or score(frames, color, what)
    )
    before = time.perf_counter()
    detector.predict(FRAMES[0], deadline_s=50, need="mask")
    detector.predict_batch(FRAMES, deadline_s=60)
    detector.predict(FRAMES[0])
    after = time.perf_counter()
    assert [what.need for what in asked] == ["mask", "map", "map"]
    assert before + 50 <= asked[0].deadline <= after + 50
    assert before + 60 <= asked[1].deadline <= after + 60
    assert asked[2].deadline is None


# --- what is asked ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("door", ["predict", "predict_batch", "stream", "warm_up"])
@pytest.mark.parametrize("need", ["all", "", True, 1, ["map"]])
def test_an_unknown_need_is_refused_at_the_call(detector, door, need):
    with pytest.raises(InputError) as error:
        getattr(detector, door)(FRAMES[0] if door == "predict" else FRAMES, need=need)
    assert str(error.value) == f"need: expected one of map, mask, label, got {need!r}"


@pytest.mark.parametrize("door", ["predict", "predict_batch", "stream"])
@pytest.mark.parametrize("deadline_s", [-0.001, np.nan, np.inf, "1", True, 10**400])
def test_a_deadline_that_is_no_time_is_refused_at_the_call(detector, door, deadline_s):
    with pytest.raises(InputError) as error:
        getattr(detector, door)(FRAMES[0] if door == "predict" else FRAMES, deadline_s=deadline_s)
    assert str(error.value) == f"deadline_s: expected a finite number of 0 or more, got {deadline_s!r:.100}"


def test_a_bad_frame_is_refused_whatever_the_deadline(detector):
    with pytest.raises(InputError, match="frame: expected a uint8 array"):
        detector.predict(BAD, deadline_s=0)


def test_the_recipe_says_what_is_needed_until_a_call_does(recipe_folder, tmp_path, searches):
    folder = shutil.copytree(recipe_folder, tmp_path / "recipe")
    before = Recipe.load(folder).calibration
    assert calibrate(folder, changes={"need": "label", "label_rule": "image"}, threads=1).settings.need == "label"
    after = Recipe.load(folder).calibration
    assert (after.tau, after.theta) == (before.tau, before.theta)  # thresholds are of whole maps
    searches.clear()
    detector = Detector.load(folder, device="cpu", threads=1)
    assert detector.info["need"] == "label"
    assert detector.predict(FRAMES[0]).need == "label"
    assert [result.need for result in detector.predict_batch(FRAMES)] == ["label"] * 4
    assert [result.need for result in detector.stream(FRAMES)] == ["label"] * 4
    detector.warm_up(FRAMES[:1])
    assert searches == []
    whole = detector.predict(FRAMES[0], need="map")
    assert (whole.need, whole.decided, searches) == ("map", True, ["match"])
    assert whole.lower_map is whole.anomaly_map


@pytest.mark.parametrize("change", [as_version_1, as_version_2, as_version_3])
def test_an_older_recipe_needs_the_map(recipe_folder, tmp_path, change):
    folder = shutil.copytree(recipe_folder, tmp_path / "recipe")
    edit_manifest(folder, change)
    detector = Detector.load(folder, device="cpu", threads=1)
    assert detector.info["need"] == "map"
    assert detector.predict(FRAMES[0]).need == "map"


def test_info_says_where_a_need_saves_nothing(recipe_folder, tmp_path):
    assert Detector.load(recipe_folder, device="cpu", threads=1).info["rounds"] is True
    folder = shutil.copytree(recipe_folder, tmp_path / "recipe")
    calibrate(folder, changes={"upsampling": "bilinear"}, threads=1)
    assert Detector.load(folder, device="cpu", threads=1).info["rounds"] is False


def test_an_overlay_draws_no_map_that_the_label_did_not_need(opened):
    frame = part(300)[0]
    detector = opened("image")
    np.testing.assert_array_equal(detector.overlay(frame, detector.predict(frame, need="label")), frame)
    undecided = opened().predict(frame, deadline_s=0)
    assert (detector.overlay(frame, undecided) != frame).any(axis=2).mean() > 0.9


def test_a_bench_counts_what_was_not_decided(recipe_folder, parts):
    how = {"threads": 1, "runs": 8, "warm_up": 0, "seconds": 0}
    document = bench(recipe_folder, parts / "test", **how, need="mask", deadline_s=0)
    assert (document.need, document.deadline_s) == ("mask", 0)
    assert [times.undecided for times in document.latency] == [times.runs for times in document.latency]
    assert [way.undecided_share for way in document.throughput] == [1.0] * 3
    document = bench(recipe_folder, parts / "test", **how)
    assert (document.need, document.deadline_s) == ("map", None)
    assert [times.undecided for times in document.latency] == [0, 0]
    for changed, text in (({"need": "all"}, "need: expected one of"), ({"deadline_s": -1}, "deadline_s: expected a")):
        with pytest.raises(InputError, match=text):
            bench(recipe_folder, **changed)
