"""Manifests of each version as tests write and change them."""

import json
from pathlib import Path

import pytest
from spadeline.engine.calibration import threshold
from spadeline.engine.errors import RecipeError
from spadeline.engine.files import StoredFile
from spadeline.engine.images.frame_facts import FrameFacts
from spadeline.engine.match.codes import CODES_VERSION
from spadeline.engine.recipe.gallery import Geometry
from spadeline.engine.recipe.manifest import Manifest
from spadeline.engine.recipe.manifest_json import manifest_from_json, manifest_to_json
from spadeline.engine.recipe.records import Calibration, ImageRecord
from spadeline.engine.recipe.tuning_record import TuningRecord
from spadeline.engine.settings import Settings

from ..recipes import as_version_1, as_version_2, as_version_3, as_version_4, encoded

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
    tuning=TuningRecord(
        date="2026-01-03T03:04:05+00:00",
        extractors=2,
        tried=40,
        changed=("extractor", "sigma", "window"),
        choosing_abnormal=9,
        choosing_good=5,
        final_abnormal=8,
        final_good=4,
        found_before=2,
        found=7,
        false_alarms_before=0,
        false_alarms=1,
    ),
    images=(ImageRecord("a.png", DIGEST, DIGEST[::-1]), ImageRecord("b.png")),
)


def content(manifest=EXAMPLE):
    return json.loads(manifest_to_json(manifest))


def version_4():
    """Return EXAMPLE as version 4 wrote it."""
    as_version_4(old := content())
    return old


def version_3():
    """Return EXAMPLE as version 3 wrote it."""
    as_version_3(old := content())
    return old


def version_2():
    """Return EXAMPLE as version 2 wrote it."""
    as_version_2(old := content())
    return old


def version_1():
    """Return EXAMPLE as version 1 wrote it."""
    as_version_1(old := content())
    return old


def refuse(changed, keys, value, text):
    part = changed
    *parents, last = keys.split(".")
    for key in parents:
        part = part[key]
    part[last] = value
    with pytest.raises(RecipeError) as error:
        manifest_from_json(encoded(changed), PATH)
    assert str(error.value).startswith(f"{PATH}: ")
    assert text in str(error.value)
