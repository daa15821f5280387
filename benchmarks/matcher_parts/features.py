"""Galleries and queries to match: real features of real images, and three kinds made to defeat pruning.

All have a Wide-ResNet50-2's channels, 256 + 512 + 1024, on grids of a quarter, an eighth and a sixteenth of the input.
Nothing is timed here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from spadeline.engine.extract.extractor import Extractor
from spadeline.engine.folders.listing import list_images
from spadeline.engine.images.reading import read_image
from spadeline.engine.images.resizing import as_rgb, place
from spadeline.engine.match.cells import from_cells, level_shifts, to_cells

from shared_parts.again import as_if_taken_again
from shared_parts.resized import resized_extractor

Kind = Literal["real", "other", "random", "equal"]
Levels = list[NDArray[np.float32]]

CHANNELS = (256, 512, 1024)
STRIDES = (4, 8, 16)
DEPTHS = (2, 1, 0)  # halvings from a level to the coarsest
MADE_QUERIES = 2  # of drawn features, which are all alike


@dataclass(frozen=True)
class Source:
    """The source of real features."""

    extractor: Path
    images: Path
    queries: Path
    most_queries: int | None


@dataclass(frozen=True, eq=False)
class Case:
    """A gallery in the matcher's layout, and queries.

    Attributes
    ----------
    kind
        Which features these are: see :func:`make_case`.
    cells
        (n, rows, columns, block, c) float32 for each level, finest first.
    sizes
        (h, w) of each level.
    queries
        (c, h, w) float32 a level, by name.
    real_images
        How many of the gallery's images are as the camera took them.
    """

    kind: Kind
    cells: Levels
    sizes: tuple[tuple[int, int], ...]
    queries: dict[str, Levels]
    real_images: int

    @property
    def size(self) -> int:
        """The input's side."""
        return self.sizes[0][0] * STRIDES[0]


def make_case(kind: Kind, size: int, images: int, source: Source | None) -> Case:
    """Make a gallery of so many images, and the queries.

    ``"real"``: see :class:`Source`. ``"other"``: the real gallery, and queries whose channels are shuffled, differently
    for each query, like frames of another product. ``"random"``: rectified Gaussian noise. ``"equal"``: all distances
    are equal within 0.1 %, because the gallery's vectors have length 1 and the queries' have length 500.
    """
    sizes = tuple((size // stride, size // stride) for stride in STRIDES)
    if kind in ("real", "other"):
        if source is None:
            raise ValueError(f"source: expected one for {kind!r} features, got None")
        cells, queries, real_images = _real(size, images, source)
        if kind == "other":  # differently for each query
            queries = {name: _shuffled(levels, seed) for seed, (name, levels) in enumerate(queries.items())}
        return Case(kind, cells, sizes, queries, real_images)
    draw = _noise if kind == "random" else _directions
    rng = np.random.default_rng(0)
    shapes = list(zip(CHANNELS, sizes, strict=True))
    # All positions have the same distribution, so their order doesn't matter.
    cells = [
        draw(rng, (images, *sizes[-1], 4**depth, channels)) for (channels, _), depth in zip(shapes, DEPTHS, strict=True)
    ]
    length = np.float32(1 if kind == "random" else 500)
    queries = {
        f"drawn {index}": [
            np.ascontiguousarray(length * draw(rng, (*size, channels)).transpose(2, 0, 1)) for channels, size in shapes
        ]
        for index in range(MADE_QUERIES)
    }
    return Case(kind, cells, sizes, queries, 0)


def _noise(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    noise = rng.standard_normal(shape, np.float32)
    return np.maximum(noise, 0, out=noise)


def _directions(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    noise = rng.standard_normal(shape, np.float32)
    noise /= np.linalg.norm(noise, axis=-1, keepdims=True)
    return noise


def _shuffled(levels: Levels, seed: int) -> Levels:
    rng = np.random.default_rng(seed)
    return [np.ascontiguousarray(level[rng.permutation(len(level))]) for level in levels]


@lru_cache(maxsize=1)  # "other" searches the gallery of "real"
def _real(size: int, images: int, source: Source) -> tuple[Levels, dict[str, Levels], int]:
    extractor = _open_extractor(source.extractor, size)
    isometries = [_isometry(shape[0], wanted) for shape, wanted in zip(extractor.level_shapes, CHANNELS, strict=True)]

    def features(picture: NDArray[np.uint8]) -> Levels:
        levels = extractor.extract(picture[None]).levels
        return [np.einsum("dc,chw->dhw", a, b[0], optimize=True) for a, b in zip(isometries, levels, strict=True)]

    def picture(path: Path) -> NDArray[np.uint8]:
        return place(as_rgb(read_image(path)), (size, size), framing="whole")[0]

    paths = list_images(source.images)
    cells: Levels = []
    for index in range(images):
        image = picture(paths[index % len(paths)])
        levels = features(image if index < len(paths) else as_if_taken_again(image, seed=index))
        blocks = [to_cells(level[None], depth) for level, depth in zip(levels, DEPTHS, strict=True)]
        cells = cells or [np.empty((images, *block.shape[1:]), np.float32) for block in blocks]
        for level, block in zip(cells, blocks, strict=True):
            level[index] = block[0]
    frames = list_images(source.queries)
    count = min(len(frames), source.most_queries or len(frames))
    chosen = [
        frames[index * len(frames) // count] for index in range(count)
    ]  # evenly spread, since each folder has another defect
    queries = {
        str(path.relative_to(source.queries)): [np.ascontiguousarray(level) for level in features(picture(path))]
        for path in chosen
    }
    return cells, queries, min(images, len(paths))


def _isometry(channels: int, wanted: int) -> NDArray[np.float32]:
    """Return (wanted, channels) with orthonormal columns, which keeps all distances."""
    if channels > wanted:
        raise SystemExit(f"--extractor: expected at most {CHANNELS} channels in its levels, got {channels}")
    basis, _ = np.linalg.qr(np.random.default_rng(channels).standard_normal((wanted, channels)))
    return basis.astype(np.float32)


def _open_extractor(path: Path, size: int) -> Extractor:
    with tempfile.TemporaryDirectory() as folder:
        extractor = Extractor(resized_extractor(path, (size, size), Path(folder)))
    expected = [(size // stride, size // stride) for stride in STRIDES]
    if [shape[1:] for shape in extractor.level_shapes] != expected:
        raise SystemExit(f"--extractor: expected levels of {expected}, got {[s[1:] for s in extractor.level_shapes]}")
    return extractor


def write_pixels(case: Case, images: int, folder: Path) -> tuple[Path, Path]:
    """Write the peers' files: the first images as (n * h * w, sum of c), the queries as (queries, h * w, sum of c)."""
    size = case.sizes[0][0] * case.sizes[0][1]
    channels = sum(level.shape[-1] for level in case.cells)
    gallery_path, queries_path = folder / "gallery.npy", folder / "queries.npy"
    gallery = np.lib.format.open_memmap(gallery_path, "w+", np.float32, (images * size, channels))
    for image in range(images):
        gallery[image * size : (image + 1) * size] = gallery_pixels(case, image)
    gallery.flush()
    np.save(queries_path, np.stack([pixels(levels) for levels in case.queries.values()]))
    return gallery_path, queries_path


def gallery_pixels(case: Case, image: int) -> NDArray[np.floating]:
    """Return one gallery image as (h * w, sum of c)."""
    levels = zip(case.cells, case.sizes, strict=True)
    return pixels([from_cells(level[image : image + 1], *size)[0] for level, size in levels])


def pixels(levels: Sequence[NDArray[np.floating]]) -> NDArray[np.floating]:
    """Bring levels, (c, h, w) each, to (h * w, sum of c) at the finest level by nearest upsampling."""
    height, width = levels[0].shape[1:]
    shifts = level_shifts(tuple((level.shape[1], level.shape[2]) for level in levels))
    upsampled = [level.repeat(1 << s, 1).repeat(1 << s, 2) for level, s in zip(levels, shifts, strict=True)]
    return np.concatenate([level[:, :height, :width] for level in upsampled]).reshape(-1, height * width).T
