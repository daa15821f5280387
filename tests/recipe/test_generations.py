"""What is live after full disks and other writers, what is cleared away, and what is durable when."""

import errno
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from spadeline.engine.errors import InputError, OutputError, RecipeError
from spadeline.engine.recipe.changes import add_images, create_recipe, remove_images, set_calibration
from spadeline.engine.recipe.manifest_json import seal
from spadeline.engine.recipe.recipe import Recipe

from .changed_folders import BEFORE, CHANGES, FIRST, create, furnished, held, images, names_in, options, tidy


@pytest.fixture
def folder(tmp_path):
    return furnished(tmp_path / "recipe", recipe=True)


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
