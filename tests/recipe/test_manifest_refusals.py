"""Each field of recipe.json that is refused, with a text that names it; files that are none; values that can't be written."""

import pytest
from spadeline.engine.errors import InputError, RecipeError
from spadeline.engine.recipe import manifest_json
from spadeline.engine.recipe.manifest_json import manifest_from_json, manifest_to_json
from spadeline.engine.settings import Settings

from ..recipes import encoded, peak_memory
from .manifests import DIGEST, EXAMPLE, FACTS, FULL, PATH, content, image, refuse, version_2

RECORD = content(FULL)["tuning"]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", "expected strict JSON: Expecting value"),
        (b"{", "expected strict JSON: Expecting property name"),
        (manifest_to_json(EXAMPLE)[:-20], "expected strict JSON: "),
        (b"\xff\xfe{\0}\0", "expected strict JSON: 'utf-8' codec can't decode"),
        (b"\xef\xbb\xbf{}", "expected strict JSON: Unexpected UTF-8 BOM"),
        (b"[" * 100_000, "expected strict JSON: maximum recursion depth exceeded"),
        (b'{"a": ' * 100_000, "expected strict JSON: maximum recursion depth exceeded"),
        (b"1" * 5000, "expected strict JSON: Exceeds the limit"),
        (b"null", "expected an object of format 'spadeline-recipe'"),
        (b"{}", "expected an object of format 'spadeline-recipe'"),
        (b'{"format": "spadeline-recipe", "format": "spadeline-recipe"}', "keys: 'format' comes twice"),
        (b'{"format": NaN}', "expected finite numbers, got NaN"),
        (b'{"format": -Infinity}', "expected finite numbers, got -Infinity"),
        (b'{"format": "spadeline-recipe", "version": 1}', "calibration is missing"),
        (b'{"format": "spadeline-recipe", "version": 2}', "calibration is missing"),
        (b'{"format": "spadeline-recipe", "version": 3}', "expected to end with the SHA-256 of what precedes it"),
        (b'{"format": "spadeline-recipe", "version": 5}', "expected to end with the SHA-256 of what precedes it"),
    ],
)
def test_refuses_what_is_not_a_recipe(raw, text):
    with pytest.raises(RecipeError) as error:
        manifest_from_json(raw, PATH)
    assert str(error.value).startswith(f"{PATH}: ")
    assert text in str(error.value)


@pytest.mark.parametrize(
    ("keys", "value", "text"),
    [
        ("format", "other", "expected an object of format 'spadeline-recipe'"),
        ("version", 6, "expected version 1 to 5 of the format, got 6"),
        ("version", 0, "got 0"),
        ("version", 2.0, "got 2.0"),
        ("version", True, "got True"),
        ("version", "3", "got '3'"),
        ("version", 3.0, "got 3.0"),
        ("version", [2], "got [2]"),
        ("version", None, "got None"),
        ("extra", 1, "'extra' is unknown"),
        ("spadeline_version", "", "spadeline_version: expected text of 1 to 100 characters, got ''"),
        ("created", "yesterday", "created: expected a time in UTC as ISO 8601, got 'yesterday'"),
        ("created", "2026-01-02T03:04:05", "created: expected a time in UTC"),
        ("created", 5, "created: expected text"),
        ("generation", 0, "generation: expected an integer from 1 to 999999999999999999, got 0"),
        ("generation", 2.0, "generation: expected an integer"),
        ("generation", 10**4000, "generation: expected an integer"),
        ("generation", 3, "files: embeddings: expected the name embeddings-3.npy, got 'embeddings-2.npy'"),
        ("settings", [], "settings: expected an object, got []"),
        ("settings.kappa", 0, "settings: kappa: expected an integer from 1 to 1000, got 0"),
        ("settings.extra", 0, "settings: 'extra' is unknown"),
        ("settings.level_weights", "12", "settings: level_weights: expected"),
        ("settings.level_weights", [1.0], "level_weights: expected 2, one for each of layer1, layer2, got 1"),
        ("settings.level_weights", [1, 1, 1], "level_weights: expected 2, one for each of layer1, layer2, got 3"),
        ("settings.sigma", 10**400, "settings: sigma: expected a finite number"),
        ("geometry", None, "geometry: expected an object, got None"),
        ("geometry.input_size", [20], "geometry: input_size: expected (H, W), got (20,)"),
        (
            "geometry.embedding_size",
            -6,
            "geometry: embedding_size: expected an integer from 1 to 1048576, got -6",
        ),
        ("geometry.level_names", "layer1", "geometry: level_names: expected tuple, got str"),
        ("geometry.level_shapes", [[3, 5, 7], [2**40, 3, 4]], "shape of layer2: c: expected an integer"),
        ("geometry.level_shapes", [[3, 5, 7], [4, 0, 4]], "shape of layer2: h: expected an integer"),
        ("geometry.level_shapes", [[3, 5, 7], [4, 4, 4]], "level 1: expected the size of level 0"),
        ("files", [], "files: expected an object, got []"),
        (
            "files.layer3",
            {"name": "a", "size": 1, "sha256": DIGEST},
            "files: expected extractor, embeddings, layer1",
        ),
        ("files.layer1", None, "files: layer1: expected an object, got None"),
        ("files.layer1.size", 0, "files: layer1: size: expected an integer"),
        ("files.layer1.sha256", "0" * 63, "files: layer1: sha256: expected 64 hexadecimal digits"),
        (
            "files.layer1.name",
            "layer2-2.npy",
            "files: layer1: expected the name layer1-2.npy, got 'layer2-2.npy'",
        ),
        ("files.layer1.name", "../layer1-2.npy", "files: layer1: expected the name layer1-2.npy"),
        ("files.embeddings.name", "/etc/passwd", "files: embeddings: expected the name embeddings-2.npy"),
        (
            "files.extractor.name",
            "../extractor-1.onnx",
            "extractor: expected the name extractor-<generation>.onnx",
        ),
        (
            "files.extractor.name",
            "extractor-1.onnx\n",
            "extractor: expected the name extractor-<generation>.onnx",
        ),
        (
            "files.extractor.name",
            "extractor-0.onnx",
            "extractor: expected the name extractor-<generation>.onnx",
        ),
        ("calibration", {}, "calibration: image_names is missing"),
        ("calibration.method", "guess", "calibration: method: expected one of"),
        ("calibration.tau", 1.0, "calibration: tau: expected an object, got 1.0"),
        ("calibration.tau.value", None, "calibration: tau: value: expected a finite number, got None"),
        ("calibration.tau.images", 4, "calibration: image_scores: expected tau's 4 scores, got 3"),
        ("calibration.map_scores", [1.0, "x", 2.0], "calibration: map_scores[1]: expected float, got str"),
        ("tuning", {}, "tuning: changed is missing"),
        (
            "tuning",
            RECORD | {"changed": ["colour"]},
            "changed[0]: expected a setting's name or 'extractor', got 'colour'",
        ),
        ("tuning", RECORD | {"changed": ["sigma", "sigma"]}, "changed: 'sigma' comes twice"),
        ("tuning", RECORD | {"date": "2026-01-03"}, "tuning: date: expected a time in UTC as ISO 8601"),
        ("tuning", RECORD | {"tried": 0}, "tuning: tried: expected an integer from 1"),
        ("tuning", RECORD | {"found": 9}, "tuning: found: expected an integer from 0 to 8, got 9"),
        ("tuning", RECORD | {"false_alarms_before": 5}, "false_alarms_before: expected an integer from 0 to 4, got 5"),
        ("images", {}, "images: expected a list, got {}"),
        ("images", [], "images: expected one or more, got none"),
        ("images", ["a.png"], "images: image 0: expected an object, got 'a.png'"),
        ("images", [image("a")] * 2, "images: 'a' comes twice"),
        ("images", [image("a", sha256=7)], "images: image 0: image 'a': sha256: expected 64 hexadecimal digits"),
        (
            "images",
            [image("a", pixels_sha256="ab")],
            "image 'a': pixels_sha256: expected 64 hexadecimal digits, got 'ab'",
        ),
        ("images", [image("\ud800")], "expected text without lone surrogates"),
        ("images", [image("a", size=[256])], "image 'a': size: expected (height, width), got (256,)"),
        (
            "images",
            [image("a", size=[256, 0])],
            "image 'a': size: width: expected an integer from 1 to 100000000, got 0",
        ),
        ("images", [image("a", size=256)], "image 'a': size: expected (height, width), got 256"),
        ("images", [image("a", facts={"brightness": 1.0})], "images: image 0: facts: contrast is missing"),
        ("images", [image("a", facts=FACTS | {"contrast": None})], "facts: contrast: expected a finite number"),
        ("settings.frame_check", True, "settings: frame_check: expected one of on, off, got True"),
        ("settings.need", "all", "settings: need: expected one of map, mask, label, got 'all'"),
        ("settings.frame_shape", "crop", "settings: frame_shape: expected one of error, warn, any, got 'crop'"),
        ("calibration.image_names", ["a.png", "b.png"], "image_names: expected one for each of 3 scores, got 2"),
        ("calibration.image_names", ["a.png", 1, "b.png"], "image_names[1]: expected str, got int"),
        ("calibration.image_names", ["a.png", "b.png", "a.png"], "image_names: 'a.png' comes twice"),
    ],
)
def test_refuses_a_field(keys, value, text):
    refuse(content(), keys, value, text)


@pytest.mark.parametrize(
    ("keys", "value", "text"),
    [
        ("codes_version", 0, "codes_version: expected an integer from 1 to 2147483647, got 0"),
        ("codes_version", True, "codes_version: expected an integer"),
        ("codes_version", 2**40, "codes_version: expected an integer"),
        ("codes_version", None, "files: expected extractor, embeddings, layer1, layer2, possibly ignore, got"),
        (
            "geometry.level_shapes",
            [[3, 5, 7], [2**15 + 1, 3, 4]],
            "codes_version: expected none for levels of 3, 32769 channels, got 1",
        ),
        ("files.projected-layer1", {"name": "projected-layer1-3.npy", "size": 1, "sha256": DIGEST}, "files: expected"),
        ("files.rotated-layer3", {"name": "rotated-layer3-3.npy", "size": 1, "sha256": DIGEST}, "files: expected"),
        (
            "files.rotated-layer1.name",
            "projected-layer2-3.npy",
            "files: rotated-layer1: expected the name rotated-layer1-<generation>.npy, got 'projected-layer2-3.npy'",
        ),
        ("files.rotated-layer1.name", "../rotated-layer1-3.npy", "expected the name rotated-layer1-<generation>.npy"),
        ("files.rotated-layer1.name", "rotated-layer1-3.npy\n", "expected the name rotated-layer1-<generation>.npy"),
        ("files.basis-layer1.name", "basis-layer1-3xnpy", "expected the name basis-layer1-<generation>.npy"),
        ("files.basis-layer1.name", "basis-layer1-0.npy", "expected the name basis-layer1-<generation>.npy"),
        ("files.ignore.name", "/ignore-1.npy", "files: ignore: expected the name ignore-<generation>.npy"),
        ("files.ignore.size", 0, "files: ignore: size: expected an integer"),
    ],
)
def test_refuses_a_field_of_codes_and_mask(keys, value, text):
    refuse(content(FULL), keys, value, text)


def test_overflowing_numbers_are_refused():
    raw = encoded(version_2()).replace(b'"sigma": 4.0', b'"sigma": 4e999')
    with pytest.raises(RecipeError, match="settings: sigma: expected a finite number from 0 to 1000, got inf"):
        manifest_from_json(raw, PATH)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"settings": {"kappa": 1}}, r"settings: expected Settings, got dict"),
        ({"geometry": None}, r"geometry: expected Geometry, got NoneType"),
        ({"calibration": 1.0}, r"calibration: expected Calibration, got float"),
        (
            {"settings": Settings(level_weights=(1.0,))},
            r"level_weights: expected 2, one for each of layer1, layer2, got 1",
        ),
        ({"codes_version": "1"}, r"codes_version: expected an integer"),
        ({"codes_version": 1}, r"files: expected .*projected-layer2, possibly ignore, got extractor"),
        ({"images": ("a",)}, r"images\[0\]: expected ImageRecord, got str"),
    ],
)
def test_refuses_values_that_could_not_be_read_back(changes, text):
    with pytest.raises(InputError, match=text):
        EXAMPLE.changed(**changes)


def test_refuses_to_write_more_than_a_reader_takes(monkeypatch):
    monkeypatch.setattr(manifest_json, "LARGEST_MANIFEST", 1000)
    with pytest.raises(InputError, match=r"recipe\.json of 1000 bytes, got 2, which take"):
        manifest_to_json(EXAMPLE)


@pytest.mark.parametrize("filler", [b"[],", b"{},", b'{"a":0},', b'"a":[],'])
def test_a_file_full_of_empty_values_is_refused_in_little_memory(filler):
    raw = b'{"format": "spadeline-recipe", "version": 2, "images": [' + filler * ((60 << 20) // len(filler)) + b"0]}"

    def refused():
        with pytest.raises(RecipeError, match=r"expected at most 4194304 brackets, commas and colons, got \d+"):
            manifest_from_json(raw, PATH)

    assert peak_memory(refused) < 1 << 20


def test_errors_quote_no_megabytes():
    long = "x" * 1_000_000
    for change in (
        lambda c: c.update({long: 1}),
        lambda c: c["files"].update({long: c["files"]["layer1"]}),
        lambda c: c["files"].update({long: 7}),
        lambda c: c["images"].extend([{"name": long, "sha256": None}] * 2),
        lambda c: c["geometry"].update(level_names=[long, long]),
        lambda c: c["settings"].update(index_factory=long),
    ):
        changed = content()
        change(changed)
        with pytest.raises(RecipeError) as error:
            manifest_from_json(encoded(changed), PATH)
        assert len(str(error.value)) < 2000
