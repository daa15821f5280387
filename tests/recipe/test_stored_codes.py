import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spadeline.engine.errors import OutputError, RecipeError
from spadeline.engine.match.codes import code_layout, make_basis
from spadeline.engine.recipe.arrays import write_array
from spadeline.engine.recipe.gallery import Geometry
from spadeline.engine.recipe.stored_codes import (
    can_have_codes,
    code_arrays,
    code_roles,
    open_codes,
    write_codes,
)

from ..recipes import assert_encodes

# Codes of all channels, of fewer directions than channels, and of all channels again.
GEOMETRY = Geometry(
    input_size=(28, 36),
    level_names=("layer1", "layer2", "layer3"),
    level_shapes=((3, 7, 9), (256, 4, 5), (15, 2, 3)),
    embedding_size=6,
)


def gallery(count, *, seed=0, dtype=np.float32, geometry=GEOMETRY):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((count, *shape), np.float32).astype(dtype) for shape in geometry.cell_shapes]


def written(folder, levels, *, generation=1, geometry=GEOMETRY, **options):
    files = write_codes(folder, generation, geometry, levels, **options)
    return files, open_codes(folder, files, geometry, len(levels[0]))


def test_shapes_follow_from_the_geometry():
    layouts = code_arrays(GEOMETRY, 4)
    first = code_layout(3, 6, 16, finest=True, coarsest=False)
    second = code_layout(256, 6, 4, finest=False, coarsest=False)
    third = code_layout(15, 6, 1, finest=False, coarsest=True)
    assert layouts == {
        "basis-layer1": (first.basis, np.float32),
        "rotated-layer1": ((4, *first.rotated), np.uint8),
        "basis-layer2": (second.basis, np.float32),
        "projected-layer2": ((4, *second.projected), np.uint8),
        "rotated-layer2": ((4, *second.rotated), np.uint8),
        "basis-layer3": (third.basis, np.float32),
        "projected-layer3": ((4, *third.projected), np.uint8),
    }
    assert set(layouts) < set(code_roles(GEOMETRY))


def test_a_single_level_is_the_finest_and_the_coarsest():
    geometry = Geometry(input_size=(8, 8), level_names=("layer2",), level_shapes=((70, 2, 3),), embedding_size=1)
    layout = code_layout(70, 6, 1, finest=True, coarsest=True)
    assert code_arrays(geometry, 4) == {
        "basis-layer2": (layout.basis, np.float32),
        "rotated-layer2": ((4, *layout.rotated), np.uint8),
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_round_trip(tmp_path, dtype):
    levels = gallery(3, dtype=dtype)
    files, codes = written(tmp_path, levels, generation=7)
    assert {role: file.name for role, file in files.items()} == {
        role: f"{role}-7.npy" for role in code_arrays(GEOMETRY, 3)
    }
    assert {file.name for file in files.values()} == {path.name for path in tmp_path.iterdir()}
    shapes = ((3, 6, 16, True, False), (256, 6, 4, False, False), (15, 6, 1, False, True))
    for level, cells, (*sizes, finest, coarsest) in zip(codes, levels, shapes, strict=True):
        layout = code_layout(*sizes, finest=finest, coarsest=coarsest)
        np.testing.assert_array_equal(level.basis, make_basis(cells, layout), strict=True)
        assert ((level.projected is None), (level.rotated is None)) == (finest, coarsest)
    assert_encodes(codes, levels, GEOMETRY)


@settings(deadline=None, max_examples=20)
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    channels=st.lists(st.sampled_from([1, 3, 16, 17, 70]), min_size=1, max_size=3),
    n=st.integers(1, 3),
)
def test_round_trip_at_any_geometry(tmp_path_factory, height, width, channels, n):
    geometry = Geometry(
        input_size=(32, 32),
        level_names=tuple(f"layer{index + 1}" for index in range(len(channels))),
        level_shapes=tuple((c, -(-height >> shift), -(-width >> shift)) for shift, c in enumerate(channels)),
        embedding_size=2,
    )
    levels = gallery(n, geometry=geometry)
    _, codes = written(tmp_path_factory.mktemp("codes"), levels, geometry=geometry)
    assert_encodes(codes, levels, geometry)


def test_images_come_and_go_with_the_old_basis(tmp_path):
    old = gallery(4)
    _, before = written(tmp_path, old)
    added = gallery(2, seed=1)
    levels = [np.concatenate([own[[0, 2, 3]], new]) for own, new in zip(old, added, strict=True)]
    _, after = written(tmp_path, levels, generation=2, old=before, kept=[0, 2, 3])
    for level, other in zip(after, before, strict=True):
        np.testing.assert_array_equal(level.basis, other.basis)
    assert_encodes(after, levels, GEOMETRY)
    _, fewer = written(tmp_path, [level[[1, 4]] for level in levels], generation=3, old=after, kept=[1, 4])
    assert_encodes(fewer, [level[[1, 4]] for level in levels], GEOMETRY)


def test_old_codes_are_copied_not_made_again(tmp_path, monkeypatch):
    levels = gallery(3)
    _, before = written(tmp_path, levels)
    monkeypatch.setattr("spadeline.engine.recipe.stored_codes.encode", None)
    monkeypatch.setattr("spadeline.engine.recipe.stored_codes.make_basis", None)
    _, after = written(tmp_path, levels, generation=2, old=before, kept=[0, 1, 2])
    for level, other in zip(after, before, strict=True):
        np.testing.assert_array_equal(level.projected, other.projected)
        np.testing.assert_array_equal(level.rotated, other.rotated)


def test_channels_beyond_a_code():
    cases = [(1, 1 << 14, True), (1 << 20, 1, False), (1, 1 << 20, False)]
    for finest, coarsest, encodable in cases:
        geometry = Geometry(
            input_size=(8, 8),
            level_names=("layer1", "layer2"),
            level_shapes=((finest, 2, 2), (coarsest, 1, 1)),
            embedding_size=1,
        )
        assert can_have_codes(geometry) is encodable


def test_never_writes_over_a_file(tmp_path):
    (tmp_path / "rotated-layer2-1.npy").write_text("mine")
    with pytest.raises(OutputError, match=r"rotated-layer2-1\.npy: can't be written: File exists"):
        written(tmp_path, gallery(1))


@pytest.mark.parametrize(
    ("role", "array", "text"),
    [
        ("basis-layer2", np.zeros((1, 256), np.float32), "expected float32 (65, 256) in C order, got the header"),
        ("basis-layer2", np.zeros((65, 256), np.float64), "expected float32 (65, 256) in C order, got the header"),
        ("basis-layer3", np.zeros((17, 15), np.float32), "expected float32 (1, 15) in C order, got the header"),
        ("rotated-layer1", np.zeros((2, 24, 128), np.uint8), "expected uint8 (3, 24, 128) in C order, got the header"),
        ("rotated-layer1", np.zeros((3, 24, 128), np.int8), "expected uint8 (3, 24, 128) in C order, got the header"),
        ("projected-layer3", np.zeros((3, 2, 128), np.uint8), "expected uint8 (3, 1, 512) in C order, got the header"),
    ],
)
def test_refuses_a_file(tmp_path, role, array, text):
    """It is refused even if size and hash fit, since the matcher must never read beyond an array."""
    files, _ = written(tmp_path, gallery(3))
    files[role] = write_array(tmp_path, 2, role, array)
    with pytest.raises(RecipeError, match=re.escape(f"{role}-2.npy: {text}")):
        open_codes(tmp_path, files, GEOMETRY, 3)
