"""The matcher's codes on the disk: made of the stored features, so that they can always be made again.

Of each level there is ``basis-<level>``, float32, and one or both of ``projected-<level>`` and ``rotated-<level>``,
uint8, with a row for each image. A basis is kept as images come and go, since any basis suits any image: one that
comes is encoded alone, one that goes takes its rows along. What a code is, and which ones a level has, :mod:`.codes`
defines; codes speed the matcher up and never change a score.
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
    """Whether codes can be made of this geometry's features."""
    return can_encode(tuple(channels for channels, _, _ in geometry.level_shapes))


def code_role(kind: str, level_name: str) -> str:
    """Return what recipe.json and the file name call one of a level's code arrays."""
    return f"{kind}-{level_name}"


def code_roles(geometry: Geometry) -> list[str]:
    """Return the roles that code arrays may have, whatever their version."""
    return [code_role(kind, name) for name in geometry.level_names for kind in CODE_KINDS]


def code_arrays(geometry: Geometry, count: int) -> dict[str, ArrayLayout]:
    """Return each code array's shape and dtype for ``count`` images by its role, level by level, finest first."""
    layouts: dict[str, ArrayLayout] = {}
    for name, layout in zip(geometry.level_names, _code_layouts(geometry), strict=True):
        layouts[code_role(BASIS, name)] = layout.basis, np.dtype("<f4")
        for kind, records in ((PROJECTED, layout.projected), (ROTATED, layout.rotated)):
            if records is not None:
                layouts[code_role(kind, name)] = (count, *records), np.dtype(np.uint8)
    return layouts


class StoredCodes(NamedTuple):
    """One level's codes on the disk, held open; what they are: :class:`.codes.LevelCodes`."""

    basis: StoredArray
    projected: StoredArray | None
    rotated: StoredArray | None


def open_codes(
    folder: Path, files: Mapping[str, StoredFile], geometry: Geometry, count: int
) -> tuple[StoredCodes, ...]:
    """Open the codes of ``count`` images, finest level first; RecipeError as from StoredArray."""
    arrays = {role: StoredArray(folder, files[role], layout) for role, layout in code_arrays(geometry, count).items()}
    return tuple(
        StoredCodes(*(arrays.get(code_role(kind, name)) for kind in CODE_KINDS))  # type: ignore[arg-type]
        for name in geometry.level_names
    )


def read_basis(codes: StoredCodes) -> NDArray[np.float32]:
    """Return a level's basis, verified; RecipeError that names its file unless it is one."""
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
    """Write the codes of a gallery, level by level and image by image; return the files by role.

    Parameters
    ----------
    folder, generation
        Where, and the number in the files' names.
    geometry
        The gallery's, of which codes can be made.
    levels
        The complete gallery: (n, rows, columns, 4**depth, c), finest first; taken image by image.
    old
        Codes whose basis is kept, each level's; without them it is made anew.
    kept
        Images of ``old`` that come first in the gallery: their codes are copied, the others' made.

    Raises
    ------
    OutputError
        The disk is full, or refuses otherwise; what was written so far is left behind.
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
    """Return one image's rows by role."""
    arrays = ((PROJECTED, codes.projected), (ROTATED, codes.rotated))
    return {code_role(kind, level_name): array[image] for kind, array in arrays if array is not None}
