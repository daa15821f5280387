import hashlib
import os
import re
from pathlib import Path

import pytest
from spadeline.engine.errors import InputError, OutputError, RecipeError
from spadeline.engine.files import CHUNK, FileWriter, OpenedFile, StoredFile, copy_file, reading, sync_folder


def test_writer_records_what_it_wrote(tmp_path):
    with FileWriter(tmp_path / "a") as file:
        file.write(b"spade")
        file.write(memoryview(b"line"))
        stored = file.finish()
    assert stored == StoredFile("a", 9, hashlib.sha256(b"spadeline").hexdigest())
    assert (tmp_path / "a").read_bytes() == b"spadeline"


def test_writer_goes_on_after_a_short_write(tmp_path, monkeypatch):
    system_write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: system_write(descriptor, data[:3]))
    with FileWriter(tmp_path / "a") as file:
        file.write(b"0123456789")
        assert file.finish().size == 10
    assert (tmp_path / "a").read_bytes() == b"0123456789"


def test_writer_follows_no_link(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="link: can't be written: File exists"):
        FileWriter(tmp_path / "link")
    assert not (tmp_path / "elsewhere").exists()


def test_failing_fsync_is_an_error(tmp_path, monkeypatch):
    def fail(descriptor):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with (
        FileWriter(tmp_path / "a") as file,
        pytest.raises(OutputError, match="a: can't be written: Input/output"),
    ):
        file.finish()
    with pytest.raises(OutputError, match=re.escape(f"{tmp_path}: can't be written: Input/output error")):
        sync_folder(tmp_path)


def test_copy(tmp_path):
    content = os.urandom(CHUNK + 17)
    (tmp_path / "a").write_bytes(content)
    stored = copy_file(tmp_path / "a", tmp_path / "b")
    assert stored == StoredFile("b", len(content), hashlib.sha256(content).hexdigest())
    assert (tmp_path / "b").read_bytes() == content


@pytest.mark.parametrize(("name", "reason"), [("missing", "is missing"), ("folder", "expected an ordinary file")])
def test_copy_names_a_source_that_cannot_be_read(tmp_path, name, reason):
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=f"{name}: {reason}"):
        copy_file(tmp_path / name, tmp_path / "b")


def test_copy_names_a_source_that_fails_midway(tmp_path):
    with pytest.raises(InputError, match=r"/proc/self/mem: can't be read: Input/output error"):
        copy_file(Path("/proc/self/mem"), tmp_path / "b")


def test_reading_an_ordinary_file_or_a_link_to_one(tmp_path):
    (tmp_path / "a").write_bytes(b"spadeline")
    (tmp_path / "link").symlink_to("a")
    for name in ("a", "link"):
        with reading(tmp_path / name) as file:
            assert file.read() == b"spadeline"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "is missing"),
        (lambda path: path.mkdir(), "expected an ordinary file, got a folder or a device"),
        (os.mkfifo, "expected an ordinary file, got a folder or a device"),
        (lambda path: path.symlink_to("away"), "is missing"),
        (lambda path: path.symlink_to("/dev/null"), "expected an ordinary file, got a folder or a device"),
        (lambda path: path.symlink_to(path), "can't be read: Too many levels of symbolic links"),
    ],
)
def test_reading_refuses_all_else(tmp_path, make, reason):
    make(tmp_path / "a")
    with pytest.raises(RecipeError) as error, reading(tmp_path / "a"):
        pass
    assert str(error.value) == f"{tmp_path / 'a'}: {reason}"


def test_reading_names_a_file_that_fails_midway(tmp_path):
    (tmp_path / "a").write_bytes(b"spadeline")
    with pytest.raises(RecipeError, match="a: can't be read: Input/output error"), reading(tmp_path / "a"):
        raise OSError(5, "Input/output error")


def test_reading_names_a_file_below_a_file(tmp_path):
    (tmp_path / "a").write_bytes(b"spadeline")
    with (
        pytest.raises(RecipeError, match="a/b: can't be read: Not a directory"),
        reading(tmp_path / "a" / "b"),
    ):
        pass


def test_an_opened_file_is_held_against_what_was_stored(tmp_path):
    path, content = tmp_path / "a", os.urandom(2 * CHUNK + 17)
    path.write_bytes(content)
    stored = copy_file(path, tmp_path / "b")
    opened, room = OpenedFile(path, stored), memoryview(bytearray(len(content)))
    assert [position for position, _ in opened.chunks(room)] == [0, CHUNK, 2 * CHUNK]
    assert room == content
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    text = f"a: expected SHA-256 {stored.sha256}, got .*: its content was changed"
    for read in (opened.verify, opened.held, OpenedFile(path, stored).verify):
        with pytest.raises(RecipeError, match=text):
            read()
    path.write_bytes(content[:CHUNK])
    with pytest.raises(RecipeError, match=f"a: expected {len(content)} bytes, got {CHUNK}: it was cut off while"):
        opened.verify()
    with pytest.raises(RecipeError, match=f"a: expected {len(content)} bytes, got {CHUNK}$"):
        OpenedFile(path, stored)


def test_what_is_held_can_be_opened_and_never_written(tmp_path):
    (tmp_path / "a").write_bytes(b"spadeline")
    held = OpenedFile(tmp_path / "a", copy_file(tmp_path / "a", tmp_path / "b")).held()
    (tmp_path / "a").unlink()
    assert held.path == tmp_path / "a"
    for _ in range(2):
        assert Path(held.address).read_bytes() == b"spadeline"
    for mode in ("wb", "ab", "r+b"):
        with pytest.raises(PermissionError), Path(held.address).open(mode) as file:
            file.write(b"x")
    address = held.address
    del held
    assert not Path(address).exists()


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (("", 1, "0" * 64), "name: expected text"),
        (("a", 0, "0" * 64), "size: expected an integer from 1 to 9223372036854775807, got 0"),
        (("a", 2**63, "0" * 64), "size: expected an integer"),
        (("a", 1, None), "sha256: expected 64 hexadecimal digits, got None"),
    ],
)
def test_stored_file_checks_its_fields(fields, text):
    with pytest.raises(InputError, match=text):
        StoredFile(*fields)
