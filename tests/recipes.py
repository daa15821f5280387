"""Small recipes of random features for tests, ways to edit them, and checks of what they hold."""

import json
import tracemalloc

import numpy as np
from spadeline.engine.features import Features
from spadeline.engine.match.cells import to_cells
from spadeline.engine.match.codes import code_layout, encode
from spadeline.engine.recipe.changes import create_recipe
from spadeline.engine.recipe.manifest_json import seal
from spadeline.engine.recipe.records import ImageRecord
from spadeline.engine.recipe.stored_codes import CODE_KINDS
from spadeline.engine.settings import Settings

# The middle level is wide enough for codes of fewer directions than channels.
GEOMETRY = {
    "level_names": ("layer1", "layer2", "layer3"),
    "level_shapes": ((3, 7, 9), (256, 4, 5), (5, 2, 3)),
    "input_size": (28, 36),
    "embedding_size": 6,
}
FEATURE_FILES = ("embeddings-1.npy", "layer1-1.npy", "layer2-1.npy", "layer3-1.npy")
CODE_FILES = (
    "basis-layer1-1.npy",
    "basis-layer2-1.npy",
    "basis-layer3-1.npy",
    "projected-layer2-1.npy",
    "projected-layer3-1.npy",
    "rotated-layer1-1.npy",
    "rotated-layer2-1.npy",
)
FILES = ("extractor-1.onnx", "ignore-1.npy", *FEATURE_FILES, *CODE_FILES)  # the files of a first generation with a mask


def features_of(name, shapes=GEOMETRY["level_shapes"]):
    rng = np.random.default_rng(list(name.encode("utf-8", "surrogateescape")))
    levels = tuple(rng.standard_normal((1, *shape), np.float32) for shape in shapes)
    return Features(levels, rng.standard_normal((1, 6), np.float32))


def images(*names):
    return ((ImageRecord(name, f"{len(name):064x}"), features_of(name)) for name in names)


def create_small(folder, *names, settings=Settings(storage="float32"), **options):  # noqa: B008
    options = GEOMETRY | {"count": len(names), "features": images(*names)} | options
    return create_recipe(folder, settings=settings, **options)


def mask():
    """Return an ignore mask: the left edge is not scored."""
    ignore = np.zeros(GEOMETRY["input_size"], np.bool_)
    ignore[:, :5] = True
    return ignore


def edit_manifest(folder, change):
    """Change recipe.json's content, and its own hash with it."""
    content = json.loads((folder / "recipe.json").read_bytes())
    change(content)
    (folder / "recipe.json").write_bytes(encoded(content))


def encoded(content):
    """Encode a recipe.json's content as a writer of its version would."""
    content = {name: value for name, value in content.items() if name != "sha256"}
    return seal(content) if content.get("version") in (3, 4, 5) else json.dumps(content).encode()


def without_codes(content):
    """Turn a recipe.json's content into that of a gallery without codes."""
    content["codes_version"] = None
    content["files"] = {role: file for role, file in content["files"].items() if not role.startswith(CODE_KINDS)}


def as_version_4(content):
    """Turn a recipe.json's content into that of version 4."""
    del content["tuning"], content["settings"]["angles"]
    for image in content["images"]:
        del image["original"], image["degrees"]
    content["version"] = 4


def as_version_3(content):
    """Turn a recipe.json's content into that of version 3."""
    as_version_4(content)
    del content["settings"]["need"]
    content["version"] = 3


def as_version_2(content):
    """Turn a recipe.json's content into that of version 2."""
    as_version_3(content)
    del content["sha256"], content["settings"]["frame_check"], content["settings"]["frame_shape"]
    for image in content["images"]:
        del image["size"], image["facts"], image["pixels_sha256"]
    if content["calibration"]:
        del content["calibration"]["image_names"]
    content["version"] = 2


def as_version_1(content):
    """Turn a recipe.json's content into that of version 1."""
    as_version_2(content)
    without_codes(content)
    del content["codes_version"], content["settings"]["level_weights"]
    content["version"] = 1


def assert_holds(recipe, *names):
    """Features and codes of a recipe are those of these images, bit by bit."""
    assert_features(recipe, *names)
    assert_encodes(recipe.codes, recipe.levels, recipe.geometry)


def assert_encodes(codes, levels, geometry):
    """Each image's codes are those that its features get with the stored basis."""
    last = len(levels) - 1
    for index, (level, cells) in enumerate(zip(codes, levels, strict=True)):
        rows, columns, block, channels = geometry.cell_shapes[index]
        layout = code_layout(channels, rows * columns, block, finest=index == 0, coarsest=index == last)
        expected = encode(np.asarray(cells), np.asarray(level.basis), layout, coarsest=index == last)
        np.testing.assert_array_equal(level.projected, expected.projected)
        np.testing.assert_array_equal(level.rotated, expected.rotated)


def assert_features(recipe, *names):
    assert tuple(image.name for image in recipe.images) == names
    stored = [features_of(name) for name in names]
    np.testing.assert_array_equal(recipe.embeddings, np.concatenate([f.embedding for f in stored]), strict=True)
    for level, array in enumerate(recipe.levels):
        expected = np.concatenate([f.levels[level] for f in stored]).astype(recipe.settings.storage)
        np.testing.assert_array_equal(array, to_cells(expected, 2 - level), strict=True)
    for index, image in enumerate(stored):
        read = recipe.features(index)
        np.testing.assert_array_equal(read.embedding, image.embedding, strict=True)
        for got, level in zip(read.levels, image.levels, strict=True):
            np.testing.assert_array_equal(got, level.astype(recipe.settings.storage).astype(np.float32), strict=True)


def peak_memory(action):
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def names_in(folder):
    return {path.name for path in folder.iterdir()}


def live_files(recipe):
    return {file.name for file in recipe.files.values()} | {"recipe.json", ".lock"}
