"""One array, one .npy file: written from front to back, row by row, and read as a memory map.

The form is strict: format 1.0, C order, data from a multiple of 64 bytes on. Which arrays there are, and of
which shapes, :mod:`.gallery` and :mod:`.derived` say.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from .errors import RecipeError
from .files import FileWriter, StoredFile, check_stored, reading

ALIGNMENT = 64  # bytes; numpy pads its headers to it, the matcher reads whole vectors from there

ArrayLayout = tuple[tuple[int, ...], np.dtype[Any]]


class ArraysWriter:
    """Arrays that grow together, a row each at a time. Made by :func:`new_arrays`."""

    def __init__(self, files: Mapping[str, FileWriter], layouts: Mapping[str, ArrayLayout]) -> None:
        self._files = files
        for role, layout in layouts.items():
            files[role].write(_header(*layout))

    def append(self, rows: Mapping[str, NDArray[Any]]) -> None:
        """Append a row to every array: of its shape, of exactly its number type."""
        for role, file in self._files.items():
            file.write(_raw(rows[role]))

    def finish(self) -> dict[str, StoredFile]:
        """Make the arrays durable and say what was written."""
        return {role: file.finish() for role, file in self._files.items()}


@contextmanager
def new_arrays(folder: Path, generation: int, layouts: Mapping[str, ArrayLayout]) -> Iterator[ArraysWriter]:
    """Create a generation's array files. What fails leaves its files behind."""
    with ExitStack() as stack:
        files = {role: stack.enter_context(FileWriter(folder / array_name(role, generation))) for role in layouts}
        yield ArraysWriter(files, layouts)


def write_array(folder: Path, generation: int, role: str, array: NDArray[Any]) -> StoredFile:
    """Create the file of an array that is complete; OutputError as from FileWriter."""
    with FileWriter(folder / array_name(role, generation)) as file:
        file.write(_header(array.shape, array.dtype))
        file.write(_raw(array))
        return file.finish()


def array_name(role: str, generation: int) -> str:
    """Return the file name of an array that a generation's writer makes."""
    return f"{role}-{generation}.npy"


def open_array(folder: Path, stored: StoredFile, layout: ArrayLayout, *, verify: bool) -> NDArray[Any]:
    """Map an array into memory, read-only; RecipeError unless its size and header are as the recipe says."""
    path = folder / stored.name
    shape, dtype = layout
    with reading(path) as file:
        check_stored(file, path, stored, verify=verify)
        offset = _check_header(file, path, layout)
        expected = offset + math.prod(shape) * dtype.itemsize
        if stored.size != expected:
            raise RecipeError(f"{path}: expected {expected} bytes for {dtype} {shape}, got {stored.size}")
        return np.memmap(file, dtype=dtype, mode="r", offset=offset, shape=shape)


def check_finite(path: Path, array: NDArray[np.floating]) -> None:
    """Raise RecipeError if a file's array holds NaN or infinity; it is read row by row."""
    for index, row in enumerate(np.asarray(array)):
        if not np.isfinite(row).all():
            raise RecipeError(f"{path}: expected finite numbers, got NaN or infinity in row {index}")


def _raw(array: NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    header = io.BytesIO()
    fields = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(header, fields)
    return header.getvalue()


def _check_header(file: BinaryIO, path: Path, layout: ArrayLayout) -> int:
    """Return where the data starts. The header is compared, not evaluated: its padding alone is free."""
    expected = _header(*layout)
    file.seek(0)
    start = file.read(10)
    if len(start) < 10 or start[:8] != expected[:8]:
        raise RecipeError(f"{path}: expected a .npy file of format 1.0, got one that starts with {start[:8]!r}")
    offset = 10 + int.from_bytes(start[8:], "little")
    text = file.read(offset - 10).strip()
    if text != expected[10:].strip() or offset % ALIGNMENT:
        shape, dtype = layout
        raise RecipeError(f"{path}: expected {dtype} {shape} in C order, got the header {text[:200]!r}")
    return offset
