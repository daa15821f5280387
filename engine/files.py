"""Ordinary files: written once, with a hash, and durable; read with checks.

A file that is written is new. It is hashed while it grows, and it is durable before anything refers to it. Nothing is
written through a memory map, so a full disk is an error, not a bus error. A file that is read is an ordinary file or a
link to one, so that no pipe blocks. What is read is compared with its hash. What the files hold is not decided here.
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
from typing import Self

from .checks import check_digest, check_integer, check_text
from .errors import InputError, OutputError, RecipeError, SpadelineError

CHUNK = 1 << 20  # bytes copied or hashed at once


@dataclass(frozen=True)
class StoredFile:
    """What a recipe records of one of its files: name, size in bytes, SHA-256 in lower-case hex."""

    name: str
    size: int
    sha256: str

    def __post_init__(self) -> None:
        check_text("name", self.name)
        check_integer("size", self.size, low=1, high=2**63 - 1)
        check_digest("sha256", self.sha256)


class FileWriter:
    """A new file, written from front to back. If writing fails, the caller removes what was written.

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
            # Without a buffer, no bytes are left to close(), whose failure nobody would see.
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
            _write_all(self._file.fileno(), rest)

    def finish(self) -> StoredFile:
        """Make the content durable and say what was written."""
        with writing(self._path):
            os.fsync(self._file.fileno())
        return StoredFile(self._path.name, self._size, self._hash.hexdigest())


class HeldFile:
    """A file's content in memory, under an address that can be opened. No change to the file reaches it.

    Parameters
    ----------
    path
        The file that it was read from, for error texts.
    descriptor
        The descriptor of a file in memory. It is closed when this object goes.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.address = f"/proc/self/fd/{descriptor}"
        weakref.finalize(self, os.close, descriptor)


def hold(path: Path, chunks: Iterable[bytes | memoryview]) -> HeldFile:
    """Hold the chunks in a sealed file in memory: nobody can write to it any more, not even this process.

    Raises
    ------
    OutputError
        Memory is short.
    """
    descriptor = os.memfd_create(path.name[:100], os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    held = HeldFile(path, descriptor)
    with writing(path.parent / f"{path.name}, held in memory"):
        for chunk in chunks:
            _write_all(descriptor, memoryview(chunk))
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return held


class OpenedFile:
    """A recipe's file of the recorded size, held open. Its name may since be gone, or belong to another file.

    It is read, never mapped: a file that is cut off while it is read is then an error, not a bus error.

    Parameters
    ----------
    path
        The file.
    stored
        What the recipe records of it.

    Raises
    ------
    RecipeError
        From every method: the file is missing, isn't an ordinary file, has another size, can't be read, or ends too
        soon.
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
        """Fill ``room`` with the file's bytes from ``position`` on."""
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
        """Read the whole file; yield each part with its position. At the end, compare its SHA-256.

        A caller that stops before the end knows nothing about the content.

        Parameters
        ----------
        room
            Memory of the file's size, which is filled with it. None: the memory of one part is used for all parts.
        """
        digest, size = hashlib.sha256(), self.stored.size
        reused = None if room is not None else memoryview(bytearray(min(CHUNK, size)))
        for position in range(0, size, CHUNK):
            end = min(position + CHUNK, size)
            part = room[position:end] if room is not None else reused[: end - position]  # type: ignore[index]
            self.fill(part, position)
            digest.update(part)
            yield position, part
        if digest.hexdigest() != self.stored.sha256:
            raise RecipeError(
                f"{self.path}: expected SHA-256 {self.stored.sha256}, got {digest.hexdigest()}: its content was changed"
            )

    def verify(self) -> None:
        """Read the whole file and compare its SHA-256."""
        for _ in self.chunks():
            pass

    def held(self) -> HeldFile:
        """Return its verified content in memory, where nobody can change it."""
        return hold(self.path, (part for _, part in self.chunks()))


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an error of the system while ``path`` is written into an OutputError."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: can't be written: {error.strerror or error}") from error


def replace_file(path: Path, content: bytes) -> None:
    """Write a whole file or nothing, in place of one that may be there. Folders on the way are made.

    Raises
    ------
    OutputError
        It can't be written. What was there is as before.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial, writing(path):
        partial.write_bytes(content)


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Reserve a hidden file beside ``target``. It is renamed to ``target`` on success and deleted on any failure.

    The file is reserved at once, so that a folder that can't be written is known before anything is computed.
    """
    with writing(target):
        if target.is_dir():  # also "." and "", which have no name to put another beside
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


def copy_file(source: Path, target: Path) -> StoredFile:
    """Copy an ordinary file into a new one.

    Raises
    ------
    InputError
        The source can't be read.
    OutputError
        As :class:`FileWriter`.
    """
    with reading(source, refusal=InputError) as file, FileWriter(target) as writer:
        while chunk := file.read(CHUNK):
            writer.write(chunk)
        return writer.finish()


@contextmanager
def reading(path: Path, *, refusal: type[SpadelineError] = RecipeError) -> Iterator[BufferedReader]:
    """Open an ordinary file, or a link to one. Raise ``refusal`` if there is none or it can't be read."""
    try:
        # Without O_NONBLOCK, opening a pipe that nobody writes to would never return.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise refusal(f"{path}: is missing") from None
    except OSError as error:
        raise refusal(f"{path}: can't be read: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise refusal(f"{path}: expected an ordinary file, got a folder or a device")
    with os.fdopen(descriptor, "rb") as file:
        try:
            yield file
        except SpadelineError:  # such as an OutputError, an OSError of ours, for the file that a copy is written to
            raise
        except OSError as error:
            raise refusal(f"{path}: can't be read: {error.strerror}") from error


def _write_all(descriptor: int, rest: memoryview) -> None:
    while rest:  # one call of the system may write only a part
        rest = rest[os.write(descriptor, rest) :]


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    with writing(folder):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
