"""The detector: verdicts equal the reference method's, by every method, batch size and number of threads."""

import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import faiss
import numpy as np
import pytest
from spadeline.engine import Detector, InputError, RecipeError, Settings, instruction_sets
from spadeline.engine.extract.extractor import Extractor
from spadeline.engine.images.reading import read_image
from spadeline.engine.images.resizing import as_rgb, place
from spadeline.engine.match import reference
from spadeline.engine.recipe.changes import set_calibration
from spadeline.engine.recipe.recipe import Recipe
from spadeline.engine.result import Statistics

from ..conftest import part

FRAMES = [part(300)[0], part(301, scratched=True)[0], part(302, size=70)[0], part(303, scratched=True, size=128)[0]]


@pytest.fixture(scope="module")
def detector(recipe_folder):
    return Detector.load(recipe_folder, device="cpu", threads=2)


@pytest.fixture(scope="module")
def masked(parts, extractor_path, tmp_path_factory):
    """A detector with level weights that ignores the upper left quarter: whole pixels of the coarsest level."""
    from spadeline.engine import fit

    settings = Settings(k_score=3, k_gallery=8, kappa=2, sigma=1.5, level_weights=(2.0, 1.0, 0.5))
    mask = np.zeros((96, 96), bool)
    mask[:48, :48] = True
    folder = tmp_path_factory.mktemp("masked") / "recipe"
    fit(
        parts / "train" / "good", folder, extractor=extractor_path, settings=settings, false_alarm_rate=0.1, ignore=mask,
        threads=1,
    )  # fmt: skip
    return Detector.load(folder, device="cpu", threads=1)


def assert_same(a, b):
    assert (a.pred_label, a.pred_score, a.image_score, a.map_score, a.regions) == (
        b.pred_label, b.pred_score, b.image_score, b.map_score, b.regions,
    )  # fmt: skip
    for name in ("anomaly_map", "pred_mask", "neighbours", "nearest_images"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_a_scratch_is_found_and_explained(detector):
    result = detector.predict(FRAMES[1])
    mask = part(301, scratched=True)[1] > 0
    assert result.pred_label
    assert result.pred_score == result.map_score == result.anomaly_map.max() > detector.recipe.calibration.theta.value
    top, left, bottom, right = result.regions[0].box
    assert mask[top:bottom, left:right].sum() > 0.5 * mask.sum()
    y, x = result.regions[0].peak
    assert mask[max(y - 4, 0) : y + 5, max(x - 4, 0) : x + 5].any()
    np.testing.assert_array_equal(result.pred_mask, result.anomaly_map > detector.recipe.calibration.theta.value)
    assert result.neighbours.shape == (16, 16, 2, 3)
    assert set(np.unique(result.neighbours[..., 0])) <= set(result.nearest_images.tolist())
    assert set(result.timings_s) == {"prepare", "extract", "retrieve", "match", "map"}
    assert not detector.predict(FRAMES[0]).pred_label


def test_the_chain_is_the_reference_method(detector):
    recipe = detector.recipe
    extractor = Extractor(recipe.extractor_path, device="cpu", threads=1)
    image, _ = place(as_rgb(FRAMES[1]), recipe.input_size, framing="whole")
    features = extractor.extract(image[None])
    gallery = [np.concatenate(images) for images in zip(*(recipe.features(i).levels for i in range(12)), strict=True)]
    result = detector.predict(FRAMES[1])
    assert result.image_score == pytest.approx(
        reference.image_score(features.embedding[0], np.asarray(recipe.embeddings), 3), rel=1e-6
    )
    distances, neighbours = reference.match(
        [level[0] for level in features.levels], gallery, result.nearest_images, kappa=2
    )
    np.testing.assert_array_equal(result.neighbours, neighbours)
    expected = reference.anomaly_map(distances, recipe.input_size, sigma=1.5)
    np.testing.assert_allclose(result.anomaly_map, expected, rtol=1e-4)


def test_weights_and_mask_are_the_references(masked):
    recipe = masked.recipe
    image, _ = place(as_rgb(FRAMES[3]), recipe.input_size, framing="whole")
    features = masked.extractor.extract(image[None])
    gallery = [np.concatenate(images) for images in zip(*(recipe.features(i).levels for i in range(12)), strict=True)]
    result = masked.predict(FRAMES[3])
    ignore = np.zeros((16, 16), bool)
    ignore[:8, :8] = True
    distances, neighbours = reference.match(
        [level[0] for level in features.levels], gallery, result.nearest_images, kappa=2, weights=(2.0, 1.0, 0.5),
        ignore=ignore,
    )  # fmt: skip
    np.testing.assert_array_equal(result.neighbours, neighbours)
    expected = reference.anomaly_map(distances, recipe.input_size, sigma=1.5, ignore=recipe.ignore)
    np.testing.assert_allclose(result.anomaly_map, expected, rtol=1e-4)
    assert (result.neighbours[ignore] == -1).all()
    assert not result.anomaly_map[recipe.ignore].any()


def test_a_defect_in_ignored_pixels_raises_no_alarm_and_another_does(masked, detector):
    under_the_mask, elsewhere = part(300)[0], part(300)[0]
    under_the_mask[10:18, 10:40] = elsewhere[70:78, 10:40] = 255
    assert detector.predict(under_the_mask).pred_label
    result = masked.predict(under_the_mask)
    assert not result.pred_label
    assert result.regions == ()
    assert result.map_score == result.anomaly_map[~masked.recipe.ignore].max() > 0
    result = masked.predict(elsewhere)
    assert result.pred_label
    assert 66 <= result.regions[0].peak[0] <= 82
    assert not result.pred_mask[masked.recipe.ignore].any()


def test_every_result_says_what_the_matcher_did(masked, detector):
    for result in (detector.predict(FRAMES[0]), *masked.predict_batch(FRAMES[:2])):
        assert isinstance(result.match_statistics, Statistics)


def test_info_has_the_ignored_share(masked, detector):
    assert detector.info["ignored_share"] is None
    assert masked.info["ignored_share"] == masked.recipe.ignore.mean()
    assert type(masked.info["ignored_share"]) is float


def test_overlays_hatch_what_is_ignored(masked):
    frame = np.full((64, 64, 3), 100, np.uint8)
    quiet = masked.predict(FRAMES[0])
    picture = masked.overlay(frame, replace(quiet, anomaly_map=np.zeros((64, 64), np.float32), regions=()))
    changed = (picture != frame).any(axis=2)
    np.testing.assert_array_equal(changed, masked.recipe.ignore)


def test_batches_threads_and_callers_agree(detector, recipe_folder):
    alone = [detector.predict(frame) for frame in FRAMES]
    for result, expected in zip(detector.predict_batch(FRAMES * 3), alone * 3, strict=True):
        assert_same(result, expected)
    single = Detector.load(recipe_folder, device="cpu", threads=1)
    for frame, expected in zip(FRAMES, alone, strict=True):
        assert_same(single.predict(frame), expected)
    with ThreadPoolExecutor(3) as pool:
        for result, expected in zip(pool.map(detector.predict, FRAMES * 4), alone * 4, strict=True):
            assert_same(result, expected)
    assert detector.predict_batch([]) == []


def test_color_is_declared_never_guessed(detector):
    rgb = FRAMES[1]
    expected = detector.predict(rgb)
    assert_same(detector.predict(rgb[..., ::-1], color="bgr"), expected)
    assert_same(detector.predict(np.dstack([rgb, np.full(rgb.shape[:2], 7, np.uint8)])), expected)
    gray = rgb[..., 0]
    assert_same(detector.predict(gray), detector.predict(np.dstack([gray] * 3)))


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (np.zeros((32, 32, 3), np.float32), "frame: expected a uint8 array, got float32"),
        (np.zeros((32, 32, 2), np.uint8), r"frame: expected .* got \(32, 32, 2\)"),
        (np.zeros((1, 1, 3), np.uint8), "frame: expected sides of at least 8 pixels, got 1 x 1"),
    ],
)
def test_a_bad_frame_is_refused(detector, frame, text):
    with pytest.raises(InputError, match=text):
        detector.predict(frame)


@pytest.mark.parametrize("door", ["predict_batch", "warm_up"])
def test_frames_that_are_no_sequence_are_refused(detector, door):
    """A single frame's rows would be taken for frames, and a generator has no length."""
    for frames, text in (
        (FRAMES[0], r"frames: expected frames one after the other, got a single array \(96, 96, 3\)"),
        (iter(FRAMES), "frames: expected a sequence of frames, got list_iterator"),
        (7, "frames: expected a sequence of frames, got int"),
    ):
        with pytest.raises(InputError, match=text):
            getattr(detector, door)(frames)


def test_a_stack_is_a_sequence_of_frames(detector):
    for result, frame in zip(detector.predict_batch(np.stack([FRAMES[0]] * 2)), [FRAMES[0]] * 2, strict=True):
        assert_same(result, detector.predict(frame))


@pytest.mark.parametrize("rule", ["map", "image", "either"])
def test_the_label_rule_decides(recipe_folder, tmp_path, rule):
    folder = shutil.copytree(recipe_folder, tmp_path / "recipe")
    recipe = Recipe.load(folder)
    settings = Settings(**{**vars(recipe.settings), "label_rule": rule})
    set_calibration(folder, recipe.calibration, settings=settings)
    detector = Detector.load(folder, device="cpu", threads=1)
    tau, theta = recipe.calibration.tau.value, recipe.calibration.theta.value
    for frame in FRAMES:
        result = detector.predict(frame)
        by_image, by_map = result.image_score > tau, result.map_score > theta
        assert result.pred_label == {"map": by_map, "image": by_image, "either": by_map or by_image}[rule]
        score = {"map": result.map_score, "image": result.image_score}
        assert result.pred_score == score.get(rule, max(result.image_score / tau, result.map_score / theta))
        assert result.pred_label == (result.pred_score > {"map": theta, "image": tau, "either": 1}[rule])


def test_too_large_ks_are_clamped_with_a_warning(parts, extractor_path, tmp_path):
    from spadeline.engine import fit

    with pytest.warns(
        UserWarning, match=r"k_gallery: expected at most the recipe's 12 normal images, got 50; 12 are used"
    ):
        fit(parts / "train" / "good", tmp_path / "r", extractor=extractor_path, threads=1)
    with pytest.warns(UserWarning, match="k_gallery"):
        detector = Detector.load(tmp_path / "r", device="cpu", threads=1)
    assert len(detector.predict(FRAMES[0]).nearest_images) == 12


def test_info_says_what_runs_where(detector):
    info = detector.info
    assert info["extractor"] == "CPUExecutionProvider"
    assert (info["backbone"], info["weights"], info["images"], info["threads"]) == ("averages", "random", 12, 2)
    assert (info["precision"], info["neighbourhood"]) == ("float32", 1)
    assert info["instruction_set"] in instruction_sets()


def test_one_thread_setting_governs_all(recipe_folder):
    for threads in (1, 2):
        info = Detector.load(recipe_folder, device="cpu", threads=threads).info
        assert (info["threads"], faiss.omp_get_max_threads(), cv2.getNumThreads()) == (threads,) * 3


def test_overlay_has_the_frames_size_and_marks_the_scratch(detector):
    result = detector.predict(FRAMES[1])
    picture = detector.overlay(FRAMES[1], result)
    assert picture.shape == FRAMES[1].shape
    mask = part(301, scratched=True)[1] > 0
    changed = (picture != FRAMES[1]).any(axis=-1)
    assert changed[mask].mean() > 0.5 > changed[~mask].mean()


def test_a_recipe_without_thresholds_cannot_judge(recipe_folder, tmp_path):
    folder = shutil.copytree(recipe_folder, tmp_path / "recipe")
    set_calibration(folder, None)
    with pytest.raises(RecipeError, match="expected thresholds, got none; make them with: spadeline calibrate"):
        Detector.load(folder, device="cpu", threads=1)


def test_an_extractor_that_was_swapped_is_refused(recipe_folder, tmp_path, extractor_path):
    import onnx

    folder = shutil.copytree(recipe_folder, tmp_path / "recipe")
    stored = folder / Recipe.load(folder).extractor_path.name
    content = stored.read_bytes()
    damaged = content.replace(b"layer3", b"layer4")
    assert len(damaged) == len(content)
    onnx.load_from_string(damaged)
    stored.write_bytes(damaged)
    with pytest.raises(RecipeError, match=r"extractor-1\.onnx: expected SHA-256"):
        Detector.load(folder, device="cpu", threads=1, verify=True)


def test_an_extractor_of_other_levels_is_refused_without_verifying(recipe_folder, monkeypatch):
    levels = ((8, 16, 16), (16, 8, 8), (32, 4, 4))
    monkeypatch.setattr(Extractor, "_try_out", lambda _: (levels, 24))
    text = (
        r"extractor-1\.onnx: expected input \(64, 64\), levels .*\(24, 4, 4\)\) and 24 numbers in an embedding, got "
        r"input \(64, 64\), levels .*\(32, 4, 4\)\) and 24 numbers in an embedding$"
    )
    with pytest.raises(RecipeError, match=text):
        Detector.load(recipe_folder, device="cpu", threads=1)


def test_the_runtime_never_imports_torch_nor_what_an_inspection_can_do_without(recipe_folder):
    import subprocess
    import sys

    program = (
        "import sys; from spadeline.engine import Detector; "
        f"Detector.load({str(recipe_folder)!r}, device='cpu', threads=1); "
        "print({'torch', 'matplotlib', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_hazelnut_reaches_its_figures_by_evaluate_batch_and_stream(hazelnut, tmp_path):
    """Default settings, but 10 of the 50 images: the time grows with k_gallery, the figures hardly change."""
    from spadeline.engine import fit
    from spadeline.engine.evaluate.evaluation import evaluate
    from spadeline.engine.folders.dataset import find_dataset

    images, network = hazelnut
    dataset = find_dataset(images)
    fit(dataset.train, tmp_path / "r", extractor=network, settings=Settings(k_gallery=10), device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detector = Detector.load(tmp_path / "r", device="cpu", threads=2)
    summary = evaluate(detector, dataset).summary()
    assert summary["pixel_rocauc"] >= 0.985
    assert summary["image_rocauc_by_map_score"] >= 0.95
    frames = [read_image(image.path) for image in dataset.test[:4]]
    single = Detector.load(tmp_path / "r", device="cpu", threads=1)
    for frame, batched in zip(frames, detector.predict_batch(frames), strict=True):
        assert_same(batched, detector.predict(frame))
        assert_same(batched, single.predict(frame))
    for streamed, frame in zip(detector.stream(frames), frames, strict=True):
        assert_same(streamed, detector.predict(frame))
