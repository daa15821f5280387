"""Ordinary files: written once, hashed and durable; read with suspicion.

A written file is new, hashed as it grows, and durable before anything refers to it. Nothing is written
through a memory map: a full disk is then an error, not a bus error. A read file is an ordinary one, or a link to one:
what is read is held against its hash, wherever it lies; no pipe blocks for ever. What the files hold is not decided
here.
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
    """What a recipe knows of one of its files: name, size in bytes, SHA-256 in lower-case hex."""

    name: str
    size: int
    sha256: str

    def __post_init__(self) -> None:
        check_text("name", self.name)
        check_integer("size", self.size, low=1, high=2**63 - 1)
        check_digest("sha256", self.sha256)


class FileWriter:
    """A new file, written from front to back. What is left half-written is the caller's to remove.

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
            # Unbuffered: no bytes wait for a close() that may fail when nobody looks.
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
    """A file's content, held in memory under an address that can be opened: no change to the file reaches it.

    Parameters
    ----------
    path
        What it was read from, for people to read.
    descriptor
        Of a file in memory; closed along with this object, at the latest.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.address = f"/proc/self/fd/{descriptor}"
        weakref.finalize(self, os.close, descriptor)


def hold(path: Path, chunks: Iterable[bytes | memoryview]) -> HeldFile:
    """Hold what the chunks add up to, sealed: nobody can write to it any more, this process included.

    OutputError when memory is short.
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
    """A recipe's file of the recorded size, held open though its name may be gone, or stand for another by now.

    It is read, never mapped: where it is cut off meanwhile, that is an error then, and not a bus error.

    Parameters
    ----------
    path
        The file.
    stored
        What the recipe knows of it.

    Raises
    ------
    RecipeError
        From every method: it is missing, no ordinary file, of another size, can't be read, or ends too soon.
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
        """Read bytes from a position on, as many as the room takes."""
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
        """Read the file through; yield each part with its position, and see that all is as recorded.

        Whoever stops before the end knows nothing of the content: its SHA-256 is compared last.

        Parameters
        ----------
        room
            As large as the file, to be filled with it; None: one part's room is used again and again.
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
        """Read the file through and see that it is as recorded."""
        for _ in self.chunks():
            pass

    def held(self) -> HeldFile:
        """Return its content, verified, where nobody can change it."""
        return hold(self.path, (part for _, part in self.chunks()))


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the system's refusal to write into one sentence."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: can't be written: {error.strerror or error}") from error


def replace_file(path: Path, content: bytes) -> None:
    """Write a file, all of it or none, in place of one that may be there; folders on the way are made.

    OutputError when it can't be written; what was there is then as before.
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


def copy_file(source: Path, target: Path) -> StoredFile:
    """Copy an ordinary file into a new one; InputError when it can't be read, OutputError as from FileWriter."""
    with reading(source, refusal=InputError) as file, FileWriter(target) as writer:
        while chunk := file.read(CHUNK):
            writer.write(chunk)
        return writer.finish()


@contextmanager
def reading(path: Path, *, refusal: type[SpadelineError] = RecipeError) -> Iterator[BufferedReader]:
    """Open an ordinary file, or a link to one; raise ``refusal`` when there is none, or it can't be read."""
    try:
        # O_NONBLOCK: a pipe that nobody writes to would hold the open for ever.
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
    while rest:  # the system may write a part of it
        rest = rest[os.write(descriptor, rest) :]


def sync_folder(folder: Path) -> None:
    """Make a folder's names durable."""
    with writing(folder):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
