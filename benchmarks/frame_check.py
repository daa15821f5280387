"""What the frame check finds, and what it costs in false alarms.

    python benchmarks/frame_check.py --images hazelnut screw --extractor resnet50_thin.onnx --json frame_check.json

Each data set, in MVTec AD's layout, is fitted with default settings. Good test frames are then spoiled: black, dim,
blurred, empty. False alarms are counted on all normal images: many times they are split at random into those to learn
from and the rest. --only-false-alarms counts false alarms alone, for folders that have only train/good.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from spadeline.engine import Detector, fit
from spadeline.engine.extract.extractor import Extractor
from spadeline.engine.folders.listing import list_images
from spadeline.engine.images.frame_facts import frame_facts
from spadeline.engine.images.reading import read_image
from spadeline.engine.images.resizing import as_rgb, place
from spadeline.engine.inspect.frame_check import FrameLimits, farthest_nearest
from spadeline.engine.inspect.retrieval import Retrieval
from spadeline.engine.resources import processors
from spadeline.engine.result import Reason

from frame_check_parts.spoiled import spoiled
from page_parts.frame_check import frame_check as chapter
from shared_parts import command

REASONS = tuple(reason for reason in get_args(Reason) if reason not in ("map", "image"))


def main() -> None:
    """Measure each data set with each extractor, print tables and write JSON."""
    warnings.simplefilter("ignore")  # fewer images than k_gallery
    options = _options()
    document: dict[str, Any] = command.begin("frame_check", options.threads) | {"found": [], "false_alarms": []}
    for extractor in options.extractor:
        for images in options.images:
            of = {"extractor": extractor.stem, "images": images.name}
            for row in _false_alarms(images, extractor, options):
                document["false_alarms"].append(of | row)
            if not options.only_false_alarms:
                for row in _found(images, extractor, options):
                    document["found"].append(of | row)
            print(f"{images.name}, {extractor.stem}: done", flush=True)
            command.write(document, options.json)  # after each data set: a run may be cut short
    command.show(chapter, document)


def _found(images: Path, extractor: Path, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Fit with default settings; yield how many good and spoiled test frames each rule flags."""
    with tempfile.TemporaryDirectory(prefix="spadeline-frame-check-") as folder:
        recipe = fit(images / "train" / "good", Path(folder) / "recipe", extractor=extractor, threads=options.threads)
        detector = Detector.load(recipe.folder, threads=options.threads)
        paths = list_images(images / "test" / "good")
        counts = {"as it is": _flagged(detector, [read_image(path) for path in paths])}
        kinds: dict[str, list[Any]] = {}
        for path in paths[: options.frames]:
            for kind, frame in spoiled(as_rgb(read_image(path)), recipe.input_size):
                kinds.setdefault(kind, []).append(frame)
        for kind, frames in kinds.items():
            counts[kind] = _flagged(detector, frames)
    for kind, count in counts.items():
        yield {"frame": kind, **count}


def _flagged(detector: Detector, frames: Sequence[Any]) -> dict[str, Any]:
    """Count the frames above theta, above theta or tau, and flagged by the check, in all and for each reason."""
    results = [detector.predict(frame) for frame in frames]
    calibration = detector.recipe.calibration
    above = [result.map_score > calibration.theta.value for result in results]
    either = [result.image_score > calibration.tau.value or high for result, high in zip(results, above, strict=True)]
    reasons = Counter(reason for result in results for reason in result.reasons)
    return {
        "frames": len(results),
        "map": sum(above),
        "either": sum(either),
        "check": sum(bool(set(result.reasons) & set(REASONS)) for result in results),
        "reasons": {reason: reasons[reason] for reason in REASONS},
    }


def _false_alarms(images: Path, extractor: Path, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the share of normal images that the check flags after it has learnt from so many others."""
    opened = Extractor(extractor, device="cpu", threads=options.threads)
    folders = [images / part / "good" for part in ("train", "test") if (images / part / "good").is_dir()]
    inputs = [
        place(as_rgb(read_image(path)), opened.input_size, framing="whole")[0]
        for folder in folders
        for path in list_images(folder)
    ]
    facts = [frame_facts(image) for image in inputs]
    embeddings = np.concatenate([opened.extract(image[None]).embedding for image in inputs])
    rng = np.random.default_rng(0)
    for learnt in (count for count in options.learn if count <= 0.9 * len(inputs)):
        flagged: Counter[str] = Counter()
        judged = 0
        for _ in range(options.splits):
            order = rng.permutation(len(inputs))
            known, others = order[:learnt], order[learnt:]
            retrieval = Retrieval(embeddings[known])
            single = [range(index, index + 1) for index in range(len(known))]
            nearest = farthest_nearest(embeddings[known], retrieval, single)
            limits = FrameLimits.of([facts[i] for i in known], nearest)
            for index in others:
                distance = float(retrieval.nearest(embeddings[index], 1)[1][0])
                exceeded = limits.exceeded(facts[index], distance)
                flagged.update([*exceeded, *(["any"] if exceeded else [])])
            judged += len(others)
        shares = {reason: flagged[reason] / judged for reason in ("any", *REASONS)}
        yield {"normal_images": len(inputs), "learnt_from": learnt, "judged": judged, "share": shares}


def _options() -> argparse.Namespace:
    parser = command.new_parser(__doc__)
    text = "required: data sets in MVTec AD's layout"
    parser.add_argument("--images", nargs="+", type=Path, required=True, metavar="FOLDER", help=text)
    text = "required: ONNX files that keep the extractor's contract"
    parser.add_argument("--extractor", nargs="+", type=Path, required=True, metavar="FILE.onnx", help=text)
    parser.add_argument("--frames", type=int, default=4, metavar="N", help="good test frames that are spoiled (4)")
    text = "normal images to learn from, for false alarms (10 20 40 200)"
    parser.add_argument("--learn", nargs="+", type=int, default=[10, 20, 40, 200], metavar="N", help=text)
    parser.add_argument("--splits", type=int, default=50, metavar="N", help="random splits of each size (50)")
    parser.add_argument("--only-false-alarms", action="store_true", help="fit nothing")
    parser.add_argument("--threads", type=int, default=processors(), help="default: all processors that it may use")
    options = parser.parse_args()
    command.check_files(parser, options.json)
    return options


if __name__ == "__main__":
    command.run(main)
