import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spadeline.engine.calibration import threshold
from spadeline.engine.errors import InputError, RecipeError
from spadeline.engine.files import StoredFile
from spadeline.engine.images.frame_facts import FrameFacts
from spadeline.engine.match.codes import CODES_VERSION
from spadeline.engine.recipe import manifest_json
from spadeline.engine.recipe.gallery import Geometry
from spadeline.engine.recipe.manifest import Manifest
from spadeline.engine.recipe.manifest_json import from_json, to_json
from spadeline.engine.recipe.records import Calibration, ImageRecord
from spadeline.engine.settings import Settings

from ..recipes import as_version_1, as_version_2, encoded, peak_memory

PATH = Path("line") / "recipe.json"
DIGEST = "0123456789abcdef" * 4
NAMES = {
    "extractor": "extractor-1.onnx",
    "embeddings": "embeddings-2.npy",
    "layer1": "layer1-2.npy",
    "layer2": "layer2-2.npy",
}
CODES = {  # update_codes made them, later than the features
    "basis-layer1": "basis-layer1-3.npy",
    "rotated-layer1": "rotated-layer1-3.npy",
    "basis-layer2": "basis-layer2-3.npy",
    "projected-layer2": "projected-layer2-3.npy",
}
SCORES = (0.1, 1e-300, 1 / 3)
TAU = threshold(SCORES, false_alarm_rate=0.25)
EXAMPLE = Manifest(
    spadeline_version="0.1.0",
    created="2026-01-02T03:04:05+00:00",
    generation=2,
    settings=Settings(window=3),
    geometry=Geometry(
        input_size=(20, 28),
        level_names=("layer1", "layer2"),
        level_shapes=((3, 5, 7), (4, 3, 4)),
        embedding_size=6,
    ),
    files={role: StoredFile(name, 1000, DIGEST) for role, name in NAMES.items()},
    calibration=Calibration(TAU, TAU, "leave-one-out", SCORES, SCORES),
    images=(ImageRecord("a.png", DIGEST), ImageRecord("b.png")),  # size and facts are unknown, as in older versions
)


FACTS = {"brightness": 101.5, "contrast": 30.25, "sharpness": 1.75}


def image(name, **changes):
    """Return an image's record as JSON."""
    return {"name": name, "sha256": None, "pixels_sha256": None, "size": None, "facts": None} | changes


def files_of(names):
    return {role: StoredFile(name, 1000, DIGEST) for role, name in names.items()}


KNOWN = EXAMPLE.changed(
    settings=Settings(frame_check="off", frame_shape="warn"),
    images=(ImageRecord("a.png", DIGEST, size=(96, 128), facts=FrameFacts(**FACTS)), ImageRecord("b.png")),
)
FULL = EXAMPLE.changed(
    settings=Settings(window=3, level_weights=(1.0, 0.25)),
    files=files_of(NAMES | CODES | {"ignore": "ignore-1.npy"}),
    codes_version=CODES_VERSION,
    calibration=Calibration(TAU, TAU, "held-out", SCORES, SCORES, ("c.png", "d.png", "e.png")),
    images=(ImageRecord("a.png", DIGEST, DIGEST[::-1]), ImageRecord("b.png")),
)


def content(manifest=EXAMPLE):
    return json.loads(to_json(manifest))


def version_2():
    """Return EXAMPLE as version 2 wrote it."""
    as_version_2(old := content())
    return old


def version_1():
    """Return EXAMPLE as version 1 wrote it."""
    as_version_1(old := content())
    return old


@pytest.mark.parametrize(
    "manifest", [EXAMPLE, KNOWN, FULL, EXAMPLE.changed(calibration=None), FULL.changed(codes_version=CODES_VERSION + 1)]
)
def test_round_trip(manifest):
    assert from_json(to_json(manifest), PATH) == manifest


def test_is_readable_without_us():
    assert to_json(EXAMPLE).startswith(b'{\n  "format": "spadeline-recipe",\n  "version": 3,\n')
    assert content()["settings"]["window"] == 3
    assert content()["files"]["layer1"] == {"name": "layer1-2.npy", "size": 1000, "sha256": DIGEST}


@pytest.mark.parametrize("old", [version_1(), version_2()])
def test_older_versions_are_read_and_written_as_version_3(old):
    manifest = from_json(encoded(old), PATH)
    assert manifest == EXAMPLE
    assert (manifest.version, manifest.is_sealed) == (old["version"], False)
    assert manifest.codes_version is None
    assert manifest.settings.level_weights is None
    again = from_json(to_json(manifest), PATH)
    assert (again, again.version, again.is_sealed) == (EXAMPLE, 3, True)


def test_version_2_is_read_with_what_it_knew():
    as_version_2(old := content(FULL))
    manifest = from_json(encoded(old), PATH)
    assert manifest.calibration == replace(FULL.calibration, image_names=None)
    assert manifest.images == EXAMPLE.images
    assert manifest.changed(calibration=FULL.calibration, images=FULL.images) == FULL
    old["images"][1]["pixels_sha256"] = None
    refuse(old, "version", 2, "images: image 1: 'pixels_sha256' is unknown")
    as_version_2(old := content(FULL))
    refuse(old, "calibration.image_names", None, "calibration: 'image_names' is unknown")


def test_every_flipped_bit_is_found():
    original = to_json(FULL)
    for position in range(8 * len(original)):
        flipped = bytearray(original)
        flipped[position // 8] ^= 1 << position % 8
        with pytest.raises(RecipeError):
            from_json(bytes(flipped), PATH)


@pytest.mark.parametrize(
    "edit",
    [
        lambda raw: raw.replace(b'"sigma": 4.0', b'"sigma": 5.0'),
        lambda raw: raw.replace(b"\n", b"\r\n"),
        lambda raw: raw + b"\n",
        lambda raw: json.dumps(json.loads(raw)).encode(),
        lambda raw: encoded(version_2()).replace(b'"version": 2', b'"version": 3'),
    ],
)
def test_an_edited_recipe_json_says_what_to_do(edit):
    with pytest.raises(RecipeError) as error:
        from_json(edit(to_json(EXAMPLE)), PATH)
    assert str(error.value) == (
        f"{PATH}: expected to end with the SHA-256 of what precedes it, got another end: it was damaged, or edited by "
        "hand; restore it from a copy, and change settings with: spadeline calibrate"
    )


def test_the_hash_can_be_checked_without_us(tmp_path):
    (tmp_path / "recipe.json").write_bytes(to_json(EXAMPLE))
    command = ["sh", "-c", "head -n -2 recipe.json | sha256sum"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == content()["sha256"]


@pytest.mark.parametrize(
    ("keys", "value", "text"),
    [
        ("codes_version", None, "'codes_version' is unknown"),
        ("codes_version", 1, "'codes_version' is unknown"),
        ("settings.level_weights", None, "settings: 'level_weights' is unknown"),
        ("files.ignore", {"name": "ignore-1.npy", "size": 1, "sha256": DIGEST}, "files: 'ignore' is unknown"),
        (
            "files.rotated-layer1",
            {"name": "rotated-layer1-1.npy", "size": 1, "sha256": DIGEST},
            "files: expected extractor",
        ),
    ],
)
def test_version_1_has_nothing_of_later_versions(keys, value, text):
    refuse(version_1(), keys, value, text)


@pytest.mark.parametrize("keys", ["codes_version", "settings.level_weights"])
@pytest.mark.parametrize("version", [version_2, content])
def test_later_versions_have_all_their_fields(version, keys):
    lacking = version()
    *parents, last = keys.split(".")
    part = lacking[parents[0]] if parents else lacking
    del part[last]
    with pytest.raises(RecipeError, match=f"{last} is missing"):
        from_json(encoded(lacking), PATH)


@pytest.mark.parametrize("kept", [{}, CODES, {"rotated-layer2": "rotated-layer2-9.npy"}])
def test_codes_of_another_version_may_have_other_files(kept):
    manifest = EXAMPLE.changed(files=files_of(NAMES | kept), codes_version=CODES_VERSION + 1)
    assert not manifest.has_codes
    assert from_json(to_json(manifest), PATH) == manifest


POSIX_NAMES = st.binary(min_size=1, max_size=30).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)


@settings(deadline=None, max_examples=150)
@given(
    names=st.lists(POSIX_NAMES | TEXTS, min_size=1, max_size=5, unique=True),
    scores=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5).map(tuple),
    sigma=st.floats(0, 1000),
    generation=st.integers(1, 10**18 - 1),
)
def test_round_trip_of_any_value(names, scores, sigma, generation):
    tau = threshold(scores, false_alarm_rate=0.1)
    files = {
        role: StoredFile(name.replace("2.npy", f"{generation}.npy"), generation, DIGEST) for role, name in NAMES.items()
    }
    manifest = EXAMPLE.changed(
        images=tuple(ImageRecord(name) for name in names),
        calibration=Calibration(tau, tau, "held-out", scores, scores),
        settings=Settings(sigma=sigma),
        generation=generation,
        files=files,
    )
    assert from_json(to_json(manifest), PATH) == manifest


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", "expected strict JSON: Expecting value"),
        (b"{", "expected strict JSON: Expecting property name"),
        (to_json(EXAMPLE)[:-20], "expected strict JSON: "),
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
    ],
)
def test_refuses_what_is_not_a_recipe(raw, text):
    with pytest.raises(RecipeError) as error:
        from_json(raw, PATH)
    assert str(error.value).startswith(f"{PATH}: ")
    assert text in str(error.value)


@pytest.mark.parametrize(
    ("keys", "value", "text"),
    [
        ("format", "other", "expected an object of format 'spadeline-recipe'"),
        ("version", 4, "expected version 1 to 3 of the format, got 4"),
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


def refuse(changed, keys, value, text):
    part = changed
    *parents, last = keys.split(".")
    for key in parents:
        part = part[key]
    part[last] = value
    with pytest.raises(RecipeError) as error:
        from_json(encoded(changed), PATH)
    assert str(error.value).startswith(f"{PATH}: ")
    assert text in str(error.value)


def test_overflowing_numbers_are_refused():
    raw = encoded(version_2()).replace(b'"sigma": 4.0', b'"sigma": 4e999')
    with pytest.raises(RecipeError, match="settings: sigma: expected a finite number from 0 to 1000, got inf"):
        from_json(raw, PATH)


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
        to_json(EXAMPLE)


@pytest.mark.parametrize("filler", [b"[],", b"{},", b'{"a":0},', b'"a":[],'])
def test_a_file_full_of_empty_values_is_refused_in_little_memory(filler):
    raw = b'{"format": "spadeline-recipe", "version": 2, "images": [' + filler * ((60 << 20) // len(filler)) + b"0]}"

    def refused():
        with pytest.raises(RecipeError, match=r"expected at most 4194304 brackets, commas and colons, got \d+"):
            from_json(raw, PATH)

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
            from_json(encoded(changed), PATH)
        assert len(str(error.value)) < 2000
