"""The library and Python give the same verdict on the same frames, for all settings."""

import shutil

import numpy as np
import pytest
from spadeline.engine import Detector, Settings, fit
from spadeline.engine.errors import InputError

from shared_parts.library import ARGUMENT, CallError

from ..conftest import part
from ..recipes import as_version_1, as_version_2, as_version_3, as_version_4, edit_manifest, without_codes
from .comparing import assert_same, assert_same_label, assert_same_mask

pytestmark = pytest.mark.xdist_group("door")
SCRATCHED, GOOD = part(301, scratched=True)[0], part(117)[0]
DARK = (GOOD // 6).astype(np.uint8)
FRAMES = (SCRATCHED, GOOD, DARK)
CHANGES = {
    "window": {"window": 1, "kappa": 3},
    "weights": {"level_weights": [0.5, 1.0, 2.0], "distance": "root"},
    "either": {"label_rule": "either", "sigma": 0},
    "image": {"label_rule": "image", "k_score": 5, "k_gallery": 2},
    "bilinear": {"upsampling": "bilinear"},
    "no check": {"frame_check": "off"},
    "k above n": {"k_score": 1000, "k_gallery": 1000},
    "need": {"need": "label"},
}


@pytest.fixture
def changed(recipe_folder, tmp_path):
    """Copy the recipe, with a change of recipe.json's content."""

    def changed(change):
        folder = tmp_path / "recipe"
        shutil.copytree(recipe_folder, folder)
        edit_manifest(folder, change)
        return folder

    return changed


def compare(library, folder, frames=FRAMES, *, threads=2, gallery="auto", color="rgb"):
    """Compare the library's results with those of Python, for each need; return the number of anomalous ones."""
    detector, anomalous = Detector.load(folder, device="cpu", threads=threads), 0
    checks = {"map": assert_same, "mask": assert_same_mask, "label": assert_same_label}
    for need, check in checks.items():
        with library.inspector(folder, threads=threads, need=need, gallery=gallery) as inspector:
            for frame in frames:
                got = library.inspect(inspector, frame, color=color)
                check(got, detector.predict(frame, need=need, color=color))
                anomalous += got.pred_label
    return anomalous


@pytest.mark.filterwarnings("ignore:k_")
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_settings(library, changed, change):
    def edit(content):
        content["settings"] |= change

    compare(library, changed(edit))


def test_the_recipe_as_fitted(library, recipe_folder):
    assert compare(library, recipe_folder) == 6  # the scratch and the dark frame, for each need


def test_the_recipes_own_need(library, changed):
    folder = changed(lambda content: content["settings"].update(need="mask"))
    with library.inspector(folder) as inspector:
        assert library.inspect(inspector, GOOD).need == "mask"


@pytest.mark.parametrize("edit", [as_version_1, as_version_2, as_version_3, as_version_4, without_codes])
def test_older_recipes_and_those_without_codes(library, changed, edit):
    assert compare(library, changed(edit), FRAMES[:2]) == 3


def test_mapped_and_verified(library, recipe_folder):
    compare(library, recipe_folder, FRAMES[:1], gallery="mapped", threads=1)
    with library.inspector(recipe_folder, gallery="mapped", verify=True) as inspector:
        assert library.inspect(inspector, SCRATCHED).pred_label


@pytest.mark.filterwarnings("ignore:1 of 12 images scores far above the others")
@pytest.mark.parametrize("framing", ["whole", "paper"])
def test_an_ignore_mask_and_float32(library, parts, extractor_path, tmp_path, framing):
    ignore = np.zeros((96, 96), np.uint8)
    ignore[:30] = 255
    settings = Settings(
        framing=framing,
        storage="float32",
        kappa=2,
        k_gallery=6,
        sigma=2,
        window=2,
        label_rule="either",
        frame_shape="any",
    )
    folder = tmp_path / "recipe"
    fit(parts / "train" / "good", folder, extractor=extractor_path, settings=settings, ignore=ignore, threads=2)
    sizes = (np.repeat(SCRATCHED, 3, axis=0), SCRATCHED[10:80, 20:60], SCRATCHED[:50, :40], part(302, size=200)[0])
    compare(library, folder, (*FRAMES, *sizes))


@pytest.mark.parametrize("color", ["gray", "rgb", "bgr", "rgba", "bgra"])
def test_colours_and_rows_that_lie_apart(library, recipe_folder, color):
    channels = {"gray": 0, "rgb": 3, "bgr": 3}.get(color, 4)
    rng = np.random.default_rng(5)
    wide = rng.integers(0, 256, (192, 230, channels) if channels else (192, 230), np.uint8)
    compare(library, recipe_folder, (wide[:, 10:202], wide[:96, :96]), color=color)


def test_frames_of_other_proportions(library, changed, recipe_folder):
    frame = SCRATCHED[:60]
    detector = Detector.load(recipe_folder, device="cpu", threads=1)
    with library.inspector(recipe_folder) as inspector:
        with pytest.raises(CallError) as refused:
            library.inspect(inspector, frame)
        with pytest.raises(InputError) as expected:
            detector.predict(frame)
        assert (refused.value.code, str(refused.value)) == (ARGUMENT, str(expected.value))
        assert library.inspect(inspector, SCRATCHED).warning is None  # it can be used on
    folder = changed(lambda content: content["settings"].update(frame_shape="warn"))
    with library.inspector(folder) as inspector:
        assert library.inspect(inspector, frame).warning == str(expected.value)


def test_a_deadline_that_has_passed(library, recipe_folder):
    detector = Detector.load(recipe_folder, device="cpu", threads=1)
    for need in ("map", "mask", "label"):
        with library.inspector(recipe_folder, threads=1, need=need, deadline_s=0) as inspector:
            got = library.inspect(inspector, GOOD)
            assert_same(got, detector.predict(GOOD, need=need, deadline_s=0))
            assert (got.decided, got.pred_label) == (False, True)
            library.expect(library.c.spadeline_set_deadline(inspector, 1e9))
            assert_same_label(library.inspect(inspector, GOOD), detector.predict(GOOD, need=need))
