"""What is live after kills, full disks and other writers.

Run as a script, this file is the process that kills writers: a parent without threads.
"""

import contextlib
import errno
import itertools
import json
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from spadeline.engine.errors import InputError, OutputError, RecipeError
from spadeline.engine.features import Features
from spadeline.engine.match.codes import CODES_VERSION, code_layout, encode
from spadeline.engine.recipe import change_steps, manifest
from spadeline.engine.recipe.changes import (
    add_images,
    create_recipe,
    remove_images,
    set_calibration,
    update_codes,
)
from spadeline.engine.recipe.manifest_json import seal
from spadeline.engine.recipe.recipe import Recipe
from spadeline.engine.recipe.records import ImageRecord
from spadeline.engine.settings import Settings

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
KILLS, FEWEST_KILLS = 200, 20  # the wanted number, and the number that a slow disk must reach in KILLING_S
KILLING_S = 90.0
LONGEST_S = 600.0  # bound of a script's time, which depends on the disk, since a stop is made at each step


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


# Each change, and the images that a recipe of BEFORE holds after it.
CHANGES = {
    "create": (lambda folder: create(folder, ("x", "y", "z")), ("x", "y", "z")),
    "add": (lambda folder: add_images(folder, images(("e", "f")), 2), (*BEFORE, "e", "f")),
    "remove": (lambda folder: remove_images(folder, ["b"]), ("a", "c", "d")),
    "codes": (renew_codes, (*BEFORE, RENEWED)),
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
    for name in FOREIGN:
        (folder / name).write_text("not ours")
    if recipe:
        create(folder)
    return folder


@pytest.fixture
def folder(tmp_path):
    return furnished(tmp_path / "recipe", recipe=True)


# Kills. This file runs as a script, since a process that forks must not have started a thread.


def run_as_script(task, folder, seed=0):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", __file__, task, str(folder), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_S, env=environment, check=False)
    assert done.returncode == 0, f"seed {seed}: {done.stderr}"
    return json.loads(done.stdout)


def in_child(change, folder, *, kill_after_s=None):
    """Change a folder in a forked child. Return its exit status, negative if it was killed, and how long it lived."""
    started = time.perf_counter()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            change(folder)
            os._exit(0)
        os._exit(1)
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), time.perf_counter() - started


def kill_at_random(root, seed):
    """Kill creations, in an empty folder and over a recipe, additions, removals and new codes at random moments."""
    delays, counts = np.random.default_rng(seed), {"trials": 0, "kills": 0, "before": 0, "after": 0, "swept": 0}
    kinds = ("empty", *CHANGES)
    template, bare = furnished(root / "template", recipe=True), furnished(root / "bare", recipe=False)
    changes = {"empty": CHANGES["create"]} | CHANGES
    lengths_s = {}
    for kind in kinds:  # first without kills, to learn how long a change takes on this disk
        folder = shutil.copytree(bare if kind == "empty" else template, root / kind)
        status, length_s = in_child(changes[kind][0], folder)
        assert status == 0, kind
        lengths_s[kind] = [length_s]
    end_s = time.monotonic() + KILLING_S
    while counts["kills"] < KILLS and (time.monotonic() < end_s or counts["kills"] < FEWEST_KILLS):
        kind = kinds[counts["trials"] % 5]
        change, after = changes[kind]
        folder = shutil.copytree(bare if kind == "empty" else template, root / f"{counts['trials']}")
        before = held(folder)
        delay_s = delays.uniform(0, 1.1 * statistics.median(lengths_s[kind][-9:]))
        status, length_s = in_child(change, folder, kill_after_s=delay_s)
        assert status in (0, -signal.SIGKILL), (kind, status)
        if status == 0:
            lengths_s[kind].append(length_s)
        content = held(folder)
        assert content in ((before, after) if status else (after,)), (kind, status, delay_s, content)
        counts["trials"] += 1
        counts["kills"] += status != 0
        counts["before" if content == before else "after"] += 1
        counts["swept"] += not tidy(folder)
        if content is None:
            create(folder)
        else:
            set_calibration(folder, None)
        assert tidy(folder), (kind, delay_s, names_in(folder))
        shutil.rmtree(folder)
    return counts


def exit_at_each_step(root, _seed):
    """Stop each change before its 1st, 2nd, … system call that alters the disk, until one is complete."""
    steps = {}
    template = furnished(root / "template", recipe=True)
    for kind, (change, after) in CHANGES.items():
        outcomes = []
        while "through" not in outcomes:
            folder = shutil.copytree(template, root / f"{kind}-{len(outcomes)}")
            status, _ = in_child(stopping_before(len(outcomes), change), folder)
            content = held(folder)
            assert content in (BEFORE, after), (kind, len(outcomes), content)
            assert status in (0, 7), (kind, len(outcomes), status)
            outcomes.append("through" if status == 0 else "before" if content == BEFORE else "after")
            set_calibration(folder, None)
            assert tidy(folder), (kind, len(outcomes), names_in(folder))
        steps[kind] = outcomes
    return steps


def stopping_before(step, change):
    """Return the change, modified to end its process instead of its step-th system call that alters the disk."""
    calls = itertools.count()

    def stopping(call):
        def stop_or_call(*arguments, **options):
            if next(calls) == step:
                os._exit(7)
            return call(*arguments, **options)

        return stop_or_call

    def stopped(folder):
        for name in ("write", "fsync", "replace", "rename", "unlink", "remove", "mkdir", "rmdir"):
            setattr(os, name, stopping(getattr(os, name)))
        change(folder)

    return stopped


def test_kills_leave_the_recipe_before_or_after(tmp_path):
    seed = int(np.random.default_rng().integers(10**6))
    counts = run_as_script("kill_at_random", tmp_path, seed)
    sys.stdout.write(f"seed {seed}: {counts}\n")
    assert FEWEST_KILLS <= counts["kills"] <= KILLS
    # There must have been kills before and after the switch, or the test proves nothing.
    assert counts["swept"] > counts["kills"] // 10
    assert counts["before"] > counts["kills"] // 10
    assert counts["after"] > 0


def test_a_stop_before_any_system_call_leaves_the_recipe_before_or_after(tmp_path):
    for kind, outcomes in run_as_script("exit_at_each_step", tmp_path).items():
        # There is one switch, and it isn't undone.
        assert outcomes == sorted(outcomes, key=("before", "after", "through").index), kind
        assert outcomes.count("before") > 15, kind
        assert outcomes.count("after") > 2, kind


# Full disks


class Disk:
    """Stands for ``os.write``: takes a number of bytes, then none."""

    def __init__(self, free):
        self.free = free
        self.write = os.write

    def __call__(self, descriptor, data):
        if self.free == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self.write(descriptor, data[: self.free])
        self.free -= written
        return written


@pytest.mark.parametrize("kind", [*CHANGES, "calibrate"])
def test_full_disk_at_any_byte(folder, tmp_path, monkeypatch, kind):
    change = CHANGES[kind][0] if kind in CHANGES else lambda folder: set_calibration(folder, None)
    (tmp_path / "twin").mkdir()
    twin = furnished(tmp_path / "twin" / "recipe", recipe=True)
    monkeypatch.setattr(os, "write", disk := Disk(1 << 30))
    change(twin)
    needed = (1 << 30) - disk.free
    seed = int(np.random.default_rng().integers(10**6))
    sys.stdout.write(f"seed {seed}\n")
    before = (folder / "recipe.json").read_bytes()
    for free in (0, needed - 1, *np.random.default_rng(seed).integers(needed, size=25).tolist()):
        disk.free = free
        with pytest.raises(OutputError) as error:
            change(folder)
        path, reason = str(error.value).split(": ", 1)
        assert reason == "can't be written: No space left on device"
        assert folder in Path(path).parents
        assert (folder / "recipe.json").read_bytes() == before
        assert held(folder) == BEFORE
        assert tidy(folder)
    disk.free = needed
    change(folder)


@pytest.mark.parametrize("kind", CHANGES)
@pytest.mark.parametrize("limit", [0, 100, 5000, 12_000])
def test_file_size_limit(folder, kind, limit):
    """The kernel refuses a write in the middle of a file."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
    try:
        with pytest.raises(OutputError, match="can't be written: File too large"):
            CHANGES[kind][0](folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert held(folder) == BEFORE
    assert tidy(folder)


@pytest.fixture
def tiny_disk(tmp_path):
    if os.geteuid() != 0 or not Path("/bin/mount").exists():
        pytest.skip("only root may mount a file system")
    mount = tmp_path / "disk"
    mount.mkdir()
    command = ["/bin/mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system may be mounted here: {done.stderr.strip()}")
    yield mount
    subprocess.run(["/bin/umount", "--lazy", str(mount)], check=True)  # after a failure, a file may still be mapped


def test_a_disk_that_is_really_full(tiny_disk):
    folder, filler = furnished(tiny_disk / "recipe", recipe=True), tiny_disk / "filler"
    for change, _ in CHANGES.values():
        for free in (0, 4096, 12_288, 20_480):
            available = os.statvfs(tiny_disk).f_bavail * os.statvfs(tiny_disk).f_frsize
            filler.write_bytes(b"0" * (available - free))
            with pytest.raises(OutputError, match=r"recipe/.*: can't be written: No space left on device"):
                change(folder)
            assert held(folder) == BEFORE
            assert tidy(folder)
            filler.unlink()
    add_images(folder, images("e"), 1)
    assert held(folder) == (*BEFORE, "e")


# Other writers


def test_a_second_writer_is_refused_and_a_reader_is_not(folder):
    code = (
        "import sys, pathlib, spadeline.engine.recipe.generations as g\n"
        "with g.only_writer(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as rival:
        assert rival.stdout.readline() == "held\n"
        for change, _ in CHANGES.values():
            with pytest.raises(RecipeError) as error:
                change(folder)
            assert str(error.value) == f"{folder}: is being written by another process"
        assert held(folder) == BEFORE
    assert rival.returncode == 0
    add_images(folder, images("e"), 1)
    assert held(folder) == (*BEFORE, "e")


def test_two_writers_in_one_process(folder):
    def rival():
        with pytest.raises(RecipeError, match="is being written by another process"):
            remove_images(folder, ["a"])
        yield from images("e")

    add_images(folder, rival(), 1)
    assert held(folder) == (*BEFORE, "e")


def test_no_lock_without_permission(folder, monkeypatch):
    def refuse(*_arguments, **_options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    with pytest.raises(OutputError, match=r"\.lock: can't be written: Permission denied"):
        remove_images(folder, ["a"])


# Clearing away


def test_what_a_killed_writer_left_is_cleared_and_nothing_else(folder):
    own = folder / ".spadeline-writing"
    own.mkdir()
    for name in ("layer1-9.npy", "extractor-9.onnx", "recipe.json", "journal.json"):
        (own / name).write_text("half")
    (own / "link").symlink_to(folder / "notes.txt")
    for name in ("layer2-9.npy", "basis-layer1-9.npy"):  # a user's files: no journal names them
        (folder / name).write_text("not ours")
    set_calibration(folder, None)
    assert (folder / "layer2-9.npy").read_text() == (folder / "basis-layer1-9.npy").read_text() == "not ours"
    for name in ("layer2-9.npy", "basis-layer1-9.npy"):
        (folder / name).unlink()
    assert tidy(folder)
    assert (folder / "notes.txt").read_text() == "not ours"


def killed_before_the_switch(folder, monkeypatch, change):
    """End a writer when all new files have been moved, just before recipe.json is replaced."""
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", mock.Mock(side_effect=KeyboardInterrupt))
        patch.setattr("spadeline.engine.recipe.generations._clear", lambda _: None)
        with pytest.raises(KeyboardInterrupt):
            change(folder)


@pytest.mark.parametrize("damage", [lambda path: path.write_text("{"), lambda path: path.unlink(), lambda path: None])
def test_files_that_were_moved_and_never_went_live_are_removed_by_their_journal(folder, monkeypatch, damage):
    before = names_in(folder)
    killed_before_the_switch(folder, monkeypatch, lambda folder: add_images(folder, images("e"), 1))
    moved = names_in(folder) - before - {".spadeline-writing"}
    assert len(moved) == 7
    kept = min(moved)
    (folder / kept).unlink()
    (folder / kept).write_text("a user's, of the same name")
    damage(folder / "recipe.json")
    left = before | {kept} if (folder / "recipe.json").exists() else before - {"recipe.json"} | {kept}
    with pytest.raises(InputError, match="expected 2 images, got 1"):
        create_recipe(folder, **options(folder, ("x",)) | {"count": 2})
    assert names_in(folder) == left
    assert (folder / kept).read_text() == "a user's, of the same name"


def test_a_recipe_whose_recipe_json_is_gone_loses_nothing(folder):
    (folder / "recipe.json").unlink()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def failing():
        yield from images("x")
        raise InputError("y.png: is damaged")

    with pytest.raises(InputError, match=r"y\.png: is damaged"):
        create_recipe(folder, **options(folder, ("x", "y")) | {"features": failing(), "overwrite": False})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    text = r"holds \d\d files of a recipe's kind that no readable recipe\.json named, such as .*: they were left alone"
    with pytest.warns(UserWarning, match=text):
        create_recipe(folder, **options(folder, ("x", "y", "z")) | {"overwrite": False})
    assert held(folder) == ("x", "y", "z")
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert names_in(folder) == {*before, "recipe.json", *(file.name for file in Recipe.load(folder).files.values())}


def test_a_damaged_recipe_is_replaced_and_its_files_are_left(folder):
    before = names_in(folder)
    (folder / "recipe.json").write_text("{")
    with pytest.warns(UserWarning, match="delete them unless they are wanted"):
        create_recipe(folder, **options(folder, ("x", "y", "z")))
    assert held(folder) == ("x", "y", "z")
    assert names_in(folder) == before | {file.name for file in Recipe.load(folder).files.values()}


def test_the_last_generation_is_followed_by_the_first_free_one(folder):
    last = 10**18 - 1
    content = json.loads((folder / "recipe.json").read_bytes())
    for file in content["files"].values():
        renamed = file["name"].replace(f"-{FIRST}.", f"-{last}.")
        (folder / file["name"]).rename(folder / renamed)
        file["name"] = renamed
    del content["sha256"]
    (folder / "recipe.json").write_bytes(seal(content | {"generation": last}))
    assert held(folder) == BEFORE
    assert add_images(folder, images("e"), 1).generation == FIRST
    assert held(folder) == (*BEFORE, "e")
    assert tidy(folder)
    assert (
        add_images(folder, images("f"), 1).generation == FIRST + 1
    )  # apart from the extractor, no file is of the last one
    assert held(folder) == (*BEFORE, "e", "f")


def test_a_lock_that_is_a_link_does_not_empty_its_target(folder, tmp_path):
    (tmp_path / "theirs.txt").write_text("not ours")
    (folder / ".lock").unlink()
    (folder / ".lock").symlink_to(tmp_path / "theirs.txt")
    with pytest.raises(OutputError, match=r"\.lock: can't be written: Too many levels of symbolic links"):
        set_calibration(folder, None)
    assert (tmp_path / "theirs.txt").read_text() == "not ours"


def test_a_generation_is_the_first_free_one_above_the_live_one(folder):
    assert Recipe.load(folder).generation == FIRST
    (folder / "layer1-5.npy").mkdir()
    assert add_images(folder, images("e"), 1).generation == 6
    assert remove_images(folder, ["e"]).generation == 8  # 7 is the number of a user's file
    assert held(folder) == BEFORE


def test_all_is_durable_before_the_switch_and_the_switch_after(folder, monkeypatch):
    log, system_fsync, system_replace = [], os.fsync, os.replace

    def fsync(descriptor):
        log.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        system_fsync(descriptor)

    def replace(source, target):
        log.append(f"{Path(source).name} -> {Path(target).name}")
        system_replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    create(folder)
    switch = log.index("recipe.json -> recipe.json")
    codes = {"basis-layer1", "rotated-layer1", "basis-layer2", "projected-layer2"}
    arrays = {f"{role}-{FIRST + 1}.npy" for role in ("embeddings", "ignore", "layer1", "layer2", *codes)} | {
        f"extractor-{FIRST + 1}.onnx"
    }
    assert set(log[:switch]) == arrays | {"recipe", ".spadeline-writing", "recipe.json", "journal.json"}
    # The names that are there once the files and the journal are written.
    assert max(map(log.index, (*arrays, "recipe.json", "journal.json"))) < log.index(".spadeline-writing")
    assert log.index(".spadeline-writing") < log.index("recipe")
    assert log[switch + 1 :] == ["recipe"]


def test_a_failing_fsync_after_the_switch_keeps_the_new_recipe(folder, monkeypatch):
    system_fsync = os.fsync

    def fail_once_switched(descriptor):
        if f"embeddings-{FIRST}.npy" not in (folder / "recipe.json").read_text():
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        system_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail_once_switched)
    with pytest.raises(OutputError, match="recipe: can't be written: Input/output error"):
        remove_images(folder, ["b"])
    assert held(folder) == ("a", "c", "d")
    assert tidy(folder)


if __name__ == "__main__":
    task, root, seed = sys.argv[1:]
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a forking process must not have threads"
    json.dump(globals()[task](Path(root), int(seed)), sys.stdout)
