"""benchmarks/accuracy.py: its figures are those of ``spadeline eval``, and it reuses the records that fit, no others."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from spadeline.engine import Detector, calibrate, fit, tune
from spadeline.engine.errors import InputError, SpadelineError
from spadeline.engine.evaluate.evaluation import evaluate
from spadeline.engine.folders.dataset import find_dataset
from spadeline.engine.pages.sections import Chart

import accuracy
from accuracy_parts import classes, figures, knobs, records
from accuracy_parts import report as accuracy_report
from page_parts import sections

from ..conftest import part
from ..tuning.spots import try_few_settings, write_labelled

pytest.importorskip("onnxruntime")
pytest.importorskip("faiss")

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys, extractor_path):
    """Run the command as typed, in a folder of its own; return its report and what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, extractors=(extractor_path,)):
        command = [*arguments, "--extractor", *extractors, "--threads", 1, "--json", "accuracy.json"]
        monkeypatch.setattr(sys, "argv", ["accuracy.py", *map(str, command)])
        capsys.readouterr()
        accuracy.main()
        return json.loads(Path("accuracy.json").read_text()), capsys.readouterr().out

    return run


@pytest.fixture
def own_parts(tmp_path, parts):
    """The parts in a folder that a test may change."""
    return Path(shutil.copytree(parts, tmp_path / "parts"))


def points(document):
    return {(row["protocol"], row["knob"], str(row["value"])): row for row in document["results"]}


def on_record(folder="accuracy-records"):
    return {path.name: path.stat().st_mtime_ns for path in Path(folder).glob("*.json")}


def test_the_figures_are_those_of_eval(tmp_path, run, parts, extractor_path):
    document, printed = run(parts, "--knob", "storage=float32", "--knob", "kappa=3", "--knob", "level_weights=1:2:4")
    rows = points(document)
    turned = (("kappa", 3), ("level_weights", (1.0, 2.0, 4.0)), ("storage", "float32"))
    expected = {(name, None, "None"): settings for name, settings in knobs.PROTOCOLS.items()} | {
        ("defaults", name, str(list(value) if isinstance(value, tuple) else value)): replace(
            knobs.PROTOCOLS["defaults"], **{name: value}
        )
        for name, value in turned
    }
    assert rows.keys() == expected.keys()
    for point, settings in expected.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # k_gallery above the number of images
            fit(parts, tmp_path / "recipe", extractor=extractor_path, settings=settings, threads=1, overwrite=True)
            detector = Detector.load(tmp_path / "recipe", threads=1)
        summary = evaluate(detector, find_dataset(parts)).summary()
        for figure, value in rows[point]["figures"].items():
            if figure in summary:
                assert value == summary[figure], (point, figure)
        for rate in figures.RATES:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                calibrate(tmp_path / "recipe", false_alarm_rate=rate, threads=1)
                detector = Detector.load(tmp_path / "recipe", threads=1)
            counted = evaluate(detector, find_dataset(parts)).summary()["confusion"]
            for score, name in (("image_score", "tau"), ("map_score", "theta")):
                assert rows[point]["figures"][figures.recall(score, rate)] == counted[name]["recall"]
                assert rows[point]["figures"][figures.false_alarms(score, rate)] == counted[name]["false_alarm_rate"]
        assert rows[point]["images"] == {"train": 12, "normal": 4, "abnormal": 4, "abnormal_with_mask": 4}
        assert all(f"{rows[point]['figures'][figure]:.4f}" in printed for figure in accuracy_report.HEADS)
    assert (
        len({json.dumps(row["figures"]) for row in rows.values()}) >= 3
    )  # otherwise settings that were mixed up would pass
    assert document["command"].startswith("python accuracy.py ")
    assert document["environment"]["versions"]["numpy"] == np.__version__


def test_a_killed_run_goes_on_where_it_stopped(tmp_path, run, parts, extractor_path):
    sigmas = ",".join(f"{0.5 + 0.05 * step:g}" for step in range(200))
    command = [parts, "--knob", f"sigma={sigmas}", "--extractor", extractor_path, "--threads", 1]
    script = [sys.executable, str(BENCHMARKS / "accuracy.py"), *map(str, command)]
    with subprocess.Popen(script, cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        while len(on_record()) < 3:
            assert process.poll() is None, "it ended by itself"
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    before = on_record()
    assert 3 <= len(before) < 200
    assert Path("accuracy-records/features").is_dir()
    resumed, _ = run(*command[:3])
    after = on_record()
    assert {name: after[name] for name in before} == before
    assert len(after) == len({str(row["settings"]) for row in resumed["results"]}) > len(before)
    assert not Path("accuracy-records/features").exists()
    whole, _ = run(*command[:3], "--records", "others")
    assert len(on_record("others")) == len(after)
    assert whole["results"] == resumed["results"]


def test_only_what_changed_is_measured_anew(run, own_parts, extractor_path, tmp_path):
    onnx = pytest.importorskip("onnx")
    first, _ = run(own_parts)
    once = on_record()
    assert len(once) == 2
    again, _ = run(own_parts.rename(tmp_path / "moved"), "--threads", 2)
    assert on_record() == once
    assert [row["figures"] for row in again["results"]] == [row["figures"] for row in first["results"]]
    run(tmp_path / "moved", "--knob", "kappa=1,2")  # 1 is the protocol's own value
    assert len(on_record()) == 3
    model = onnx.load(extractor_path)
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.float32(1 / 16), "scale"))
    onnx.save(model, tmp_path / "other.onnx")
    run(tmp_path / "moved", extractors=["other.onnx"])
    assert len(on_record()) == 5
    mask = next((tmp_path / "moved" / "ground_truth").rglob("*.png"))
    Image.fromarray(255 - np.asarray(Image.open(mask))).save(mask)
    changed, _ = run(tmp_path / "moved")
    assert len(on_record()) == 7
    assert changed["results"][0]["figures"]["pixel_rocauc"] != first["results"][0]["figures"]["pixel_rocauc"]
    unchanged = on_record()
    accuracy.code_digest, digest = (lambda: "of other code"), accuracy.code_digest
    try:
        run(tmp_path / "moved")
    finally:
        accuracy.code_digest = digest
    assert len(on_record()) == len(unchanged) + 2


def test_a_set_of_classes_beside_the_papers_figures(run, parts, tmp_path):
    folder = tmp_path / "set"
    (folder / "notes").mkdir(parents=True)
    shutil.copytree(parts, folder / "hazelnut")
    for name, seeds, scratched in (("set/wood/normal", range(3), False), ("set/wood/abnormal", range(3), True)):
        (tmp_path / name).mkdir(parents=True)
        for seed in seeds:
            Image.fromarray(part(seed + 300, scratched=scratched)[0]).save(tmp_path / name / f"{seed}.png")
    document, printed = run(folder, "--train", f"wood={parts / 'train' / 'good'}", "--protocol", "paper")
    (data,) = document["data"]
    assert list(data["classes"]) == ["hazelnut", "wood"]
    assert data["left_out"] == {"notes": "none of train, test, normal, abnormal in it"}
    assert len(data["missing"]) == 13
    assert "missing are bottle, cable, capsule" in printed
    assert "set: notes is no class: none of" in printed
    hazelnut, wood = document["results"]
    assert wood["figures"]["pixel_rocauc"] is None
    assert wood["not_computed"]["aupro_0.3"] == "masks: expected one for at least one abnormal image, got none"
    (mean,) = document["means"]
    images = [row["figures"]["image_rocauc_by_map_score"] for row in (hazelnut, wood)]
    assert mean["figures"]["image_rocauc_by_map_score"] == pytest.approx(np.mean(images))
    assert mean["figures"]["pixel_rocauc"] == hazelnut["figures"]["pixel_rocauc"]
    assert (mean["classes"]["image_rocauc_by_map_score"], mean["classes"]["pixel_rocauc"]) == (2, 1)
    lines = [line for line in printed.splitlines() if line.startswith("  hazelnut  ")]
    (line,) = [line for line in lines if "spadeline" not in line]
    assert line.endswith("0.9910")
    assert "mean, paper" not in printed  # its mean is over other classes
    assert "hazelnut: 12 normal images; where k_gallery is up to 50, all of them are taken." in printed
    table = sections.chapter(document, "accuracy").tables["set-paper"]
    assert [row[0] for row in table.rows] == ["hazelnut", "wood", "mean"]
    assert table.rows[1][3:5] == (None, None)  # pixel ROCAUC and AU-PRO of wood
    assert [row[-1] for row in table.rows] == ["0.9910", "0.8850", None]
    assert table.note == "–: masks: expected one for at least one abnormal image, got none."


def test_tuned_settings_beside_the_defaults(run, parts, tmp_path, monkeypatch, extractor_path):
    try_few_settings(monkeypatch)
    (tmp_path / "set").mkdir()
    write_labelled(folder := tmp_path / "set" / "spots")
    images = parts / "train" / "good"
    command = (tmp_path / "set", "--train", f"spots={images}", "--protocol", "defaults", "--tune")
    document, printed = run(*command)
    (row,) = document["tuned"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # k_gallery above the number of images
        fit(images, tmp_path / "recipe", extractor=extractor_path, threads=1)
        tuned = tune(tmp_path / "recipe", folder, threads=1)
    assert row["final"] == {"before": vars(tuned.before), "after": vars(tuned.after)}
    assert row["choosing"] == {"before": vars(tuned.own.figures), "after": vars(tuned.chosen.figures)}
    assert (row["tried"], list(row["changed"])) == (len(tuned.trials), list(tuned.record.changed))
    table = sections.chapter(document, "accuracy").tables["set-tuned"]
    default, chosen, *_, total = table.rows
    assert default[2:] == (
        "defaults", f"{tuned.before.image_rocauc:.3f}",
        f"{tuned.before.found} of 6", f"{tuned.before.false_alarms} of 4",
    )  # fmt: skip
    assert chosen[2].startswith("tuned: ")
    assert chosen[4] == f"{tuned.after.found} of 6"
    assert total == ("all", "spadeline, levels as they are", "tuned", None, *chosen[4:])
    assert "set: default and tuned settings, on the half of the test images that had no part in the choice" in printed
    calls = []
    monkeypatch.setattr(accuracy, "tuned_figures", lambda *given, **_: calls.append(given) or row)
    assert run(*command)[0]["tuned"] == document["tuned"]
    assert not calls
    (folder / "test" / "spot" / "411.png").rename(folder / "test" / "spot" / "412.png")
    run(*command)
    assert len(calls) == 1  # names decide which half an image is in


def test_the_papers_means_stand_beside_those_of_all_its_classes(run, parts, tmp_path):
    for name in accuracy_report.PAPER["pixel_rocauc"]:
        (tmp_path / "mvtec").mkdir(exist_ok=True)
        (tmp_path / "mvtec" / name).symlink_to(parts)
    document, printed = run(tmp_path / "mvtec", "--protocol", "paper")
    assert document["data"][0]["missing"] == []
    (line,) = [line for line in printed.splitlines() if line.startswith("  mean, paper")]
    assert line.split()[2:] == ["0.8550", "-", "0.9600", "0.9170", "0.9600"]
    assert len(on_record()) == 1  # the same images under other names
    assert accuracy_report.PAPER["figures"]["pixel_rocauc"] == pytest.approx(
        np.mean(list(accuracy_report.PAPER["pixel_rocauc"].values())), abs=1e-3
    )


def test_one_class_of_labels_defines_no_rocauc(run, own_parts):
    shutil.rmtree(own_parts / "test" / "scratch")
    document, printed = run(own_parts, "--protocol", "defaults")
    (row,) = document["results"]
    known = {name for name, value in row["figures"].items() if value is not None}
    assert known == {figures.false_alarms(score, rate) for score in figures.SCORES for rate in figures.RATES}
    assert row["not_computed"][figures.recall("map_score", 0.01)].startswith("labels: expected test images of both")
    reason = "labels: expected samples of both classes, got 4 normal and 0 anomalous"
    assert row["not_computed"]["image_rocauc_by_map_score"] == reason
    assert f"-: {reason}." in printed


def test_a_sweep_as_table_and_plot(run, parts, extractor_path, tmp_path):
    shutil.copy(extractor_path, tmp_path / "second.onnx")
    files = ("--csv", "sweep.csv", "--plot", "sweep.svg")
    document, _ = run(parts, "--sweep", "--knob", "kappa=2", *files, extractors=[extractor_path, "second.onnx"])
    turned = {}
    for row in document["results"]:
        if row["knob"] is not None:
            assert (row["protocol"], row["extractor"]) == ("defaults", str(extractor_path))
            turned.setdefault(row["knob"], []).append(row["value"])
    assert turned.keys() == knobs.SWEPT.keys()
    assert turned["kappa"] == [2]
    assert turned["level_weights"] == [None, [4.0, 1.0, 1.0], [1.0, 4.0, 1.0], [1.0, 1.0, 4.0]]
    assert turned["window"] == [0, 1, 2, 4, None]
    with Path("sweep.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(document["results"])
    for line, row in zip(lines, document["results"], strict=True):
        assert line["kappa"] == str(row["settings"]["kappa"])
        assert float(line["pixel_rocauc"]) == row["figures"]["pixel_rocauc"]
    assert [line["value"] for line in lines if line["knob"] == "level_weights"] == ["none", "4:1:1", "1:4:1", "1:1:4"]
    assert [knobs.label(value) for value in turned["level_weights"]] == ["none", "4:1:1", "1:4:1", "1:1:4"]
    drawn = Path("sweep.svg").read_text()
    for text in ("extractor", "second", *knobs.SWEPT):
        assert f"<!-- {text} -->" in drawn
    parts_drawn = sections.chapter(document, "accuracy").section.parts
    charts = {part.title.split(":")[0]: part.draw() for part in parts_drawn if isinstance(part, Chart)}
    assert charts.keys() == knobs.SWEPT.keys() - {"kappa"}  # of which only one value was measured
    assert "4:1:1" in charts["level_weights"]


def test_solar_cells(run, monkeypatch):
    def few_cells(folder, *, kind):
        for name, seeds, scratched in (
            ("train/good", range(4), False),
            ("test/good", range(4, 6), False),
            ("test/defective", range(6, 8), True),
        ):
            (folder / name).mkdir(parents=True)
            for seed in seeds:
                picture = part(seed + 10 * (kind == "poly"), scratched=scratched)[0][..., 0]
                Image.fromarray(picture).save(folder / name / f"{seed}.png")

    monkeypatch.setattr(classes, "write_cells", few_cells)
    document, _ = run("--elpv", "poly", "--protocol", "defaults")
    (row,) = document["results"]
    assert (row["data"], row["class"]) == ("elpv", "poly")
    assert row["images"] == {"train": 4, "normal": 2, "abnormal": 2, "abnormal_with_mask": 0}


def test_a_damaged_record_is_named(run, parts):
    run(parts, "--protocol", "paper")
    (path,) = Path("accuracy-records").glob("*.json")
    for content, text in (
        ("{", "got: Expecting property name"),
        ('{"key": {}}', "got one that was changed; remove it"),
    ):
        path.write_text(content)
        with pytest.raises(InputError, match=f"{path}: expected a record as it was written, {text}"):
            run(parts, "--protocol", "paper")


def test_one_run_at_a_time_writes_records(tmp_path):
    with (
        records.Records(tmp_path),
        pytest.raises(InputError, match="another run is writing its records here"),
        records.Records(tmp_path),
    ):
        pass


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "expected a folder of images, or --elpv, got neither"),
        (["x", "--knob", "sigma"], "expected NAME=VALUE,… with one of k_gallery, k_score"),
        (["x", "--knob", "index_factory=Flat"], "expected NAME=VALUE,… with one of k_gallery, k_score"),
        (["x", "--knob", "kappa=1,0"], "kappa: expected an integer from 1 to 1000, got 0"),
        (["x", "--knob", "framing=half"], "framing: expected one of whole, paper, got 'half'"),
        (["x", "--knob", "level_weights=1:x"], "level_weights: expected 1 to 4 numbers, one a level, got '1:x'"),
        (["x", "--train", "wood"], "expected CLASS=FOLDER, got 'wood'"),
        (["x", "--plot", "a.svg"], "--plot: expected --sweep, --knob or several extractors with it, got none"),
        (["x", "--sweep", "--plot", "a.foo"], "--plot: expected FILE.svg or FILE.png, got a.foo"),
        (["x", "--csv", "/nowhere/at/all.csv"], "expected a folder that exists, got /nowhere/at/all.csv"),
    ],
)
def test_options_that_make_no_sense(arguments, text, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["accuracy.py", *arguments, "--extractor", "x.onnx"])
    with pytest.raises(SystemExit):
        accuracy.main()
    assert text in capsys.readouterr().err


def test_images_that_cannot_be_used(run, own_parts, tmp_path):
    def refused(text, *arguments, **options):
        with pytest.raises(SpadelineError, match=text):
            run(*arguments, **options)

    (tmp_path / "empty" / "below").mkdir(parents=True)
    refused("empty: expected a class, with train/good and test/<kind>, .* got neither", tmp_path / "empty")
    refused("no: expected a data set's folder, got no such path", tmp_path / "no")
    refused("--train: expected classes that have no train/good, got parts", own_parts, "--train", "parts=x")
    refused("expected data sets of different names, got parts, parts", own_parts, own_parts)
    refused("no.onnx", own_parts, extractors=["no.onnx"])
    text = "--knob level_weights: expected 3 weights for .*, got 2"
    refused(text, own_parts, "--knob", "level_weights=1:2")
    shutil.move(own_parts / "train", tmp_path / "train")
    text = "parts: expected normal images to fit on, got none; name them: --train parts=FOLDER"
    refused(text, own_parts)
    text = r"test/good/\d+.png: expected an image to fit on that isn't evaluated on, too"
    refused(text, own_parts, "--train", f"parts={own_parts / 'test' / 'good'}")
    shutil.rmtree(own_parts / "test")
    shutil.move(tmp_path / "train", own_parts / "train")
    refused("parts: expected test images in test/good and test/<kind>, got none", own_parts)
    assert on_record() == {}


def test_an_error_is_one_sentence(tmp_path, parts):
    command = [sys.executable, str(BENCHMARKS / "accuracy.py"), str(parts), "--extractor", "no.onnx"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("accuracy.py: no.onnx: ")
    assert len(done.stderr.splitlines()) == 1
