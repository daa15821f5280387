"""The C library and Python side by side: changed recipes, and frames with changed arguments.

The library is the file that the environment variable SPADELINE_LIBRARY_FILE names. A recipe that one of both accepts and
the other refuses is a failure, and so is another result of the same frame. Each case is a folder with a recipe and the
calls' arguments. Changed extractors are another target's: here their files are only damaged.
"""

import atexit
import ctypes
import json
import os
import shutil
import tempfile
import warnings
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image
from spadeline.engine import Detector, Settings, fit
from spadeline.engine.errors import SpadelineError
from spadeline.engine.recipe.generations import LOCK_NAME, MANIFEST_NAME

from shared_parts.drawn import part, write_small_extractor
from shared_parts.library import COLORS, GALLERIES, OK, CallError, Library, RawResult, copied

from ..door.comparing import assert_same, assert_same_label, assert_same_mask
from ..recipes import as_version_1, as_version_2, as_version_3, as_version_4, without_codes
from .arrays import HEADER, WORDS, record
from .manifests import change_one, sealed
from .mutations import mutate_bytes

SECONDS = 20.0
MEMORY_BYTES = 300_000_000
SEEDS = range(6)  # of the normal images' noise
FRAME, _ = part(301, scratched=True)
CALL = {
    "gallery": "auto",
    "verify": False,
    "threads": 1,
    "need": "map",
    "height": 96,
    "width": 96,
    "pitch": 0,
    "color": "rgb",
}
NUMBERS = (-(2**63), -(2**31), -1, 0, 1, 7, 8, 64, 95, 97, 288, 1000, 2**15, 2**20, 2**31 - 1, 2**31, 2**32, 2**63 - 1)
BUFFER = np.resize(FRAME, 1 << 20)  # what a frame's arguments may name
ONLY_PYTHON = "index_factory: expected 'Flat'"  # what the library refuses, and Python accepts
CHECKS = {"map": assert_same, "mask": assert_same_mask, "label": assert_same_label}


@cache
def base():
    """Return a folder with a calibrated recipe that has an ignore mask. It is removed when the process ends."""
    root = Path(tempfile.mkdtemp(prefix="spadeline-fuzz-recipe-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    (root / "parts").mkdir()
    for seed in SEEDS:
        Image.fromarray(part(seed, scratched=False)[0]).save(root / "parts" / f"{seed}.png")
    ignored = np.zeros((96, 96), np.uint8)
    ignored[:, :9] = 255
    Image.fromarray(ignored).save(root / "ignore.png")
    write_small_extractor(root / "extractor.onnx")
    settings = Settings(k_score=2, k_gallery=4, kappa=2, sigma=1.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit(root / "parts", root / "recipe", extractor=root / "extractor.onnx", settings=settings,
            false_alarm_rate=0.2, threads=1, ignore=root / "ignore.png")  # fmt: skip
    (root / "recipe" / LOCK_NAME).unlink(missing_ok=True)
    return root / "recipe"


@cache
def library():
    """Return the library."""
    return Library(os.environ["SPADELINE_LIBRARY_FILE"])


def corpus(folder):
    content = json.loads((base() / MANIFEST_NAME).read_bytes())
    changes = {
        "good": lambda c: None,
        "version-1": as_version_1,
        "version-2": as_version_2,
        "version-3": as_version_3,
        "version-4": as_version_4,
        "without-codes": without_codes,
        "uncalibrated": lambda c: c.update(calibration=None),
        "another-index": lambda c: c["settings"].update(index_factory="IVF2,Flat"),
        "need-of-a-label": lambda c: c["settings"].update(need="label"),
    }
    for name, change in changes.items():
        case = new_case(folder / name)
        (case / "recipe" / MANIFEST_NAME).write_bytes(sealed(content, change))
    for name, call in (
        ("gray-with-gaps", {"color": "gray", "pitch": 128}),
        ("bgra-mapped", {"color": "bgra", "gallery": "mapped", "verify": True}),
        ("frame-of-2^62-pixels", {"height": 2**31, "width": 2**31}),
    ):
        new_case(folder / name, **call)


def new_case(folder, **call):
    folder.mkdir()
    shutil.copytree(base(), folder / "recipe")
    (folder / "call.json").write_text(json.dumps(CALL | call))
    return folder


def mutate(rng, case, target):
    """Change the manifest, an array, which files there are, or the call's arguments."""
    shutil.copytree(case, target)
    recipe = target / "recipe"
    kind = rng.integers(8)
    if kind < 3:
        change_manifest(rng, recipe / MANIFEST_NAME)
    elif kind < 5:
        change_array(rng, recipe)
    elif kind < 6:
        change_file(rng, recipe)
    else:
        change_call(rng, target / "call.json")


def change_manifest(rng, path):
    raw = path.read_bytes()
    if rng.integers(6) == 0:
        path.write_bytes(mutate_bytes(rng, raw))
        return
    changes = [lambda part: change_one(rng, part)] * int(rng.integers(1, 3))

    def change(part):
        for one in changes:
            one(part)

    try:
        path.write_bytes(sealed(json.loads(raw), change))
    except (ValueError, UnicodeError):  # the number can't be written as JSON
        path.write_bytes(mutate_bytes(rng, raw))


def files(folder):
    """Return the names of a recipe's files but recipe.json."""
    return sorted(path.name for path in folder.iterdir() if path.name != MANIFEST_NAME)


def change_array(rng, folder):
    """Change an array's header or numbers; mostly record the new size and hash."""
    path = folder / str(rng.choice([name for name in files(folder) if name.endswith(".npy")]))
    raw = path.read_bytes()
    if rng.integers(2):
        changed = bytearray(raw)
        for _ in range(rng.integers(1, 20)):
            at = int(rng.integers(min(HEADER, len(raw)), max(len(raw) - 8, HEADER + 1)))
            changed[at : at + 4] = (*WORDS, rng.bytes(4))[rng.integers(len(WORDS) + 1)]
        changed = bytes(changed[: len(raw)])
    else:
        changed = mutate_bytes(rng, raw[:HEADER]) + raw[HEADER:]
    path.write_bytes(changed)
    if rng.integers(6) and changed:
        record(folder, path.name)


def change_file(rng, folder):
    """Remove a file, cut it off, exchange its content, or put something else into its place."""
    name, other = rng.choice([*files(folder), MANIFEST_NAME], 2)
    path, kind = folder / str(name), rng.integers(7)
    raw = path.read_bytes()
    path.unlink()
    if kind == 1:
        path.write_bytes(raw[: int(rng.integers(len(raw)))])
    elif kind == 2:
        path.write_bytes((folder / str(other)).read_bytes() if other != name else b"")
    elif kind == 3:
        path.mkdir()
    elif kind == 4:
        os.mkfifo(path)
    elif kind == 5:
        path.symlink_to(str(other))
    elif kind == 6:
        path.write_bytes(mutate_bytes(rng, raw))


def change_call(rng, path):
    call = json.loads(path.read_text())
    for _ in range(rng.integers(1, 4)):
        name = str(rng.choice([*CALL, "height", "width", "pitch"]))
        choices = {
            "gallery": [*GALLERIES],
            "verify": [False, True],
            "need": ["map", "mask", "label"],
            "color": [*COLORS],
        }
        if name == "threads":
            call[name] = int(rng.integers(1, 4))
        elif name in choices:
            call[name] = choices[name][rng.integers(len(choices[name]))]
        else:
            call[name] = int(NUMBERS[rng.integers(len(NUMBERS))]) if rng.integers(2) else int(rng.integers(1, 300))
    path.write_text(json.dumps(call))


def attempt(case):
    call = json.loads((case / "call.json").read_text())
    how = {name: call[name] for name in ("threads", "gallery", "verify")}
    with warnings.catch_warnings(), ExitStack() as opened:
        warnings.simplefilter("ignore")
        detector, refused = outcome(lambda: Detector.load(case / "recipe", device="cpu", **how))
        inspector, declined = outcome(
            lambda: opened.enter_context(library().inspector(case / "recipe", need=call["need"], **how))
        )
        check_agreement(refused, declined)
        # The library's faiss may be of another version, which finds other images.
        if detector and inspector and detector.recipe.settings.index_factory == "Flat":
            compare(inspector, detector, call)
    if refused:
        raise refused


def outcome(work):
    """Return what work() returns and None, or None and its error."""
    try:
        return work(), None
    except (SpadelineError, CallError) as error:
        return None, error


def check_agreement(refused, declined):
    """Both doors accept, or both refuse with a text: Python's error and the library's."""
    if refused is None:
        assert declined is None or ONLY_PYTHON in str(declined), f"Python accepts, but the library doesn't: {declined}"
    else:
        assert declined is not None, f"the library accepts, but Python doesn't: {refused}"
        assert str(declined), f"code {declined.code} without a text"


def compare(inspector, detector, call):
    """Inspect one frame through both doors. What isn't a frame, the library must refuse by its arguments."""
    height, width, color = call["height"], call["width"], call["color"]
    channels = {"gray": 1, "rgba": 4, "bgra": 4}.get(color, 3)
    pitch = call["pitch"] or width * channels
    valid = 8 <= height <= 2**20 and 8 <= width <= 2**20 and pitch >= width * channels
    if valid and (height - 1) * pitch + width * channels > BUFFER.size:
        return  # the caller's own fault: the library would read on
    result = ctypes.POINTER(RawResult)()
    code = library().c.spadeline_inspect(
        inspector, BUFFER.ctypes.data, height, width, call["pitch"], COLORS[color], ctypes.byref(result)
    )
    assert bool(result) == (code == OK)
    text = library().c.spadeline_inspector_error(inspector).decode()
    declined = None if code == OK else CallError(code, text)
    if not valid:
        assert text, "what is no frame was accepted, or refused without a text"
        return
    columns = (width,) if channels == 1 else (width, channels)
    steps = (pitch, 1) if channels == 1 else (pitch, channels, 1)
    frame = np.lib.stride_tricks.as_strided(BUFFER, (height, *columns), steps, writeable=False)
    expected, refused = outcome(lambda: detector.predict(np.ascontiguousarray(frame), need=call["need"], color=color))
    check_agreement(refused, declined)
    if expected and code == OK:
        CHECKS[call["need"]](copied(result.contents), expected)
