"""Arrays as .npy files, one file for an array: written row by row from front to back, read by rows or whole.

The form is strict: format 1.0, C order, and data that starts at a multiple of 64 bytes. Which arrays there are, and
which shapes they have, is decided in :mod:`.gallery` and :mod:`.stored_codes`.
"""

from __future__ import annotations

import io
import math
import mmap
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ..errors import RecipeError
from ..files import FileWriter, OpenedFile, StoredFile

ALIGNMENT = 64  # bytes: numpy pads its headers to it, and the matcher reads whole vectors

ArrayLayout = tuple[tuple[int, ...], np.dtype[Any]]


class ArraysWriter:
    """Arrays that grow together, by one row each. :func:`new_arrays` makes it."""

    def __init__(self, files: Mapping[str, FileWriter], layouts: Mapping[str, ArrayLayout]) -> None:
        self._files = files
        for role, layout in layouts.items():
            files[role].write(_header(*layout))

    def append(self, rows: Mapping[str, NDArray[Any]]) -> None:
        """Append a row to each array, of its shape and of exactly its number type."""
        for role, file in self._files.items():
            file.write(_raw(rows[role]))

    def finish(self) -> dict[str, StoredFile]:
        """Make the arrays durable and return what was written."""
        return {role: file.finish() for role, file in self._files.items()}


@contextmanager
def new_arrays(folder: Path, generation: int, layouts: Mapping[str, ArrayLayout]) -> Iterator[ArraysWriter]:
    """Create the array files of a generation. After a failure, the files stay."""
    with ExitStack() as stack:
        files = {role: stack.enter_context(FileWriter(folder / array_name(role, generation))) for role in layouts}
        yield ArraysWriter(files, layouts)


def write_array(folder: Path, generation: int, role: str, array: NDArray[Any]) -> StoredFile:
    """Create the file of a complete array. Raises OutputError as :class:`.FileWriter` does."""
    with FileWriter(folder / array_name(role, generation)) as file:
        file.write(_header(array.shape, array.dtype))
        file.write(_raw(array))
        return file.finish()


def array_name(role: str, generation: int) -> str:
    """Return the file name of an array in a generation."""
    return f"{role}-{generation}.npy"


class StoredArray:
    """The file of an array, held open. It can be read row by row, read whole into memory, or mapped.

    Parameters
    ----------
    folder, stored
        The file, as :class:`.files.OpenedFile` takes it.
    layout
        The array's shape and number type. Its rows are its first axis.

    Raises
    ------
    RecipeError
        As OpenedFile, also from every method; or the size or the header contradicts the layout. Both are compared
        before any memory is allocated.
    """

    def __init__(self, folder: Path, stored: StoredFile, layout: ArrayLayout) -> None:
        self.file = OpenedFile(folder / stored.name, stored)
        self.shape, self.dtype = layout
        self._offset = self._check_header()
        expected = self._offset + self.nbytes
        if stored.size != expected:
            raise RecipeError(
                f"{self.file.path}: expected {expected} bytes for {self.dtype} {self.shape}, got {stored.size}"
            )

    @property
    def nbytes(self) -> int:
        """Bytes of the array, without the header."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> NDArray[Any]:
        """Read a row from the file."""
        if not 0 <= index < len(self):
            raise IndexError(f"row: expected 0 to {len(self) - 1}, got {index}")
        row: NDArray[Any] = np.empty(self.shape[1:], self.dtype)
        self.file.fill(_raw(row), self._offset + index * row.nbytes)
        return row

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:  # noqa: FBT001 - numpy's signature
        """Return the whole array, verified. numpy calls this where it expects an array."""
        return self.in_memory().astype(dtype or self.dtype, copy=False)

    def in_memory(self) -> NDArray[Any]:
        """Read the whole file and compare its SHA-256. The array is read-only, and no change to the file reaches it."""
        try:
            room = mmap.mmap(-1, self.file.stored.size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError as error:
            raise RecipeError(f"{self.file.path}: expected memory for {self.nbytes} bytes: {error.strerror}") from error
        # A frame reads all over the gallery, and addresses in fewer, larger pages are found faster.
        room.madvise(mmap.MADV_HUGEPAGE)
        for _ in self.file.chunks(memoryview(room)):
            pass
        array: NDArray[Any] = np.frombuffer(room, self.dtype, math.prod(self.shape), self._offset).reshape(self.shape)
        array.flags.writeable = False
        return array

    def mapped(self) -> NDArray[Any]:
        """Map the file, read-only and unverified. Later writes to it show, and cutting it off ends the process."""
        with os.fdopen(os.dup(self.file.descriptor), "rb") as file:
            return np.memmap(file, dtype=self.dtype, mode="r", offset=self._offset, shape=self.shape)

    def verify(self) -> None:
        """Read the whole file, compare its SHA-256, and check that all numbers are finite."""
        bad = None
        for position, part in self.file.chunks():
            start = max(self._offset - position, 0)  # both are multiples of any item's size
            if self.dtype.kind == "f" and bad is None:
                finite = np.isfinite(np.frombuffer(part[start:], self.dtype))
                if not finite.all():
                    bad = position + start - self._offset + int(finite.argmin()) * self.dtype.itemsize
        if bad is not None:  # raised last: a changed content, found at the end of the file, would be the reason
            row = bad // (self.nbytes // len(self))
            raise RecipeError(f"{self.file.path}: expected finite numbers, got NaN or infinity in row {row}")

    def _check_header(self) -> int:
        """Return where the data starts. The header is compared, not evaluated: only its padding may differ."""
        expected, path = _header(self.shape, self.dtype), self.file.path
        start = self._read_at_most(10, 0)
        if len(start) < 10 or start[:8] != expected[:8]:
            raise RecipeError(f"{path}: expected a .npy file of format 1.0, got one that starts with {start[:8]!r}")
        offset = 10 + int.from_bytes(start[8:], "little")
        text = self._read_at_most(offset - 10, 10).strip()
        if text != expected[10:].strip() or offset % ALIGNMENT:
            raise RecipeError(f"{path}: expected {self.dtype} {self.shape} in C order, got the header {text[:200]!r}")
        return offset

    def _read_at_most(self, count: int, position: int) -> bytes:
        room = bytearray(min(count, self.file.stored.size - position))
        self.file.fill(memoryview(room), position)
        return bytes(room)


def _raw(array: NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    header = io.BytesIO()
    fields = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(header, fields)
    return header.getvalue()
