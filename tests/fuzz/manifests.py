"""recipe.json: a small recipe is opened, verified, calibrated and changed with other files in its place.

What a mutation changes is sealed anew more often than not: else the hash would refuse it, and nothing behind it were tried.
"""

import atexit
import json
import shutil
import tempfile
import warnings
from functools import cache
from pathlib import Path

from spadeline.engine import SpadelineError
from spadeline.engine.fitting.fitting import calibrate
from spadeline.engine.recipe.changes import add_images, remove_images
from spadeline.engine.recipe.generations import LOCK_NAME, MANIFEST_NAME
from spadeline.engine.recipe.manifest_json import manifest_from_json, seal
from spadeline.engine.recipe.recipe import Recipe

from ..recipes import GEOMETRY, as_version_1, as_version_2, as_version_3, create_small, images, mask
from .mutations import mutate_bytes

SECONDS = 20.0
MEMORY_BYTES = 300_000_000
NAMES = ("a", "bb", "ccc")  # their lengths differ, since a test's hash is the length of the name
LARGE = 1 << 20  # a case of more bytes isn't changed any further
VALUES = (None, True, -1, 0, 1, 2**31, 2**63, 10**18 - 1, 10**400, 1e-320, 1e308, -0.5, "", "x" * 5000, "\udcff", "../a", [], [[]], {}, [0] * 1000)  # fmt: skip


@cache
def base():
    """Return a folder with a calibrated recipe of three images. It is removed when the process ends."""
    root = Path(tempfile.mkdtemp(prefix="spadeline-fuzz-recipe-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    (root / "model.onnx").write_bytes(b"onnx" * 1000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        create_small(root / "recipe", *NAMES, ignore=mask(), extractor_path=root / "model.onnx")
        calibrate(root / "recipe", threads=1)
    (root / "recipe" / LOCK_NAME).unlink(missing_ok=True)
    return root / "recipe"


def sealed(content, change):
    """Return a recipe.json with a changed content, with its own hash if its version has one."""
    content = json.loads(json.dumps(content))
    change(content)
    version = content.get("version") if isinstance(content, dict) else None
    if not isinstance(content, dict) or (isinstance(version, int) and version < 3):
        return json.dumps(content).encode()
    content.pop("sha256", None)
    return seal(content)


def corpus(folder):
    content = json.loads((base() / MANIFEST_NAME).read_bytes())
    good = (base() / MANIFEST_NAME).read_bytes()

    def generation_of(number):
        def change(c):
            c["generation"] = number
            for file in c["files"].values():
                file["name"] = file["name"].replace("-1.", f"-{number}.")

        return change

    def every_image_twice(c):
        c["images"] *= 2

    cases = {
        "good": good,
        "version-1": sealed(content, as_version_1),
        "version-2": sealed(content, as_version_2),
        "version-3": sealed(content, as_version_3),
        "flipped-theta": good.replace(b'"theta": {\n      "value": ', b'"theta": {\n      "value": 9'),
        "theta-of-no-score": sealed(content, lambda c: c["calibration"]["theta"].update(value=667.0)),
        "sixty-megabytes-of-lists": b"[" + b"[]," * (20 << 20) + b"0]",
        "lists-in-lists": b"[" * 100_000,
        "last-generation": sealed(content, generation_of(10**18 - 1)),
        "ten-million-lists": sealed(content, lambda c: c["settings"].update(index_factory="IVF9999999,Flat")),
        "huge-input": sealed(content, lambda c: c["geometry"].update(input_size=[10_000, 10_000])),
        "huge-levels": sealed(
            content,
            lambda c: c["geometry"].update(
                input_size=[8192] * 2, level_shapes=[[1, 8192 >> i, 8192 >> i] for i in (0, 1, 2)]
            ),
        ),
        "kappa-of-all": sealed(content, lambda c: c["settings"].update(kappa=1000)),
        "names-twice": sealed(content, every_image_twice),
        "megabyte-of-a-name": sealed(content, lambda c: c["files"].update({"x" * 1_000_000: 7})),
        "empty": b"",
        "null": b"null",
        "nan": good.replace(b'"sigma": 4.0', b'"sigma": NaN'),
    }
    for name, raw in cases.items():
        (folder / f"{name}.json").write_bytes(raw)


def mutate(rng, case, target):
    """Change values or bytes, mostly of the good recipe.json, since the damage of other seeds is found first."""
    raw = (base() / MANIFEST_NAME if rng.integers(3) else case).read_bytes()
    try:
        content = json.loads(raw) if len(raw) < LARGE else None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or rng.integers(4) == 0:
        target.write_bytes(raw if len(raw) >= LARGE else mutate_bytes(rng, raw))
        return

    def change(part):
        for _ in range(rng.integers(1, 4)):
            change_one(rng, part)

    try:
        target.write_bytes(sealed(content, change))
    except (ValueError, UnicodeError):  # the number can't be written as JSON
        target.write_bytes(mutate_bytes(rng, raw))


def change_one(rng, part):
    """Change, remove, repeat or exchange one value at any place."""
    while True:
        keys = list(part) if isinstance(part, dict) else list(range(len(part)))
        if not keys:
            return
        key = keys[rng.integers(len(keys))]
        if isinstance(part[key], dict | list) and part[key] and rng.integers(5):
            part = part[key]
            continue
        kind = rng.integers(4)
        if kind == 0:
            del part[key]
        elif kind == 1:
            part[key] = part[keys[rng.integers(len(keys))]]
        elif kind == 2 and isinstance(part[key], int | float) and not isinstance(part[key], bool):
            part[key] *= int(2 ** rng.integers(0, 12)) if isinstance(part[key], int) else float(rng.uniform(-1, 9))
        else:
            part[key] = VALUES[rng.integers(len(VALUES))]
        return


def attempt(case):
    """Use the small recipe with this recipe.json, and with its files under the names in it."""
    with tempfile.TemporaryDirectory(prefix="spadeline-fuzz-attempt-") as root:
        folder = shutil.copytree(base(), Path(root, "recipe"))
        raw = case.read_bytes()
        rename(folder, raw)
        (folder / MANIFEST_NAME).write_bytes(raw)
        use(folder)


def rename(folder, raw):
    try:
        manifest = manifest_from_json(raw, folder / MANIFEST_NAME)
    except SpadelineError:
        return  # use() will fail on it, too
    own = manifest_from_json((base() / MANIFEST_NAME).read_bytes(), folder)
    for role, file in manifest.files.items():
        if role in own.files and file.name != own.files[role].name:
            (folder / own.files[role].name).rename(folder / file.name)


def use(folder):
    """Open, verify, hold, calibrate, add and remove. Check that only the recipe's files stay."""
    before = {path.name for path in folder.iterdir()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        recipe = Recipe.load(folder)
        recipe.features(len(recipe.images) - 1)
        recipe.gallery.hold()
        try:
            Recipe.load(folder, verify=True)
            calibrate(folder, threads=1)
            if recipe.level_shapes == GEOMETRY["level_shapes"]:
                add_images(folder, images("one more"), 1)
            remove_images(folder, [recipe.images[0].name])
        finally:
            live = {file.name for file in Recipe.load(folder).files.values()} | {MANIFEST_NAME, LOCK_NAME}
            left = {path.name for path in folder.iterdir()} - live - before
            assert not left, f"left behind: {left}"
