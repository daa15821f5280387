"""The frame check flags black, dim, blurred and empty frames, of drawn parts and of real ones."""

import json
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image
from spadeline.engine import Detector, Settings, add, calibrate, fit, remove_images
from spadeline.engine.cli.main import main
from spadeline.engine.extract.extractor import Extractor
from spadeline.engine.images.frame_facts import FrameFacts, frame_facts
from spadeline.engine.images.reading import read_image
from spadeline.engine.images.resizing import as_rgb, place
from spadeline.engine.inspect.frame_check import FrameLimits, farthest_nearest
from spadeline.engine.inspect.retrieval import Retrieval
from spadeline.engine.recipe.recipe import Recipe

from ..conftest import SHARED, part
from ..recipes import as_version_1, as_version_2, edit_manifest

faiss = pytest.importorskip("faiss")

SETS = ("hazelnut_reduced", "transistor_reduced", "screw", "kolektorsdd", "cookie")
NETWORKS = ("resnet18_imagenet.onnx", "resnet50_thin.onnx")
CHECKS = {"exposure", "contrast", "sharpness", "unlike"}
BEYOND, UNLIKE, MOST_EXCESS = 1.5, 2, 1e6  # of csrc/runtime/frame_check.hpp
FACTS = (FrameFacts(100.0, 30.0, 2.0), FrameFacts(120.0, 40.0, 1.5))
LIMITS = FrameLimits.of(FACTS, 8.0)


def spoiled(frame):
    """Return frames that must be flagged, by name."""
    border = np.median(np.concatenate([frame[:4].reshape(-1, 3), frame[-4:].reshape(-1, 3)]), axis=0)
    noise = np.random.default_rng(0).normal(0, 3, frame.shape)
    return {
        "black": np.zeros_like(frame),
        "black with noise": np.clip(noise, 0, 255).astype(np.uint8),
        "white": np.full_like(frame, 255),
        "a tenth of the exposure": (frame * 0.1).astype(np.uint8),
        "blurred": cv2.GaussianBlur(frame, (0, 0), min(frame.shape[:2]) / 60),
        "blurred a lot": cv2.GaussianBlur(frame, (0, 0), min(frame.shape[:2]) / 20),
        "empty": np.broadcast_to(border, frame.shape).astype(np.uint8),
        "empty with noise": np.clip(border + noise, 0, 255).astype(np.uint8),
    }


# --- limits ----------------------------------------------------------------------------------------------------------


def test_limits_are_the_normal_images_range_and_a_factor():
    assert (LIMITS.darkest, LIMITS.brightest) == (100 / BEYOND, 120 * BEYOND)
    assert (LIMITS.least_contrast, LIMITS.least_sharpness, LIMITS.farthest) == (30 / BEYOND, 1.5 / BEYOND, 8 * UNLIKE)


@pytest.mark.parametrize(
    ("facts", "distance", "expected"),
    [
        (FrameFacts(100.0, 30.0, 1.5), 16.0, {}),
        (FrameFacts(180.0, 90.0, 9.0), 0.0, {}),
        (FrameFacts(50.0, 30.0, 1.5), 8.0, {"exposure": 100 / BEYOND / 50}),
        (FrameFacts(200.0, 30.0, 1.5), 8.0, {"exposure": 200 / (120 * BEYOND)}),
        (FrameFacts(100.0, 10.0, 1.5), 8.0, {"contrast": 30 / BEYOND / 10}),
        (FrameFacts(100.0, 30.0, 0.5), 8.0, {"sharpness": 1.5 / BEYOND / 0.5}),
        (FrameFacts(100.0, 30.0, 1.5), 32.0, {"unlike": 2.0}),
        (FrameFacts(0.0, 0.0, 0.0), 8.0, dict.fromkeys(("exposure", "contrast", "sharpness"), MOST_EXCESS)),
    ],
)
def test_exceeded_limits_come_with_their_excess(facts, distance, expected):
    assert LIMITS.exceeded(facts, distance) == pytest.approx(expected)


def test_a_constant_frame_is_flagged_whatever_the_normal_images_are_like():
    flat = FrameFacts(100.0, 0.0, 0.0)
    assert FrameLimits.of([flat, flat], None).exceeded(flat, 0.0) == {"contrast": MOST_EXCESS}


def test_the_farthest_nearest_image():
    embeddings = np.array([[0.0], [1.0], [3.0], [10.0]], np.float32)
    assert farthest_nearest(embeddings, Retrieval(embeddings)) == 49
    assert farthest_nearest(embeddings[:1], Retrieval(embeddings[:1])) is None
    many = np.arange(1000, dtype=np.float32)[:, None] ** 2
    assert farthest_nearest(many, Retrieval(many)) == (999.0**2 - 998.0**2) ** 2  # the last is among those asked for


# --- real images -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", SETS)
def test_real_frames_that_are_spoiled_are_flagged_and_normal_ones_are_not(name, network):
    folder, path = SHARED / name, SHARED / network
    if not folder.is_dir() or not path.is_file():
        pytest.skip(f"no {name} images and {network} beside the project")
    extractor = Extractor(path, device="cpu", threads=2)

    def look(frame):
        image, _ = place(frame, extractor.input_size, framing="whole")
        return frame_facts(image), extractor.extract(image[None]).embedding[0]

    known = [look(as_rgb(read_image(path))) for path in sorted((folder / "train/good").iterdir())]
    good = [as_rgb(read_image(path)) for path in sorted((folder / "test/good").iterdir())]
    embeddings = np.stack([embedding for _, embedding in known])
    retrieval = Retrieval(embeddings)
    limits = FrameLimits.of([facts for facts, _ in known], farthest_nearest(embeddings, retrieval))

    def exceeded(frame):
        facts, embedding = look(frame)
        return limits.exceeded(facts, float(retrieval.nearest(embedding, 1)[1][0]))

    assert [exceeded(frame) for frame in good] == [{}] * len(good)
    passed = [what for frame in good[:2] for what, spoilt in spoiled(frame).items() if not exceeded(spoilt)]
    assert passed == []


def test_default_settings_pass_no_spoiled_hazelnut(hazelnut, tmp_path):
    images, network = hazelnut
    fit(images / "train/good", tmp_path / "recipe", extractor=network, threads=2)
    detector = Detector.load(tmp_path / "recipe", device="cpu", threads=2)
    frame = read_image(images / "test/good/000.png")
    whole = detector.predict(frame)
    assert not CHECKS & set(whole.reasons)
    for what, spoilt in spoiled(frame).items():
        result = detector.predict(spoilt)
        assert result.pred_label, what
        assert set(result.reasons) & CHECKS, what
        assert result.pred_score > detector.recipe.calibration.theta.value


# --- drawn parts, from every door ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def detector(recipe_folder):
    return Detector.load(recipe_folder, device="cpu", threads=2)


@pytest.fixture
def own(recipe_folder, tmp_path):
    """A copy of the recipe, for tests that change it."""
    return shutil.copytree(recipe_folder, tmp_path / "own")


def test_spoiled_parts_are_flagged_by_predict_batch_and_stream(detector):
    good = part(300)[0]
    assert detector.predict(good).reasons == ()
    frames = list(spoiled(good).values())
    alone = [detector.predict(frame) for frame in frames]
    assert all(result.pred_label and set(result.reasons) & CHECKS for result in alone)
    for results in (detector.predict_batch(frames), list(detector.stream(iter(frames)))):
        assert [(r.pred_label, r.reasons, r.pred_score) for r in results] == [
            (r.pred_label, r.reasons, r.pred_score) for r in alone
        ]


@pytest.mark.parametrize("rule", ["map", "image", "either"])
def test_the_score_is_above_its_threshold_exactly_if_there_is_a_reason(own, rule):
    calibration = calibrate(own, changes={"label_rule": rule}, threads=1).calibration
    threshold = {"map": calibration.theta.value, "image": calibration.tau.value, "either": 1.0}[rule]
    detector = Detector.load(own, device="cpu", threads=1)
    good = part(300)[0]
    frames = [good, part(301, scratched=True)[0], *spoiled(good).values()]
    results = [detector.predict(frame) for frame in frames]
    assert [r.pred_label for r in results] == [r.pred_score > threshold for r in results]
    assert [r.pred_label for r in results] == [bool(r.reasons) for r in results]
    assert {True, False} == {r.pred_label for r in results}


def test_the_check_changes_no_score_and_no_map(own):
    detector = Detector.load(own, device="cpu", threads=1)
    before = detector.recipe.calibration
    assert calibrate(own, changes={"frame_check": "off"}, threads=1).calibration == before
    without = Detector.load(own, device="cpu", threads=1)
    assert without.info["frame_check"] is None
    good = part(300)[0]
    for frame in [good, part(301, scratched=True)[0], *spoiled(good).values()]:
        a, b = detector.predict(frame), without.predict(frame)
        assert (a.image_score, a.map_score, a.regions) == (b.image_score, b.map_score, b.regions)
        np.testing.assert_array_equal(a.anomaly_map, b.anomaly_map)
        np.testing.assert_array_equal(a.pred_mask, b.pred_mask)
        assert b.pred_score == b.map_score
        assert b.pred_label == (b.map_score > before.theta.value) == (b.reasons == ("map",))
        assert set(a.reasons) >= set(b.reasons)


def test_adding_an_image_ends_its_false_alarm_and_removing_it_brings_it_back(own, tmp_path):
    dim = (part(300)[0] * 0.5).astype(np.uint8)
    Image.fromarray(dim).save(tmp_path / "dim.png")
    other = (part(302)[0] * 0.5).astype(np.uint8)
    assert {"exposure", "unlike"} <= set(Detector.load(own, device="cpu").predict(other).reasons)
    add(own, [tmp_path / "dim.png"], device="cpu", threads=1)
    assert not CHECKS & set(Detector.load(own, device="cpu").predict(other).reasons)
    remove_images(own, [str(tmp_path / "dim.png")])
    assert {"exposure", "unlike"} <= set(Detector.load(own, device="cpu").predict(other).reasons)


def test_a_recipe_keeps_each_image_s_size_and_facts(recipe_folder, parts):
    recipe = Recipe.load(recipe_folder)
    for image in recipe.images:
        frame = as_rgb(read_image(parts / "train/good" / image.name))
        assert image.size == frame.shape[:2]
        assert image.facts == frame_facts(place(frame, recipe.input_size, framing="whole")[0])


@pytest.mark.parametrize("change", [as_version_1, as_version_2])
def test_an_older_recipe_has_no_check_and_says_so(own, change, capsys):
    edit_manifest(own, change)
    recipe = Recipe.load(own)
    assert (recipe.frame_sizes, recipe.frame_facts) == (None, None)
    detector = Detector.load(own, device="cpu", threads=1)
    assert detector.info["frame_check"] is None
    result = detector.predict(np.zeros((96, 40, 3), np.uint8))  # nor does it know proportions
    assert result.pred_score == result.map_score
    assert set(result.reasons) <= {"map"}
    capsys.readouterr()
    assert main(["info", str(own)]) == 0
    printed = capsys.readouterr().out
    assert "frames of unknown sizes, as in recipes of version 1 and 2: any is accepted" in printed
    assert "no frame check: some images' facts are unknown" in printed


def test_what_is_ignored_does_not_count(parts, extractor_path, tmp_path):
    ignore = np.zeros((96, 96), bool)
    ignore[:, :48] = True
    how = {"extractor": extractor_path, "threads": 1, "settings": Settings(k_gallery=4, sigma=1.5)}
    fit(parts / "train/good", tmp_path / "recipe", ignore=ignore, **how)
    detector = Detector.load(tmp_path / "recipe", device="cpu", threads=1)
    assert detector.info["frame_check"]["farthest"] is None
    frame = part(300)[0]
    frame[:, :40] = 255  # two pixels of the input beside the mask's edge see some of it
    assert not CHECKS & set(detector.predict(frame).reasons)
    frame[:, 40:] = 0
    assert {"exposure", "contrast"} <= set(detector.predict(frame).reasons)


# --- the command line ------------------------------------------------------------------------------------------------


def test_predict_prints_reasons_and_exits_with_1(recipe_folder, tmp_path, capsys):
    Image.fromarray(np.zeros((96, 96, 3), np.uint8)).save(tmp_path / "black.png")
    assert main(["predict", str(recipe_folder), str(tmp_path / "black.png"), "--json"]) == 1
    record = json.loads(capsys.readouterr().out)
    assert record["pred_label"] is True
    assert {"exposure", "contrast", "sharpness", "unlike"} <= set(record["reasons"])
    assert main(["predict", str(recipe_folder), str(tmp_path / "black.png")]) == 1
    line = capsys.readouterr().out.strip()
    assert line.startswith("ANOMALOUS")
    assert line.endswith(f"black.png  ({', '.join(record['reasons'])})")


def test_eval_counts_reasons(own, parts, tmp_path, capsys):
    dataset = shutil.copytree(parts, tmp_path / "parts")
    shutil.rmtree(dataset / "ground_truth")
    Image.fromarray(np.zeros((96, 96, 3), np.uint8)).save(dataset / "test/scratch/black.png")
    assert main(["eval", str(own), str(dataset), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["reasons"]["contrast"] == {"normal": 0, "abnormal": 1}
    assert summary["reasons"]["map"]["abnormal"] >= 4
    assert summary["confusion"]["pred_label"]["true_positives"] == 5
    assert main(["eval", str(own), str(dataset)]) == 0
    assert "contrast 1" in capsys.readouterr().out


def test_the_check_is_turned_off_and_on_by_commands(own, capsys):
    assert main(["calibrate", str(own), "--frame-check", "off"]) == 0
    assert "frame check off: a black, blurred or empty frame may pass as normal" in capsys.readouterr().out
    assert main(["calibrate", str(own), "--frame-check", "on", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["frame_check"] is True
    assert record["frame_sizes"] == [{"size": [96, 96], "images": 12}]
