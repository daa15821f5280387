import hashlib
import os

import numpy as np
import pytest
from spadeline.engine.errors import OutputError, RecipeError
from spadeline.engine.files import StoredFile
from spadeline.engine.recipe.arrays import StoredArray, array_name, new_arrays, write_array


def layout_of(array):
    return array.shape, array.dtype


@pytest.mark.parametrize("dtype", ["<f4", "<f2", "|u1", "|b1"])
def test_what_is_written_is_read(tmp_path, dtype):
    array = np.random.default_rng(0).integers(0, 2, (3, 5, 7)).astype(dtype)
    stored = write_array(tmp_path, 12, "codes-layer1", array)
    content = (tmp_path / "codes-layer1-12.npy").read_bytes()
    assert stored == StoredFile("codes-layer1-12.npy", len(content), hashlib.sha256(content).hexdigest())
    plain = np.load(tmp_path / stored.name, allow_pickle=False)  # numpy alone can read it
    np.testing.assert_array_equal(plain, array, strict=True)
    opened = StoredArray(tmp_path, stored, layout_of(array))
    opened.verify()
    assert (opened.shape, opened.dtype, opened.nbytes, len(opened)) == (array.shape, array.dtype, array.nbytes, 3)
    for whole in (opened.in_memory(), opened.mapped()):
        np.testing.assert_array_equal(whole, array, strict=True)
        assert not whole.flags.writeable
        assert whole.ctypes.data % 64 == 0
    for row, expected in zip(opened, array, strict=True):
        np.testing.assert_array_equal(row, expected, strict=True)
    with pytest.raises(IndexError):
        opened[-1]


def test_nothing_that_happens_to_a_file_reaches_what_was_read(tmp_path):
    array = np.random.default_rng(0).random((4, 400_000), np.float32)
    stored = write_array(tmp_path, 1, "layer1", array)
    opened, path = StoredArray(tmp_path, stored, layout_of(array)), tmp_path / stored.name
    whole = opened.in_memory()
    path.write_bytes(bytes(stored.size))
    np.testing.assert_array_equal(whole, array)
    for read in (opened.in_memory, opened.verify):
        with pytest.raises(RecipeError, match=r"layer1-1\.npy: expected SHA-256 .*: its content was changed"):
            read()
    os.truncate(path, 2_000_000)
    np.testing.assert_array_equal(whole, array)
    for read in (opened.in_memory, opened.verify, lambda: opened[3]):
        with pytest.raises(RecipeError, match=r"layer1-1\.npy: expected \d+ bytes, got \d+: it was cut off while"):
            read()


@pytest.mark.parametrize("row", [0, 2])
def test_numbers_that_are_not_finite_are_found_with_their_row(tmp_path, row):
    array = np.random.default_rng(0).random((3, 700_001)).astype(np.float16)
    array[row, 300_000] = np.inf
    opened = StoredArray(tmp_path, write_array(tmp_path, 1, "layer1", array), layout_of(array))
    with pytest.raises(RecipeError) as error:
        opened.verify()
    assert str(error.value) == f"{tmp_path}/layer1-1.npy: expected finite numbers, got NaN or infinity in row {row}"


def test_an_array_in_another_order_is_written_in_c_order(tmp_path):
    array = np.random.default_rng(0).random((3, 4), np.float32).T[::-1]
    stored = write_array(tmp_path, 1, "layer1", array)
    np.testing.assert_array_equal(StoredArray(tmp_path, stored, layout_of(array)), array)


def test_arrays_that_grow_row_by_row(tmp_path):
    rng = np.random.default_rng(0)
    whole = {
        "codes-layer1": rng.integers(0, 256, (3, 2, 64)).astype(np.uint8),
        "layer1": rng.random((3, 5), np.float32),
    }
    with new_arrays(tmp_path, 2, {role: layout_of(array) for role, array in whole.items()}) as arrays:
        for index in range(3):
            arrays.append({role: array[index] for role, array in whole.items()})
        files = arrays.finish()
    assert {file.name for file in files.values()} == {path.name for path in tmp_path.iterdir()}
    for role, array in whole.items():
        assert files[role].name == array_name(role, 2)
        np.testing.assert_array_equal(StoredArray(tmp_path, files[role], layout_of(array)), array)


def test_never_writes_over_a_file(tmp_path):
    (tmp_path / "ignore-3.npy").write_text("mine")
    with pytest.raises(OutputError, match=r"ignore-3\.npy: can't be written: File exists"):
        write_array(tmp_path, 3, "ignore", np.zeros((2, 2), np.bool_))
    assert (tmp_path / "ignore-3.npy").read_text() == "mine"


def damaged_header(old, new):
    """Replace text in the header and keep the file's length by means of the header's padding."""

    def damage(content):
        changed = content.replace(old, new, 1)
        assert changed != content
        extra = len(changed) - len(content)
        return changed.replace(b" " * extra, b"", 1) if extra >= 0 else changed.replace(b"\n", b" " * -extra + b"\n", 1)

    return damage


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda c: b"PK\3\4" + c[4:], "expected a .npy file of format 1.0, got one that starts with b'PK"),
        (lambda c: c[:6] + b"\2" + c[7:], "expected a .npy file of format 1.0"),
        (lambda c: c[:9], "expected a .npy file of format 1.0"),
        (
            lambda c: c[:8] + b"\xff\xff" + c[10:],
            "expected float32 (2, 2, 2, 16, 3) in C order, got the header",
        ),
        (lambda c: c[:8] + b"\0\0" + c[10:], "got the header b''"),
        (lambda c: c[:8] + bytes([c[8] - 1]) + c[9:-1], "in C order, got the header"),
        (damaged_header(b"<f4", b"<i4"), "'descr': '<i4'"),
        (damaged_header(b"<f4", b"|O"), "'descr': '|O'"),
        (damaged_header(b"False", b"True"), "'fortran_order': True"),
        (damaged_header(b"(2, 2, 2", b"(99999999999999, 2, 2"), "(99999999999999, 2, 2"),
        (damaged_header(b"(2, 2, 2", b"(-2, 2, 2"), "(-2, 2, 2"),
        (damaged_header(b"(2, 2, 2", b"(2, 4, 1"), "(2, 4, 1"),
        (lambda c: c + b"\0", "bytes for float32 (2, 2, 2, 16, 3), got"),
        (lambda c: c[:-1], "bytes for float32 (2, 2, 2, 16, 3), got"),
    ],
)
def test_open_refuses_another_header(tmp_path, damage, text):
    """It is refused even if the recorded size and hash fit it."""
    write_array(tmp_path, 3, "layer1", np.zeros((2, 2, 2, 16, 3), np.float32))
    path = tmp_path / "layer1-3.npy"
    content = damage(path.read_bytes())
    path.write_bytes(content)
    stored = StoredFile(path.name, len(content), hashlib.sha256(content).hexdigest())
    with pytest.raises(RecipeError) as error:
        StoredArray(tmp_path, stored, ((2, 2, 2, 16, 3), np.dtype("<f4")))
    assert str(error.value).startswith(f"{path}: ")
    assert text in str(error.value)
