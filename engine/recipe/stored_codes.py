"""The matcher's codes on the disk. They are made from the stored features, so they can always be made again.

For each level there is ``basis-<level>``, float32, and one or both of ``projected-<level>`` and ``rotated-<level>``,
uint8, with a row for each image. Adding and removing images keeps the basis, since any basis suits any image: a new
image is encoded alone, and with a removed image its rows go. Codes are defined in :mod:`.codes`. They make the matcher
faster and never change a score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, RecipeError
from ..files import StoredFile
from ..match.codes import CodeLayout, LevelCodes, Rows, can_encode, check_basis, code_layout, encode, make_basis
from .arrays import ArrayLayout, StoredArray, new_arrays, write_array
from .gallery import Geometry

CODE_KINDS = BASIS, PROJECTED, ROTATED = "basis", "projected", "rotated"


def can_have_codes(geometry: Geometry) -> bool:
    """Whether codes can be made of features of this geometry."""
    return can_encode(tuple(channels for channels, _, _ in geometry.level_shapes))


def code_role(kind: str, level_name: str) -> str:
    """Return the role of a code array of a level, in recipe.json and in the file name."""
    return f"{kind}-{level_name}"


def code_roles(geometry: Geometry) -> list[str]:
    """Return the roles that code arrays may have, whatever their version."""
    return [code_role(kind, name) for name in geometry.level_names for kind in CODE_KINDS]


def code_arrays(geometry: Geometry, count: int) -> dict[str, ArrayLayout]:
    """Return the shape and dtype of each code array for ``count`` images, by its role, finest level first."""
    layouts: dict[str, ArrayLayout] = {}
    for name, layout in zip(geometry.level_names, _code_layouts(geometry), strict=True):
        layouts[code_role(BASIS, name)] = layout.basis, np.dtype("<f4")
        for kind, records in ((PROJECTED, layout.projected), (ROTATED, layout.rotated)):
            if records is not None:
                layouts[code_role(kind, name)] = (count, *records), np.dtype(np.uint8)
    return layouts


class StoredCodes(NamedTuple):
    """The codes of a level on the disk, held open. They are explained in :class:`.codes.LevelCodes`."""

    basis: StoredArray
    projected: StoredArray | None
    rotated: StoredArray | None


def open_codes(
    folder: Path, files: Mapping[str, StoredFile], geometry: Geometry, count: int
) -> tuple[StoredCodes, ...]:
    """Open the codes of ``count`` images, finest level first. Raises RecipeError as StoredArray does."""
    arrays = {role: StoredArray(folder, files[role], layout) for role, layout in code_arrays(geometry, count).items()}
    return tuple(
        StoredCodes(*(arrays.get(code_role(kind, name)) for kind in CODE_KINDS))  # type: ignore[arg-type]
        for name in geometry.level_names
    )


def read_basis(codes: StoredCodes) -> NDArray[np.float32]:
    """Return a level's basis, verified. RecipeError names its file if it isn't a basis."""
    basis: NDArray[np.float32] = codes.basis.in_memory()
    try:
        check_basis(basis)
    except InputError as error:
        raise RecipeError(f"{codes.basis.file.path}: {error}") from None
    return basis


def write_codes(
    folder: Path,
    generation: int,
    geometry: Geometry,
    levels: Sequence[Rows],
    *,
    old: Sequence[StoredCodes] = (),
    kept: Sequence[int] = (),
) -> dict[str, StoredFile]:
    """Write the codes of a gallery, level by level and image by image. Return the files by role.

    Parameters
    ----------
    folder, generation
        The folder to write into, and the number in the names of the files.
    geometry
        The gallery's geometry, for which codes can be made.
    levels
        The complete gallery: (n, rows, columns, 4**depth, c), finest first. It is read image by image.
    old
        Codes of each level whose basis is kept. Without them, a new basis is made.
    kept
        Images of ``old`` that come first in the gallery. Their codes are copied; those of the others are made.

    Raises
    ------
    OutputError
        The disk is full, or can't be written for another reason. The files written so far stay.
    """
    arrays = code_arrays(geometry, levels[0].shape[0])
    files: dict[str, StoredFile] = {}
    for index, (name, layout) in enumerate(zip(geometry.level_names, _code_layouts(geometry), strict=True)):
        cells, coarsest = levels[index], name == geometry.level_names[-1]
        basis = read_basis(old[index]) if old else make_basis(cells, layout)
        basis_role, *roles = (role for kind in CODE_KINDS if (role := code_role(kind, name)) in arrays)
        files[basis_role] = write_array(folder, generation, basis_role, basis)
        with new_arrays(folder, generation, {role: arrays[role] for role in roles}) as writer:
            for image in kept:
                writer.append(_records(name, old[index], image))
            for image in range(len(kept), cells.shape[0]):
                writer.append(_records(name, encode(cells[image][None], basis, layout, coarsest=coarsest), 0))
            files |= writer.finish()
    return files


def _code_layouts(geometry: Geometry) -> list[CodeLayout]:
    first, last = geometry.level_names[0], geometry.level_names[-1]
    return [
        code_layout(channels, rows * columns, block, finest=name == first, coarsest=name == last)
        for name, (rows, columns, block, channels) in zip(geometry.level_names, geometry.cell_shapes, strict=True)
    ]


def _records(level_name: str, codes: LevelCodes | StoredCodes, image: int) -> dict[str, NDArray[np.uint8]]:
    """Return an image's rows by role."""
    arrays = ((PROJECTED, codes.projected), (ROTATED, codes.rotated))
    return {code_role(kind, level_name): array[image] for kind, array in arrays if array is not None}
