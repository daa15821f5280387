"""Files: new ones are hashed and durable, old ones are replaced as a whole, and what is read is checked.

A recipe's files are written once, hashed as they grow, and durable before anything refers to them. Nothing is written
through a memory map: a full disk is then an error, not a bus error. Read files must be ordinary ones, or links to such:
a pipe could block for ever. What is read is compared with its hash. What the files hold is not decided here.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import stat
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from .checks import check_digest, check_integer, check_text
from .errors import InputError, OutputError, RecipeError

CHUNK = 1 << 20  # bytes copied or hashed at once


@dataclass(frozen=True)
class StoredFile:
    """What a recipe knows of one of its files: name, size in bytes, SHA-256 in lower-case hex."""

    name: str
    size: int
    sha256: str

    def __post_init__(self) -> None:
        check_text("name", self.name)
        check_integer("size", self.size, low=1, high=2**63 - 1)
        check_digest("sha256", self.sha256)


class FileWriter:
    """A new file, written from front to back. The caller removes it if it was left half-written.

    Raises
    ------
    OutputError
        From every method: the file can't be created, written or made durable, with the system's reason.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = 0
        self._hash = hashlib.sha256()
        with writing(path):
            # Unbuffered: no bytes are left for close() to write, whose failure nobody would notice.
            self._file = path.open("xb", buffering=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes (a memoryview of format B)."""
        rest = memoryview(data)
        self._hash.update(rest)
        self._size += len(rest)
        with writing(self._path):
            while rest:
                rest = rest[os.write(self._file.fileno(), rest) :]

    def finish(self) -> StoredFile:
        """Make the content durable and say what was written."""
        with writing(self._path):
            os.fsync(self._file.fileno())
        return StoredFile(self._path.name, self._size, self._hash.hexdigest())


class HeldFile:
    """A file's content, held in memory under a path that can be opened: no change to the file reaches it.

    Parameters
    ----------
    path
        The file that it was read from, for messages.
    descriptor
        A file in memory; it is closed along with this object, at the latest.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.address = f"/proc/self/fd/{descriptor}"
        weakref.finalize(self, os.close, descriptor)


def hold(path: Path, chunks: Iterable[bytes | memoryview]) -> HeldFile:
    """Hold the chunks, one after the other, sealed: nobody can write to them any more, this process included.

    Raises
    ------
    OutputError
        There is too little memory.
    """
    descriptor = os.memfd_create(path.name[:100], os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    held = HeldFile(path, descriptor)
    with writing(path.parent / f"{path.name}, held in memory"):
        for chunk in chunks:
            rest = memoryview(chunk)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return held


class OpenedFile:
    """A recipe's file of the recorded size, held open: it is the same file even if its name is removed or reused.

    It is read, never mapped: if it is cut off meanwhile, that is an error and not a bus error.

    Parameters
    ----------
    path
        The file.
    stored
        What the recipe knows of it.

    Raises
    ------
    RecipeError
        From every method: the file is missing, not an ordinary one, of another size, can't be read, or ends too soon.
    """

    def __init__(self, path: Path, stored: StoredFile) -> None:
        self.path, self.stored = path, stored
        with reading(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size != stored.size:
                raise RecipeError(f"{path}: expected {stored.size} bytes, got {size}")
            self.descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self.descriptor)

    def fill(self, room: memoryview, position: int) -> None:
        """Read bytes from a position on until the room is full."""
        while room:
            try:
                count = os.preadv(self.descriptor, [room], position)
            except OSError as error:
                raise RecipeError(f"{self.path}: can't be read: {error.strerror}") from error
            if count == 0:
                raise RecipeError(
                    f"{self.path}: expected {self.stored.size} bytes, got {position}: it was cut off while it was read"
                )
            room, position = room[count:], position + count

    def chunks(self, room: memoryview | None = None) -> Iterator[tuple[int, memoryview]]:
        """Read the file through; yield each part with its position, and check the size and the SHA-256.

        The SHA-256 is compared last: a caller that stops before the end has not checked the content.

        Parameters
        ----------
        room
            Memory as large as the file, to be filled with it; None: all parts share the memory of one.
        """
        digest, size = hashlib.sha256(), self.stored.size
        again = None if room is not None else memoryview(bytearray(min(CHUNK, size)))
        for position in range(0, size, CHUNK):
            end = min(position + CHUNK, size)
            part = room[position:end] if room is not None else again[: end - position]  # type: ignore[index]
            self.fill(part, position)
            digest.update(part)
            yield position, part
        if digest.hexdigest() != self.stored.sha256:
            raise RecipeError(
                f"{self.path}: expected SHA-256 {self.stored.sha256}, got {digest.hexdigest()}: its content was changed"
            )

    def verify(self) -> None:
        """Read the file through and check that it is as recorded."""
        for _ in self.chunks():
            pass

    def held(self) -> HeldFile:
        """Return the file's content, verified and held in memory, where nobody can change it."""
        return hold(self.path, (part for _, part in self.chunks()))


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError while writing into an OutputError that names the path."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: can't be written: {error.strerror or error}") from error


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Reserve a hidden file beside ``target``: it gets the target's name on success, and is deleted on any failure.

    A folder that can't be written is known before anything is computed. What stood under the name stays until then.

    Raises
    ------
    OutputError
        The file can't be made or renamed, or the target is a folder.
    """
    with writing(target):
        if target.is_dir():  # "." and "" are folders, too, and have no name to put another beside
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
        partial.touch(exist_ok=False)
    try:
        yield partial
        with writing(target):
            partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def write_durably(path: Path, content: bytes, *, target: Path) -> None:
    """Write a file reserved by :func:`replacing`: its bytes are on the disk before it gets the name of ``target``."""
    with writing(target), path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, content: bytes) -> None:
    """Write a file as a whole, in place of one that may be there; missing folders are made.

    Raises
    ------
    OutputError
        The file can't be written; one that was there is then as before.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial, writing(path):
        partial.write_bytes(content)


def copy_file(source: Path, target: Path) -> StoredFile:
    """Copy a file into a new one; InputError if it can't be read, OutputError as from FileWriter."""
    try:
        file = source.open("rb")
    except OSError as error:
        raise InputError(f"{source}: can't be read: {error.strerror}") from error
    with file, FileWriter(target) as writer:
        while chunk := _read_chunk(file, source):
            writer.write(chunk)
        return writer.finish()


def _read_chunk(file: BinaryIO, path: Path) -> bytes:
    try:
        return file.read(CHUNK)
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror}") from error


@contextmanager
def reading(path: Path) -> Iterator[BufferedReader]:
    """Open an ordinary file, or a link to one; RecipeError if there is none, or if its content can't be read."""
    try:
        # O_NONBLOCK: opening a pipe that nobody writes to would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise RecipeError(f"{path}: is missing") from None
    except OSError as error:
        raise RecipeError(f"{path}: can't be read: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise RecipeError(f"{path}: expected an ordinary file, got a folder or a device")
    with os.fdopen(descriptor, "rb") as file:
        try:
            yield file
        except OSError as error:
            raise RecipeError(f"{path}: can't be read: {error.strerror}") from error


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    with writing(folder):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
