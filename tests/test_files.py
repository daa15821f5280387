import hashlib
import os
import re
from pathlib import Path

import pytest
from spadeline.engine.errors import InputError, OutputError, RecipeError
from spadeline.engine.files import (
    CHUNK,
    FileWriter,
    StoredFile,
    check_stored,
    copy_file,
    reading,
    sync_folder,
)


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


@pytest.mark.parametrize(("name", "reason"), [("missing", "No such file or directory"), ("folder", "Is a directory")])
def test_copy_names_a_source_that_cannot_be_read(tmp_path, name, reason):
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=f"{name}: can't be read: {reason}"):
        copy_file(tmp_path / name, tmp_path / "b")


def test_copy_names_a_source_that_fails_midway(tmp_path):
    with pytest.raises(InputError, match=r"/proc/self/mem: can't be read: Input/output error"):
        copy_file(Path("/proc/self/mem"), tmp_path / "b")


def test_reading_an_ordinary_file(tmp_path):
    (tmp_path / "a").write_bytes(b"spadeline")
    with reading(tmp_path / "a") as file:
        assert file.read() == b"spadeline"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "is missing"),
        (lambda path: path.mkdir(), "expected an ordinary file, got a folder or a device"),
        (os.mkfifo, "expected an ordinary file, got a folder or a device"),
        (lambda path: path.symlink_to(__file__), "expected an ordinary file, got a link"),
        (lambda path: path.symlink_to(path), "expected an ordinary file, got a link"),
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


def test_stored_size_and_content(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"spadeline")
    stored = copy_file(path, tmp_path / "b")
    path.write_bytes(b"spadelinf")
    with reading(path) as file:
        check_stored(file, path, stored, verify=False)
        with pytest.raises(RecipeError, match=f"a: expected SHA-256 {stored.sha256}, got .*: its content was changed"):
            check_stored(file, path, stored, verify=True)
    path.write_bytes(b"spadelines")
    with reading(path) as file, pytest.raises(RecipeError, match="a: expected 9 bytes, got 10"):
        check_stored(file, path, stored, verify=False)


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
