"""The stored features of the normal images: one .npy file per level, cell-blocked, and one of embeddings.

The array of a level is (n, rows, columns, 4**depth, c) in the order of :mod:`.cells`, float32 or float16. The
embeddings are (n, d) float32. Arrays are written image by image, so writing needs the memory of one image. The matcher
reads them as they are stored (:mod:`.held`). The codes that are made of the features stand in :mod:`.stored_codes`.
Which files are live is decided in :mod:`.generations`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .. import _native
from ..checks import check_instances, check_integer, check_shape, check_unique
from ..errors import InputError
from ..features import LEVEL_NAME, Features
from ..files import StoredFile
from ..images.structure import MAX_PIXELS
from ..match.cells import level_shifts, to_cells
from .arrays import ArrayLayout, ArraysWriter, new_arrays

EMBEDDINGS = "embeddings"
LARGEST_SIDE = 1 << 15  # pixels: more than any camera has, and a bound of the memory that a recipe makes a reader take
MOST_CHANNELS = 1 << 20  # bounds memory, too
LARGEST_STRIDE = 64  # input pixels for one of the finest level, along a side: twice as many as in a ResNet's last block


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """The shapes of an extractor's input and outputs for one image.

    Attributes
    ----------
    input_size
        (H, W) of the extractor's input, in pixels. Each side is at most ``LARGEST_STRIDE`` times the finest level's, so
        that the map isn't far larger than what is stored.
    level_names
        Finest first; each is ``layer`` and a number.
    level_shapes
        (c, h, w) of each level, finest first, each ``ceil(finest / 2**shift)`` in size.
    embedding_size
        d of the embedding.
    """

    input_size: tuple[int, int]
    level_names: tuple[str, ...]
    level_shapes: tuple[tuple[int, int, int], ...]
    embedding_size: int

    def __post_init__(self) -> None:
        check_shape("input_size", self.input_size, H=LARGEST_SIDE, W=LARGEST_SIDE)
        height, width = self.input_size
        if height * width > MAX_PIXELS:
            raise InputError(f"input_size: expected at most {MAX_PIXELS} pixels, got {height} x {width}")
        check_instances("level_names", self.level_names, str)
        check_instances("level_shapes", self.level_shapes, tuple)
        check_unique("level_names", self.level_names)
        if not self.level_names or len(self.level_names) != len(self.level_shapes):
            raise InputError(
                "level_shapes: expected one shape for each of one or more level names, "
                f"got {len(self.level_shapes)} for {len(self.level_names)}"
            )
        for name, shape in zip(self.level_names, self.level_shapes, strict=True):
            if not re.fullmatch(LEVEL_NAME, name):
                raise InputError(f"level_names: expected 'layer' and a number from 1 to 99, got {name!r:.100}")
            check_shape(f"shape of {name}", shape, c=MOST_CHANNELS, h=height, w=width)
        _, *finest = self.level_shapes[0]
        if height > LARGEST_STRIDE * finest[0] or width > LARGEST_STRIDE * finest[1]:
            raise InputError(
                f"input_size: expected at most {LARGEST_STRIDE} times the finest level's {finest[0]} x {finest[1]}, "
                f"got {height} x {width}"
            )
        check_integer("embedding_size", self.embedding_size, low=1, high=MOST_CHANNELS)
        level_shifts(self._sizes)

    @property
    def _sizes(self) -> tuple[tuple[int, int], ...]:
        return tuple((height, width) for _, height, width in self.level_shapes)

    @property
    def depths(self) -> tuple[int, ...]:
        """Halvings between each level and the coarsest one, finest level first."""
        shifts = level_shifts(self._sizes)
        return tuple(shifts[-1] - shift for shift in shifts)

    @property
    def cell_shapes(self) -> tuple[tuple[int, int, int, int], ...]:
        """(rows, columns, 4**depth, c) of an image's levels in the cell-blocked layout, finest level first."""
        return tuple(
            (-(-height // 2**depth), -(-width // 2**depth), 4**depth, channels)
            for (channels, height, width), depth in zip(self.level_shapes, self.depths, strict=True)
        )

    def arrays(self, count: int, storage: str) -> dict[str, ArrayLayout]:
        """Return each feature array's shape and dtype for ``count`` images: ``"embeddings"``, then the levels."""
        layouts: dict[str, ArrayLayout] = {EMBEDDINGS: ((count, self.embedding_size), np.dtype("<f4"))}
        for name, shape in zip(self.level_names, self.cell_shapes, strict=True):
            layouts[name] = ((count, *shape), np.dtype(storage).newbyteorder("<"))
        return layouts


def largest_embedding(size: int) -> float:
    """Return the largest magnitude that the numbers of an embedding may have.

    With it, no squared distance of two embeddings overflows float32. Two embeddings differ by at most twice this
    magnitude in each of ``size`` numbers: 4 * size * largest**2 is a quarter of float32's range, which leaves room for
    the intermediate results of an index.
    """
    return _native.largest_embedding(size)


class GalleryWriter:
    """Writes the arrays of a generation, image by image. :func:`new_gallery` makes it."""

    def __init__(self, arrays: ArraysWriter, geometry: Geometry, *, count: int, storage: str) -> None:
        self._arrays = arrays
        self._geometry = geometry
        self._count = count
        self._layouts = geometry.arrays(count, storage)
        self._written = 0

    def append(self, name: str, features: Features) -> None:
        """Store one image's features: levels (1, c, h, w), finest first, and an embedding (1, d).

        Raises
        ------
        InputError
            A wrong shape or dtype, a feature that isn't finite or doesn't fit the stored type, an embedding beyond
            :func:`largest_embedding`, or more images than announced.
        OutputError
            The disk is full, or can't be written for another reason.
        """
        geometry = self._geometry
        if len(features.levels) != len(geometry.level_names):
            raise InputError(
                f"image {name!r:.100}: expected {len(geometry.level_names)} levels, got {len(features.levels)}"
            )
        embedding = self._as_stored(name, EMBEDDINGS, features.embedding, (geometry.embedding_size,))
        if (came := np.abs(embedding).max()) > (largest := largest_embedding(geometry.embedding_size)):
            raise InputError(
                f"image {name!r:.100}, {EMBEDDINGS}: expected numbers of at most {largest:.3g}, whose squared "
                f"distances float32 holds, got {came:.3g}"
            )
        rows = {EMBEDDINGS: embedding}
        for role, values, shape, depth in zip(
            geometry.level_names, features.levels, geometry.level_shapes, geometry.depths, strict=True
        ):
            rows[role] = to_cells(self._as_stored(name, role, values, shape), depth)
        self.append_stored(rows)

    def append_stored(self, rows: Mapping[str, NDArray[np.floating]]) -> None:
        """Copy one image's rows from another gallery of the same geometry and storage."""
        self._written += 1
        if self._written > self._count:
            raise InputError(f"features: expected {self._count} images, got more")
        self._arrays.append(rows)

    def finish(self) -> dict[str, StoredFile]:
        """Make the arrays durable and return what was written."""
        if self._written < self._count:
            raise InputError(f"features: expected {self._count} images, got {self._written}")
        return self._arrays.finish()

    def _as_stored(
        self, name: str, role: str, values: NDArray[np.floating], shape: tuple[int, ...]
    ) -> NDArray[np.floating]:
        if values.shape != (1, *shape) or values.dtype not in (np.float32, np.float16):
            raise InputError(
                f"image {name!r:.100}, {role}: expected float32 or float16 {(1, *shape)}, "
                f"got {values.dtype} {values.shape}"
            )
        dtype = self._layouts[role][1]
        with np.errstate(over="ignore"):  # an overflow becomes an error that names its place
            stored = values.astype(dtype, copy=False)
        finite = np.isfinite(stored)
        if not finite.all():
            index = tuple(np.argwhere(~finite)[0].tolist())
            kind = f"within {dtype}'s range" if np.isfinite(values[index]) else "that is finite"
            raise InputError(
                f"image {name!r:.100}, {role}: expected a feature {kind} at index {index[1:]}, got {values[index]}"
            )
        return stored


@contextmanager
def new_gallery(
    folder: Path, generation: int, geometry: Geometry, *, count: int, storage: str
) -> Iterator[GalleryWriter]:
    """Create the array files of a generation, for exactly ``count`` images. After a failure, the files stay."""
    with new_arrays(folder, generation, geometry.arrays(count, storage)) as arrays:
        yield GalleryWriter(arrays, geometry, count=count, storage=storage)
