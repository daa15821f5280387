import json
import shlex
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from spadeline.engine import Detector, InputError, Recipe, SpadelineError
from spadeline.engine.bench import advice, start
from spadeline.engine.bench import latency as timing
from spadeline.engine.bench.advice import advise, measure_knobs
from spadeline.engine.bench.bench import bench
from spadeline.engine.bench.bench_report import bench_text
from spadeline.engine.bench.documents import BenchDocument, DetectorFacts, Knob, SlowestFrame, StageTimes
from spadeline.engine.bench.latency import measure_latency, measure_throughput
from spadeline.engine.bench.start import measure_start
from spadeline.engine.cli.arguments import parse
from spadeline.engine.cli.main import main
from spadeline.engine.json_data import from_json, to_json
from spadeline.engine.units import latency

from .example import STATISTICS, STORED

STAGES = ["prepare", "extract", "retrieve", "match", "map"]


@pytest.fixture(scope="module")
def document(recipe_folder, parts):
    return bench(recipe_folder, parts / "test", threads=1, runs=40, warm_up=4, seconds=0.5, takt_s=1.0)


class FakeDetector:
    """It remembers the frames; a frame's value is the number of seconds that it takes by a false clock."""

    def __init__(self, monkeypatch):
        self.clock = 0.0
        self.seen = []
        monkeypatch.setattr(timing.time, "perf_counter", lambda: self.clock)

    def predict(self, frame, *, need=None, deadline_s=None):
        self.seen.append(frame)
        self.asked = need, deadline_s
        self.clock += frame
        decided = deadline_s is None or frame <= deadline_s
        return SimpleNamespace(timings_s={"match": float(frame)}, match_statistics=STATISTICS, decided=decided)


def test_latency_figures():
    seconds = np.random.default_rng(0).permutation(np.arange(1.0, 1001.0)).tolist()
    figures = latency(seconds)
    assert figures.runs == 1000
    assert (figures.min_s, figures.max_s, figures.mean_s, figures.p50_s) == (1.0, 1000.0, 500.5, 500.5)
    assert figures.std_s == pytest.approx(np.std(seconds))
    for percent in (95, 99, 99.9):
        assert figures.percentiles_s()[f"p{percent}"] == pytest.approx(np.percentile(seconds, percent))


@pytest.mark.parametrize(
    ("runs", "missing"), [(1000, []), (999, ["p99.9"]), (99, ["p99", "p99.9"]), (19, ["p95", "p99", "p99.9"])]
)
def test_a_percentile_that_no_run_lies_above_is_none(runs, missing):
    percentiles = latency([1.0] * runs).percentiles_s()
    assert [name for name, seconds in percentiles.items() if seconds is None] == missing


def test_latency_of_no_runs():
    with pytest.raises(InputError, match=r"^seconds: expected at least one run, got none$"):
        latency([])


def test_frames_take_turns_after_a_warm_up(monkeypatch):
    detector = FakeDetector(monkeypatch)
    done = []
    runs = measure_latency(
        detector, [1, 2, 3], runs=7, warm_up=4, seconds=1e9, on_progress=lambda *counts: done.append(counts)
    )
    assert detector.seen == [1, 2, 3, 1, 1, 2, 3, 1, 2, 3, 1]  # the first four don't count
    assert runs.seconds == runs.stages_s["match"] == [1, 2, 3, 1, 2, 3, 1]
    assert runs.medians_s() == [1, 2, 3]
    assert done == [(count, 7) for count in range(1, 8)]
    figures = runs.figures("camera frame")
    assert figures.begins_at == "camera frame"
    assert figures.slowest_frame == SlowestFrame(frame=2, p50_s=3, match_statistics=STATISTICS)
    assert to_json(figures.stages_s) == {"match": {"p50_s": 2, "mean_s": pytest.approx(13 / 7)}}


def test_undecided_runs_are_counted(monkeypatch):
    detector = FakeDetector(monkeypatch)
    runs = measure_latency(detector, [1, 2, 3], runs=7, warm_up=0, seconds=1e9, need="label", deadline_s=1.5)
    assert detector.asked == ("label", 1.5)
    assert runs.decided == [True, False, False, True, False, False, True]
    assert runs.figures("camera frame").undecided == 4


def test_time_ends_a_measurement_but_each_frame_has_its_turns(monkeypatch):
    detector = FakeDetector(monkeypatch)
    runs = measure_latency(detector, [5, 5], runs=1000, warm_up=1000, seconds=60)
    assert len(detector.seen) - len(runs.seconds) == 2  # as many as fit into a tenth of the time
    assert len(runs.seconds) == 12
    assert len(measure_latency(detector, [5, 5], runs=1000, warm_up=0, seconds=0).seconds) == 2 * timing.FEWEST_TURNS
    assert len(measure_latency(detector, [5, 5], runs=1, warm_up=0, seconds=0).seconds) == 2


def keys(value):
    """Return the keys of a JSON value and of all its parts; a list stands for its last part."""
    if isinstance(value, dict):
        return {
            key: keys(part) for key, part in value.items() if key != "versions"
        }  # keys of versions are the installed packages
    return keys(value[-1]) if isinstance(value, list) and value else None


def test_a_bench_measures_everything(document, recipe_folder):
    assert document.recipe.settings.kappa == 2
    assert document.detector.threads == document.environment.threads == 1
    assert document.frames.count == 8
    assert document.frames.names[0] == "good/100.png"
    assert document.frames.sizes == ((96, 96),)
    assert [times.begins_at for times in document.latency] == ["camera frame", "prepared frame"]
    for times in document.latency:
        assert 24 <= times.runs <= 40
        assert list(times.stages_s) == STAGES
        assert 0 < sum(stage.mean_s for stage in times.stages_s.values()) <= times.mean_s
        assert 0 <= times.slowest_frame.frame < 8
    assert all(way.frames_per_s > 0 and way.threads == 1 for way in document.throughput)
    start = document.start
    parts_s = start.import_s + start.load_s + start.first_result_s
    assert 0 < start.first_result_s < start.process_to_first_result_s < 1.5 * parts_s
    assert start.peak_bytes >= start.resident_bytes > 1e7
    assert [(knob.setting, knob.value, knob.now) for knob in document.knobs] == [
        ("k_gallery", 4, 8),
        ("window", 1, None),
        ("kappa", 1, 2),
    ]
    assert document.advice
    assert document.verdict.met is True
    assert document.verdict.met_by_stream is True
    assert document.verdict.seconds in (document.latency[0].max_s, document.latency[0].p99_s)
    assert document.recipe.extractor == str(recipe_folder / "extractor-1.onnx")


def test_a_bench_has_the_keys_that_were_stored(document):
    assert keys(json.loads(json.dumps(to_json(document), allow_nan=False))) == keys(STORED)


def test_all_that_a_detector_says_of_itself_is_kept(recipe_folder):
    info = Detector.load(recipe_folder, device="cpu", threads=1).info
    assert to_json(from_json(DetectorFacts, info)) == to_json(info)


def test_drawn_frames_stand_in(recipe_folder):
    document = bench(recipe_folder, threads=1, runs=8, warm_up=0, seconds=0)
    assert document.frames.source == "drawn"
    assert document.frames.drawn
    assert document.verdict.met is document.verdict.met_by_stream is None
    assert document.frames.sizes == ((1024, 1024),)
    assert document.takt_s is None


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"runs": 0}, r"^runs: expected an integer from 1 to 1000000000, got 0$"),
        ({"warm_up": -1}, r"^warm_up: expected an integer from 0 to 1000000000, got -1$"),
        ({"seconds": np.nan}, r"^seconds: expected a finite number of 0 or more, got nan$"),
        ({"takt_s": 0}, r"^takt_s: expected a finite number of 1e-06 or more, got 0$"),
        ({"takt_s": "soon"}, r"^takt_s: expected a finite number of 1e-06 or more, got 'soon'$"),
    ],
)
def test_numbers_out_of_range(recipe_folder, changed, text):
    with pytest.raises(InputError, match=text):
        bench(recipe_folder, **changed)


def test_knobs_match_what_they_say(recipe_folder):
    detector = Detector.load(recipe_folder, threads=1)
    frame = np.zeros((64, 64, 3), np.uint8)
    for knob in measure_knobs(detector, [frame]):
        assert knob.match_p50_s > 0
        assert knob.match_now_p50_s > 0


def test_a_knob_that_the_other_settings_rule_out_is_left_out(recipe_folder):
    """Half of two images, or a window, has fewer pixels than kappa."""
    recipe = Recipe.load(recipe_folder)
    pixels = recipe.level_shapes[0][1] * recipe.level_shapes[0][2]
    detector = Detector.load(recipe_folder, device="cpu", threads=1)
    detector.recipe = recipe.with_settings(replace(recipe.settings, k_gallery=2, kappa=min(2 * pixels, 1000)))
    frame = np.zeros((64, 64, 3), np.uint8)
    assert [knob.setting for knob in measure_knobs(detector, [frame])] == ["kappa"]


def test_knobs_are_tried_on_frames_from_all_of_the_folder(recipe_folder, monkeypatch):
    detector = Detector.load(recipe_folder, device="cpu", threads=1)
    seen = []
    place = advice.place
    monkeypatch.setattr(advice, "place", lambda rgb, *a, **b: seen.append(int(rgb[0, 0, 0])) or place(rgb, *a, **b))
    measure_knobs(detector, [np.full((64, 64, 3), value, np.uint8) for value in range(16)])
    assert seen == [0, 4, 8, 12]


def test_throughput_counts_frames(recipe_folder):
    detector = Detector.load(recipe_folder, threads=1)
    frames = [np.full((64, 64, 3), value, np.uint8) for value in (10, 200)]
    alone = measure_latency(detector, frames, runs=4, warm_up=1, seconds=0)
    loop, *others = measure_throughput(detector, frames, alone, seconds=0.2)
    assert loop.mode == "predict"
    assert loop.frames_per_s == pytest.approx(len(alone.seconds) / sum(alone.seconds))
    batched, streamed = others
    assert (batched.mode, batched.batch) == ("predict_batch", timing.BATCH)
    assert (streamed.mode, to_json(streamed.split)) == ("stream", detector.info["split"])
    assert streamed.split.chosen == "measured"


def test_every_way_to_feed_frames_sees_all_of_them(recipe_folder, monkeypatch):
    detector = Detector.load(recipe_folder, device="cpu", threads=1)
    frames = [np.full((64, 64, 3), value, np.uint8) for value in range(11)]
    alone = measure_latency(detector, frames, runs=11, warm_up=0, seconds=0)
    monkeypatch.setattr(detector, "warm_up", lambda _, need: None)
    batches, depths = [], []
    predict_batch, stream = detector.predict_batch, detector.stream

    def counted(batch, **how):
        batches.append([int(frame[0, 0, 0]) for frame in batch])
        return predict_batch(batch, **how)

    def remembered(turns, *, depth, **how):
        depths.append(depth)
        return stream(turns, depth=depth, **how)

    monkeypatch.setattr(detector, "predict_batch", counted)
    monkeypatch.setattr(detector, "predict", lambda frame, **_: predict_batch([frame])[0])
    monkeypatch.setattr(detector, "stream", remembered)
    ways = measure_throughput(detector, frames, alone, seconds=0, batches=(8, 4), depths=(None, 3))
    assert batches == [
        [0, 1, 2, 3, 4, 5, 6, 7],  # a warm-up
        [0, 1, 2, 3, 4, 5, 6, 7],
        [8, 9, 10, 0, 1, 2, 3, 4],
        [0, 1, 2, 3],
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 10, 0],
    ]
    assert depths == [None, 3]
    assert [way.name for way in ways] == [
        "predict", "predict_batch, batch 8", "predict_batch, batch 4", "stream", "stream, depth 3",
    ]  # fmt: skip


def slow_in(document, stage, **changes):
    """Return the document as if nearly all of the time went into one stage."""
    stages = {name: StageTimes(p50_s=0.09 if name == stage else 0.001, mean_s=0.1) for name in STAGES}
    first = replace(document.latency[0], stages_s=stages, p50_s=0.1, p99_s=None)
    return replace(document, latency=(first,), **changes)


@pytest.mark.parametrize(
    ("stage", "text"),
    [
        ("prepare", "Frames of 96 x 96 become 64 x 64"),
        ("extract", "spadeline export small.onnx --input-size 32x32"),
        ("retrieve", "Retrieval searches 12 embeddings"),
        ("map", "The anomaly map is 64 x 64"),
    ],
)
def test_advice_is_about_the_stage_that_limits(document, stage, text):
    (advice,) = advise(slow_in(document, stage))
    assert advice.stage == stage
    assert advice.share > 0.9
    assert text in advice.text


K_GALLERY = Knob(setting="k_gallery", value=4, now=8, match_p50_s=0.04, match_now_p50_s=0.09)
WINDOW = Knob(setting="window", value=1, now=None, match_p50_s=0.1, match_now_p50_s=0.09)
KAPPA = Knob(setting="kappa", value=1, now=2, match_p50_s=0.01, match_now_p50_s=0.09)


def test_advice_on_the_matcher_gives_what_was_measured(document):
    (advice,) = advise(slow_in(document, "match", knobs=(K_GALLERY, WINDOW)))
    assert "--k-gallery 4: the matcher took 40.0 ms instead of 90.0" in advice.text
    (advice,) = advise(slow_in(document, "match", knobs=()))
    assert "fewer gallery images, --k-gallery, or more processors" in advice.text
    on_gpu = replace(document.detector, matcher_device="cuda")
    (advice,) = advise(slow_in(document, "match", knobs=(), detector=on_gpu))
    assert "processors" not in advice.text


def test_advice_begins_with_what_saves_most_and_leaves_out_what_saves_nothing(document):
    knobs = (K_GALLERY, replace(WINDOW, match_p50_s=0.0899), KAPPA)
    texts = [tip.text.partition(":")[0] for tip in advise(slow_in(document, "match", knobs=knobs))]
    assert texts == ["--kappa 1", "--k-gallery 4"]


@pytest.mark.parametrize("provider", ["CPUExecutionProvider", "OpenVINOExecutionProvider"])
@pytest.mark.parametrize("sets", [("avx512vnni", "scalar"), ("avx2", "scalar")])
def test_advice_on_int8_is_a_command_for_the_own_extractor(document, provider, sets):
    settings = replace(document.recipe.settings, framing="paper")
    extractor = "my recipes/r/extractor-2.onnx"
    changes = {
        "recipe": replace(document.recipe, extractor=extractor, backbone="resnet50", settings=settings),
        "detector": replace(document.detector, extractor=provider),
        "environment": replace(document.environment, instruction_sets=sets),
    }
    (tip,) = advise(slow_in(document, "extract", **changes))
    command = (
        "spadeline export int8.onnx --from 'my recipes/r/extractor-2.onnx' --precision int8 --calibrate FOLDER "
        "--framing paper"
    )
    assert command in tip.text
    assert "spadeline export small.onnx --backbone resnet50 --input-size 32x32" in tip.text
    assert "run it on a GPU" in tip.text
    assert ("may be no faster here, since this processor has no VNNI" in tip.text) == (sets[0] == "avx2")
    for text in (command, "spadeline export small.onnx --backbone resnet50 --input-size 32x32"):
        options = parse(shlex.split(text)[1:], version="")
        assert options.command == "export"


def test_advice_on_an_extractor_on_a_gpu(document):
    detector = replace(document.detector, extractor="CUDAExecutionProvider")
    (tip,) = advise(slow_in(document, "extract", detector=detector))
    assert "int8" not in tip.text
    assert "GPU" not in tip.text


def test_advice_on_a_matcher_that_can_do_better(document):
    recipe = document.recipe
    (advice,) = advise(slow_in(document, "match", recipe=replace(recipe, codes=False)))
    assert "spadeline codes makes them" in advice.text
    (advice,) = advise(slow_in(document, "match", knobs=(), recipe=replace(recipe, codes=False, can_have_codes=False)))
    assert "spadeline codes" not in advice.text
    bilinear = replace(recipe, settings=replace(recipe.settings, upsampling="bilinear"))
    (advice,) = advise(slow_in(document, "match", recipe=bilinear))
    assert "--upsampling nearest" in advice.text


@pytest.mark.parametrize(("worst_s", "text"), [(0.19, "good/101.png takes 190.0 ms every time"), (0.11, "taskset")])
def test_advice_tells_slow_frames_from_a_busy_machine(document, worst_s, text):
    slow = slow_in(document, "map")
    worst = replace(slow.latency[0].slowest_frame, frame=1, p50_s=worst_s)
    times = replace(slow.latency[0], p99_s=0.2, slowest_frame=worst)
    *_, tail = advise(replace(slow, latency=(times,)))
    assert tail.stage == "tail"
    assert "1 in 100 runs took 2.0 times the median" in tail.text
    assert text in tail.text
    assert [advice.stage for advice in advise(replace(slow, latency=(replace(times, p99_s=0.12),)))] == ["map"]


def test_a_start_that_fails_says_why(recipe_folder, tmp_path):
    shutil.copytree(recipe_folder, tmp_path / "recipe")
    recipe = Recipe.load(tmp_path / "recipe")
    (tmp_path / "recipe" / "recipe.json").unlink()
    with pytest.raises(SpadelineError, match=r"^start: expected a process that inspects a frame, got: .*recipe\.json"):
        measure_start(recipe, np.zeros((64, 64, 3), np.uint8), {"device": "cpu", "threads": 1})


def test_a_start_takes_no_module_from_the_working_folder(recipe_folder, tmp_path, monkeypatch):
    (tmp_path / "cv2.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(start, "STARTS", 1)
    frame = np.zeros((64, 64, 3), np.uint8)
    assert measure_start(Recipe.load(recipe_folder), frame, {"device": "cpu", "threads": 1}).load_s > 0


def test_a_folder_named_drawn_holds_frames_all_the_same(recipe_folder, parts, tmp_path, monkeypatch):
    shutil.copytree(parts / "test" / "good", tmp_path / "drawn")
    monkeypatch.chdir(tmp_path / "drawn")
    document = bench(recipe_folder, ".", threads=1, runs=4, warm_up=0, seconds=0)
    assert document.frames.source == "drawn"
    assert not document.frames.drawn


def test_a_gpus_matcher_is_named(document):
    gpu = replace(document.detector, matcher_device="cuda", instruction_set="sm_90")
    assert "on the GPU (sm_90)" in bench_text(replace(document, detector=gpu))
    assert f"on the processor ({document.detector.instruction_set})" in bench_text(document)


def test_the_command_line(recipe_folder, parts, capsys, tmp_path):
    pytest.importorskip("matplotlib")
    command = ["bench", recipe_folder, parts / "test", "--threads", 1, "--runs", 8, "--warm-up", 0, "--seconds", 0]
    command = [str(part) for part in command]
    assert main([*command, "--takt", "10", "--html", str(tmp_path / "bench.html")]) == 0
    assert "<span>bench</span>" in (tmp_path / "bench.html").read_text()  # the command, ready to wrap
    printed = capsys.readouterr().out
    assert "Latency, ms:" in printed
    assert "12 normal images, averages in float32, 64 x 64, k_gallery 8, kappa 2" in printed
    for heading in ("What limits it, and what to do next", "Throughput", "Start and memory"):
        assert heading in printed
    assert "The takt of 10.0 s is met: " in printed
    assert main([*command, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["benchmark"] == "bench"
    assert document["command"].startswith("spadeline bench ")
    assert to_json(from_json(BenchDocument, document)) == document
    assert main(["bench", str(recipe_folder), str(parts / "nothing")]) == 2
    assert "expected a folder of images" in capsys.readouterr().err
