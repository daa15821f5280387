import hashlib
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spadeline.engine.errors import InputError, OutputError
from spadeline.engine.features import Features
from spadeline.engine.files import StoredFile
from spadeline.engine.match.cells import from_cells
from spadeline.engine.recipe.arrays import StoredArray
from spadeline.engine.recipe.gallery import Geometry, new_gallery

GEOMETRY = Geometry(
    input_size=(20, 28),
    level_names=("layer1", "layer3"),
    level_shapes=((3, 5, 7), (4, 2, 2)),
    embedding_size=6,
)


def random_features(rng, geometry=GEOMETRY, dtype=np.float32):
    levels = tuple(rng.standard_normal((1, *shape)).astype(dtype) for shape in geometry.level_shapes)
    return Features(levels, rng.standard_normal((1, geometry.embedding_size)).astype(np.float32))


def write(folder, images, geometry=GEOMETRY, *, count=None, storage="float32"):
    count = len(images) if count is None else count
    with new_gallery(folder, 3, geometry, count=count, storage=storage) as gallery:
        for index, features in enumerate(images):
            gallery.append(f"image {index}", features)
        return gallery.finish()


@pytest.mark.parametrize("storage", ["float32", "float16"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_round_trip_at_ragged_sizes(tmp_path, storage, dtype):
    rng = np.random.default_rng(0)
    images = [random_features(rng, dtype=dtype) for _ in range(3)]
    files = write(tmp_path, images, storage=storage)
    layouts = GEOMETRY.arrays(3, storage)
    assert list(layouts) == list(files) == ["embeddings", "layer1", "layer3"]
    assert layouts["layer1"][0] == (3, 2, 2, 16, 3)
    assert layouts["layer3"][0] == (3, 2, 2, 1, 4)
    for role, file in files.items():
        content = (tmp_path / f"{role}-3.npy").read_bytes()
        assert file == StoredFile(f"{role}-3.npy", len(content), hashlib.sha256(content).hexdigest())
        array = StoredArray(tmp_path, file, layouts[role]).in_memory()
        plain = np.load(tmp_path / file.name, allow_pickle=False)  # numpy alone can read it
        assert plain.flags.c_contiguous
        np.testing.assert_array_equal(array, plain, strict=True)
        assert array.dtype == (np.float32 if role == "embeddings" else storage)
        assert not array.flags.writeable
        assert array.ctypes.data % 64 == 0
        stored = [image.embedding for image in images]
        if role != "embeddings":
            level = GEOMETRY.level_names.index(role)
            array = from_cells(array, *GEOMETRY.level_shapes[level][1:])
            stored = [image.levels[level] for image in images]
        np.testing.assert_array_equal(array, np.concatenate(stored).astype(array.dtype))


@settings(deadline=None, max_examples=30)
@given(
    height=st.integers(1, 19),
    width=st.integers(1, 19),
    shifts=st.lists(st.integers(1, 2), max_size=3),
    channels=st.integers(1, 5),
    n=st.integers(1, 3),
)
def test_round_trip_at_any_geometry(tmp_path_factory, height, width, shifts, channels, n):
    shapes, shift = [(channels, height, width)], 0
    for step in shifts:
        shift += step
        shapes.append((channels + shift, -(-height >> shift), -(-width >> shift)))
    geometry = Geometry(
        input_size=(32, 32),
        level_names=tuple(f"layer{index + 1}" for index in range(len(shapes))),
        level_shapes=tuple(shapes),
        embedding_size=2,
    )
    rng = np.random.default_rng(height * 32 + width)
    images = [random_features(rng, geometry) for _ in range(n)]
    folder = tmp_path_factory.mktemp("gallery")
    files = write(folder, images, geometry)
    layouts = geometry.arrays(n, "float32")
    for level, (name, shape) in enumerate(zip(geometry.level_names, shapes, strict=True)):
        array = StoredArray(folder, files[name], layouts[name]).in_memory()
        expected = np.concatenate([image.levels[level] for image in images])
        np.testing.assert_array_equal(from_cells(array, *shape[1:]), expected)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"input_size": (20,)}, "input_size: expected (H, W), got (20,)"),
        ({"input_size": (20, 2**15 + 1)}, "input_size: W: expected an integer from 1 to 32768, got 32769"),
        ({"level_names": ("layer1", "layer1")}, "level_names: 'layer1' comes twice"),
        (
            {"level_names": ("layer1", "../x")},
            "level_names: expected 'layer' and a number from 1 to 99, got '../x'",
        ),
        ({"level_names": ("layer1", 3)}, "level_names[1]: expected str, got int"),
        (
            {"level_names": ("layer1",)},
            "level_shapes: expected one shape for each of one or more level names, got 2",
        ),
        ({"level_names": (), "level_shapes": ()}, "got 0 for 0"),
        ({"level_shapes": ((3, 5, 7), [4, 2, 2])}, "level_shapes[1]: expected tuple, got list"),
        ({"level_shapes": ((3, 5, 7), (4, 2))}, "shape of layer3: expected (c, h, w), got (4, 2)"),
        (
            {"level_shapes": ((0, 5, 7), (4, 2, 2))},
            "shape of layer1: c: expected an integer from 1 to 1048576, got 0",
        ),
        (
            {"level_shapes": ((3, 21, 7), (4, 2, 2))},
            "shape of layer1: h: expected an integer from 1 to 20, got 21",
        ),
        ({"level_shapes": ((3, 5, 7), (4, 2, 3))}, "level 1: expected the size of level 0 (5 x 7) halved"),
        ({"embedding_size": -1}, "embedding_size: expected an integer from 1 to 1048576, got -1"),
    ],
)
def test_geometry_refuses(changes, text):
    fields = {name: getattr(GEOMETRY, name) for name in ("input_size", "level_names", "level_shapes")}
    with pytest.raises(InputError) as error:
        Geometry(**{"embedding_size": 6} | fields | changes)
    assert text in str(error.value)


@pytest.mark.parametrize(
    ("value", "storage", "text"),
    [
        (
            np.nan,
            "float32",
            "image 'image 0', layer1: expected a feature that is finite at index (2, 4, 6), got nan",
        ),
        (
            -np.inf,
            "float16",
            "image 'image 0', layer1: expected a feature that is finite at index (2, 4, 6), got -inf",
        ),
        (7e4, "float16", "expected a feature within float16's range at index (2, 4, 6), got 70000.0"),
    ],
)
def test_refuses_features_that_it_could_not_store(tmp_path, value, storage, text):
    features = random_features(np.random.default_rng(1))
    features.levels[0][0, 2, 4, 6] = value
    with pytest.raises(InputError, match=re.escape(text)):
        write(tmp_path, [features], storage=storage)


def test_float16_keeps_its_largest_value(tmp_path):
    features = random_features(np.random.default_rng(1))
    features.levels[0][0, 2, 4, 6] = 65519  # rounds to 65504
    files = write(tmp_path, [features], storage="float16")
    array = StoredArray(tmp_path, files["layer1"], GEOMETRY.arrays(1, "float16")["layer1"]).in_memory()
    assert array.max() == 65504


def test_embeddings_are_float32_and_finite_at_any_storage(tmp_path):
    features = random_features(np.random.default_rng(1))
    features.embedding[0, 5] = 7e4
    write(tmp_path, [features], storage="float16")
    features.embedding[0, 5] = np.inf
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match=re.escape("embeddings: expected a feature that is finite at index (5,)")):
        write(tmp_path / "other", [features], storage="float16")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda f: f._replace(levels=f.levels[:1]), "image 'image 0': expected 2 levels, got 1"),
        (
            lambda f: f._replace(levels=f.levels[::-1]),
            "layer1: expected float32 or float16 (1, 3, 5, 7), got float32 (1, 4, 2, 2)",
        ),
        (
            lambda f: f._replace(embedding=f.embedding.astype(np.float64)),
            "embeddings: expected float32 or float16 (1, 6), got float64 (1, 6)",
        ),
        (
            lambda f: f._replace(embedding=f.embedding[0]),
            "embeddings: expected float32 or float16 (1, 6), got float32",
        ),
    ],
)
def test_refuses_features_of_another_shape(tmp_path, change, text):
    with pytest.raises(InputError, match=re.escape(text)):
        write(tmp_path, [change(random_features(np.random.default_rng(1)))])


@pytest.mark.parametrize(("count", "text"), [(3, "expected 3 images, got 2"), (1, "expected 1 images, got more")])
def test_count_is_exact(tmp_path, count, text):
    images = [random_features(np.random.default_rng(1))] * 2
    with pytest.raises(InputError, match=text):
        write(tmp_path, images, count=count)


def test_never_writes_over_a_file(tmp_path):
    (tmp_path / "layer1-3.npy").write_text("mine")
    with pytest.raises(OutputError, match=r"layer1-3\.npy: can't be written: File exists"):
        write(tmp_path, [random_features(np.random.default_rng(1))])
    assert (tmp_path / "layer1-3.npy").read_text() == "mine"
