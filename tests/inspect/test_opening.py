"""Loading a detector: what is decided, held in memory and refused before the first frame."""

import hashlib
import json
import shutil
from collections import deque

import cv2
import faiss
import numpy as np
import pytest
from spadeline.engine import Detector, InputError, RecipeError, Settings, calibrate, fit
from spadeline.engine.extract.extractor import Extractor
from spadeline.engine.inspect.scoring import Scorer
from spadeline.engine.recipe.changes import remove_images
from spadeline.engine.recipe.recipe import Recipe

from ..conftest import part
from ..recipes import edit_manifest
from .test_detector import assert_same

FRAMES = [part(300)[0], part(301, scratched=True)[0]]


@pytest.fixture
def folder(recipe_folder, tmp_path):
    return shutil.copytree(recipe_folder, tmp_path / "recipe")


def test_a_detector_keeps_its_extractor_when_the_recipe_is_replaced(folder, parts, extractor_path, tmp_path):
    detector = Detector.load(folder, device="cpu", threads=2)
    expected = [detector.predict(frame) for frame in FRAMES]
    fit(
        parts / "test" / "good", folder, extractor=extractor_path, settings=Settings(k_score=2, k_gallery=2),
        threads=1, overwrite=True,
    )  # fmt: skip
    assert not detector.recipe.extractor_path.exists()
    for streamed, alone in zip(detector.stream(FRAMES), expected, strict=True):
        assert_same(streamed, alone)
    detector.warm_up(FRAMES)
    assert_same(detector.predict(FRAMES[1]), expected[1])


def test_a_recipe_replaced_while_it_is_loaded_is_the_one_that_was_opened(folder, monkeypatch):
    system_load = Recipe.load

    def load_and_lose(*arguments, **options):
        recipe = system_load(*arguments, **options)
        shutil.rmtree(folder)
        return recipe

    monkeypatch.setattr(Recipe, "load", staticmethod(load_and_lose))
    detector = Detector.load(folder, device="cpu", threads=1)
    assert detector.predict(FRAMES[1]).pred_label


def test_one_number_of_threads_governs_all(recipe_folder, monkeypatch):
    """None is resolved once: OpenCV and faiss don't know a container's quota of processors."""
    before = cv2.getNumThreads(), faiss.omp_get_max_threads()
    try:
        for module in ("inspect.detector", "inspect.scoring", "extract.session", "extract.providers", "match.matcher"):
            monkeypatch.setattr(f"spadeline.engine.{module}.processors", lambda: 1)
        cv2.setNumThreads(2)
        faiss.omp_set_num_threads(2)
        Scorer(Recipe.load(recipe_folder))
        assert faiss.omp_get_max_threads() == 1
        faiss.omp_set_num_threads(2)
        assert Detector.load(recipe_folder, device="cpu").info["threads"] == 1
        assert (cv2.getNumThreads(), faiss.omp_get_max_threads()) == (1, 1)
        Detector.load(recipe_folder, device="cpu", threads=2)
        assert (cv2.getNumThreads(), faiss.omp_get_max_threads()) == (2, 2)
    finally:
        cv2.setNumThreads(before[0])
        faiss.omp_set_num_threads(before[1])


def test_an_extractor_of_another_embedding_is_refused(recipe_folder, monkeypatch):
    levels = ((8, 16, 16), (16, 8, 8), (24, 4, 4))
    monkeypatch.setattr(Extractor, "_try_out", lambda _: (levels, 16))
    text = r"extractor-1\.onnx: expected .* and 24 numbers in an embedding, got .* and 16 numbers in an embedding$"
    with pytest.raises(RecipeError, match=text):
        Detector.load(recipe_folder, device="cpu", threads=1)


def test_a_kappa_beyond_reach_is_refused(folder):
    # 16 x 16 pixels of the finest level, 4 x 4 of which a window of 0 lets each pixel reach in an image.
    calibrate(folder, changes={"kappa": 60, "window": 0}, threads=1)
    remove_images(folder, [f"{index:03}.png" for index in range(9)])
    with pytest.warns(UserWarning, match="k_gallery"), pytest.raises(RecipeError) as caught:
        Detector.load(folder, device="cpu", threads=1)
    assert str(caught.value) == (
        f"{folder}: expected a kappa of at most the 48 gallery pixels within reach in 3 images, got 60; "
        "set another with: spadeline calibrate"
    )
    calibrate(folder, changes={"kappa": 32, "k_gallery": 3}, threads=1)
    edit_manifest(folder, lambda content: content["settings"].update(kappa=48))
    assert Detector.load(folder, device="cpu", threads=1).predict(FRAMES[0]).neighbours.shape == (16, 16, 48, 3)


def test_embeddings_that_are_not_finite_name_their_file(folder):
    path = folder / "embeddings-1.npy"
    content = bytearray(path.read_bytes())
    content[-4:] = np.float32(np.nan).tobytes()
    path.write_bytes(content)
    for verify in (False, True):
        with pytest.raises(RecipeError) as caught:
            Detector.load(folder, device="cpu", threads=1, verify=verify)
        assert str(caught.value).startswith(f"{path}: expected SHA-256")
    digest = hashlib.sha256(content).hexdigest()
    edit_manifest(folder, lambda c: c["files"]["embeddings"].update(sha256=digest))
    for verify, row in ((False, ""), (True, " in row 11")):
        with pytest.raises(RecipeError) as caught:
            Detector.load(folder, device="cpu", threads=1, verify=verify)
        assert str(caught.value) == f"{path}: expected finite numbers, got NaN or infinity{row}"


@pytest.mark.parametrize("kind", [list, tuple, deque, np.stack])
def test_any_sequence_is_a_batch(recipe_folder, kind):
    detector = Detector.load(recipe_folder, device="cpu", threads=1)
    expected = [detector.predict(frame) for frame in FRAMES]
    for result, alone in zip(detector.predict_batch(kind(FRAMES)), expected, strict=True):
        assert_same(result, alone)
    detector.warm_up(kind(FRAMES))


@pytest.mark.parametrize("frames", [{0: FRAMES[0]}, set("ab"), 7, iter(FRAMES)])
def test_a_batch_that_is_not_a_sequence_is_refused(recipe_folder, frames):
    detector = Detector.load(recipe_folder, device="cpu", threads=1)
    for call in (detector.predict_batch, detector.warm_up):
        with pytest.raises(InputError, match="frames: expected a sequence of frames, got "):
            call(frames)


def test_thresholds_of_0_make_a_score_that_json_holds(folder):
    def forget(content):
        content["settings"]["label_rule"] = "either"
        for name in ("tau", "theta"):
            content["calibration"][name]["value"] = 0

    edit_manifest(folder, forget)
    result = Detector.load(folder, device="cpu", threads=1).predict(255 - FRAMES[0])
    assert type(result.pred_score) is float
    assert result.pred_label
    assert json.loads(json.dumps(result.pred_score, allow_nan=False)) == result.pred_score > 1e300
