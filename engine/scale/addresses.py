"""Addresses such as ``s3://bucket/folder``, by pyarrow: S3, Google Cloud Storage, Azure, HDFS, and ``file://``.

A text without ``://`` is a path of this machine. Paths are read by our own code, not here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from ..errors import InputError, SpadelineError
from ..images.decoding import MAX_FILE_BYTES
from ..optional import imported

RAY = "pip install 'spadeline[ray]'"


def pyarrow() -> Any:
    """Import pyarrow, with its file systems. DependencyError without it."""
    imported("pyarrow.fs", RAY)
    return imported("pyarrow", RAY)


def is_address(text: str) -> bool:
    """Whether a text is an address, and not a path."""
    return "://" in text


def open_address(address: str) -> tuple[Any, str]:
    """Return the file system of an address, and the address's path there.

    Raises
    ------
    OSError, ValueError
        As pyarrow raises them: an unknown kind of address, or a service that can't be reached.
    """
    host, path, options = _split(address)
    system, root = _system(host + options)
    return system, f"{root.rstrip('/')}/{path}".rstrip("/") if root else path


def files_below(address: str) -> list[str]:
    """Return the files below an address, sorted; or the file at the address itself.

    Raises
    ------
    InputError
        There is nothing, or it can't be read.
    """
    with failing_as(InputError, address, "a folder or a file that can be read"):
        system, root = open_address(address)
        fs = pyarrow().fs
        if (found := system.get_file_info(root)).type == fs.FileType.NotFound:
            raise InputError(f"{address}: expected a folder or a file, got nothing there")
        if found.type == fs.FileType.File:
            return [address]
        below = system.get_file_info(fs.FileSelector(root, recursive=True))
        host, path, options = _split(address)
        beginning = f"{host}/{path}".rstrip("/")
        return sorted(
            f"{beginning}{file.path.removeprefix(root)}{options}" for file in below if file.type == fs.FileType.File
        )


def _split(address: str) -> tuple[str, str, str]:
    """Return an address's service and bucket or host, its path there, and its options such as ``?region=…``.

    Not by urllib, which ends a path at "#": an object may be named so.
    """
    kind, _, rest = address.partition("://")
    rest, mark, options = rest.partition("?")
    host, _, path = rest.partition("/")
    return f"{kind}://{host}", path.strip("/"), mark + options


@cache
def _system(host: str) -> tuple[Any, str]:
    """Return the file system of a bucket or host, and its root's path; connecting takes time, so it is kept."""
    system, root = pyarrow().fs.FileSystem.from_uri(host.replace("file://", "file:///", 1))
    return system, root


def read_address(address: str) -> bytes:
    """Return the bytes of the image file at an address.

    Raises
    ------
    InputError
        It can't be read, or has more bytes than an image file may have.
    """
    with failing_as(InputError, address, "an image file"):
        system, path = open_address(address)
        with system.open_input_file(path) as file:
            if (size := file.size()) > MAX_FILE_BYTES:
                raise InputError(f"{address}: expected a file of at most {MAX_FILE_BYTES} bytes, got {size}")
            content: bytes = file.read()
            return content


@contextmanager
def failing_as(kind: type[SpadelineError], address: str, expected: str) -> Iterator[None]:
    """Raise ``kind``, in one sentence, where pyarrow's file systems fail."""
    try:
        yield
    except SpadelineError:
        raise
    except (OSError, ValueError) as error:  # pyarrow's errors are among these
        reason = " ".join(str(error).split())[:500].rstrip(". ")
        raise kind(f"{address}: expected {expected}, got: {reason}") from error
