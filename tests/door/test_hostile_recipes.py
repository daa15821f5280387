"""What Python refuses of a recipe, the library refuses with the same sentence; damaged files are named."""

import json
import os
import re
import shutil
from dataclasses import asdict

import numpy as np
import pytest
from spadeline.engine import Recipe
from spadeline.engine.calibration import threshold
from spadeline.engine.errors import RecipeError

from shared_parts.library import ARGUMENT, EXTRACTOR, RECIPE, CallError

from ..recipes import edit_manifest, encoded

pytestmark = pytest.mark.xdist_group("door")
GONE = object()
TUNING = {
    "date": "2026-01-02T03:04:05+00:00",
    "extractors": 2,
    "tried": 30,
    "changed": ["extractor", "angles"],
    "choosing_abnormal": 4,
    "choosing_good": 4,
    "final_abnormal": 4,
    "final_good": 5,
    "found_before": 1,
    "found": 4,
    "false_alarms_before": 0,
    "false_alarms": 5,
}
WRONG = [
    ("settings.angles", 0),
    ("settings.angles", 73),
    ("settings.angles", GONE),
    ("format", "other"),
    ("version", 6),
    ("version", 0),
    ("version", 2.0),
    ("version", True),
    ("version", "3"),
    ("version", GONE),
    ("extra", 1),
    ("spadeline_version", ""),
    ("created", "yesterday"),
    ("created", "2026-01-02T03:04:05"),
    ("created", "2026-02-30T03:04:05+00:00"),
    ("created", "0000-01-02T03:04:05+00:00"),
    ("created", "20260102T030405Z"),
    ("created", "2026-01-02T03:04:05+01:00"),
    ("created", 5),
    ("generation", 0),
    ("generation", 1.0),
    ("generation", 2**64),
    ("generation", 3),
    ("settings", []),
    ("settings.kappa", 0),
    ("settings.kappa", GONE),
    ("settings.window", -1),
    ("settings.sigma", "4"),
    ("settings.sigma", -0.5),
    ("settings.framing", "half"),
    ("settings.framing", None),
    ("settings.label_rule", "any"),
    ("settings.index_factory", "Flat\n"),
    ("settings.index_factory", "IVF4,PQ8"),
    ("settings.extra", 0),
    ("settings.level_weights", [1.0]),
    ("settings.level_weights", [1.0, 1.0, 1e7]),
    ("settings.need", "all"),
    ("geometry", None),
    ("geometry.input_size", [64]),
    ("geometry.input_size", [2**15, 2**15]),
    ("geometry.input_size", [2**40, 64]),
    ("geometry.level_names", ["layer1", "layer2", "layer1"]),
    ("geometry.level_names", ["layer1", "../layer2", "layer3"]),
    ("geometry.level_names", []),
    ("geometry.level_shapes", [[8, 16, 16], [2**40, 8, 8], [32, 4, 4]]),
    ("geometry.level_shapes", [[8, 16, 16], [16, 16, 16], [32, 4, 4]]),
    ("geometry.embedding_size", 0),
    ("files", []),
    ("files.embeddings", GONE),
    ("files.layer9", {"name": "layer9-1.npy", "size": 1, "sha256": "0" * 64}),
    ("files.layer1", None),
    ("files.layer1.size", 0),
    ("files.layer1.sha256", "0" * 63),
    ("files.layer1.sha256", "A" * 64),
    ("files.layer1.name", "../layer1-1.npy"),
    ("files.embeddings.name", "/etc/passwd"),
    ("files.extractor.name", "extractor-0.onnx"),
    ("files.extractor.name", "extractor-1.onnx\n"),
    ("codes_version", 0),
    ("codes_version", "1"),
    ("calibration.tau.value", None),
    ("calibration.tau.bound", 2),
    ("calibration.theta.confidence", 1),
    ("calibration.method", "guessed"),
    ("calibration.map_scores", [1.0]),
    ("calibration.image_names", ["a"]),
    ("calibration.extra", 1),
    ("tuning", {}),
    ("tuning", TUNING | {"changed": ["weights"]}),
    ("tuning", TUNING | {"changed": ["sigma", "sigma"]}),
    ("tuning", TUNING | {"extractors": 0}),
    ("tuning", TUNING | {"found": 5}),
    ("tuning", TUNING | {"extra": 1}),
    ("images", []),
    ("images", {}),
    ("images.0.name", ""),
    ("images.0.name", "x" * 4097),
    ("images.0.sha256", "x"),
    ("images.0.size", [0, 5]),
    ("images.0.facts.contrast", 256),
    ("images.0.facts", {}),
    ("images.0.original", GONE),
    ("images.0.degrees", GONE),
    ("images.1.original", ""),
    ("images.1.degrees", 361),
    ("images.1.degrees", -1),
    ("images.1.degrees", 90),
    ("images.1", {"original": "000.png"}),
    ("images.1", {"original": "002.png", "degrees": 90.0}),
    ("images.2", {"original": "000.png", "degrees": 90.0}),
    ("images.0", {"original": "000.png", "degrees": 90.0}),
]


def changed(content, keys, value):
    """Set, or remove, what the keys lead to; an item of a list is changed in part."""
    *parents, last = (int(key) if key.isdigit() else key for key in keys.split("."))
    for key in parents:
        content = content[key]
    if isinstance(value, dict) and isinstance(last, int):
        content[last] |= value
    elif value is GONE:
        del content[last]
    else:
        content[last] = value


@pytest.fixture
def copied(recipe_folder, tmp_path):
    return shutil.copytree(recipe_folder, tmp_path / "recipe")


@pytest.fixture
def refusal(library, copied):
    """Return the text with which the library refuses the copied recipe."""

    def refusal(code=RECIPE, **options):
        with pytest.raises(CallError) as error, library.inspector(copied, **options):
            pass
        assert error.value.code == code, str(error.value)
        return str(error.value)

    return refusal


def spoken(text):
    """Return a text without what came, which is spelt in another way, and without punctuation of lists."""
    return re.sub(r", got .*|\(.*\)", "", text, flags=re.DOTALL)


def test_a_record_of_tuning(library, copied):
    edit_manifest(copied, lambda content: content.update(tuning=TUNING))
    assert Recipe.load(copied).tuning.changed == ("extractor", "angles")
    library.c.spadeline_free_recipe(library.load(copied))


def test_manifests(library, copied):
    original, different = json.loads((copied / "recipe.json").read_bytes()), []
    for keys, value in WRONG:
        content = json.loads(json.dumps(original))
        changed(content, keys, value)
        (copied / "recipe.json").write_bytes(encoded(content))
        with pytest.raises(RecipeError) as expected:
            Recipe.load(copied)
        with pytest.raises(CallError) as came:
            library.load(copied)
        assert came.value.code == RECIPE
        if spoken(str(came.value)) != spoken(str(expected.value)):
            different.append((keys, value, str(came.value), str(expected.value)))
    assert different == []


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", "expected strict JSON"),
        (b"{", "expected strict JSON"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' * 100_000, "nested too deeply"),
        (b"[" * (2**22 + 1), "at most 4194304 brackets, commas and colons"),
        (b"1" * 500, "expected strict JSON"),
        (b"null", "expected an object of format 'spadeline-recipe'"),
        (b'{"format": "spadeline-recipe", "format": "spadeline-recipe"}', "keys: 'format' comes twice"),
        (b'{"format": NaN}', "expected strict JSON"),
        (b'{"format": "\\ud800"}', "expected strict JSON"),
        (b'{"format": "\xff"}', "expected strict JSON"),
        (b'{"format": "spadeline-recipe", "version": 1}', "calibration is missing"),
        (b'{"format": "spadeline-recipe", "version": 5}', "expected to end with the SHA-256 of what precedes it"),
        (b" " * ((64 << 20) + 1), "expected at most 67108864 bytes"),
    ],
)
def test_files_that_are_no_manifest(copied, refusal, raw, text):
    (copied / "recipe.json").write_bytes(raw)
    assert text in refusal()


def test_a_flipped_bit_of_the_manifest(copied, refusal):
    raw = (copied / "recipe.json").read_bytes()
    (copied / "recipe.json").write_bytes(raw.replace(b'"sigma": 1.5', b'"sigma": 1.6'))
    assert "expected to end with the SHA-256" in refusal()


def test_names_that_are_no_utf_8(library, copied):
    edit_manifest(copied, lambda content: content["images"][0].update(name="\udcff\udc80 part.png"))
    recipe = library.load(copied)
    assert library.c.spadeline_image_name(recipe, 0) == b"\xff\x80 part.png"
    library.c.spadeline_free_recipe(recipe)


@pytest.mark.parametrize("name", ["embeddings-1.npy", "layer2-1.npy", "projected-layer3-1.npy", "extractor-1.onnx"])
def test_damaged_files(copied, refusal, name):
    path = copied / name
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert re.match(rf"{path}: expected SHA-256 [0-9a-f]+, got [0-9a-f]+: its content was changed", refusal())
    path.write_bytes(good[:-1])
    assert refusal() == f"{path}: expected {len(good)} bytes, got {len(good) - 1}"
    path.unlink()
    assert refusal() == f"{path}: is missing"
    path.mkdir()
    assert refusal() == f"{path}: expected an ordinary file, got a folder or a device"
    path.rmdir()
    os.mkfifo(path)
    assert refusal() == f"{path}: expected an ordinary file, got a folder or a device"


def replace(folder, role, content):
    """Put another content into a recipe's file, with its size and hash."""
    import hashlib

    def edit(manifest):
        stored = manifest["files"][role]
        (folder / stored["name"]).write_bytes(content)
        stored |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    edit_manifest(folder, edit)


def test_arrays_of_another_form(copied, refusal):
    good = (copied / "embeddings-1.npy").read_bytes()
    for content, text in (
        (b"\x93NUMPY\x02" + good[7:], "expected a .npy file of format 1.0"),
        (good.replace(b"'<f4'", b"'<f8'"), "in C order, got the header"),
        (good.replace(b"False", b"True "), "in C order, got the header"),
        (good + b"\0\0\0\0", "bytes for float32"),
        (good[:8] + b"\xff\xff" + good[10:], "in C order, got the header"),
        (good[:5], "expected a .npy file of format 1.0"),
        (good[:-4] + np.float32(np.nan).tobytes(), "expected finite numbers, got NaN or infinity in row 11"),
    ):
        replace(copied, "embeddings", content)
        assert text in refusal()
    replace(copied, "embeddings", good[:-4] + np.float32(1e30).tobytes())
    assert "embeddings: expected numbers from" in refusal(ARGUMENT)


def test_bases_that_are_none(copied, refusal):
    good = (copied / "basis-layer2-1.npy").read_bytes()
    replace(copied, "basis-layer2", good[:-4] + np.float32(0.9).tobytes())
    assert "basis: expected orthonormal directions" in refusal()


def test_features_that_are_not_finite(copied, refusal):
    good = (copied / "layer1-1.npy").read_bytes()
    replace(copied, "layer1", good[:-2] + np.float16(np.inf).tobytes())
    assert "expected finite numbers, got NaN or infinity in row 11" in refusal(verify=True)


@pytest.mark.parametrize(("name", "scores"), [("tau", "image_scores"), ("theta", "map_scores")])
@pytest.mark.parametrize("field", ["value", "bound", "false_alarm_rate", "confidence", "scores"])
def test_thresholds_that_the_scores_do_not_give(library, copied, refusal, name, scores, field):
    def edit(content):
        calibration = content["calibration"]
        if field == "scores":
            calibration[scores] = [2 * score for score in calibration[scores]]
        else:
            calibration[name][field] *= 0.75 if field == "false_alarm_rate" else 0.99

    rates = {"false_alarm_rate": 0.4} if field == "false_alarm_rate" else {}
    edit_manifest(copied, lambda content: content["calibration"][name].update(rates))
    edit_manifest(copied, edit)
    library.c.spadeline_free_recipe(library.load(copied))
    with pytest.raises(RecipeError) as expected:
        Recipe.load(copied, verify=True)
    came, number = refusal(verify=True), r"\d[\d.e-]*"
    assert re.sub(number, "#", came) == re.sub(number, "#", str(expected.value))
    figures = [
        [float(figure) for figure in re.findall(number, text.split(": expected ")[1])]
        for text in (came, str(expected.value))
    ]
    np.testing.assert_allclose(*figures, rtol=1e-9)


@pytest.mark.parametrize("count", [1, 2, 13, 20, 400])
@pytest.mark.parametrize("rate", [1e-6, 0.01, 0.29, 0.5, 0.999])
def test_bounds_of_thresholds(library, copied, refusal, count, rate):
    scores = np.random.default_rng(count).random(count).tolist()
    made = threshold(scores, false_alarm_rate=rate)

    def edit(content):
        calibration = content["calibration"]
        calibration["theta"] = asdict(made)
        calibration["map_scores"] = scores
        calibration["tau"], calibration["image_scores"] = calibration["theta"], scores
        calibration["image_names"] = None

    edit_manifest(copied, edit)
    library.c.spadeline_free_recipe(library.load(copied, verify=True))
    for factor in (1 - 3e-6, 1 + 3e-6):
        bound = made.bound * factor
        if bound <= 1:
            edit_manifest(copied, lambda content: content["calibration"]["tau"].update(bound=bound))  # noqa: B023
            assert "make the thresholds anew with: spadeline calibrate" in refusal(verify=True)


def test_what_cannot_be_inspected_with(copied, refusal):
    edit_manifest(copied, lambda content: content["settings"].update(index_factory="IVF9999999,Flat"))
    assert "factory: expected " in refusal(ARGUMENT)
    edit_manifest(copied, lambda content: content["settings"].update(index_factory="Flat", kappa=1000, window=0))
    assert "expected a kappa of at most the" in refusal()
    edit_manifest(copied, lambda content: content.update(calibration=None))
    assert "expected thresholds, got none" in refusal()


def test_extractors_that_are_none(copied, refusal, monkeypatch):
    replace(copied, "extractor", b"no graph")
    assert "expected a file that ONNX Runtime loads, got: " in refusal(EXTRACTOR)
    replace(copied, "extractor", b"no graph" + b"\x0a\x08location\x12")
    assert "got one with external data" in refusal(EXTRACTOR)
    monkeypatch.setenv("SPADELINE_EXTRACTOR_SECONDS", "soon")
    replace(copied, "extractor", b"no graph")
    assert "SPADELINE_EXTRACTOR_SECONDS: expected a number of 1 or more" in refusal(ARGUMENT)
