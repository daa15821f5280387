"""spadeline in a process of its own: fitted with default settings, and ``Detector.predict`` for each frame."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

from spadeline.engine import Detector, Settings
from spadeline.engine import fit as fit_recipe

from detectors_parts.process import Answer, Frame, Job

RECIPE = "recipe"
FALSE_ALARMS = 0.1  # a recipe needs thresholds, but no figure of the contest depends on them


def fit(job: Job, folder: Path) -> None:
    """Write a recipe."""
    settings = Settings(k_gallery=job.images, k_score=job.k_score)
    warnings.simplefilter("ignore")  # fewer images than k_gallery: the document says how many
    fit_recipe(
        job.train,
        folder / RECIPE,
        extractor=job.extractor,
        settings=settings,
        false_alarm_rate=FALSE_ALARMS,
        threads=job.threads,
    )


def files(_: Job, folder: Path, __: str) -> list[Path]:
    """Return the files that are deployed."""
    return [path for path in (folder / RECIPE).rglob("*") if path.is_file()]


def open_detector(job: Job, folder: Path, _: str) -> tuple[Callable[[Frame], Answer], str]:
    """Return the function from a frame to its answer, and the number type of its backbone."""
    warnings.simplefilter("ignore")
    detector = Detector.load(folder / RECIPE, device="cpu", threads=job.threads)
    return partial(_inspect, detector), detector.extractor.precision


def _inspect(detector: Detector, frame: Frame) -> Answer:
    found = detector.predict(frame)
    return Answer(found.anomaly_map, found.map_score, found.image_score)
