"""The matcher on a GPU against torch on the same GPU: equality first, then time, then the whole chain.

    python benchmarks/gpu.py                                                         # drawn features
    python benchmarks/gpu.py --extractor FILE.onnx --images FOLDER --queries FOLDER  # real ones, and the chain

If ours don't give what the CPU's matcher gives, the run ends. README.md beside this file describes the method.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any, get_args

import numpy as np
from spadeline.engine.match.matcher import Matcher, instruction_sets
from spadeline.engine.pages.terminal_text import table_text
from spadeline.engine.resources import processors

from gpu_parts.chain import measure_chain
from gpu_parts.contest import GpuContest
from gpu_parts.contestants import OnGpu, OnTorch, TorchGallery, TorchSearch, measure_rates
from matcher_parts.features import Case, make_case
from matcher_parts.options import add_features, check
from matcher_parts.ours import BATCH, OurPath, Ours, Storage, store
from matcher_parts.peers import PeerError
from page_parts.gpu import gpu as chapter
from page_parts.gpu import gpu_times
from shared_parts import command


def main() -> None:
    """Measure every setting asked for, print tables as they come, and write the report after each."""
    options = _options()
    matcher = Matcher([np.zeros((1, 16, 2, 2), np.float32)], device="cuda")  # raises if there is no GPU
    options.torch_device = "cpu" if matcher.native.emulated else "cuda"  # the matcher reads there what torch writes
    torch, why_not = _open_torch(options.torch_device)
    seen = {"without_torch": why_not} if torch is None else _facts(torch, options.torch_device)
    gpu: dict[str, Any] = {"architecture": matcher.instruction_set} | seen
    document = command.begin("gpu", options.threads) | {"gpu": gpu, "results": []}

    for size, kind in itertools.product(options.size, options.features):
        case = make_case(kind, size, max(options.K), options.source)
        for images in options.K:
            for result in _measure(case, images, torch, gpu.get("rates", {}), options):
                print(f"\n{table_text(gpu_times([result]))}", flush=True)
                document["results"].append(result)
                command.write(document, options.json)  # after each setting: a run may be cut short
            if torch is not None:
                torch.cuda.empty_cache()  # otherwise torch's allocator would keep the memory
    document["chain"] = measure_chain(
        options.source, torch, options.torch_device, images=max(options.K), size=options.size[0], runs=options.runs
    )
    command.show(chapter, document)
    command.write(document, options.json)


def _open_torch(device: str) -> tuple[ModuleType | None, str]:
    """Return torch if it has the device, else the reason why not."""
    try:
        import torch
    except ModuleNotFoundError:
        return None, "torch is not installed"
    except ImportError as error:
        return None, f"torch can't be imported: {error}"
    if device == "cuda" and not torch.cuda.is_available():
        return None, "torch finds no GPU"
    return torch, ""


def _facts(torch: ModuleType, device: str) -> dict[str, Any]:
    """Return torch's facts about the GPU, and its measured rates."""
    facts: dict[str, Any] = {"torch_device": device, "rates": measure_rates(torch, device)}
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        facts |= {"name": properties.name, "memory_bytes": properties.total_memory, "cuda_of_torch": torch.version.cuda}
    return facts


def _measure(
    case: Case, images: int, torch: ModuleType | None, rates: dict[str, float], options: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """Measure one gallery at every kappa and batch."""
    stored = store(case, images, options.storage)
    case = replace(
        case, cells=[level.astype(np.float32, copy=False) for level in stored.cells]
    )  # peers get the stored numbers as float32
    ours = [OnGpu(case, stored, path, torch, options.torch_device) for path in options.paths]
    left_out: dict[str, str] = {}
    peers = [] if torch is None else _open_peers(case, images, torch, options, left_out)
    contest = GpuContest(
        case,
        Ours(stored, "pruned", instruction_sets()[0], options.threads),
        [*ours, *peers],
        torch=torch,
        rates=rates,
        runs=options.runs,
        seconds=options.seconds,
    )
    for kappa, batch in itertools.product(options.kappa, options.batch):
        table = contest.hold(kappa, batch)
        yield {
            "features": case.kind, "size": case.size, "images": images, "real_images": min(images, case.real_images),
            "storage": options.storage, "kappa": kappa, "batch": batch, "queries": len(case.queries),
            **table, "left_out": left_out | table["left_out"],
        }  # fmt: skip


def _open_peers(
    case: Case, images: int, torch: ModuleType, options: argparse.Namespace, left_out: dict[str, str]
) -> list[OnTorch]:
    """Open torch's searches; those of one number type share a gallery."""
    galleries: dict[bool, TorchGallery] = {}
    ready = []
    for search in options.peers:
        half = search == "fp16"
        try:
            if half not in galleries:
                galleries[half] = TorchGallery(torch, options.torch_device, case, images, half=half)
            ready.append(OnTorch(torch, search, galleries[half]))
        except PeerError as error:
            left_out[f"torch {search}"] = str(error)
    return ready


def _options() -> argparse.Namespace:
    parser = command.new_parser(__doc__)
    add_features(parser, real=["real", "other"], drawn=["random", "equal"], images=[1, 5, 50, 200], most_queries=BATCH)
    text = f"queries a call; default: 1 {BATCH}"
    parser.add_argument("--batch", nargs="+", type=int, metavar="N", default=[1, BATCH], help=text)
    who = parser.add_argument_group("contestants")
    text = "our paths; default: both"
    who.add_argument("--paths", nargs="+", choices=get_args(OurPath), default=get_args(OurPath), help=text)
    text = "number type of the gallery; default: float16, as in a recipe"
    who.add_argument("--storage", choices=get_args(Storage), default="float16", help=text)
    text = "torch's searches; default: all; --peers alone: none"
    who.add_argument("--peers", nargs="*", choices=get_args(TorchSearch), default=get_args(TorchSearch), help=text)
    how = parser.add_argument_group("measuring")
    text = "threads of the CPU's matcher, which gives the true result; default: all"
    how.add_argument("--threads", type=int, metavar="N", default=processors(), help=text)
    text = "the most runs of each contestant in each setting; default: 200"
    how.add_argument("--runs", type=int, metavar="N", default=200, help=text)
    text = "the most seconds of each contestant in each setting; each runs at least once; default: 1"
    how.add_argument("--seconds", type=float, metavar="S", default=1.0, help=text)
    options = parser.parse_args()
    options.batch = sorted(set(options.batch))
    check(parser, options, numbers=[*options.batch, options.threads, options.runs])
    return options


if __name__ == "__main__":
    command.run(main)
