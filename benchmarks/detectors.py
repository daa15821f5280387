"""Whole detectors, from frame to anomaly map and score: spadeline, anomalib's PatchCore and PaDiM, SPADE by torch.

    sh benchmarks/set_up_peers.sh peers
    python benchmarks/detectors.py --peers peers --extractor FILE.onnx --images FOLDER

All have the same backbone, images, machine and threads. They run in turns, in one run. Accuracy, from each one's own
maps and scores, stands beside speed. spadeline runs three times: for the whole map, for its mask, for its label.
README.md beside this file describes the method.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from spadeline.engine.errors import InputError
from spadeline.engine.evaluate.truth import true_regions
from spadeline.engine.extract.extractor import Extractor
from spadeline.engine.folders.dataset import Dataset, find_dataset
from spadeline.engine.images.reading import read_image
from spadeline.engine.images.resizing import as_rgb, place
from spadeline.engine.resources import processors

from detectors_parts.contest import Contestant, DetectorContest
from detectors_parts.judging import Truth
from detectors_parts.process import DetectorError, DetectorProcess, Job
from page_parts.detectors import detectors as chapter
from shared_parts import command

OURS = "detectors_parts.by_spadeline"
ANOMALIB = "detectors_parts.by_anomalib"
PEERS = {  # by their names for --peer-detectors: name, module, method, runtime
    "spade": ("SPADE, torch", "detectors_parts.by_torch", "spade", "torch"),
    "patchcore-torch": ("PatchCore, anomalib torch", ANOMALIB, "patchcore", "torch"),
    "patchcore-openvino": ("PatchCore, anomalib OpenVINO", ANOMALIB, "patchcore", "openvino"),
    "patchcore-openvino-float32": ("PatchCore, OpenVINO float32", ANOMALIB, "patchcore", "openvino-float32"),
    "padim-torch": ("PaDiM, anomalib torch", ANOMALIB, "padim", "torch"),
    "padim-openvino": ("PaDiM, anomalib OpenVINO", ANOMALIB, "padim", "openvino"),
    "padim-openvino-float32": ("PaDiM, OpenVINO float32", ANOMALIB, "padim", "openvino-float32"),
}
NEEDS = ("mask", "label")
K_SCORE = 5


def main() -> None:
    """Fit all detectors, let them answer and run, print the tables, write the document."""
    options = _options()
    document = command.begin("detectors", options.threads)
    dataset = find_dataset(options.images)
    if not dataset.train or {image.label for image in dataset.test} != {False, True}:
        raise InputError(f"{options.images}: expected train/good, and normal and abnormal images in test")
    with _folder(options.models) as models:
        extractor = options.extractor or _random_extractor(models, options.backbone)
        job, truth, about = _prepare(dataset, extractor, models, options)
        contest = DetectorContest(_contestants(options, extractor), job, truth, models, on_progress=_progress)
        rows = contest.hold(contest.fit(), seconds=options.seconds)
    versions = {name: _versions(getattr(options, name)) for name in ("peers", "openvino")}
    result = about | versions | {"rows": rows, "left_out": contest.left_out}
    document |= {"results": [result]}
    command.show(chapter, document)
    command.write(document, options.json)


def _prepare(
    dataset: Dataset, extractor: Path, models: Path, options: argparse.Namespace
) -> tuple[Job, Truth, dict[str, Any]]:
    """Write the files that all detectors read; return the job, the truth, and facts for the document."""
    train, frames_file, probe = models / "train", models / "frames.npz", models / "probe.npz"
    train.mkdir(exist_ok=True)
    for stale in train.iterdir():
        stale.unlink()
    for index, path in enumerate(dataset.train):  # the same pixels for all, whichever reader they have
        rgb = as_rgb(read_image(path))
        cv2.imwrite(str(train / f"{index:05}.png"), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    frames = [as_rgb(read_image(image.path)) for image in dataset.test]
    np.savez(frames_file, *frames)
    backbone = Extractor(extractor, device="cpu", threads=options.threads)
    size = backbone.input_size
    image, _ = place(frames[0], size, framing="whole")
    found = backbone.extract(image[None])
    levels = dict(zip(backbone.level_names, found.levels, strict=True))
    np.savez(probe, image=image, embedding=found.embedding, **levels)
    job = Job("", extractor, probe, train, frames_file, size, options.K, K_SCORE, options.threads)
    masks = [true_regions(image, read_image(image.path), size, framing="whole") for image in dataset.test]
    about = {
        "data": dataset.folder.resolve().name,
        "images": len(dataset.train), "gallery_images": min(options.K, len(dataset.train)), "frames": len(frames),
        "frame_sizes": sorted({frame.shape[:2] for frame in frames}), "input_size": size,
        "backbone": backbone.metadata.get("spadeline.backbone", extractor.stem),
        "weights": backbone.metadata.get("spadeline.weights", "unknown"), "seconds": options.seconds,
    }  # fmt: skip
    return job, Truth(np.array([image.label for image in dataset.test]), masks, size), about


def _contestants(options: argparse.Namespace, extractor: Path) -> list[Contestant]:
    own_python = Path(sys.executable)
    files = {"spadeline": extractor}
    if options.quantized is not None:
        files[f"spadeline, {options.quantized.stem}"] = options.quantized
    found = []
    for name, file in files.items():
        found += _ours(name, file, own_python, "", options.needs)
        if options.openvino is not None:
            found += _ours(f"{name}, OpenVINO", file, options.openvino, "-openvino", options.needs)
    for key in options.peer_detectors:
        name, module, method, runtime = PEERS[key]
        found.append(Contestant(name, module, method, runtime, options.peers, extractor, same_as_ours=key == "spade"))
    return found


def _ours(name: str, extractor: Path, python: Path, provider: str, needs: Sequence[str]) -> list[Contestant]:
    """Return spadeline for the whole map, and for each of the other needs."""
    whole = Contestant(name, OURS, "spadeline", f"map{provider}", python, extractor)
    return [
        whole,
        *(replace(whole, name=f"{name} ({need})", runtime=need + provider, verdict_of=name) for need in needs),
    ]


def _random_extractor(folder: Path, backbone: str) -> Path:
    """Export a backbone with random weights, the same ones every time."""
    from spadeline.export import export_extractor

    path = folder / f"{backbone}-random.onnx"
    if not path.exists():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the document says that the weights are random
            # PatchCore averages by itself, and all detectors are to have the same features.
            export_extractor(path, backbone=backbone, weights="random", neighbourhood=1)
    return path


def _versions(python: Path | None) -> dict[str, str]:
    """Return the versions of an environment's libraries; none where there is no environment."""
    if python is None or not python.exists():
        return {}
    process = DetectorProcess(python, "", 1)
    try:
        return dict(process.ask("versions"))
    except DetectorError:  # who runs there will be left out, with the reason
        return {}
    finally:
        process.close()


@contextmanager
def _folder(wanted: Path | None) -> Iterator[Path]:
    if wanted is not None:
        wanted.mkdir(exist_ok=True)
        yield wanted.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="spadeline-detectors-") as folder:
        yield Path(folder)


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    parser = command.new_parser(__doc__)
    what = parser.add_argument_group("images and backbone")
    text = "required: a data set with train and test, as MVTec AD's"
    what.add_argument("--images", type=Path, required=True, metavar="FOLDER", help=text)
    text = "the backbone of all: an ONNX file in float32 that keeps the extractor's contract"
    what.add_argument("--extractor", type=Path, metavar="FILE.onnx", help=text)
    text = "without --extractor: this backbone with random weights; default: resnet18"
    what.add_argument("--backbone", metavar="NAME", default="resnet18", help=text)
    what.add_argument("-K", type=int, metavar="N", default=50, help="images that SPADE searches; default: 50")
    who = parser.add_argument_group("contestants")
    who.add_argument("--peers", type=Path, metavar="FOLDER", help="the folder that set_up_peers.sh made")
    text = f"some of {' '.join(PEERS)}; default: all"
    who.add_argument("--peer-detectors", nargs="*", metavar="NAME", choices=list(PEERS), default=list(PEERS), help=text)
    text = f"what spadeline runs for beside the whole map, each in a row of its own; default: {' '.join(NEEDS)}"
    who.add_argument("--needs", nargs="*", choices=NEEDS, default=NEEDS, help=text)
    text = "an environment with spadeline[openvino], for rows in which OpenVINO runs spadeline's backbone"
    who.add_argument("--openvino", type=Path, metavar="FOLDER", help=text)
    text = "another extractor for spadeline, in rows of its own"
    who.add_argument("--quantized", type=Path, metavar="FILE.onnx", help=text)
    how = parser.add_argument_group("measuring")
    text = "of each detector; default: all"
    how.add_argument("--threads", type=int, metavar="N", default=processors(), help=text)
    text = "for each detector to inspect; default: 20"
    how.add_argument("--seconds", type=float, metavar="S", default=20.0, help=text)
    how.add_argument("--models", type=Path, metavar="FOLDER", help="fitted detectors stay here for the next run")
    options = parser.parse_args()
    if min(options.K, options.threads) < 1 or not options.seconds > 0:
        parser.error(f"expected numbers above 0, got {options.K}, {options.threads} and {options.seconds}")
    command.check_files(parser, options.json, options.models)
    if options.models is not None and options.models.exists() and not options.models.is_dir():
        parser.error(f"--models: expected a folder, got the file {options.models}")
    for name in ("extractor", "quantized"):  # the detectors' processes run in other folders
        if getattr(options, name) is not None:
            setattr(options, name, getattr(options, name).resolve())
    for name in ("peers", "openvino"):
        if (folder := getattr(options, name)) is not None:
            setattr(options, name, folder.absolute() / "bin" / "python")  # a resolved link leads to another Python
    return options


if __name__ == "__main__":
    command.run(main)
