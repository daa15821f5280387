"""Accuracy of each class beside the paper's figures and PatchCore's, and what each setting does to it.

    python benchmarks/accuracy.py mvtec_ad --extractor wide_resnet50_2.onnx --json accuracy.json
    python benchmarks/accuracy.py mvtec_ad --extractor V1.onnx V2.onnx --sweep --csv sweep.csv --plot sweep.svg
    python benchmarks/accuracy.py sets --extractor plain.onnx averaged.onnx --protocol defaults --peers peers

It measures image ROCAUC, pixel ROCAUC and AU-PRO of each class, and how many defects and how many good parts lie above
thresholds for 1 % and 5 % false alarms, which are made of normal images alone, as `fit` makes them; and their means.
With `--tune`, half of each class's test images choose settings, and the other half shows what those find.
Every figure is stored as soon as it is known, so the same command goes on where it was interrupted. Nothing is timed.
README.md beside this file lists the options.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from spadeline.engine.errors import InputError
from spadeline.engine.extract.extractor import Extractor
from spadeline.engine.extract.providers import Device
from spadeline.engine.resources import processors
from spadeline.engine.settings import Settings
from tqdm import tqdm

from accuracy_parts import report
from accuracy_parts.classes import CELLS, DataSet, ImageClass, digest, open_data_sets, solar_cells
from accuracy_parts.knobs import PROTOCOLS, Point, as_json, default_knobs, parse_knob, points
from accuracy_parts.patchcore import PEERS, Patchcore, backbones
from accuracy_parts.records import Records, code_digest
from accuracy_parts.scored import ScoredClass
from accuracy_parts.tuned import test_names, tuned_figures
from detectors_parts.process import DetectorError
from page_parts.accuracy import accuracy as chapter
from shared_parts import command


def main() -> None:
    """Measure what has no record yet, print tables, and write files."""
    options = _options()
    document = command.begin("accuracy", options.threads)
    with Records(options.records) as records:
        data_sets = open_data_sets(options.data, dict(options.train))
        if options.elpv is not None:
            data_sets.append(solar_cells(options.records / "cells", options.elpv or CELLS))
        names = [data_set.name for data_set in data_sets]
        if len(set(names)) < len(names):
            raise InputError(f"expected data sets of different names, got {', '.join(names)}")
        candidates = _candidates(options)
        facts = document["environment"]
        conditions = {"code": code_digest(), **{name: facts[name] for name in ("processor", "versions")}}
        jobs = _jobs(data_sets, candidates, conditions)
        peers = _Peers.open(options, candidates)
        results = [*_measure(jobs, records, options), *peers.measure(jobs, records, conditions)]
        tuned = _tune(jobs, records, conditions, options) if options.tune else []
    document |= {
        "extractors": [candidate.facts for candidate in candidates],
        "data": [report.described(data_set) for data_set in data_sets],
        "results": results,
        "means": report.means(results),
        "tuned": tuned,
        "peers": {"versions": peers.versions, "left_out": peers.left_out},
        "paper": report.PAPER,
    }
    command.show(chapter, document)
    command.write(document, options.json)
    if options.csv is not None:
        report.write_csv(document, options.csv)
    if options.plot is not None:
        report.plot(document, options.plot)


@dataclass(frozen=True, eq=False)
class _Candidate:
    """An extractor's file, what is known of it, and what to measure with it."""

    path: Path
    facts: dict[str, Any]
    points: list[Point]


@dataclass(frozen=True, eq=False)
class _Job:
    """All points of one class by one extractor, each setting under the key of its record."""

    data: str
    image_class: ImageClass
    images: str  # the digest of the class's images
    candidate: _Candidate
    keys: dict[Settings, dict[str, Any]]


def _candidates(options: argparse.Namespace) -> list[_Candidate]:
    """Open every extractor, so that a bad file is an error before the work begins. Knobs turn with the first one."""
    candidates: list[_Candidate] = []
    for path in options.extractor:
        extractor = Extractor(path, device=options.device, threads=options.threads)
        knobs: dict[str, Any] = {}
        if not candidates:
            levels = len(extractor.level_names)
            knobs = (default_knobs(levels) if options.sweep else {}) | dict(options.knob)
            for weights in knobs.get("level_weights", ()):
                if weights is not None and len(weights) != levels:
                    raise InputError(f"--knob level_weights: expected {levels} weights for {path}, got {len(weights)}")
        facts = {
            "file": str(path),
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "backbone": extractor.metadata.get("spadeline.backbone", "unknown"),
            "weights": extractor.metadata.get("spadeline.weights", "unknown"),
            "precision": extractor.precision,
            "neighbourhood": extractor.neighbourhood,
            "input_size": list(extractor.input_size),
            "levels": dict(zip(extractor.level_names, extractor.level_shapes, strict=True)),
            "provider": extractor.provider,
        }
        candidates.append(_Candidate(path, facts, points(options.protocol, knobs)))
    return candidates


def _jobs(data_sets: Sequence[DataSet], candidates: Sequence[_Candidate], conditions: dict[str, Any]) -> list[_Job]:
    """Return a job for each extractor and class, with the keys of its records."""
    classes = [(data_set.name, image_class) for data_set in data_sets for image_class in data_set.classes]
    total = sum(1 for _, image_class in classes for _ in image_class.files)
    with tqdm(total=total, desc="SHA-256", unit="file", disable=None, leave=False) as bar:
        digests = [digest(image_class, bar.update) for _, image_class in classes]
    jobs = []
    for candidate in candidates:
        by = {name: candidate.facts[name] for name in ("sha256", "provider")}
        for (data, image_class), images in zip(classes, digests, strict=True):
            keys = {
                point.settings: {"images": images, "extractor": by, "settings": asdict(point.settings), **conditions}
                for point in candidate.points
            }
            jobs.append(_Job(data, image_class, images, candidate, keys))
    return jobs


def _measure(jobs: Sequence[_Job], records: Records, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each point of each job; points without a record are measured first."""
    pending = [[settings for settings, key in job.keys.items() if records.find(key) is None] for job in jobs]
    images = sum(_images(job.image_class, settings) for job, settings in zip(jobs, pending, strict=True))
    rows = []
    with tqdm(total=images, unit="image", disable=None, leave=False) as bar:
        for job, settings in zip(jobs, pending, strict=True):
            bar.set_description(f"{job.candidate.path.name}, {job.image_class.name}")
            if settings:
                _fill(job, settings, records, options, bar.update)
            rows += [
                _row(job, as_json(point), asdict(point.settings), records.find(job.keys[point.settings]))
                for point in job.candidate.points
            ]
    return rows


def _images(image_class: ImageClass, pending: Sequence[Settings]) -> int:
    """Return how many images are extracted (once for each framing) and matched (once for each setting)."""
    framings = {settings.framing for settings in pending}
    return (len(framings) + len(pending)) * (len(image_class.train) + len(image_class.test))


def _fill(
    job: _Job,
    pending: Sequence[Settings],
    records: Records,
    options: argparse.Namespace,
    advance: Callable[[], object],
) -> None:
    """Measure the pending settings of a job, framing by framing, and store a record of each."""
    path = job.candidate.path
    extractor = Extractor(path, device=options.device, threads=options.threads)
    for framing in sorted({settings.framing for settings in pending}):
        framed = [settings for settings in pending if settings.framing == framing]
        storages = {settings.storage for settings in framed}
        with records.scratch() as folder:
            scored = ScoredClass(
                folder, job.image_class, extractor, path, framing=framing, storages=tuple(storages), advance=advance
            )
            for settings in framed:
                records.write(job.keys[settings], scored.figures(settings, threads=options.threads, advance=advance))


def _tune(
    jobs: Sequence[_Job], records: Records, conditions: dict[str, Any], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Return for each job what the first protocol's settings and tuned ones find; those without a record are tuned."""
    rows, (protocol, *_) = [], options.protocol
    for job in tqdm(jobs, desc="tuning", unit="class", disable=None, leave=False):
        settings, by = PROTOCOLS[protocol], {name: job.candidate.facts[name] for name in ("sha256", "provider")}
        images = {"images": job.images, "names": test_names(job.image_class)}
        key = {"tuned": asdict(settings), **images, "extractor": by, **conditions}
        if records.find(key) is None:
            run = {"device": options.device, "threads": options.threads}
            with records.scratch() as folder:
                made = tuned_figures(folder / "recipe", job.image_class, job.candidate.path, settings, **run)
            records.write(key, made)
        rows.append(_row(job, {"protocol": protocol}, asdict(settings), records.find(key)))
    return rows


@dataclass(frozen=True, eq=False)
class _Peers:
    """PatchCore's variants that were asked for.

    Attributes
    ----------
    patchcore
        None: there is no environment for it.
    names
        Of the variants.
    backbones
        The extractors that it may run with.
    left_out
        Variants and classes without figures, with the reason.
    """

    patchcore: Patchcore | None
    names: Sequence[str]
    backbones: Sequence[Path]
    left_out: dict[str, str]

    @classmethod
    def open(cls, options: argparse.Namespace, candidates: Sequence[_Candidate]) -> _Peers:
        """Check the environment and the extractors."""
        if options.peers is None:
            return cls(None, (), (), {})
        plain = backbones([(candidate.path, candidate.facts["neighbourhood"]) for candidate in candidates])
        return cls(Patchcore.open(options.peers, options.threads), options.peer_detectors, plain, {})

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the libraries in the peers' environment."""
        return {} if self.patchcore is None else dict(self.patchcore.versions)

    def measure(self, jobs: Sequence[_Job], records: Records, conditions: dict[str, Any]) -> list[dict[str, Any]]:
        """Return a row for each variant of each class; those without a record are measured first."""
        rows = []
        pairs = [(job, name) for job in jobs if job.candidate.path in self.backbones for name in self.names]
        for job, name in tqdm(pairs, desc="PatchCore", unit="class", disable=None, leave=False):
            assert self.patchcore is not None  # noqa: S101 - else there are no names
            by = {"sha256": job.candidate.facts["sha256"], **self.patchcore.key(name)}
            key = {"images": job.images, "extractor": by, **conditions}
            if records.find(key) is None:
                try:
                    records.write(key, self.patchcore.figures(name, job.image_class, job.candidate.path))
                except DetectorError as error:
                    self.left_out[f"{name}, {job.data}, {job.image_class.name}"] = str(error)
                    continue
            rows.append(_row(job, {"protocol": name, "knob": None, "value": None}, {}, records.find(key)))
        return rows


def _row(job: _Job, point: dict[str, Any], settings: dict[str, Any], measured: dict[str, Any] | None) -> dict[str, Any]:
    assert measured is not None  # noqa: S101 - a record of it was stored
    return {
        "data": job.data,
        "class": job.image_class.name,
        "extractor": job.candidate.facts["file"],
        **point,
        "settings": settings,
        "images": job.image_class.counts,
        **measured,
    }


def _options() -> argparse.Namespace:
    parser = command.new_parser(__doc__)
    parser.usage = "%(prog)s [options] [data ...]"
    what = parser.add_argument_group("images")
    what.add_argument(
        "data", type=Path, nargs="*", help="a class's folder, or a folder of such folders, as MVTec AD is"
    )
    text = "normal images to fit on, for a class that has normal and abnormal alone"
    what.add_argument("--train", type=_named_folder, action="append", default=[], metavar="CLASS=FOLDER", help=text)
    text = "solar cells, from the package elpv-dataset; both kinds by default"
    what.add_argument("--elpv", nargs="*", choices=CELLS, help=text)
    how = parser.add_argument_group("settings")
    text = "required; knobs are turned with the first one"
    how.add_argument("--extractor", type=Path, nargs="+", required=True, metavar="FILE.onnx", help=text)
    text = "default: both; knobs are turned around the first one named"
    how.add_argument("--protocol", nargs="+", choices=list(PROTOCOLS), default=list(PROTOCOLS), help=text)
    text = "also tune each class with the first protocol, on half of its test images, and compare on the other half"
    how.add_argument("--tune", action="store_true", help=text)
    how.add_argument("--sweep", action="store_true", help="turn every knob, one at a time")
    text = "turn this knob to these values; none and 1:2:4 are values, too"
    how.add_argument("--knob", type=_knob, action="append", default=[], metavar="NAME=V1,V2,…", help=text)
    how.add_argument(
        "--device", choices=get_args(Device), default="auto", help="where the extractor runs; default: auto"
    )
    how.add_argument("--threads", type=int, metavar="N", default=processors(), help="default: all")
    who = parser.add_argument_group("PatchCore")
    text = "the folder that set_up_peers.sh made; PatchCore runs with the extractors whose levels aren't averaged"
    who.add_argument("--peers", type=Path, metavar="FOLDER", help=text)
    text = f"some of {' '.join(PEERS)}; default: all"
    who.add_argument("--peer-detectors", nargs="+", metavar="NAME", choices=list(PEERS), default=list(PEERS), help=text)
    files = parser.add_argument_group("files")
    text = "where figures are stored, so that a run can go on; default: accuracy-records"
    files.add_argument("--records", type=Path, default=Path("accuracy-records"), metavar="FOLDER", help=text)
    files.add_argument("--csv", type=Path, metavar="FILE", help="a line for each class and setting")
    text = "mean figures against each knob"
    files.add_argument("--plot", type=Path, metavar="FILE.svg|FILE.png", help=text)
    options = parser.parse_args()
    options.protocol, options.extractor = (list(dict.fromkeys(x)) for x in (options.protocol, options.extractor))
    _check(parser, options)
    return options


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if not options.data and options.elpv is None:
        parser.error("expected a folder of images, or --elpv, got neither")
    if options.plot is not None:
        if not (options.sweep or options.knob or len(options.extractor) > 1):
            parser.error("--plot: expected --sweep, --knob or several extractors with it, got none")
        if options.plot.suffix not in (".svg", ".png"):
            parser.error(f"--plot: expected FILE.svg or FILE.png, got {options.plot}")
        if importlib.util.find_spec("matplotlib") is None:
            parser.error("matplotlib is not installed, and --plot needs it: pip install 'spadeline[eval]'")
    command.check_files(parser, options.json, options.csv, options.plot)


def _named_folder(text: str) -> tuple[str, Path]:
    name, _, folder = text.partition("=")
    if not name or not folder:
        raise argparse.ArgumentTypeError(f"expected CLASS=FOLDER, got {text!r}")
    return name, Path(folder)


def _knob(text: str) -> tuple[str, tuple[Any, ...]]:
    try:
        return parse_knob(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


if __name__ == "__main__":
    command.run(main)
