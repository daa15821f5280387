"""Map, mask and label in the whole chain: ``Detector.predict``, from the camera's frame in memory to the result there.

The backbone alone takes its turns, too: no detector with this network can take less.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

from spadeline.engine import Detector
from spadeline.engine.bench.bench import prepared
from spadeline.engine.images.reading import read_image
from spadeline.engine.images.resizing import as_rgb
from spadeline.engine.inspect.detector import Frame
from spadeline.engine.settings import Need

from shared_parts.contrast import contrast
from shared_parts.needs import NEEDS, Contestant, Verdict, hold
from shared_parts.subjects import Subject

BACKBONE = "backbone alone"


def measure(subject: Subject, options: argparse.Namespace) -> dict[str, Any]:
    """Measure a subject; ``options`` have device, threads, rounds and seconds."""
    ratios = contrast(subject, options.threads)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of fewer images than k_gallery: the document says how many
        detector = Detector.load(subject.recipe.folder, device=options.device, threads=options.threads)
    frames = [as_rgb(read_image(image.path)) for image in subject.frames]
    contestants = [Contestant(need, partial(_predict, detector, frames, need), equal=need) for need in NEEDS]
    placed = [prepared(detector, frame) for frame in frames]
    contestants.append(Contestant(BACKBONE, partial(_extract, detector, placed), equal=None))
    return {
        "nearest_per_random": ratios,
        "rows": hold(subject, contestants, rounds=options.rounds, seconds=options.seconds),
        "detector": {name: value for name, value in detector.info.items() if name != "recipe"},
    }


def _predict(detector: Detector, frames: Sequence[Frame], need: Need, index: int) -> Verdict:
    found = detector.predict(frames[index], need=need)
    return Verdict(
        label=found.pred_label,
        mask=found.pred_mask,
        upper=found.anomaly_map,
        lower=found.lower_map,
        decided=found.decided,
        statistics=found.match_statistics,
        stages_s=found.timings_s,
    )


def _extract(detector: Detector, placed: Sequence[Frame], index: int) -> None:
    detector.extractor.extract(placed[index][None])
