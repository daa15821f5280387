"""Folders with a recipe and with files of a user, the changes of it, and whether it is whole."""

import contextlib
import warnings
from unittest import mock

import numpy as np
import pytest
from spadeline.engine.errors import RecipeError
from spadeline.engine.features import Features
from spadeline.engine.match.codes import CODES_VERSION, code_layout, encode
from spadeline.engine.recipe import change_steps, manifest
from spadeline.engine.recipe.changes import (
    add_images,
    create_recipe,
    remove_images,
    replace_extractor,
    update_codes,
)
from spadeline.engine.recipe.recipe import Recipe
from spadeline.engine.recipe.records import ImageRecord
from spadeline.engine.settings import Settings

from .conftest import CALIBRATION
from .manifests import FULL

SHAPES = ((8, 13, 11), (64, 7, 6))  # the second is wide enough for codes of fewer directions than channels
IGNORE = np.eye(52, 44, dtype=np.bool_)
FOREIGN = (  # files of a user; some are named like a recipe's files
    "notes.txt",
    "extractor-2.onnx",
    "ignore-7.npy",
    "layer9-3.npy",
    "recipe.json.tmp",
    "layer1.npy",
    "weights-1.npy",
    "extractor-1.onnx.bak",
    "layer1-0.npy",
    "recipe.json.bak",
    "ignore.npy",
    "mask-1.npy",
    "rotated-1.npy",
    "rotated-layer1.npy",
    "basis-layer1-0.npy",
    "basis-layer100-1.npy",
    "weights-layer1-1.npy",
)
FIRST = 4  # the first generation that has files beside the user's
BEFORE = ("a", "b", "c", "d")
RENEWED = "codes of another version"


def features_of(name):
    rng = np.random.default_rng(list(name.encode()))
    levels = tuple(rng.standard_normal((1, *shape), np.float32) for shape in SHAPES)
    return Features(levels, rng.standard_normal((1, 6), np.float32))


def images(names):
    return ((ImageRecord(name), features_of(name)) for name in names)


def extractor_of(names):
    """Return an extractor that differs for other images, so that a mixture of two recipes would show."""
    return "".join(names).encode() * 5000


def create(folder, names=BEFORE):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of files that no recipe names
        return create_recipe(folder, **options(folder, names))


def options(folder, names):
    return {
        "extractor_path": folder.parent / f"{names[0]}.onnx",
        "features": images(names),
        "count": len(names),
        "settings": Settings(storage="float32"),
        "level_names": ("layer1", "layer2"),
        "level_shapes": SHAPES,
        "input_size": (52, 44),
        "embedding_size": 6,
        "ignore": IGNORE,
        "overwrite": True,
    }


def renew_codes(folder):
    """Update the codes as a spadeline with the next version of codes would. This spadeline then doesn't use them."""
    newer = CODES_VERSION + 1
    with contextlib.ExitStack() as stack:
        for module in (change_steps, manifest):
            stack.enter_context(mock.patch.object(module, "CODES_VERSION", newer))
        update_codes(folder)


def replace_by_fitted(folder):
    """Take over the recipe that :func:`furnished` put beside the folder."""
    generation = Recipe.load(folder).generation
    fitted = Recipe.load(folder.parent / "fitted")
    return replace_extractor(folder, fitted, calibration=CALIBRATION, generation=generation, tuning=FULL.tuning)


# Each change, and the images that a recipe of BEFORE holds after it.
CHANGES = {
    "create": (lambda folder: create(folder, ("x", "y", "z")), ("x", "y", "z")),
    "add": (lambda folder: add_images(folder, images(("e", "f")), 2), (*BEFORE, "e", "f")),
    "remove": (lambda folder: remove_images(folder, ["b"]), ("a", "c", "d")),
    "codes": (renew_codes, (*BEFORE, RENEWED)),
    "replace": (replace_by_fitted, ("x", "y", "z")),
}


def held(folder):
    """Return the names of the images that a recipe holds bit by bit, and RENEWED for such codes. None: no recipe."""
    if not (folder / "recipe.json").exists():
        with pytest.raises(RecipeError, match=r"recipe\.json: is missing"):
            Recipe.load(folder)
        return None
    opened = Recipe.load(folder, verify=True)
    names = tuple(image.name for image in opened.images)
    for index, name in enumerate(names):
        read, put = opened.features(index), features_of(name)
        assert np.array_equal(read.embedding, put.embedding)
        assert all(map(np.array_equal, read.levels, put.levels))
    extractor = opened.extractor_path.read_bytes()
    assert extractor == extractor_of(("x", "y", "z") if "x" in names else BEFORE)
    assert np.array_equal(opened.ignore, IGNORE)
    if opened.codes_version != CODES_VERSION:
        return (*names, RENEWED)
    for level, encoded in zip(opened.codes, encodings(opened), strict=True):
        for kind in ("projected", "rotated"):
            stored, made = getattr(level, kind), getattr(encoded, kind)
            assert (stored is None) == (made is None)
            assert made is None or np.array_equal(stored, made)
    return names


def encodings(opened):
    """Encode a recipe's features again, with the bases that it holds."""
    shapes = opened.geometry.cell_shapes
    for index, (level, cells) in enumerate(zip(opened.codes, opened.levels, strict=True)):
        (rows, columns, block, channels), end = shapes[index], {"finest": index == 0, "coarsest": index == 1}
        layout = code_layout(channels, rows * columns, block, **end)
        yield encode(np.asarray(cells), np.asarray(level.basis), layout, coarsest=end["coarsest"])


def tidy(folder):
    """Whether there are only the live files, the user's files and the lock."""
    expected = {".lock", *FOREIGN}
    if (folder / "recipe.json").exists():
        expected |= {"recipe.json", *(file.name for file in Recipe.load(folder).files.values())}
    return names_in(folder) == expected


def names_in(folder):
    return {path.name for path in folder.iterdir()}


def furnished(folder, *, recipe):
    folder.mkdir()
    for names in (BEFORE, ("x", "y", "z")):
        (folder.parent / f"{names[0]}.onnx").write_bytes(extractor_of(names))
    if not (folder.parent / "fitted").exists():
        create(folder.parent / "fitted", ("x", "y", "z"))
    for name in FOREIGN:
        (folder / name).write_text("not ours")
    if recipe:
        create(folder)
    return folder
