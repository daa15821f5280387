"""Options that the matcher's benchmarks share, on the processor and on a GPU: which features, and how many."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from matcher_parts.features import STRIDES, Kind, Source
from shared_parts.command import check_files


def add_features(
    parser: argparse.ArgumentParser,
    *,
    real: Sequence[Kind],
    drawn: Sequence[Kind],
    images: Sequence[int],
    most_queries: int | None,
    data_sets: bool = False,
) -> None:
    """Add the options about the features.

    ``real`` are the default kinds where images are given, ``drawn`` those where none are. With ``data_sets`` there may
    be several extractors, for whole data sets in place of the images.
    """
    source = parser.add_argument_group("real features")
    text = "an ONNX file that keeps the extractor's contract" + ("; with --data one or more" if data_sets else "")
    source.add_argument("--extractor", nargs="+", type=Path, metavar="FILE.onnx", help=text)
    source.add_argument("--images", type=Path, metavar="FOLDER", help="a folder of normal images, for the gallery")
    text = "a folder of other images, for the queries"
    source.add_argument("--queries", type=Path, metavar="FOLDER", help=text)
    number = "all" if most_queries is None else most_queries
    text = f"take so many of the queries, evenly spread; default: {number}"
    source.add_argument("--most-queries", type=int, metavar="N", default=most_queries, help=text)
    what = parser.add_argument_group("settings, all combined")
    text = f"default: {' '.join(real)} with an extractor, else {' '.join(drawn)}"
    what.add_argument("--features", nargs="+", choices=get_args(Kind), help=text)
    text = "the input's side; default: 224"
    what.add_argument("--size", nargs="+", type=int, default=[224], metavar="PIXELS", help=text)
    text = f"gallery images; default: {' '.join(map(str, images))}"
    what.add_argument("-K", nargs="+", type=int, metavar="N", default=list(images), help=text)
    text = "nearest pixels to average over; default: 1 5"
    what.add_argument("--kappa", nargs="+", type=int, metavar="N", default=[1, 5], help=text)
    parser.set_defaults(default_features=(list(drawn), list(real)))


def check(
    parser: argparse.ArgumentParser,
    options: argparse.Namespace,
    *,
    numbers: Sequence[int],
    files: Sequence[Path | None] = (),
) -> None:
    """End the run for options that don't go together; sort the settings, and add ``source``.

    ``numbers`` must be 1 or more, ``files`` in folders that exist.
    """
    real_ones = (options.extractor, options.images, options.queries)
    if any(real_ones) and not all(real_ones):
        parser.error("--extractor, --images and --queries go together")
    if options.extractor and len(options.extractor) > 1:
        parser.error(f"--extractor: expected one, got {len(options.extractor)}")
    options.source = None
    if all(real_ones):
        options.source = Source(options.extractor[0], options.images, options.queries, options.most_queries)
    options.features = options.features or options.default_features[options.source is not None]
    if options.source is None and not {"real", "other"}.isdisjoint(options.features):
        parser.error("real features and those of another product need --extractor, --images and --queries")
    if any(size % STRIDES[-1] or size < STRIDES[-1] for size in options.size):
        parser.error(f"--size: expected multiples of {STRIDES[-1]}, got {options.size}")
    for name in ("K", "kappa"):
        setattr(options, name, sorted(set(getattr(options, name))))
    least = min(*options.K, *options.kappa, options.most_queries or 1, *numbers)
    if least < 1:
        parser.error(f"expected numbers of 1 or more, got {least}")
    check_files(parser, options.json, *files)
