"""recipe.json is read as it was written, in each version of the format, and an edit or a flipped bit is found."""

import json
import subprocess
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spadeline.engine.calibration import threshold
from spadeline.engine.errors import RecipeError
from spadeline.engine.files import StoredFile
from spadeline.engine.match.codes import CODES_VERSION
from spadeline.engine.recipe.manifest_json import manifest_from_json, manifest_to_json
from spadeline.engine.recipe.records import Calibration, ImageRecord
from spadeline.engine.settings import Settings

from ..recipes import as_version_2, encoded
from .manifests import (
    CODES,
    DIGEST,
    EXAMPLE,
    FULL,
    KNOWN,
    NAMES,
    PATH,
    content,
    files_of,
    refuse,
    version_1,
    version_2,
    version_3,
    version_4,
)


@pytest.mark.parametrize(
    "manifest", [EXAMPLE, KNOWN, FULL, EXAMPLE.changed(calibration=None), FULL.changed(codes_version=CODES_VERSION + 1)]
)
def test_round_trip(manifest):
    assert manifest_from_json(manifest_to_json(manifest), PATH) == manifest


def test_is_readable_without_us():
    assert manifest_to_json(EXAMPLE).startswith(b'{\n  "format": "spadeline-recipe",\n  "version": 5,\n')
    assert content()["settings"]["window"] == 3
    assert content()["files"]["layer1"] == {"name": "layer1-2.npy", "size": 1000, "sha256": DIGEST}


@pytest.mark.parametrize("old", [version_1(), version_2(), version_3(), version_4()])
def test_older_versions_are_read_and_written_as_version_5(old):
    manifest = manifest_from_json(encoded(old), PATH)
    assert manifest == EXAMPLE
    assert (manifest.version, manifest.is_sealed) == (old["version"], old["version"] >= 3)
    assert manifest.codes_version is None
    assert manifest.settings.level_weights is None
    assert manifest.settings.need == "map"
    again = manifest_from_json(manifest_to_json(manifest), PATH)
    assert (again, again.version, again.is_sealed) == (EXAMPLE, 5, True)


def test_version_2_is_read_with_what_it_knew():
    as_version_2(old := content(FULL))
    manifest = manifest_from_json(encoded(old), PATH)
    assert manifest.calibration == replace(FULL.calibration, image_names=None)
    assert manifest.images == EXAMPLE.images
    assert manifest.changed(calibration=FULL.calibration, images=FULL.images, tuning=FULL.tuning) == FULL
    old["images"][1]["pixels_sha256"] = None
    refuse(old, "version", 2, "images: image 1: 'pixels_sha256' is unknown")
    as_version_2(old := content(FULL))
    refuse(old, "calibration.image_names", None, "calibration: 'image_names' is unknown")


def test_every_flipped_bit_is_found():
    original = manifest_to_json(FULL)
    for position in range(8 * len(original)):
        flipped = bytearray(original)
        flipped[position // 8] ^= 1 << position % 8
        with pytest.raises(RecipeError):
            manifest_from_json(bytes(flipped), PATH)


@pytest.mark.parametrize(
    "edit",
    [
        lambda raw: raw.replace(b'"sigma": 4.0', b'"sigma": 5.0'),
        lambda raw: raw.replace(b"\n", b"\r\n"),
        lambda raw: raw + b"\n",
        lambda raw: json.dumps(json.loads(raw)).encode(),
        lambda raw: encoded(version_2()).replace(b'"version": 2', b'"version": 5'),
    ],
)
def test_an_edited_recipe_json_says_what_to_do(edit):
    with pytest.raises(RecipeError) as error:
        manifest_from_json(edit(manifest_to_json(EXAMPLE)), PATH)
    assert str(error.value) == (
        f"{PATH}: expected to end with the SHA-256 of what precedes it, got another end: it was damaged, or edited by "
        "hand; restore it from a copy, and change settings with: spadeline calibrate"
    )


def test_the_hash_can_be_checked_without_us(tmp_path):
    (tmp_path / "recipe.json").write_bytes(manifest_to_json(EXAMPLE))
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


def test_version_3_has_no_need():
    refuse(version_3(), "settings.need", "map", "settings: 'need' is unknown")
    lacking = content()
    del lacking["settings"]["need"]
    with pytest.raises(RecipeError, match="settings: need is missing"):
        manifest_from_json(encoded(lacking), PATH)


@pytest.mark.parametrize("keys", ["codes_version", "settings.level_weights"])
@pytest.mark.parametrize("version", [version_2, version_3, content])
def test_later_versions_have_all_their_fields(version, keys):
    lacking = version()
    *parents, last = keys.split(".")
    part = lacking[parents[0]] if parents else lacking
    del part[last]
    with pytest.raises(RecipeError, match=f"{last} is missing"):
        manifest_from_json(encoded(lacking), PATH)


@pytest.mark.parametrize("kept", [{}, CODES, {"rotated-layer2": "rotated-layer2-9.npy"}])
def test_codes_of_another_version_may_have_other_files(kept):
    manifest = EXAMPLE.changed(files=files_of(NAMES | kept), codes_version=CODES_VERSION + 1)
    assert not manifest.has_codes
    assert manifest_from_json(manifest_to_json(manifest), PATH) == manifest


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
    assert manifest_from_json(manifest_to_json(manifest), PATH) == manifest
