"""A line's hours in minutes: streams with bad frames, a recipe that changes, detectors that are opened again.

    python benchmarks/soak.py --json soak.json  # 200,000 small frames, drawn

Several lines inspect side by side. Meanwhile another process adds images to their recipe and removes some, and now and
then it is killed. Each frame must come out once, in its place, and its result must equal bit by bit what predict says
of it alone. Memory, open files, threads and a frame's time must not drift. If anything is wrong, the report says what,
and the exit code is 1. README.md beside this file describes the method and the options.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from spadeline.engine import Detector, InputError, Settings, fit
from spadeline.engine.cli.arguments import size
from spadeline.engine.folders.listing import list_images
from spadeline.engine.images.reading import read_image
from spadeline.engine.images.resizing import as_rgb

from page_parts.soak import soak as chapter
from shared_parts import command
from shared_parts.drawn import part, write_small_extractor
from soak_parts.changes import STATES, Changes, names
from soak_parts.frames import expected, pool, resized
from soak_parts.lines import Run
from soak_parts.vitals import FEWEST_TO_JUDGE, TENTHS, drift, faults, look_at_rest

SEED = 0
DRAWN = 14  # images, two of which are added and removed
FEWEST = 4  # images: two to fit on
MOST_IN_TURNS = 16  # images that the camera shows, each as it is, as if taken again, and scratched
LOOKS = 400  # at memory, in a run
WARM_UP_SHARE = 20  # a twentieth of the frames, before the run


def main() -> None:
    """Run the soak, print and write the report, and exit with 1 if anything was wrong."""
    options = _options()
    document = command.begin("soak", options.threads)
    with tempfile.TemporaryDirectory(prefix="spadeline-soak-") as folder:
        result = _soak(options, Path(folder))
    document |= {"results": [result]}
    command.show(chapter, document)
    command.write(document, options.json)
    raise SystemExit(result["faults"]["count"] > 0)


def _soak(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    extractor = options.extractor or folder / "averages.onnx"
    if options.extractor is None:
        write_small_extractor(extractor)
    paths = _images(options, folder)
    *normal, first, second = paths
    settings = Settings(k_score=3, k_gallery=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about thresholds from so few images
        fit(normal, folder / "recipe", extractor=extractor, settings=settings, false_alarm_rate=0.1)
    load = partial(Detector.load, folder / "recipe", device="cpu", threads=options.threads)
    good, bad = pool([resized(as_rgb(read_image(path)), options.size) for path in normal[:MOST_IN_TURNS]])
    sent = good + bad
    order = _order(options, len(good), len(bad))
    with Changes(folder / "recipe", first, second, seed=SEED) as changes:
        outcomes = {}
        for _ in range(STATES):
            detector = load()
            outcomes[names(detector.recipe)] = expected(detector, sent)
            changes.once()
        del detector
        every = {"change_every": options.change_every, "look_every": max(options.frames // LOOKS, 1)}
        warm_up = order[: max(options.frames // WARM_UP_SHARE, 1)]
        Run(sent, warm_up, outcomes, changes, **every).run([load] * options.lines)
        changes.settle()
        before, made, killed = look_at_rest(0), changes.made, changes.killed
        run = Run(sent, order, outcomes, changes, **every)
        run.run([load] * options.lines)
        changes.settle()
        drifted = drift(run.looks, run.seconds, (before, look_at_rest(options.frames)))
    for text in (*changes.faults, *faults(drifted, options.frames)):
        run.fault(text)
    return {
        "setting": {
            "extractor": extractor.stem,
            "gallery_images": len(normal),
            "frame_size": list(good[0].frame.shape[:2]),
            "lines": options.lines,
            "threads": options.threads,
            "bad_share": options.bad,
            "change_every": options.change_every,
        },
        "seconds": run.took_s,
        "frames": {name: run.counts[name] for name in ("taken", "results", "anomalous", "errors")},
        "loads": run.counts["loads"],
        "changes": changes.made - made,
        "killed": changes.killed - killed,
        **drifted,
        "judged": options.frames >= FEWEST_TO_JUDGE,
        "faults": {"count": run.counts["faults"], "first": run.named},
    }


def _images(options: argparse.Namespace, folder: Path) -> list[Path]:
    """Return the images' files; draw images if none were named."""
    if options.images is not None:
        paths = list_images(options.images)
        if len(paths) < FEWEST:
            raise InputError(f"{options.images}: expected at least {FEWEST} images, got {len(paths)}")
        return paths
    paths = [folder / f"{seed:03}.png" for seed in range(DRAWN)]
    for seed, path in enumerate(paths):
        Image.fromarray(part(seed)[0]).save(path)
    return paths


def _order(options: argparse.Namespace, good: int, bad: int) -> Any:
    """Draw which frame comes when."""
    rng = np.random.default_rng(SEED)
    is_bad = rng.random(options.frames) < options.bad
    return np.where(is_bad, good + rng.integers(bad, size=options.frames), rng.integers(good, size=options.frames))


def _options() -> argparse.Namespace:
    parser = command.new_parser(__doc__)
    parser.add_argument("--frames", type=int, default=200_000, help="of all lines together (default: 200000)")
    parser.add_argument("--extractor", type=Path, metavar="FILE.onnx", help="default: a small one, of averages")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="normal images; default: drawn ones")
    parser.add_argument("--size", type=size, metavar="HEIGHTxWIDTH", help="of the frames; default: the images' own")
    parser.add_argument("--bad", type=float, default=0.1, metavar="SHARE", help="of frames that are bad (default: 0.1)")
    parser.add_argument("--change-every", type=int, default=500, metavar="FRAMES", help="default: 500")
    parser.add_argument("--lines", type=int, default=2, help="with a detector each (default: 2)")
    parser.add_argument("--threads", type=int, default=2, help="of each line (default: 2)")
    options = parser.parse_args()
    command.check_files(parser, options.json)
    for name in ("change_every", "lines", "threads"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')}: expected 1 or more, got {getattr(options, name)}")
    if options.frames < TENTHS * TENTHS:
        parser.error(f"--frames: expected {TENTHS * TENTHS} or more, got {options.frames}")
    if not 0 <= options.bad < 1:
        parser.error(f"--bad: expected a share from 0 to below 1, got {options.bad}")
    return options


if __name__ == "__main__":
    command.run(main)
