"""Frames inspected from C++ through libspadeline.so, beside Python's Detector: latency, throughput and memory.

    python benchmarks/embed.py --installed installed --data hazelnut_reduced cookie --extractor resnet18_int8.onnx

`installed` is where `cmake --install` put the library. A C++ program is built against it, and gets the frames as pixels
in memory, as from a camera. First its results must be Python's, for each frame. README.md beside this file describes
the method and the options.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import get_args

from spadeline.engine.json_data import to_json
from spadeline.engine.resources import MOST_THREADS, processors
from spadeline.engine.settings import Need

from embed_parts.contest import measure
from embed_parts.program import build
from page_parts.embed import embed as chapter
from shared_parts import command
from shared_parts.subjects import subjects


def main() -> None:
    """Build the program, measure each data set, say in a sentence what it took, and print all of it."""
    options = _options()
    document = command.begin("embed", options.threads) | {"results": []}
    with tempfile.TemporaryDirectory(prefix="spadeline-embed-") as folder:
        program = build(options.installed, Path(folder))
        for subject in subjects(options):
            result = to_json(subject.facts() | measure(subject, options, program))
            print(chapter(document | {"results": [result]}).finding, flush=True)
            document["results"].append(result)
            command.write(document, options.json)  # after each subject: a run may be cut short
    command.show(chapter, document)


def _options() -> argparse.Namespace:
    parser = command.new_parser(__doc__)
    text = "required: the prefix that libspadeline.so was installed with, ONNX Runtime's library found from there"
    parser.add_argument("--installed", type=Path, required=True, metavar="PREFIX", help=text)
    text = "required: data sets with train/good and test, as MVTec AD's; each is fitted with default settings"
    parser.add_argument("--data", nargs="+", type=Path, required=True, metavar="FOLDER", help=text)
    text = "required: ONNX files that keep the extractor's contract"
    parser.add_argument("--extractor", nargs="+", type=Path, required=True, metavar="FILE.onnx", help=text)
    parser.add_argument("--recipes", type=Path, metavar="FOLDER", help="recipes stay here for the next run")
    text = "so many good and so many defective frames of each set; default: all"
    parser.add_argument("--most-queries", type=int, metavar="N", help=text)
    text = "what the results must be exact in; default: label map"
    parser.add_argument("--need", nargs="+", choices=get_args(Need), default=["label", "map"], help=text)
    text = "threads of a frame, where its time is measured; default: all"
    parser.add_argument("--threads", type=int, metavar="N", default=processors(), help=text)
    how = parser.add_argument_group("measuring")
    text = "frames timed, for each need, good and defective ones apart; default: 10000"
    how.add_argument("--frames", type=int, metavar="N", default=10_000, help=text)
    text = "the most that these frames may take, Python's and the backbone's included; default: 600"
    how.add_argument("--seconds", type=float, metavar="S", default=600.0, help=text)
    text = "inspectors that share a recipe, each with a thread of its own; default: 1 2 4"
    how.add_argument("--inspectors", nargs="+", type=int, metavar="N", default=[1, 2, 4], help=text)
    text = "seconds that they inspect for, for each need; default: 10"
    how.add_argument("--rate-seconds", type=float, metavar="S", default=10.0, help=text)
    options = parser.parse_args()
    options.input_size = None
    numbers = [options.threads, options.frames, *options.inspectors, *filter(None, [options.most_queries])]
    if min(numbers) < 1 or max(options.threads, *options.inspectors) > MOST_THREADS:
        parser.error(f"expected numbers of 1 or more, and at most {MOST_THREADS} threads, got {min(numbers)}")
    if min(options.seconds, options.rate_seconds) < 0:
        parser.error(f"expected seconds of 0 or more, got {min(options.seconds, options.rate_seconds)}")
    command.check_files(parser, options.json, options.recipes)
    return options


if __name__ == "__main__":
    command.run(main)
