"""The library and Python give the same verdict with what is built into a recipe: extractor, angles, framing, storage."""

import ctypes
import json

import numpy as np
import pytest
from spadeline.engine import Detector, Recipe, Settings, calibrate, fit

from shared_parts.drawn import part
from shared_parts.library import RawResult

from .comparing import assert_same, assert_same_label, assert_same_mask

pytestmark = [
    pytest.mark.xdist_group("door"),
    pytest.mark.filterwarnings("ignore::UserWarning"),  # few drawn parts are alike enough
]
SCRATCHED, GOOD = part(301, scratched=True)[0], part(117)[0]
FRAMES = (SCRATCHED, GOOD, np.ascontiguousarray(np.rot90(SCRATCHED)), part(303, scratched=True, size=150)[0])
CHECKS = {"map": assert_same, "mask": assert_same_mask, "label": assert_same_label}
BUILT_IN = {
    "angles": ("float32", {"angles": 4, "k_gallery": 20}),
    "angles in the paper's frame": ("float32", {"angles": 3, "framing": "paper", "storage": "float32", "kappa": 2}),
    "averaged": ("averaged", {"window": 1}),
    "averaged, as float32": ("averaged", {"storage": "float32", "level_weights": (2.0, 1.0, 0.5), "sigma": 0}),
    "int8": ("int8", {"label_rule": "either", "distance": "root"}),
    "int8, averaged": ("int8, averaged", {"label_rule": "image", "kappa": 3, "upsampling": "bilinear"}),
    "int8 at angles": ("int8", {"angles": 2, "frame_shape": "warn", "need": "mask"}),
}


@pytest.fixture(scope="module")
def extractors(extractor_path, parts, tmp_path_factory):
    """The small extractor, the same in integers, and both with averaged levels."""
    pytest.importorskip("onnx")
    from spadeline.export import average_extractor
    from spadeline.export.quantize import quantize

    folder = tmp_path_factory.mktemp("extractors")
    paths = {"float32": extractor_path, "int8": folder / "int8.onnx"}
    images = [part(seed, size=64)[0] for seed in range(4)]
    paths["int8"].write_bytes(quantize(extractor_path, images, properties={"precision": "int8"}))
    for name in ("float32", "int8"):
        averaged = "averaged" if name == "float32" else f"{name}, averaged"
        paths[averaged] = folder / f"{averaged}.onnx"
        average_extractor(paths[averaged], paths[name], neighbourhood=3)
    return paths


@pytest.mark.parametrize(("extractor", "settings"), BUILT_IN.values(), ids=BUILT_IN)
def test_what_is_built_in(library, extractors, parts, tmp_path, extractor, settings):
    folder = tmp_path / "recipe"
    fit(parts / "train" / "good", folder, extractor=extractors[extractor], settings=Settings(**settings), threads=2)
    detector = Detector.load(folder, device="cpu", threads=2)
    for need, check in CHECKS.items():
        for gallery in ("memory", "mapped"):
            with library.inspector(folder, need=need, gallery=gallery, verify=gallery == "mapped") as inspector:
                for frame in FRAMES:
                    check(library.inspect(inspector, frame), detector.predict(frame, need=need))
        with library.inspector(folder, need=need, threads=1, deadline_s=0) as inspector:
            assert_same(library.inspect(inspector, GOOD), detector.predict(GOOD, need=need, deadline_s=0))


@pytest.mark.parametrize("changes", [{"window": 0, "kappa": 2}, {"label_rule": "either", "distance": "root"}])
def test_thresholds_made_anew(library, extractors, parts, tmp_path, changes):
    folder = tmp_path / "recipe"
    fit(parts / "train" / "good", folder, extractor=extractors["float32"], threads=2)
    calibrate(folder, changes=changes, false_alarm_rate=0.3, threads=2)
    detector = Detector.load(folder, device="cpu", threads=2)
    with library.inspector(folder, verify=True) as inspector:
        for seed in range(120, 130):  # with so high a rate, some good parts are anomalous
            frame = part(seed)[0]
            assert_same(library.inspect(inspector, frame), detector.predict(frame))


def test_an_image_is_compared_with_other_families(library, extractors, parts, tmp_path):
    folder = tmp_path / "recipe"
    settings = Settings(angles=4, sigma=1.0)
    fit(parts / "train" / "good", folder, extractor=extractors["float32"], settings=settings, threads=2)
    recipe = Recipe.load(folder)
    handle, text = library.load(folder), ctypes.c_char_p()
    library.expect(library.c.spadeline_describe(handle, ctypes.byref(text)))
    described = json.loads(text.value)
    assert described["settings"]["angles"] == 4
    limits = Detector.load(folder, device="cpu", threads=1).info["frame_check"]
    assert described["frame_check"] == limits
    embeddings = [recipe.embeddings[row] for row in range(48)]
    nearest = [
        min(((embeddings[start] - embeddings[other]) ** 2).sum() for other in range(48) if other // 4 != start // 4)
        for start in range(0, 48, 4)
    ]
    assert limits["farthest"] == pytest.approx(2 * max(nearest), rel=1e-5)
    names = [library.c.spadeline_image_name(handle, index).decode() for index in range(48)]
    assert names == [image.name for image in recipe.images]
    assert names[1] == "000.png, turned by 90 degrees"
    library.c.spadeline_free_recipe(handle)


def test_the_structure_has_the_size_that_the_library_says(library, recipe_folder):
    with library.inspector(recipe_folder) as inspector:
        _, result = library.inspect_raw(inspector, GOOD)
        assert result.contents.struct_size == ctypes.sizeof(RawResult)
