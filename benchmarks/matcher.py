"""The matcher against faiss and torch on the same features, equality first, then time.

    python benchmarks/matcher.py                                     # random features
    python benchmarks/matcher.py --extractor FILE.onnx --images DIR  # real ones

Every peer does the same job: for each pixel of a query the kappa nearest of all pixels of K images, squared L2 on 256 +
512 + 1024 channels at 56 x 56, 28 x 28 and 14 x 14, a Wide-ResNet50-2's at 224. Real features of fewer channels are
lifted to that many by a matrix with orthonormal columns, which keeps all distances. Peers get the concatenated features
that they need for free; only their search is timed. faiss runs in a process of its own, once as installed and once with
OPENBLAS_CORETYPE=SkylakeX, because the BLAS in its wheel falls back to slow kernels on recent processors.
Runs are interleaved and medians reported: ratios within one run hold, times depend on the machine's mood.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spadeline.engine.extractor import Extractor
from spadeline.engine.images import as_rgb, list_images, place, read_image
from spadeline.engine.matching import Matcher, instruction_sets

Levels = list[NDArray[np.float32]]
Search = Callable[[int], tuple[NDArray[np.float64], float]]

SHAPES = ((256, 56, 56), (512, 28, 28), (1024, 14, 14))
TUNED_BLAS = {"OPENBLAS_CORETYPE": "SkylakeX"}


def main() -> None:
    """Run the benchmark and print a table, or JSON."""
    options = _options()
    gallery, queries = _features(options)
    peers: dict[str, Search] = {}
    for name in options.instruction_sets:
        peers[f"spadeline {name}"] = _spadeline(gallery, queries, options, name, "nearest")
    concatenated = (_pixels(gallery), [_pixels([level[None] for level in query]) for query in queries])
    peers["faiss.knn, tuned BLAS"] = _in_own_process(_faiss, concatenated, options, TUNED_BLAS)
    peers["faiss.knn, as installed"] = _in_own_process(_faiss, concatenated, options, {})
    peers["torch.cdist + topk"] = _in_own_process(_torch, concatenated, options, {})

    times: dict[str, list[float]] = {name: [] for name in peers}
    expected: dict[int, NDArray[np.float64]] = {}
    for round_ in range(options.repeats + 1):  # the first round warms up and checks equality
        for name, search in peers.items():
            index = round_ % len(queries)
            distances, seconds = search(index)
            expected.setdefault(index, distances)
            _check_equal(name, distances, expected[index])
            if round_ > 0:
                times[name].append(seconds)
    _report(options, gallery, times)


def _check_equal(name: str, distances: NDArray[np.float64], expected: NDArray[np.float64]) -> None:
    # Peers subtract |a|^2 + |b|^2 - 2ab in float32 and lose digits to it; spadeline itself is held to 1e-9.
    tolerance = 1e-9 if name.startswith("spadeline") else 1e-3
    worst = float(np.max(np.abs(distances - expected) / np.maximum(expected, 1e-12)))
    if worst > tolerance:
        raise SystemExit(
            f"{name}: distances differ by {worst:.2e}, allowed {tolerance:.0e}; no time is worth reporting"
        )


def _spadeline(
    gallery: Levels, queries: list[Levels], options: argparse.Namespace, instruction_set: str, upsampling: Any
) -> Search:
    matcher = Matcher(gallery, threads=options.threads, upsampling=upsampling, instruction_set=instruction_set)

    def search(index: int) -> tuple[NDArray[np.float64], float]:
        start = time.perf_counter()
        distances = matcher.match(queries[index], range(len(gallery[0])), kappa=options.kappa).distances
        return distances.ravel(), time.perf_counter() - start

    return search


def _faiss(gallery: NDArray[np.float32], queries: NDArray[np.float32], kappa: int, threads: int) -> NDArray[np.float32]:
    import faiss

    faiss.omp_set_num_threads(threads)
    distances, _ = faiss.knn(queries, gallery, kappa)
    return np.asarray(distances)


def _torch(gallery: NDArray[np.float32], queries: NDArray[np.float32], kappa: int, threads: int) -> NDArray[np.float32]:
    import torch

    torch.set_num_threads(threads)
    everything = torch.from_numpy(gallery)
    blocks = []
    for block in torch.from_numpy(queries).split(256):  # the whole matrix would be 2 GB
        distances = torch.cdist(block, everything, compute_mode="use_mm_for_euclid_dist")
        blocks.append(distances.topk(kappa, largest=False).values.square())
    return np.asarray(torch.cat(blocks).numpy())


def _in_own_process(
    peer: Callable[..., NDArray[np.float32]],
    data: tuple[NDArray[np.float32], list[NDArray[np.float32]]],
    options: argparse.Namespace,
    environment: dict[str, str],
) -> Search:
    """Start a process with its own environment that answers a query's index by distances and seconds."""
    here, there = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    saved = dict(os.environ)
    os.environ |= environment | {"OMP_NUM_THREADS": str(options.threads)}
    arguments = (there, peer, *data, options.kappa, options.threads)
    context.Process(target=_serve, args=arguments, daemon=True).start()
    os.environ.clear()
    os.environ.update(saved)

    def search(index: int) -> tuple[NDArray[np.float64], float]:
        here.send(index)
        distances, seconds = here.recv()
        return distances, seconds

    return search


def _serve(
    pipe: Connection,
    peer: Callable[..., NDArray[np.float32]],
    gallery: NDArray[np.float32],
    queries: list[NDArray[np.float32]],
    kappa: int,
    threads: int,
) -> None:
    while True:
        try:
            query = queries[pipe.recv()]
        except EOFError:  # the benchmark has ended
            return
        start = time.perf_counter()
        distances = peer(gallery, query, kappa, threads)
        seconds = time.perf_counter() - start
        pipe.send((distances.mean(axis=1, dtype=np.float64), seconds))


def _features(options: argparse.Namespace) -> tuple[Levels, list[Levels]]:
    """Gallery (K, c, h, w) a level, and queries (c, h, w) a level."""
    rng = np.random.default_rng(0)
    if options.extractor is None:
        draw = [np.maximum(rng.standard_normal((options.images_k + 2, *s), np.float32), 0) for s in SHAPES]
        return [level[2:] for level in draw], [[level[i] for level in draw] for i in range(2)]
    extractor = Extractor(options.extractor, threads=options.threads)
    paths = list_images(options.images)[: options.images_k] + list_images(options.queries or options.images)[-2:]
    images = [place(as_rgb(read_image(path)), extractor.input_size, framing="whole")[0] for path in paths]
    levels = [np.concatenate(parts) for parts in zip(*(extractor.extract(i[None]).levels for i in images), strict=True)]
    for index, (level, shape) in enumerate(zip(levels, SHAPES, strict=True)):
        if level.shape[1] < shape[0]:
            basis, _ = np.linalg.qr(rng.standard_normal((shape[0], level.shape[1])))
            lifted = np.einsum("dc,nchw->ndhw", basis.astype(np.float32), level, optimize=True)
            levels[index] = np.ascontiguousarray(lifted)
    return [level[:-2] for level in levels], [[level[i] for level in levels] for i in (-2, -1)]


def _pixels(levels: Levels) -> NDArray[np.float32]:
    """(n, c, h, w) a level to (n * h * w, sum of c) at the finest level, nearest upsampling."""
    height, width = levels[0].shape[2:]
    upsampled = [level.repeat(height // level.shape[2], 2).repeat(width // level.shape[3], 3) for level in levels]
    return np.concatenate(upsampled, 1).transpose(0, 2, 3, 1).reshape(-1, sum(s.shape[1] for s in levels)).copy()


def _report(options: argparse.Namespace, gallery: Levels, times: dict[str, list[float]]) -> None:
    flop = 2 * len(gallery[0]) * sum(c * (h * w) ** 2 for _, c, h, w in (level.shape for level in gallery))
    yardstick = statistics.median(times["faiss.knn, tuned BLAS"])
    rows = []
    for name, seconds in times.items():
        median = statistics.median(seconds)
        row: dict[str, Any] = {"name": name, "median_s": median, "min_s": min(seconds), "max_s": max(seconds)}
        row["against_tuned_faiss"] = yardstick / median
        if name.startswith("spadeline"):
            row["gflop_per_s"] = flop / median / 1e9
        rows.append(row)
    report = {
        "images": len(gallery[0]), "kappa": options.kappa, "threads": options.threads, "repeats": options.repeats,
        "features": "random" if options.extractor is None else f"{options.extractor.name}, lifted",
        "machine": _processor(), "python": platform.python_version(), "rows": rows,
    }  # fmt: skip
    if options.json:
        print(json.dumps(report, indent=2))
        return
    print("K = {images}, kappa = {kappa}, {threads} threads, {features} features, {machine}".format(**report))
    for row in rows:
        rate = f"{row['gflop_per_s']:6.0f} GFLOP/s" if "gflop_per_s" in row else ""
        spread = f"{row['min_s']:.3f} to {row['max_s']:.3f} s"
        print(f"{row['name']:26} {row['median_s']:8.3f} s ({spread}) {row['against_tuned_faiss']:6.2f} x {rate}")


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--extractor", type=Path, help="an ONNX file, for real features")
    parser.add_argument("--images", type=Path, help="a folder of normal images for the gallery")
    parser.add_argument("--queries", type=Path, help="a folder whose last two images are the queries")
    parser.add_argument("-K", dest="images_k", type=int, default=50, help="gallery images")
    parser.add_argument("--kappa", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--instruction-sets", nargs="+", default=[n for n in instruction_sets() if n != "scalar"])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if (options.extractor is None) != (options.images is None):
        parser.error("--extractor and --images go together")
    return options


if __name__ == "__main__":
    main()
