"""Whether Python and the C library give the same verdict, frame by frame.

    python benchmarks/doors.py --installed PREFIX --data hazelnut screw --extractor resnet18.onnx --json doors.json

PREFIX is the folder that libspadeline.so was installed into. Each data set, in MVTec AD's layout, is fitted with each
extractor; then the thresholds are made anew for other settings. Every test image goes through both doors, and all that
is exact is compared bit by bit. Nothing is timed here.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from spadeline.engine import Detector, Recipe, calibrate
from spadeline.engine.errors import InputError
from spadeline.engine.folders.dataset import LabelledImage
from spadeline.engine.images.reading import read_image
from spadeline.engine.images.resizing import as_rgb
from spadeline.engine.resources import processors
from spadeline.engine.result import Result
from spadeline.engine.settings import Need

from page_parts.doors import doors as chapter
from shared_parts import command
from shared_parts.library import Inspected, Library
from shared_parts.subjects import subjects

# Settings besides the defaults, and the needs that each is compared for.
VARIANTS: Mapping[str, tuple[Mapping[str, Any], tuple[Need, ...]]] = {
    "as fitted": ({}, ("map", "label")),
    "window 2, kappa 3, root": ({"window": 2, "kappa": 3, "distance": "root"}, ("map",)),
    "either, bilinear, sigma 2": ({"label_rule": "either", "upsampling": "bilinear", "sigma": 2.0}, ("map",)),
}


def main() -> None:
    """Compare the doors for each data set, extractor and group of settings, print a table and write JSON."""
    warnings.simplefilter("ignore")  # fewer images than k_gallery; frames of unusual proportions
    options = _options()
    library = _library(options.installed)
    document = command.begin("doors", options.threads) | {"results": []}
    for subject in subjects(options):
        for settings, (changes, needs) in VARIANTS.items():
            with tempfile.TemporaryDirectory(prefix="spadeline-doors-", dir=subject.recipe.folder.parent) as folder:
                recipe = _with(subject.recipe, changes, Path(folder) / "recipe", options.threads)
                of = {"data": subject.data, "network": subject.network, "settings": settings}
                for need in needs:
                    counts = _compared(library, recipe, subject.frames, need, options.threads)
                    document["results"].append(of | {"need": need} | counts)
        print(f"{subject.name}: done", flush=True)
        command.write(document, options.json)  # after each one: a run may be cut short
    command.show(chapter, document)


def _library(installed: Path) -> Library:
    """Load the library below the prefix that it was installed into."""
    found = sorted(installed.rglob("libspadeline.so"))
    if not found:
        raise InputError(f"{installed}: expected the prefix of an installed libspadeline.so, found none below it")
    return Library(found[0])


def _with(recipe: Recipe, changes: Mapping[str, Any], folder: Path, threads: int) -> Recipe:
    """Return the recipe with other settings and the thresholds that follow, in a folder that shares its files."""
    if not changes:
        return recipe
    shutil.copytree(recipe.folder, folder, copy_function=os.link)  # a recipe's files are replaced, never written into
    return calibrate(folder, changes=changes, threads=threads)


def _compared(
    library: Library, recipe: Recipe, frames: Sequence[LabelledImage], need: Need, threads: int
) -> dict[str, Any]:
    """Count the frames whose parts are equal, bit by bit, and find the largest differences of the others."""
    detector = Detector.load(recipe.folder, device="cpu", threads=threads)
    equal: dict[str, int] = {}
    largest = {"map": 0.0, "score": 0.0}
    with library.inspector(recipe.folder, threads=threads, need=need) as inspector:
        for frame in frames:
            rgb = as_rgb(read_image(frame.path))
            got, expected = library.inspect(inspector, rgb), detector.predict(rgb, need=need)
            for part, same in _parts(got, expected, need):
                equal[part] = equal.get(part, 0) + same
            if need == "map":
                largest["map"] = max(largest["map"], float(np.abs(got.anomaly_map - expected.anomaly_map).max()))
            largest["score"] = max(largest["score"], _difference(got.image_score, expected.image_score))
    anomalous = sum(frame.label for frame in frames)
    return {"frames": len(frames), "abnormal": anomalous, "equal": equal, "largest_difference": largest}


def _parts(got: Inspected, expected: Result, need: Need) -> Iterator[tuple[str, bool]]:
    """Yield each part of a result that the need makes exact, and whether it is equal to the last bit."""
    yield "label", (got.pred_label, got.decided) == (expected.pred_label, expected.decided)
    scores = got.image_score == expected.image_score
    if need == "map":
        yield "reasons", got.reasons == expected.reasons
        yield "mask", np.array_equal(got.pred_mask, expected.pred_mask)
        regions = [(region.area, region.box, region.peak, region.score) for region in expected.regions]
        yield "regions", got.regions == regions
        yield "map", np.array_equal(got.anomaly_map, expected.anomaly_map)
        yield "neighbours", np.array_equal(got.neighbours, expected.neighbours)
        scores &= (got.pred_score, got.map_score) == (expected.pred_score, expected.map_score)
    yield "scores", scores


def _difference(got: float, expected: float) -> float:
    return 0.0 if math.isclose(got, expected, rel_tol=0, abs_tol=0) else abs(got - expected)


def _options() -> argparse.Namespace:
    parser = command.new_parser(__doc__)
    text = "the prefix that libspadeline.so was installed with"
    parser.add_argument("--installed", type=Path, required=True, metavar="PREFIX", help=text)
    text = "data sets with train/good and test, as MVTec AD's"
    parser.add_argument("--data", nargs="+", type=Path, required=True, metavar="FOLDER", help=text)
    text = "the networks: ONNX files"
    parser.add_argument("--extractor", nargs="+", type=Path, required=True, metavar="FILE.onnx", help=text)
    parser.add_argument("--recipes", type=Path, metavar="FOLDER", help="recipes stay here for the next run")
    text = "so many good and so many defective frames of each set; default: all"
    parser.add_argument("--most-queries", type=int, metavar="N", help=text)
    parser.add_argument("--threads", type=int, default=processors(), metavar="N", help="default: all processors")
    parser.set_defaults(input_size=None)  # the networks' own
    options = parser.parse_args()
    if min(options.threads, options.most_queries or 1) < 1:
        parser.error("--threads, --most-queries: expected numbers of 1 or more")
    command.check_files(parser, options.json, options.recipes)
    return options


if __name__ == "__main__":
    command.run(main)
