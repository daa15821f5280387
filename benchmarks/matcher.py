"""The matcher against faiss, torch, scikit-learn and NumPy on the same features: equality first, then time.

    python benchmarks/matcher.py                                                         # drawn features
    python benchmarks/matcher.py --extractor FILE.onnx --images FOLDER --queries FOLDER  # real ones
    python benchmarks/matcher.py --data FOLDER… --extractor FILE.onnx…                   # map, mask and label

All do the same job: for each pixel of a query they find the kappa nearest of all pixels of K images, by squared L2 on a
Wide-ResNet50-2's channels. With --data our matcher alone takes part, on each network's own features: the whole map
beside its mask and its label. If a result differs from the others', the run ends. README.md beside this file describes
the method and the commands.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from spadeline.engine.environment import memory_bytes
from spadeline.engine.match.matcher import instruction_sets
from spadeline.engine.pages.terminal_text import table_text
from spadeline.engine.resources import processors

from matcher_parts import alone, growth, peers
from matcher_parts.contest import Contest
from matcher_parts.features import Case, make_case, write_pixels
from matcher_parts.needs import measure
from matcher_parts.options import add_features, check
from matcher_parts.ours import OurPath, Ours, Storage, store
from matcher_parts.peers import Peer, PeerError
from page_parts.matcher import matcher as chapter
from page_parts.matcher_details import runs_table
from page_parts.needs import matcher_needs as needs_chapter
from shared_parts import command, needs
from shared_parts.subjects import add_input, add_subjects, check_subjects, check_without

COUNTED_IMAGES = 5  # under callgrind the matcher takes 50 times as long
COUNTED_SETS = ("avx2", "scalar")  # callgrind knows no AVX-512


def main() -> None:
    """Measure every setting asked for, print tables as they come, and write files."""
    options = _options()
    if options.data:
        needs.run("matcher", measure, options, needs_chapter)
        return
    document = command.begin("matcher", options.threads)
    results: list[dict[str, Any]] = []
    counts: list[dict[str, Any]] = []
    for size, kind in itertools.product(options.size, options.features):
        case = make_case(kind, size, max(options.K), options.source)
        with tempfile.TemporaryDirectory(prefix="spadeline-benchmark-") as folder:
            results += _sweep(case, options, Path(folder))
            if options.instructions:
                counts += _count(case, options, Path(folder))
    lines = growth.growth(results)
    document |= {"results": results, "growth": lines, "instructions": counts}
    command.show(chapter, document)
    if options.plot is not None:
        growth.plot(lines, options.plot)
    command.write(document, options.json)


def _sweep(case: Case, options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Measure one kind of features at every K and kappa."""
    image_bytes = 4 * case.sizes[0][0] * case.sizes[0][1] * sum(level.shape[-1] for level in case.cells)
    fitting = [images for images in options.K if images * image_bytes <= memory_bytes() // 2]
    others: list[Peer] = []
    if fitting and options.peers:
        files = write_pixels(case, max(fitting), folder)
        others = [Peer(name, *files, options.threads) for group in options.peers for name in peers.NAMES[group]]
    results = []
    for images in options.K:
        left_out: dict[str, str] = {}
        if options.peers and images not in fitting:
            left_out["peers"] = f"their {images * image_bytes / 1e9:.0f} GB of features are over half of the memory"
        ready = _opened(others, images, left_out) if images in fitting else []
        results += _measure(case, images, ready, left_out, options, folder)
    for peer in others:
        peer.close()
    return results


def _opened(others: Sequence[Peer], images: int, left_out: dict[str, str]) -> list[Peer]:
    ready = []
    for peer in others:
        try:
            peer.open(images)
            ready.append(peer)
        except PeerError as error:
            left_out[peer.name] = str(error)
    return ready


def _measure(
    case: Case, images: int, ready: Sequence[Peer], left_out: dict[str, str], options: argparse.Namespace, folder: Path
) -> list[dict[str, Any]]:
    """Measure one K at every kappa."""
    galleries = [store(case, images, storage) for storage in options.storage]
    ours = [
        Ours(stored, path, name, options.threads)
        for stored in galleries
        for path in options.paths
        for name in options.instruction_sets
    ]
    best = next((matcher for matcher in ours if matcher.path == "pruned"), ours[0])
    memory = _memory(best, case, options, folder) if options.memory else {}
    results = []
    for kappa in options.kappa:
        contest = Contest(case, ours, ready, kappa=kappa, repeats=options.repeats, peer_runs=options.peer_runs)
        table = contest.hold()
        result = {
            "features": case.kind, "source": _source(case, options),
            "size": case.size, "images": images, "real_images": min(images, case.real_images),
            "kappa": kappa, "queries": len(case.queries), **table, "left_out": left_out | table["left_out"],
            "bytes": {stored.storage: stored.bytes_held() for stored in galleries},
        }  # fmt: skip
        if options.batch:
            result["batch"] = best.batch(list(case.queries.values()), kappa, options.repeats)
        if kappa in memory:
            result["memory"] = memory[kappa]
        print(f"\n{table_text(runs_table([result]))}", flush=True)
        results.append(result)
    return results


def _source(case: Case, options: argparse.Namespace) -> str:
    """Say which images and which network the features are of, for headlines; empty: they are drawn."""
    return f"{options.source.images}, {options.source.extractor.stem}" if case.real_images else ""


def _memory(matcher: Ours, case: Case, options: argparse.Namespace, folder: Path) -> dict[int, dict[str, Any]]:
    """Return the memory of a process that does nothing but match, for each kappa."""
    with tempfile.TemporaryDirectory(dir=folder) as saved:
        alone.save(Path(saved), matcher.stored, list(case.queries.values()))
        return {
            kappa: {"name": matcher.name}
            | alone.memory(Path(saved), matcher.path, matcher.instruction_set, threads=options.threads, kappa=kappa)
            for kappa in options.kappa
        }


def _count(case: Case, options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Count instructions of the first query on a small gallery."""
    images = min(COUNTED_IMAGES, len(case.cells[0]))
    with tempfile.TemporaryDirectory(dir=folder) as saved:
        alone.save(Path(saved), store(case, images, options.storage[0]), [next(iter(case.queries.values()))])
        return [
            {
                "features": case.kind, "size": case.size, "images": images, "kappa": kappa, "name": f"pruned {name}",
                "storage": options.storage[0], "instructions": alone.instructions(Path(saved), name, kappa=kappa),
            }
            for name in COUNTED_SETS if name in instruction_sets()
            for kappa in options.kappa
        ]  # fmt: skip


def _options() -> argparse.Namespace:
    available = instruction_sets()
    parser = command.new_parser(__doc__)
    add_features(parser, real=["real"], drawn=["random"], images=[5, 50], most_queries=None, data_sets=True)
    sets = add_subjects(parser)
    add_input(sets)
    sets.add_argument("--dense", action="store_true", help="with --data: the dense path without codes, too")
    text = "with --data: the most that the rounds of a set may take; default: 60"
    sets.add_argument("--seconds", type=float, metavar="S", default=60.0, help=text)
    who = parser.add_argument_group("contestants")
    text = "our paths; default: both"
    who.add_argument("--paths", nargs="+", choices=get_args(OurPath), default=get_args(OurPath), help=text)
    best_and_common = [name for name in available if name in (available[0], "avx2")]
    text = f"of ours, of {' '.join(available)}; default: {' '.join(best_and_common)}"
    who.add_argument(
        "--instruction-sets", nargs="+", metavar="NAME", choices=available, default=best_and_common, help=text
    )
    text = "number types of our gallery; default: float32, which the peers have"
    who.add_argument("--storage", nargs="+", choices=get_args(Storage), default=["float32"], help=text)
    text = "default: all; --peers alone: none"
    who.add_argument("--peers", nargs="*", choices=list(peers.NAMES), default=list(peers.NAMES), help=text)
    how = parser.add_argument_group("measuring")
    text = "threads of each contestant; default: all"
    how.add_argument("--threads", type=int, metavar="N", default=processors(), help=text)
    text = "runs of each query by contestants whose time depends on the query; default: 5"
    how.add_argument("--repeats", type=int, metavar="N", default=5, help=text)
    text = "runs of each peer; the yardstick has at least 3; default: 1"
    how.add_argument("--peer-runs", type=int, metavar="N", default=1, help=text)
    how.add_argument("--batch", action="store_true", help="compare match_batch with a loop")
    how.add_argument("--memory", action="store_true", help="measure the peak memory of our matcher alone in a process")
    how.add_argument(
        "--instructions", action="store_true", help="count a query's instructions by callgrind, which takes minutes"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="plot time against K, both logarithmic")
    options = parser.parse_args()
    _check(parser, options)
    return options


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    numbers = (options.repeats, options.peer_runs, options.threads)
    if options.data:
        check_subjects(parser, options, numbers=numbers)
        return
    check_without(parser, options, "recipes", "rounds", "input_size", "dense", "seconds")
    check(parser, options, numbers=numbers, files=[options.plot])
    options.paths = sorted(set(options.paths))  # dense comes first: the others are compared with it
    if options.plot is not None and importlib.util.find_spec("matplotlib") is None:
        parser.error("matplotlib is not installed, and --plot needs it: pip install 'spadeline[eval]'")
    if options.instructions and shutil.which("valgrind") is None:
        parser.error("valgrind is not installed, and --instructions needs it: apt-get install valgrind")


if __name__ == "__main__":
    command.run(main)
