""".npy files of a recipe with changed headers and contents, with and without a recipe.json that fits them."""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from ..recipes import CODE_FILES, FEATURE_FILES
from .manifests import MANIFEST_NAME, base, sealed, use
from .mutations import mutate_bytes

SECONDS = 20.0
MEMORY_BYTES = 300_000_000
ARRAYS = (*FEATURE_FILES, *CODE_FILES, "ignore-1.npy")
HEADER = 128  # bytes
WORDS = (bytes(4), b"\xff\xff\x7f\x7f", b"\0\0\x80\x7f", b"\1\0\0\0")  # 0, the largest, infinity, a denormal
LARGEST = 1 << 22  # most bytes of a changed file


def corpus(folder):
    shutil.copytree(base(), folder / "good")
    for name, file, change in (
        ("not-a-number", "layer2-1.npy", lambda raw: raw[:-4] + np.float32(np.nan).tobytes()),
        ("basis-not-a-number", "basis-layer2-1.npy", lambda raw: raw[:-4] + np.float32(np.nan).tobytes()),
        ("basis-of-ones", "basis-layer2-1.npy", lambda raw: raw[:HEADER] + np.ones(65 * 256, np.float32).tobytes()),
        ("basis-huge", "basis-layer1-1.npy", lambda raw: raw[:HEADER] + np.full(3, 3e38, np.float32).tobytes()),
        ("features-huge", "layer1-1.npy", lambda raw: raw[:-400] + np.full(100, 3e38, np.float32).tobytes()),
        ("projected-of-ones", "projected-layer3-1.npy", lambda raw: raw[:HEADER] + b"\xff" * (len(raw) - HEADER)),
        (
            "rotated-garbage",
            "rotated-layer1-1.npy",
            lambda raw: raw[:HEADER] + bytes(range(256)) * ((len(raw) - HEADER) // 256),
        ),
        ("embeddings-infinite", "embeddings-1.npy", lambda raw: raw[:-4] + np.float32(np.inf).tobytes()),
        ("ignores-all", "ignore-1.npy", lambda raw: raw[:HEADER] + b"\1" * (len(raw) - HEADER)),
        ("ignores-by-two", "ignore-1.npy", lambda raw: raw[:-1] + b"\2"),
        ("header-evaluated", "layer1-1.npy", lambda raw: raw.replace(b"(3, 2", b"(3**9", 1)),
        ("header-without-end", "layer1-1.npy", lambda raw: raw[:8] + b"\xff\xff" + raw[10:]),
        ("header-of-objects", "layer3-1.npy", lambda raw: raw.replace(b"'<f4'", b"'|O8'", 1)),
        ("cut-off", "layer3-1.npy", lambda raw: raw[:50]),
    ):
        case = shutil.copytree(base(), folder / name)
        (case / file).write_bytes(change((case / file).read_bytes()))
        record(case, file)
    unrecorded = shutil.copytree(base(), folder / "codes-garbage-unrecorded")
    with (unrecorded / "rotated-layer2-1.npy").open("r+b") as opened:
        opened.seek(HEADER)
        opened.write(b"\x55" * 64)
    sparse = shutil.copytree(base(), folder / "gigabyte-of-holes")
    os.truncate(sparse / "layer1-1.npy", 1 << 30)


def record(folder, name):
    """Record a file's present size and hash in recipe.json."""
    content = json.loads((folder / MANIFEST_NAME).read_bytes())
    raw = (folder / name).read_bytes()
    file = {"name": name, "size": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
    change = lambda c: c["files"].update({name.removesuffix("-1.npy"): file})  # noqa: E731 - one use
    (folder / MANIFEST_NAME).write_bytes(sealed(content, change))


def mutate(rng, case, target):
    """Change one or two files, mostly of the good recipe, since the damage of other seeds is found first."""
    case = base() if rng.integers(3) else case
    shutil.copytree(case, target, copy_function=copy_holes)
    for name in rng.choice(ARRAYS, rng.integers(1, 3), replace=False):
        path = target / str(name)
        if path.stat().st_size > LARGEST:
            continue
        raw = path.read_bytes()
        if rng.integers(5):  # changes contents alone, without a change of size
            numbers = bytearray(raw)
            for _ in range(rng.integers(1, 20)):
                at = int(rng.integers(min(HEADER, len(raw)), max(len(raw) - 8, HEADER + 1)))
                numbers[at : at + 4] = (*WORDS, rng.bytes(4))[rng.integers(len(WORDS) + 1)]
            changed = bytes(numbers[: len(raw)])
        else:
            changed = mutate_bytes(rng, raw)[:LARGEST]
        path.write_bytes(changed)
        if rng.integers(4) and changed:
            record(target, path.name)


def attempt(case):
    with tempfile.TemporaryDirectory(prefix="spadeline-fuzz-attempt-") as root:
        use(shutil.copytree(case, Path(root, "recipe"), copy_function=copy_holes))


def copy_holes(source, target):
    """Copy a file. A large one consists of holes, so it only gets the size."""
    size = Path(source).stat().st_size
    if size > LARGEST:
        Path(target).touch()
        os.truncate(target, size)
    else:
        shutil.copyfile(source, target)
