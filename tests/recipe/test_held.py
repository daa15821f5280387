"""Changes of a recipe's files under a running detector, and the place of its gallery."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from spadeline.engine import Detector, InputError, Recipe, RecipeError, Settings, resources
from spadeline.engine import resources as processors_module
from spadeline.engine.cli.main import main
from spadeline.engine.extract.extractor import Extractor
from spadeline.engine.inspect import scoring as scoring_module
from spadeline.engine.recipe import held as held_module
from spadeline.engine.recipe.arrays import StoredArray
from spadeline.engine.recipe.changes import add_images
from spadeline.engine.resources import available_memory

from ..conftest import part
from ..recipes import create_small, edit_manifest, images, mask

FRAME = part(100)[0]


@pytest.fixture
def folder(recipe_folder, tmp_path):
    return shutil.copytree(recipe_folder, tmp_path / "recipe")


@pytest.fixture
def small(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"onnx" * 1000)
    return create_small(tmp_path / "small", "a", "b", "c", ignore=mask(), extractor_path=tmp_path / "model.onnx")


RUNNING = """
import json, os, sys
from pathlib import Path
import numpy as np
from spadeline.engine import Detector
folder, frame = Path(sys.argv[1]), np.load(sys.argv[2])
detector = Detector.load(folder, device="cpu", threads=2)
before = detector.predict(frame)
rng = np.random.default_rng(0)
def same(result):
    return bool(
        result.pred_score == before.pred_score
        and np.array_equal(result.anomaly_map, before.anomaly_map)
        and np.array_equal(result.neighbours, before.neighbours)
    )
outcomes = {}
for damage in ("overwritten", "cut off"):
    for path in sorted(folder.iterdir()):
        if damage == "cut off":
            os.truncate(path, 0)
        else:
            with path.open("r+b") as file:
                file.write(rng.bytes(path.stat().st_size))
    outcomes[damage] = [same(detector.predict(frame)), *(same(result) for result in detector.stream([frame] * 3))]
print(json.dumps(outcomes))
"""


def test_files_that_are_written_over_or_cut_off_change_nothing_in_a_running_detector(folder, tmp_path):
    np.save(tmp_path / "frame.npy", FRAME)
    command = [sys.executable, "-c", RUNNING, str(folder), str(tmp_path / "frame.npy")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr  # a negative code is a signal, such as a bus error
    assert json.loads(done.stdout) == {"overwritten": [True] * 4, "cut off": [True] * 4}


@pytest.mark.parametrize("place", ["auto", "memory", "mapped"])
def test_the_gallery_is_held_where_it_was_asked_for(folder, place):
    detector = Detector.load(folder, device="cpu", threads=1, gallery=place)
    assert detector.info["gallery"] == ("mapped" if place == "mapped" else "memory")
    expected = Detector.load(folder, device="cpu", threads=1).predict(FRAME)
    result = detector.predict(FRAME)
    np.testing.assert_array_equal(result.anomaly_map, expected.anomaly_map, strict=True)
    assert result.image_score == expected.image_score


@pytest.mark.parametrize("place", ["memory", "mapped"])
def test_what_is_held_is_read_only_and_aligned(small, place):
    gallery = small.gallery.hold(place)
    assert gallery.place == place
    assert small.gallery.hold() is gallery  # it is held once for all scorers of a recipe
    arrays = [
        gallery.embeddings,
        *gallery.levels,
        *(array for level in gallery.codes for array in vars(level).values()),
    ]
    stored = [small.embeddings, *small.levels, *(array for level in small.codes for array in level)]
    for array, file in zip(arrays, stored, strict=True):
        if array is not None:
            np.testing.assert_array_equal(array, file.in_memory(), strict=True)
            assert not array.flags.writeable
            assert array.ctypes.data % 64 == 0
    mapped = [isinstance(array, np.memmap) for array in gallery.levels]
    assert mapped == [place == "mapped"] * 3
    assert not isinstance(gallery.embeddings, np.memmap)


def test_a_gallery_that_does_not_fit_is_mapped_with_a_warning_or_refused(folder, monkeypatch):
    size = sum(array.nbytes for array in Recipe.load(folder).gallery._arrays())
    monkeypatch.setattr(held_module, "available_memory", lambda: 2 * size)
    assert Detector.load(folder, device="cpu", threads=1).info["gallery"] == "memory"
    monkeypatch.setattr(held_module, "available_memory", lambda: 2 * size - 2)
    with pytest.warns(UserWarning, match=r"gallery: \d+ MB are more than half .* must not be written into while"):
        assert Detector.load(folder, device="cpu", threads=1).info["gallery"] == "mapped"
    assert Detector.load(folder, device="cpu", threads=1, gallery="memory").info["gallery"] == "memory"
    monkeypatch.setattr(held_module, "available_memory", lambda: size - 1)
    with pytest.raises(InputError, match=r"gallery: expected one that fits .* take gallery 'mapped'"):
        Detector.load(folder, device="cpu", threads=1, gallery="memory")
    with pytest.raises(InputError, match="gallery: expected one of auto, memory, mapped, got 'disk'"):
        Detector.load(folder, device="cpu", threads=1, gallery="disk")


def test_a_container_limits_what_is_available(tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    5000 kB\n")
    (tmp_path / "own").write_text("0::/a/b\n")
    monkeypatch.setattr(resources, "MACHINE", tmp_path / "meminfo")
    monkeypatch.setattr(processors_module, "OWN_GROUP", tmp_path / "own")
    monkeypatch.setattr(processors_module, "CONTROL_GROUPS", tmp_path / "groups")
    assert available_memory() == 5000 * 1024
    for group, limit in (("a", "3000000"), ("a/b", "max")):
        (tmp_path / "groups" / group).mkdir(parents=True)
        for name, text in (("max", limit), ("current", "2500000"), ("stat", "anon 7\ninactive_file 100000\n")):
            (tmp_path / "groups" / group / f"memory.{name}").write_text(f"{text}\n")
    assert available_memory() == 600_000


FILES = ("rotated-layer1-1.npy", "projected-layer2-1.npy", "basis-layer2-1.npy", "layer1-1.npy", "embeddings-1.npy")


@pytest.mark.parametrize("name", [*FILES, "extractor-1.onnx"])
def test_garbage_in_a_file_is_named_when_the_recipe_is_opened(folder, name):
    path = folder / name
    content = bytearray(path.read_bytes())
    content[-100:] = os.urandom(100)
    path.write_bytes(content)
    with pytest.raises(RecipeError) as error:
        Detector.load(folder, device="cpu", threads=1)
    assert str(error.value).startswith(f"{path}: expected SHA-256 ")


@pytest.mark.parametrize("place", ["memory", "mapped"])
@pytest.mark.parametrize(
    ("value", "text"),
    [(np.nan, "basis: expected finite numbers, got NaN or infinity"), (0.5, "basis: expected orthonormal directions")],
)
def test_an_invalid_basis_is_named_although_its_hash_fits(small, value, text, place):
    path = small.folder / "basis-layer2-1.npy"
    content = bytearray(path.read_bytes())
    content[-4 * 256 :] = np.full(256, value, np.float32).tobytes()
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    edit_manifest(small.folder, lambda c: c["files"]["basis-layer2"].update(sha256=digest))
    recipe = Recipe.load(small.folder)
    for use in (
        lambda: recipe.gallery.hold(place),
        lambda: Recipe.load(small.folder, verify=True),
        lambda: add_images(small.folder, images("d"), 1),
    ):
        with pytest.raises(RecipeError) as error:
            use()
        assert str(error.value).startswith(f"{path}: {text}")


@pytest.mark.parametrize("command", [("info", "--verify"), ("calibrate",), ("remove", "000.png"), ("codes",)])
def test_a_file_that_is_cut_off_while_it_is_read_is_an_error(folder, command, monkeypatch, capsys):
    """There is no bus error, since no file is mapped to be read."""

    def cut_off_before(read):
        def cut_off_and_read(array):
            os.truncate(folder / "layer1-1.npy", 1000)
            return read(array)

        return cut_off_and_read

    for method in ("verify", "in_memory"):
        monkeypatch.setattr(StoredArray, method, cut_off_before(getattr(StoredArray, method)))
    name, *rest = command
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert main([name, str(folder), *rest]) == 2
    assert "layer1-1.npy: expected" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"level_shapes": ((1, 9000, 9000),), "kappa": 1}, "9000 x 9000 positions, 9000 x 9000 pixels and kappa 1"),
        ({"level_shapes": ((1, 1000, 1000),), "kappa": 1000}, "1000 x 1000 positions"),
    ],
)
def test_the_memory_of_a_frame_is_checked_before_it_is_allocated(tmp_path, monkeypatch, changes, text):
    """This also holds for files of the right size, which may take hardly any room on the disk."""
    shapes = changes["level_shapes"]
    size = shapes[0][1:]
    recipe = SimpleNamespace(
        folder=tmp_path,
        level_shapes=shapes,
        input_size=size,
        settings=Settings(kappa=changes["kappa"]),
        images=(1,) * 60,
    )
    monkeypatch.setattr(scoring_module, "available_memory", lambda: 24 << 30)
    with pytest.raises(RecipeError, match=text):
        scoring_module.Scorer(recipe, threads=1)


def test_an_extractor_that_contradicts_the_recipe_is_found_before_the_gallery_is_read(folder, monkeypatch):
    monkeypatch.setattr(Extractor, "_try_out", lambda _: (((8, 16, 16), (16, 8, 8), (32, 4, 4)), 24))
    monkeypatch.setattr("spadeline.engine.inspect.opening.Scorer", None)
    with pytest.raises(RecipeError, match="expected input"):
        Detector.load(folder, device="cpu", threads=1)


def test_lists_are_no_more_than_images(folder):
    edit_manifest(folder, lambda content: content["settings"].update(index_factory="IVF9999999,Flat"))
    with pytest.raises(InputError, match=r"factory: expected at most 12 lists for as many embeddings, got 'IVF9999999"):
        Detector.load(folder, device="cpu", threads=1)
