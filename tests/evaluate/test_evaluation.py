from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from spadeline.engine.calibration import Threshold
from spadeline.engine.errors import InputError
from spadeline.engine.evaluate.evaluation import evaluate
from spadeline.engine.evaluate.metrics import pixel_curves
from spadeline.engine.evaluate.truth import _placed, true_regions
from spadeline.engine.folders.dataset import LabelledImage, find_dataset
from spadeline.engine.images.resizing import place
from spadeline.engine.recipe.records import Calibration, ImageRecord
from spadeline.engine.result import Result
from spadeline.engine.settings import Settings

from ..conftest import tagged

SIZE = (32, 64)


class FakeDetector:
    """A detector of bright pixels: the map is the frame's gray value, the image score its mean."""

    info = {"extractor": "fake", "threads": 1}  # noqa: RUF012 - read only

    def __init__(self, *, framing="whole", calibrated=True, spoil=None, ignore=None):
        threshold = {"false_alarm_rate": 0.1, "images": 2, "bound": 0.8}
        calibration = Calibration(
            tau=Threshold(value=20.0, **threshold),
            theta=Threshold(value=100.0, **threshold),
            method="leave-one-out",
            image_scores=(1.0, 20.0),
            map_scores=(3.0, 100.0),
        )
        self.recipe = SimpleNamespace(
            settings=Settings(framing=framing),
            calibration=calibration if calibrated else None,
            images=(ImageRecord("one.png"), ImageRecord("two.png")),
            ignore=ignore,
        )
        self.spoil = spoil

    def predict(self, frame, *, need):
        assert need == "map"
        if frame.ndim == 2:
            raise InputError("frame: expected three channels, got two dimensions")
        image, _ = place(frame, SIZE, framing=self.recipe.settings.framing)
        scores = image[..., 0].astype(np.float32)
        if self.spoil is not None:
            scores[0, 0] = self.spoil
        highest = float(scores.max())
        return Result(
            pred_score=highest,
            pred_label=highest > 100 or bool(scores.mean() > 20),
            image_score=float(scores.mean()),
            map_score=highest,
            anomaly_map=scores,
            pred_mask=scores > 100,
            regions=(),
            neighbours=np.zeros((*SIZE, 1, 3), np.int32),
            nearest_images=np.array([1, 0]),
            match_statistics=SimpleNamespace(),
            timings_s={"prepare": 0.001, "extract": 0.002},
        )


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def frame(*boxes, size=(64, 128), background=10):
    pixels = np.full((*size, 3), background, np.uint8)
    for top, left, bottom, right, value in boxes:
        pixels[top:bottom, left:right] = value
    return pixels


@pytest.fixture
def folder(tmp_path):
    """Six frames: one false alarm of the map, one of the image score, one miss, one easy defect, one by area."""
    mask = np.zeros((64, 128), np.uint8)
    mask[16:32, 32:64] = 255
    save(tmp_path / "test/good/0.png", frame())
    save(tmp_path / "test/good/1.png", frame((0, 0, 4, 4, 150)))
    save(tmp_path / "test/good/2.png", frame(background=30))
    save(tmp_path / "test/cut/0.png", frame((16, 32, 32, 64, 255)))
    save(tmp_path / "test/cut/1.png", frame((16, 32, 32, 64, 80)))
    save(tmp_path / "test/hole/0.png", frame((16, 32, 32, 64, 100), background=15))
    for kind, name in (("cut", "0"), ("cut", "1"), ("hole", "0")):
        save(tmp_path / f"ground_truth/{kind}/{name}_mask.png", mask)
    return tmp_path


def test_summary_counts_what_was_right(folder):
    calls = []
    evaluation = evaluate(FakeDetector(), find_dataset(folder), on_progress=lambda *call: calls.append(call))
    assert calls == [("evaluate", done, 6) for done in range(1, 7)]
    summary = evaluation.summary()
    assert summary["images"] == {"total": 6, "normal": 3, "abnormal": 3, "abnormal_with_mask": 3}
    # Map maxima: normal 10, 150, 30; abnormal 255, 80, 100. Means: 10, 10.3, 30; 25.3, 14.4, 20.3
    assert summary["image_rocauc_by_map_score"] == pytest.approx(7 / 9)
    assert summary["image_rocauc_by_image_score"] == pytest.approx(6 / 9)
    counts = {
        name: [row["true_positives"], row["false_positives"], row["true_negatives"], row["false_negatives"]]
        for name, row in summary["confusion"].items()
    }
    assert counts == {"tau": [2, 1, 2, 1], "theta": [1, 1, 2, 2], "pred_label": [2, 2, 1, 1]}
    assert summary["confusion"]["tau"]["threshold"] == 20
    assert summary["confusion"]["theta"]["recall"] == pytest.approx(1 / 3)
    assert summary["confusion"]["pred_label"]["false_alarm_rate"] == pytest.approx(2 / 3)
    assert summary["confusion"]["pred_label"]["threshold"] is None
    assert summary["f1_max_tuned_on_test_labels_by_map_score"]["f1"] == pytest.approx(6 / 7)
    assert summary["by_kind"]["cut"] == {
        "abnormal": True,
        "images": 2,
        "flagged": {"tau": 1, "theta": 1, "pred_label": 1},
        "recall": {"tau": 0.5, "theta": 0.5, "pred_label": 0.5},
    }
    assert summary["by_kind"]["good"]["false_alarm_rate"]["pred_label"] == pytest.approx(2 / 3)
    assert list(summary["timings_s"]) == ["prepare", "extract", "total"]
    assert summary["timings_s"]["prepare"] == {"p50": 0.001, "p95": None, "p99": None, "max": 0.001}  # of 6 images
    assert summary["environment"]["processor"]
    assert summary["environment"]["versions"]["numpy"] == np.__version__
    assert 0 < summary["timings_s"]["total"]["p50"] <= summary["timings_s"]["total"]["max"] < 10
    assert summary["not_computed"] == {}
    assert summary["calibration"]["tau"]["images"] == 2
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_pixel_figures_are_those_of_the_maps_and_masks(folder):
    evaluation = evaluate(FakeDetector(), find_dataset(folder))
    truth = np.zeros(SIZE, bool)
    truth[8:16, 16:32] = True
    for outcome in evaluation.outcomes:
        assert outcome.anomaly_map.dtype == np.float32
        assert outcome.nearest_normal.name == "two.png"
        np.testing.assert_array_equal(outcome.regions, truth & outcome.image.label)
    masks = [outcome.regions for outcome in evaluation.outcomes]
    pixel_roc, pro = pixel_curves(masks, [outcome.anomaly_map for outcome in evaluation.outcomes])
    summary = evaluation.summary()
    assert summary["pixel_rocauc"] == pixel_roc.area() > 0.99
    assert summary["aupro_0.3"] == pro.area(0.3)
    assert summary["aupro_0.05"] == pro.area(0.05)


def test_ignored_pixels_stay_out_of_the_pixel_figures(folder):
    ignore = np.zeros(SIZE, bool)
    ignore[:, 30:] = True
    ignore[:2, :2] = True  # the normal pixels that are brighter than a defect
    evaluation = evaluate(FakeDetector(ignore=ignore), find_dataset(folder))
    assert evaluation.outcomes[0].regions[:, 30:].any()  # an outcome keeps the whole truth
    summary = evaluation.summary()
    masks = [outcome.regions for outcome in evaluation.outcomes]
    maps = [outcome.anomaly_map for outcome in evaluation.outcomes]
    pixel_roc, pro = pixel_curves(masks, maps, ignore=ignore)
    assert summary["pixel_rocauc"] == pixel_roc.area() == 1.0
    assert summary["aupro_0.3"] == pro.area(0.3) == 1.0
    everything = evaluate(FakeDetector(), find_dataset(folder)).summary()
    assert everything["pixel_rocauc"] < 1
    nothing = evaluate(FakeDetector(ignore=np.ones(SIZE, bool)), find_dataset(folder)).summary()
    assert nothing["pixel_rocauc"] is None
    assert nothing["not_computed"]["aupro_0.3"] == "masks: expected normal and anomalous pixels, got no anomalous one"


def test_abnormal_images_without_a_mask_stay_out_of_the_pixel_figures(tmp_path):
    save(tmp_path / "normal/0.png", frame())
    save(tmp_path / "abnormal/0.png", frame((0, 0, 32, 32, 200)))
    save(tmp_path / "abnormal/1.png", frame(background=250))  # would be 8192 false positives
    mask = np.zeros((64, 128, 4), np.uint8)
    mask[..., 3] = 255  # opaque black is not a defect
    mask[:32, :32, 1] = 1  # any colour above 0 is
    save(tmp_path / "masks/0_mask.png", mask)
    evaluation = evaluate(FakeDetector(), find_dataset(tmp_path))
    assert [outcome.regions is None for outcome in evaluation.outcomes] == [False, False, True]
    summary = evaluation.summary()
    assert summary["pixel_rocauc"] == 1
    assert summary["images"]["abnormal_with_mask"] == 1


def test_figures_that_are_not_defined_are_none_with_the_reason(tmp_path):
    save(tmp_path / "test/good/0.png", frame())
    summary = evaluate(FakeDetector(), find_dataset(tmp_path)).summary()
    one_class = "labels: expected samples of both classes, got 1 normal and 0 anomalous"
    no_mask = "masks: expected one for at least one abnormal image, got none"
    assert summary["not_computed"] == {
        "image_rocauc_by_image_score": one_class,
        "image_rocauc_by_map_score": one_class,
        "pixel_rocauc": no_mask,
        "aupro_0.3": no_mask,
        "aupro_0.05": no_mask,
        "f1_max_tuned_on_test_labels_by_image_score": one_class,
        "f1_max_tuned_on_test_labels_by_map_score": one_class,
    }
    assert all(summary[name] is None for name in summary["not_computed"])
    assert summary["confusion"]["tau"]["recall"] is None
    assert json.dumps(summary, allow_nan=False)


def test_empty_masks_leave_the_pixel_figures_undefined(tmp_path):
    save(tmp_path / "normal/0.png", frame())
    save(tmp_path / "abnormal/0.png", frame())
    save(tmp_path / "masks/0.png", np.zeros((64, 128), np.uint8))
    with pytest.warns(UserWarning, match=r"0\.png: expected a mark and a background, got 0 in all 8192 pixels"):
        summary = evaluate(FakeDetector(), find_dataset(tmp_path)).summary()
    reason = "masks: expected normal and anomalous pixels, got no anomalous one"
    assert summary["not_computed"] == dict.fromkeys(("pixel_rocauc", "aupro_0.3", "aupro_0.05"), reason)


@given(
    size=st.tuples(st.integers(6, 12), st.integers(6, 12)),
    frame_size=st.tuples(st.integers(8, 40), st.integers(8, 40)),
    framing=st.sampled_from(["whole", "paper"]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(deadline=None)
def test_a_map_pixel_takes_the_mask_pixel_under_its_centre(size, frame_size, framing, seed):
    mask = np.random.default_rng(seed).random(frame_size) > 0.5
    _, placement = place(np.zeros((*frame_size, 3), np.uint8), size, framing=framing)
    placed = _placed(mask, size, placement)
    assert placed.shape == size
    for y, x in np.ndindex(size):
        frame_y, frame_x = placement.to_frame(y, x)
        assert placed[y, x] == mask[int(np.floor(frame_y + 0.5)), int(np.floor(frame_x + 0.5))]


def test_paper_framing_crops_the_mask_like_the_frame(folder):
    evaluation = evaluate(FakeDetector(framing="paper"), find_dataset(folder))
    for outcome in evaluation.outcomes:
        if outcome.image.kind == "cut":
            bright = outcome.anomaly_map > (10 + outcome.map_score) / 2
            assert bright.sum() > 150
            assert np.count_nonzero(bright != (outcome.regions > 0)) < 0.1 * bright.sum()  # one edge halves its pixels


def test_a_crack_that_falls_apart_at_the_maps_size_stays_one_region(tmp_path):
    mask = np.zeros((256, 256), np.uint8)
    cv2.line(mask, (20, 30), (230, 200), 255, 2)
    save(tmp_path / "0_mask.png", mask)
    image = LabelledImage(path=tmp_path / "0.png", label=True, kind="crack", mask_paths=(tmp_path / "0_mask.png",))
    regions = true_regions(image, np.zeros((256, 256, 3), np.uint8), (56, 56), framing="whole")
    assert cv2.connectedComponents((regions > 0).astype(np.uint8), connectivity=8)[0] > 2
    assert np.unique(regions).tolist() == [0, 1]


def test_a_region_too_small_for_the_map_has_the_pixel_under_its_centroid(tmp_path):
    """The defect has 2 x 2 pixels, a map pixel 8 x 8: if it had no pixel, PRO would silently leave the region out."""
    mask = np.zeros((256, 512), np.uint8)
    mask[8:10, 16:18] = mask[40:42, 40:42] = mask[41:43, 44:46] = mask[100:140, 100:140] = 255
    save(tmp_path / "mask.png", mask)
    image = LabelledImage(path=tmp_path / "x.png", label=True, kind="x", mask_paths=(tmp_path / "mask.png",))
    regions = true_regions(image, frame(size=(256, 512)), SIZE, framing="whole")
    assert regions[1, 2] == 1
    assert regions[5, 5] in (2, 3)  # two in one map pixel: one of them has it
    assert set(np.unique(regions)) == {0, 1, regions[5, 5], 4}
    assert np.count_nonzero(regions == 4) == 25


def test_a_region_outside_of_the_framing_stays_out(tmp_path):
    mask = np.zeros((256, 512), np.uint8)
    mask[:2, :2] = 255
    save(tmp_path / "mask.png", mask)
    image = LabelledImage(path=tmp_path / "x.png", label=True, kind="x", mask_paths=(tmp_path / "mask.png",))
    assert not true_regions(image, frame(size=(256, 512)), SIZE, framing="paper").any()


def test_masks_of_another_size_are_refused(folder):
    path = folder / "ground_truth/hole/0_mask.png"
    save(path, np.zeros((64, 64), np.uint8))
    text = f"{path}: expected a mask of its image's size 64 x 128, got 64 x 64"
    with pytest.raises(InputError) as caught:
        evaluate(FakeDetector(), find_dataset(folder))
    assert str(caught.value) == text


def test_a_damaged_image_is_named(folder):
    path = folder / "test/good/0.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InputError, match=r"good/0\.png: expected an undamaged image"):
        evaluate(FakeDetector(), find_dataset(folder))


def test_a_frame_that_the_detector_refuses_is_named(folder):
    save(folder / "test/good/0.png", np.zeros((64, 128), np.uint8))
    with pytest.raises(InputError) as caught:
        evaluate(FakeDetector(), find_dataset(folder))
    path = folder / "test/good/0.png"
    assert str(caught.value) == f"{path}: frame: expected three channels, got two dimensions"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(folder, value):
    with pytest.raises(InputError, match=r"0\.png: expected finite scores, got NaN or infinity"):
        evaluate(FakeDetector(spoil=value), find_dataset(folder))


def test_nothing_to_evaluate(tmp_path, folder):
    save(tmp_path / "other/train/good/0.png", frame())
    with pytest.raises(InputError, match="other: expected test images in test/good and test/<kind>, got none"):
        evaluate(FakeDetector(), find_dataset(tmp_path / "other"))
    with pytest.raises(InputError, match="detector: expected a recipe with thresholds, got one without"):
        evaluate(FakeDetector(calibrated=False), find_dataset(folder))


def test_frames_that_were_stored_lying_and_upright_masks_fit_together(parts, recipe_folder, tmp_path):
    from spadeline.engine import Detector

    shutil.copytree(parts / "ground_truth", tmp_path / "ground_truth")
    for path in sorted((parts / "test").rglob("*.png")):
        tagged(path, tmp_path / path.relative_to(parts), turned=True)
    detector = Detector.load(recipe_folder, device="cpu", threads=1)
    upright, lying = (evaluate(detector, find_dataset(folder)).summary() for folder in (parts, tmp_path))
    for name in ("pixel_rocauc", "aupro_0.3"):
        assert lying[name] == upright[name]
    assert upright["pixel_rocauc"] > 0.9
