"""The whole chain, frame by frame: latency percentiles, throughput, start, memory and energy.

    python benchmarks/pipeline.py --extractor resnet50_thin.onnx --images hazelnut/train/good --queries hazelnut/test
    python benchmarks/pipeline.py --extractor resnet50_thin.onnx resnet18.onnx --data hazelnut screw

One setting is the base. Each other value of an option (input size, camera frame, gallery, threads, extractor) is
measured with all else as in the base. With --data the whole map stands beside its mask and its label instead, for each
data set with each extractor. README.md beside this file describes the method and the options.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from spadeline.engine import Detector, Recipe, Settings, fit
from spadeline.engine.bench.bench import describe, prepared
from spadeline.engine.bench.latency import BATCH, measure_latency, measure_throughput
from spadeline.engine.bench.start import measure_start
from spadeline.engine.cli.arguments import size
from spadeline.engine.extract.extractor import Extractor
from spadeline.engine.folders.listing import list_images
from spadeline.engine.images.reading import read_image
from spadeline.engine.images.resizing import as_rgb
from spadeline.engine.inspect.detector import Frame
from spadeline.engine.inspect.stream import DEEPEST
from spadeline.engine.json_data import to_json
from spadeline.engine.resources import processors

from page_parts.frames import pipeline as chapter
from page_parts.needs import pipeline_needs as needs_chapter
from pipeline_parts.energy import measure_energy
from pipeline_parts.needs import measure
from shared_parts import command, needs
from shared_parts.again import add_again
from shared_parts.resized import resized_extractor
from shared_parts.subjects import add_input, add_subjects, check_input, check_subjects, check_without

FALSE_ALARMS = 0.1  # so high that a few images suffice for thresholds
MOST_ENERGY_S = 60.0  # a processor's counter restarts after some minutes; one restart can be detected, two can't


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting that is measured. A size of None: that of the extractor, or of the images."""

    extractor: Path
    input_size: tuple[int, int] | None
    frame_size: tuple[int, int] | None
    gallery_images: int | None
    threads: int


def main() -> None:
    """Measure every setting, say in a sentence what each took, write the report after each, and print it all."""
    options = _options()
    if options.data:
        options.threads = options.threads[0]
        needs.run("pipeline", measure, options, needs_chapter)
        return
    document = command.begin("pipeline", options.threads[0]) | {"results": []}
    for setting in _settings(options):
        # Other batches and depths are measured in the base alone: they would multiply the time of every setting.
        ways = {"batches": options.batch[:1], "depths": options.depth[:1]}
        if not document["results"]:
            ways = {"batches": options.batch, "depths": options.depth}
        with tempfile.TemporaryDirectory(prefix="spadeline-pipeline-") as folder:
            result = _measure(setting, options, Path(folder), ways)
        print(chapter(document | {"results": [result]}).finding, flush=True)
        document["results"].append(result)
        command.write(document, options.json)  # after each setting: a run may be cut short
    command.show(chapter, document)


def _settings(options: argparse.Namespace) -> Iterator[Setting]:
    """Yield the base, and then the base with each other value of each option."""
    values = {field.name: getattr(options, field.name) for field in fields(Setting)}
    base = Setting(**{name: first for name, (first, *_) in values.items()})
    yield base
    for name, (_, *others) in values.items():
        for value in others:
            yield replace(base, **{name: value})


def _measure(setting: Setting, options: argparse.Namespace, folder: Path, ways: dict[str, Any]) -> dict[str, Any]:
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
    again = how | {"warm_up": 0, "seconds": min(options.seconds, MOST_ENERGY_S)}
    result = {
        "setting": {
            "extractor": setting.extractor.stem,
            "images": str(options.images),
            "precision": detector.extractor.precision,
            "input_size": recipe.input_size,
            "frame_sizes": sorted({frame.shape[:2] for frame in frames}),
            "gallery_images": len(recipe.images),
            "threads": setting.threads,
        },
        "recipe": {name: value for name, value in vars(describe(detector)).items() if name != "extractor"},
        "latency": [runs.figures(begins_at) for begins_at, runs in measured.items()],
        "throughput": measure_throughput(detector, frames, alone, seconds=sum(alone.seconds) / 2, **ways),
        "start": measure_start(recipe, frames[0], {"device": options.device, "threads": setting.threads}),
        "memory": {
            "gallery_bytes": sum(level.nbytes for level in recipe.levels),
            "recipe_bytes": sum(path.stat().st_size for path in recipe.folder.iterdir()),
        },
        "energy": measure_energy(lambda: len(measure_latency(detector, frames, **again).seconds)),
        "detector": {name: value for name, value in detector.info.items() if name != "recipe"},
    }
    return {key: to_json(value) for key, value in result.items()}


def _fit(setting: Setting, extractor: Path, options: argparse.Namespace, folder: Path) -> Recipe:
    """Fit on the images; for a larger gallery than there are images, add them as if taken again."""
    paths = list_images(options.images)
    count = setting.gallery_images or len(paths)
    settings = Settings(
        k_gallery=min(options.k_gallery, count),
        k_score=min(Settings().k_score, count),
        kappa=options.kappa,
        frame_shape="any",  # --frame stretches the queries
    )
    how = {"threads": setting.threads, "device": options.device}
    recipe = fit(paths[:count], folder, extractor=extractor, settings=settings, false_alarm_rate=FALSE_ALARMS, **how)
    return add_again(recipe, paths, count, opened=Extractor(extractor, **how)) if count > len(paths) else recipe


def _frame(path: Path, size: tuple[int, int] | None) -> Frame:
    frame = as_rgb(read_image(path))
    if size is None:
        return frame
    return np.asarray(cv2.resize(frame, size[::-1], interpolation=cv2.INTER_CUBIC), np.uint8)


def _options() -> argparse.Namespace:
    parser = command.new_parser(__doc__)
    text = "required without --data: a folder of normal images, for the gallery"
    parser.add_argument("--images", type=Path, metavar="FOLDER", help=text)
    text = "required without --data: a folder of other images, as the camera's frames"
    parser.add_argument("--queries", type=Path, metavar="FOLDER", help=text)
    sets = add_subjects(parser)
    text = "with --data: so many good and so many defective frames of each set; default: all"
    sets.add_argument("--most-queries", type=int, metavar="N", help=text)
    swept = parser.add_argument_group(
        "settings: the first values are the base; each other value replaces the first one in turn"
    )
    text = "required: ONNX files that keep the extractor's contract"
    swept.add_argument("--extractor", nargs="+", type=Path, required=True, metavar="FILE.onnx", help=text)
    add_input(swept)
    text = "the camera's frame; default: the images as they are"
    swept.add_argument("--frame", nargs="+", type=size, dest="frame_size", metavar="HxW", help=text)
    text = "normal images in the recipe; default: all of the images"
    swept.add_argument("--gallery", nargs="+", type=int, dest="gallery_images", metavar="N", help=text)
    text = "threads of all stages; default: all"
    swept.add_argument("--threads", nargs="+", type=int, metavar="N", default=[processors()], help=text)
    fed = parser.add_argument_group(
        "ways to feed frames: the first values in every setting, the others in the base alone"
    )
    text = f"frames in a predict_batch; default: {BATCH}"
    fed.add_argument("--batch", nargs="+", type=int, metavar="N", default=[BATCH], help=text)
    text = "frames that a stream reads ahead; default: twice its workers"
    fed.add_argument("--depth", nargs="+", type=int, metavar="N", default=[None], help=text)
    text = f"gallery images searched; default: {Settings().k_gallery}"
    parser.add_argument("-K", type=int, metavar="N", default=Settings().k_gallery, dest="k_gallery", help=text)
    text = f"nearest pixels to average over; default: {Settings().kappa}"
    parser.add_argument("--kappa", type=int, metavar="N", default=Settings().kappa, help=text)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    how = parser.add_argument_group("measuring")
    how.add_argument("--runs", type=int, metavar="N", default=1000, help="frames timed; default: 1000")
    how.add_argument("--warm-up", type=int, metavar="N", default=1000, help="frames before them; default: 1000")
    text = (
        "the most that each of a setting's two latencies may take, and a tenth of it to warm up, or with --data the "
        "rounds of a set; default: 60"
    )
    how.add_argument("--seconds", type=float, metavar="S", default=60.0, help=text)
    options = parser.parse_args()
    if options.data:
        check_subjects(parser, options, numbers=options.threads)
        return options
    check_without(parser, options, "recipes", "rounds", "most_queries")
    if options.images is None or options.queries is None:
        parser.error("expected --images and --queries, or --data, got neither")
    for name in ("input_size", "frame_size", "gallery_images"):
        setattr(options, name, getattr(options, name) or [None])
    numbers = [*options.threads, options.k_gallery, options.kappa, options.runs, *filter(None, options.gallery_images)]
    numbers += [*options.batch, *(depth for depth in options.depth if depth is not None)]
    if min(numbers) < 1 or options.warm_up < 0 or options.seconds < 0:
        parser.error(f"expected numbers of 1 or more, got {min(*numbers, options.warm_up, options.seconds)}")
    check_input(parser, options.input_size)
    if any(count == 1 for count in options.gallery_images):
        parser.error("--gallery: expected 2 or more, since thresholds come from leaving one out, got 1")
    if any(depth is not None and depth > DEEPEST for depth in options.depth):
        parser.error(f"--depth: expected at most {DEEPEST}, got {max(filter(None, options.depth))}")
    command.check_files(parser, options.json)
    return options


if __name__ == "__main__":
    command.run(main)
