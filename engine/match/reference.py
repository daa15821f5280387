"""The whole method in plain NumPy float64: the specification, which every fast path is tested against.

It is slow and takes much memory, since it stores all distances, which the engine never does. No frame is matched here
unless ``Matcher(path="reference")`` asks for it.

Source: Cohen and Hoshen, "Sub-Image Anomaly Detection with Deep Pyramid Correspondences", arXiv 2005.02357.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .cells import level_shifts

Array = NDArray[np.float64]
Levels = Sequence[NDArray[np.floating]]


def image_score(embedding: NDArray[np.floating], embeddings: NDArray[np.floating], k: int) -> float:
    """Return the mean squared distance of one embedding (d,) to its k nearest of (n, d)."""
    differences = embeddings.astype(np.float64) - embedding.astype(np.float64)
    return float(np.sort((differences**2).sum(axis=1))[:k].mean())


def match(
    query_levels: Levels,
    gallery_levels: Levels,
    image_ids: Sequence[int] | NDArray[np.int64],
    *,
    kappa: int = 1,
    window: int | None = None,
    upsampling: Literal["nearest", "bilinear"] = "nearest",
    weights: Sequence[float] | None = None,
    ignore: NDArray[np.bool_] | None = None,
) -> tuple[Array, NDArray[np.int32]]:
    """Match every pixel of a query with the pixels of some gallery images.

    ``D(p, r) = sum over levels of weight_l * |F_l(p) - G_l(r)|^2`` on the finest level's grid; the distance of p is the
    mean of its kappa smallest D, ties broken by the smaller (image, y, x).

    Parameters
    ----------
    query_levels
        (c, h, w) a level, finest first.
    gallery_levels
        (n, c, h, w) a level: all images, of which ``image_ids`` names those to search.
    image_ids, kappa, window, upsampling, weights, ignore
        As in :class:`spadeline.engine.match.matcher.Matcher`.

    Returns
    -------
    distances
        (h, w) float64; 0 where ignored.
    neighbours
        (h, w, kappa, 3) int32 as (image, y, x); -1 where ignored.

    Raises
    ------
    InputError
        kappa above the number of pixels within reach.
    """
    sizes = tuple(level.shape[-2:] for level in query_levels)
    shifts = level_shifts(sizes)
    height, width = sizes[0]
    ids = np.sort(np.asarray(image_ids))
    total = np.zeros((height * width, len(ids) * height * width))
    weights = [1.0] * len(sizes) if weights is None else weights
    for query, gallery, shift, weight in zip(query_levels, gallery_levels, shifts, weights, strict=True):
        fine_query = _upsample(query[None].astype(np.float64), (height, width), shift, upsampling)
        fine_gallery = _upsample(gallery[ids].astype(np.float64), (height, width), shift, upsampling)
        total += weight * _squared_distances(_pixels(fine_query), _pixels(fine_gallery))
    if window is not None:
        total[_outside((height, width), shifts[-1], window, len(ids))] = np.inf
    if not 1 <= kappa <= np.isfinite(total).sum(axis=1).min():
        raise InputError(f"kappa: expected at least 1 and at most the pixels within reach, got {kappa}")
    nearest = np.argsort(total, axis=1, kind="stable")[:, :kappa]
    distances = np.take_along_axis(total, nearest, axis=1).mean(axis=1)
    image, pixel = np.divmod(nearest, height * width)
    neighbours = np.stack([ids[image], pixel // width, pixel % width], axis=-1)
    if ignore is not None:
        distances[ignore.ravel()], neighbours[ignore.ravel()] = 0, -1
    return distances.reshape(height, width), neighbours.reshape(height, width, kappa, 3).astype(np.int32)


def anomaly_map(
    distances: NDArray[np.floating],
    size: tuple[int, int],
    *,
    sigma: float,
    ignore: NDArray[np.bool_] | None = None,
) -> Array:
    """Upsample a distance map bilinearly to ``size``, then smooth it; the Gaussian's border repeats the edge pixel.

    With ``ignore`` (H, W), both steps are weighted means over the scored pixels, and ignored pixels are 0. A pixel of
    the distance map is scored if it covers any scored pixel of the input.
    """
    if ignore is None:
        return _smooth(_enlarge(distances.astype(np.float64), size), sigma)
    scored = ~ignore
    counted = _scored_distances(scored, distances.shape)
    enlarged, smooth = np.zeros(size), np.zeros(size)
    enlarged[scored] = _enlarge(distances * counted, size)[scored] / _enlarge(counted, size)[scored]
    smooth[scored] = _smooth(enlarged, sigma)[scored] / _smooth(scored.astype(np.float64), sigma)[scored]
    return smooth


def _scored_distances(scored: NDArray[np.bool_], shape: tuple[int, ...]) -> Array:
    def under(index: int, count: int, length: int) -> slice:
        return slice(index * length // count, -(-(index + 1) * length // count))

    (rows, columns), (height, width) = shape, scored.shape
    return np.array(
        [[scored[under(y, rows, height), under(x, columns, width)].any() for x in range(columns)] for y in range(rows)],
        np.float64,
    )


def _enlarge(values: Array, size: tuple[int, int]) -> Array:
    down, right = (
        _linear_weights(length, target, length / target) for length, target in zip(values.shape, size, strict=True)
    )
    enlarged: Array = down @ values @ right.T
    return enlarged


def _smooth(values: Array, sigma: float) -> Array:
    if sigma == 0:
        return values
    radius = int(4 * sigma + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    for axis in range(2):
        padded = np.pad(values, [(radius, radius) if a == axis else (0, 0) for a in range(2)], mode="symmetric")
        windows = np.lib.stride_tricks.sliding_window_view(padded, len(kernel), axis=axis)
        values = windows @ kernel
    return values


def _upsample(level: Array, size: tuple[int, int], shift: int, upsampling: str) -> Array:
    if upsampling == "nearest":
        rows, columns = (np.arange(length) >> shift for length in size)
        return level[:, :, rows[:, None], columns]
    down, right = (
        _linear_weights(length, target, 0.5**shift) for length, target in zip(level.shape[2:], size, strict=True)
    )
    upsampled: Array = np.einsum("yi,ncij,xj->ncyx", down, level, right, optimize=True)
    return upsampled


def _linear_weights(length: int, target: int, step: float) -> Array:
    """(target, length): half-pixel centres, ``at = (i + 0.5) * step - 0.5``, clamped to the edges."""
    at = np.clip((np.arange(target) + 0.5) * step - 0.5, 0, length - 1)
    low = np.floor(at).astype(int)
    weights = np.zeros((target, length))
    np.add.at(weights, (np.arange(target), low), 1 - (at - low))
    np.add.at(weights, (np.arange(target), np.minimum(low + 1, length - 1)), at - low)
    return weights


def _pixels(maps: Array) -> Array:
    return maps.transpose(0, 2, 3, 1).reshape(-1, maps.shape[1])


def _squared_distances(queries: Array, gallery: Array) -> Array:
    # By differences, one query at a time: |a|^2 + |b|^2 - 2ab would lose digits that the tests compare.
    return np.stack([((gallery - query) ** 2).sum(axis=1) for query in queries])


def _outside(size: tuple[int, int], shift: int, window: int, images: int) -> NDArray[np.bool_]:
    """(h * w, images * h * w): pairs whose cells lie further apart than the window in either direction."""
    y, x = np.divmod(np.arange(size[0] * size[1]), size[1])
    apart = [np.abs((axis >> shift)[:, None] - (axis >> shift)) > window for axis in (y, x)]
    return np.tile(apart[0] | apart[1], (1, images))
