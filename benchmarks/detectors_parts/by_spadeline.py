"""spadeline in a process of its own: fitted with default settings, and ``Detector.predict`` for each frame.

Its runtime is a need, "map", "mask" or "label", and after a hyphen "openvino" where OpenVINO must run the backbone.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

from spadeline.engine import Detector, Settings
from spadeline.engine import fit as fit_recipe
from spadeline.engine.settings import Need
from spadeline.engine.units import duration

from detectors_parts.process import Answer, Frame, Job

RECIPE = "recipe"


def fit(job: Job, folder: Path) -> None:
    """Write a recipe."""
    settings = Settings(k_gallery=job.images, k_score=job.k_score)
    warnings.simplefilter("ignore")  # fewer images than k_gallery: the document says how many
    fit_recipe(job.train, folder / RECIPE, extractor=job.extractor, settings=settings, threads=job.threads)


def files(_: Job, folder: Path, __: str) -> list[Path]:
    """Return the files that are deployed."""
    return [path for path in (folder / RECIPE).rglob("*") if path.is_file()]


def open_detector(job: Job, folder: Path, runtime: str) -> tuple[Callable[[Frame], Answer], str]:
    """Return the function from a frame to its answer, and the number type of its backbone."""
    warnings.simplefilter("ignore")
    need, _, provider = runtime.partition("-")
    detector = Detector.load(folder / RECIPE, device="cpu", threads=job.threads)
    chosen = detector.extractor.provider
    if provider and provider not in chosen.lower():
        times = ", ".join(
            f"{name} {duration(seconds)}" for name, seconds in detector.extractor.provider_times_s.items()
        )
        raise ValueError(f"its start chose {chosen}" + (f", the faster one: {times}" if times else ""))
    return partial(_inspect, detector, cast("Need", need)), detector.extractor.precision


def _inspect(detector: Detector, need: Need, frame: Frame) -> Answer:
    found = detector.predict(frame, need=need)
    return Answer(found.anomaly_map, found.map_score, found.image_score, found.pred_label, found.pred_mask)
