"""The whole chain, frame by frame: latency percentiles, throughput, start, memory and energy.

    python benchmarks/pipeline.py --extractor resnet50_thin.onnx --images hazelnut/train/good --queries hazelnut/test

One setting is the base, and each other value of an option is measured with all else as in the base: input size, camera
frame, gallery, threads, extractor. README.md beside this file has the method and the options.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from command import typed
from energy import measure_energy
from features import as_if_taken_again
from report import print_environment
from resized import resized_extractor
from spadeline.engine import Detector, Recipe, Settings, fit
from spadeline.engine.arguments import size
from spadeline.engine.bench import describe, prepared
from spadeline.engine.detector import Frame
from spadeline.engine.environment import environment
from spadeline.engine.errors import SpadelineError
from spadeline.engine.extractor import Extractor
from spadeline.engine.images import as_rgb, list_images, place, read_image
from spadeline.engine.latency import measure_latency, measure_throughput
from spadeline.engine.recipe import ImageRecord, add_images
from spadeline.engine.start import measure_start

FALSE_ALARMS = 0.1  # so that a few images suffice for thresholds


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is measured at once. A size of None: as it comes."""

    extractor: Path
    input_size: tuple[int, int] | None
    frame_size: tuple[int, int] | None
    gallery_images: int | None
    threads: int


def main() -> None:
    """Measure every setting, print a line for each, and write the report after each."""
    options = _options()
    document: dict[str, Any] = {
        "benchmark": "pipeline", "command": typed(), "environment": environment(options.threads[0]), "results": []
    }  # fmt: skip
    print_environment(document["environment"])
    _print_head()
    for setting in _settings(options):
        with tempfile.TemporaryDirectory(prefix="spadeline-pipeline-") as folder:
            result = _measure(setting, options, Path(folder))
        _print_result(result)
        document["results"].append(result)
        if options.json is not None:  # after each setting: a run may be cut short
            options.json.write_text(json.dumps(document, indent=2) + "\n")


def _settings(options: argparse.Namespace) -> Iterator[Setting]:
    """Yield the base, and then each other value of each option in its place."""
    values = {field.name: getattr(options, field.name) for field in fields(Setting)}
    base = Setting(**{name: first for name, (first, *_) in values.items()})
    yield base
    for name, (_, *others) in values.items():
        for value in others:
            yield replace(base, **{name: value})


def _measure(setting: Setting, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    extractor = setting.extractor
    if setting.input_size is not None:
        extractor = resized_extractor(extractor, setting.input_size, folder)
    recipe = _fit(setting, extractor, options, folder / "recipe")
    detector = Detector.load(recipe.folder, device=options.device, threads=setting.threads)
    frames = [_frame(path, setting.frame_size) for path in list_images(options.queries)]
    placed = [prepared(detector, frame) for frame in frames]
    how = {"runs": options.runs, "warm_up": options.warm_up, "seconds": options.seconds}
    measured = {
        "camera frame": measure_latency(detector, frames, **how),
        "prepared frame": measure_latency(detector, placed, **how),
    }
    alone = measured["camera frame"]
    return {
        "setting": {
            "extractor": setting.extractor.stem,
            "precision": detector.info["precision"],
            "input_size": list(recipe.input_size),
            "frame_sizes": sorted({frame.shape[:2] for frame in frames}),
            "gallery_images": len(recipe.images),
            "threads": setting.threads,
        },
        "recipe": describe(detector),
        "latency": [runs.figures(what) for what, runs in measured.items()],
        "throughput": measure_throughput(detector, frames, alone, seconds=options.seconds / 2),
        "start": measure_start(recipe, frames[0], {"device": options.device, "threads": setting.threads}),
        "memory": {
            "gallery_bytes": sum(level.nbytes for level in recipe.levels),
            "recipe_bytes": sum(path.stat().st_size for path in recipe.folder.iterdir()),
        },
        "energy": measure_energy(lambda: len(measure_latency(detector, frames, **how | {"warm_up": 0}).seconds)),
        "detector": {name: value for name, value in detector.info.items() if name != "recipe"},
    }


def _fit(setting: Setting, extractor: Path, options: argparse.Namespace, folder: Path) -> Recipe:
    """Fit on the images, and on them as if taken again where the gallery is to hold more."""
    paths = list_images(options.images)
    count = setting.gallery_images or len(paths)
    settings = Settings(
        k_gallery=min(options.k_gallery, count), k_score=min(Settings().k_score, count), kappa=options.kappa
    )
    how = {"threads": setting.threads, "device": options.device}
    recipe = fit(paths[:count], folder, extractor=extractor, settings=settings, false_alarm_rate=FALSE_ALARMS, **how)
    if count <= len(paths):
        return recipe
    opened = Extractor(extractor, **how)

    def again() -> Iterator[tuple[ImageRecord, Any]]:
        for index in range(len(paths), count):
            image, _ = place(as_rgb(read_image(paths[index % len(paths)])), opened.input_size, framing="whole")
            yield ImageRecord(f"again-{index}"), opened.extract(as_if_taken_again(image, seed=index)[None])

    return add_images(folder, again(), count - len(paths))


def _frame(path: Path, size: tuple[int, int] | None) -> Frame:
    frame = as_rgb(read_image(path))
    if size is None:
        return frame
    return np.asarray(cv2.resize(frame, size[::-1], interpolation=cv2.INTER_CUBIC), np.uint8)


def _print_head() -> None:
    print(f"\n{'':54}{'ms from the camera frame':>40}  frames a second")
    print(f"{'extractor':22}{'input':>10}{'frame':>11}{'images':>7}{'thr':>4}", end="")
    print(f"{'p50':>8}{'p95':>8}{'p99':>8}{'p99.9':>8}{'max':>8}{'start s':>8}{'MB':>7}")


def _print_result(result: dict[str, Any]) -> None:
    setting, latency = result["setting"], result["latency"][0]
    sizes = setting["frame_sizes"]
    frame = "{}x{}".format(*sizes[0]) if len(sizes) == 1 else f"{len(sizes)} sizes"
    line = f"{setting['extractor'][:21]:22}{'{}x{}'.format(*setting['input_size']):>10}{frame:>11}"
    line += f"{setting['gallery_images']:7}{setting['threads']:4}"
    for name in ("p50", "p95", "p99", "p99.9", "max"):
        seconds = latency[f"{name}_s"]
        line += f"{'-':>8}" if seconds is None else f"{1e3 * seconds:8.1f}"
    line += f"{result['start']['process_to_first_result_s']:8.2f}{result['start']['peak_bytes'] / 1e6:7.0f}"
    ways = ", ".join(f"{way['mode']} {way['frames_per_s']:.1f}" for way in result["throughput"])
    stages = ", ".join(f"{stage} {1e3 * taken['p50_s']:.1f}" for stage, taken in latency["stages_s"].items())
    print(f"{line}  {ways}\n{'':22}{stages} ms; {latency['runs']} runs", flush=True)
    if "not_measured" not in result["energy"]:
        print("{:22}{joules_per_frame:.3f} J a frame at {watts:.1f} W".format("", **result["energy"]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=Path, required=True, help="a folder of normal images, for the gallery")
    parser.add_argument("--queries", type=Path, required=True, help="a folder of other images, as the camera's frames")
    swept = parser.add_argument_group("settings: the first value of each is the base, the others replace it one by one")
    swept.add_argument("--extractor", nargs="+", type=Path, required=True, help="ONNX files that keep the contract")
    swept.add_argument("--input", nargs="+", type=size, dest="input_size", metavar="HxW", help="the extractor's own")
    swept.add_argument("--frame", nargs="+", type=size, dest="frame_size", metavar="HxW", help="the images' own")
    swept.add_argument("--gallery", nargs="+", type=int, dest="gallery_images", metavar="N", help="all of the images")
    swept.add_argument("--threads", nargs="+", type=int, default=[os.cpu_count() or 1])
    parser.add_argument("-K", type=int, default=Settings().k_gallery, dest="k_gallery", help="gallery images searched")
    parser.add_argument("--kappa", type=int, default=Settings().kappa)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    how = parser.add_argument_group("measuring")
    how.add_argument("--runs", type=int, default=1000, help="frames timed")
    how.add_argument("--warm-up", type=int, default=1000, help="frames before them")
    how.add_argument("--seconds", type=float, default=60.0, help="the most that each of the two latencies may take")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    for name in ("input_size", "frame_size", "gallery_images"):
        setattr(options, name, getattr(options, name) or [None])
    numbers = [*options.threads, options.k_gallery, options.kappa, options.runs, *filter(None, options.gallery_images)]
    if min(numbers) < 1 or options.warm_up < 0 or options.seconds < 0:
        parser.error(f"expected numbers of 1 or more, got {min(*numbers, options.warm_up, options.seconds)}")
    if any(count == 1 for count in options.gallery_images):
        parser.error("--gallery: expected 2 or more, since thresholds come from leaving one out, got 1")
    if options.json is not None and not options.json.absolute().parent.is_dir():
        parser.error(f"expected a folder that exists, got {options.json}")
    return options


if __name__ == "__main__":
    try:
        main()
    except SpadelineError as error:
        raise SystemExit(f"pipeline.py: {error}") from None
