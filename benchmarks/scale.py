"""An archive of images scored by Ray Data's workers, beside plain processes: rates, overhead, memory, and a plan.

    python benchmarks/scale.py --data hazelnut --extractor resnet18.onnx --json scale.json

First each row's verdict must be that of Detector.predict, to the last bit. From what a few hundred images take, the
last tables say what a million an hour take: cores, the link, the process that writes, and what is full first.
README.md beside this file describes the method and the options.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import statistics
import tempfile
import warnings
from pathlib import Path
from typing import Any, get_args

from spadeline.engine.folders.dataset import find_dataset
from spadeline.engine.json_data import to_json
from spadeline.engine.optional import imported
from spadeline.engine.resources import MOST_THREADS, processors
from spadeline.engine.scale.addresses import RAY
from spadeline.engine.scale.cluster import connected
from spadeline.engine.settings import Need

from page_parts.scale import scale as chapter
from scale_parts import contest, driver, gallery
from scale_parts.archive import write_copies
from scale_parts.plan import plans
from shared_parts import command
from shared_parts.subjects import Subject, subjects

FEWEST = 32  # images of an archive: each worker has several batches then


def main() -> None:
    """Measure each data set with each network, say in a sentence what it took, and print all of it."""
    warnings.simplefilter("ignore", UserWarning)  # of fewer images than k_gallery: the document says how many
    options = _options()
    imported("ray", RAY)  # a run without it must not fit first
    document = command.begin("scale", 1) | {"results": []}
    document["environment"]["versions"] |= {name: importlib.metadata.version(name) for name in ("ray", "pyarrow")}
    for subject in subjects(options):
        with tempfile.TemporaryDirectory(prefix="spadeline-scale-", dir=options.recipes) as folder:
            result = to_json(_measure(subject, options, Path(folder).resolve()))
        document["results"].append(result)
        print(chapter(document | {"results": [result]}).finding, flush=True)
        command.write(document, options.json)  # after each one: a run may be cut short
    command.show(chapter, document)


def _measure(subject: Subject, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    recipe = subject.recipe
    paths = write_copies(subject.frames, folder / "archive", options.images, bad_share=options.bad)
    archive = {
        "images": len(paths),
        "bad_share": options.bad,
        "bytes_per_image": statistics.fmean(path.stat().st_size for path in paths),
    }
    result = subject.facts() | {"archive": archive}
    result |= contest.measure(
        recipe.folder, paths, needs=options.need, workers=options.workers, repeats=options.repeats
    )
    print(f"{subject.name}: rates are measured", flush=True)
    most, need = max(options.workers), options.need[0]
    result["memory"] = None
    with connected(None, workers=most, threads=1):  # one Ray for all that follows, since its start isn't measured again
        result["driver"] = driver.measure(recipe.folder, paths, images=options.driver_images, workers=most, need=need)
        if options.gallery:
            (data,) = (path for path in options.data if path.resolve().name == subject.data)
            how = {"images": options.gallery, "frames": options.images // 2, "workers": options.workers}
            result["memory"] = gallery.measure(recipe, find_dataset(data).train, folder, **how)
    result["plans"] = plans(result, link_gbit=options.link, price=options.price)
    return result


def _options() -> argparse.Namespace:
    parser = command.new_parser(__doc__)
    text = "required: data sets with train/good and test, as MVTec AD's; each is fitted with default settings"
    parser.add_argument("--data", nargs="+", type=Path, required=True, metavar="FOLDER", help=text)
    text = "required: ONNX files that keep the extractor's contract"
    parser.add_argument("--extractor", nargs="+", type=Path, required=True, metavar="FILE.onnx", help=text)
    text = "recipes stay here for the next run; archive and large gallery lie here meanwhile"
    parser.add_argument("--recipes", type=Path, metavar="FOLDER", help=text)
    text = "what the rows must be exact in; default: label map"
    parser.add_argument("--need", nargs="+", choices=get_args(Need), default=["label", "map"], help=text)
    how = parser.add_argument_group("measuring")
    text = "workers, of one thread each; default: 1 2"
    how.add_argument("--workers", nargs="+", type=int, metavar="N", default=[1, 2], help=text)
    text = "files of the archive, copies of the test images; default: 400"
    how.add_argument("--images", type=int, metavar="N", default=400, help=text)
    text = "share of defective ones among them; default: 0.1"
    how.add_argument("--bad", type=float, metavar="SHARE", default=0.1, help=text)
    how.add_argument("--repeats", type=int, metavar="N", default=3, help="turns of each contestant; default: 3")
    text = "images of which the process that writes gets ready rows; default: 20000"
    how.add_argument("--driver-images", type=int, metavar="N", default=20_000, help=text)
    text = "normal images of the recipe whose memory is measured, 1 MB each with a ResNet-18; 0: none; default: 5000"
    how.add_argument("--gallery", type=int, metavar="N", default=5000, help=text)
    plan = parser.add_argument_group("the plan for a million images an hour")
    text = "Gbit/s of the link that files and rows go by; default: 1"
    plan.add_argument("--link", type=float, metavar="GBIT", default=1.0, help=text)
    plan.add_argument("--price", type=float, metavar="PRICE", help="of a core-hour, in any currency; default: none")
    options = parser.parse_args()
    options.input_size, options.most_queries, options.threads = None, None, processors()
    if min(*options.workers, options.repeats) < 1 or max(options.workers) > MOST_THREADS:
        parser.error(f"--workers, --repeats: expected 1 to {MOST_THREADS}, got {options.workers}, {options.repeats}")
    if options.images < FEWEST * max(options.workers):
        parser.error(f"--images: expected {FEWEST} or more for each worker, got {options.images}")
    if options.driver_images < FEWEST * FEWEST or options.gallery < 0:
        parser.error(
            f"--driver-images, --gallery: expected {FEWEST * FEWEST} or more, and 0 or more, got "
            f"{options.driver_images}, {options.gallery}"
        )
    if not 0 <= options.bad <= 1 or options.link <= 0 or (options.price is not None and options.price < 0):
        parser.error("--bad, --link, --price: expected a share, more than 0, and 0 or more")
    for name, paths in (("--data", options.data), ("--extractor", options.extractor)):
        names = [path.resolve().name for path in paths]
        if len(set(names)) < len(names):
            parser.error(f"{name}: expected names that differ, got {' '.join(names)}")
    command.check_files(parser, options.json, options.recipes)
    return options


if __name__ == "__main__":
    command.run(main)
