"""How fast a recipe is on this machine: latency by stage, throughput, start, what limits it and which knob helps.

Everything goes through the detector that a line would run. What is measured here says nothing of accuracy: see
:mod:`.evaluation`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..checks import check_integer, check_number
from ..environment import environment
from ..extract.providers import Device
from ..folders.listing import named_images
from ..images.reading import read_image
from ..images.resizing import as_rgb, place
from ..inspect.detector import Detector, Frame
from ..recipe.held import GalleryPlace
from ..recipe.stored_codes import can_have_codes
from .advice import advise, measure_knobs
from .latency import measure_latency, measure_throughput
from .start import measure_start
from .takt import judge

MOST_FRAMES = 64  # that lie in memory at once
DRAWN_FRAMES, DRAWN_SIDE = 8, 1024  # where none are given
SHORTEST_TAKT_S = 1e-6

# Called with what is being measured, what is done and what there is to do.
Progress = Callable[[str, int, int], None]


def bench(
    folder: str | os.PathLike[str],
    images: str | os.PathLike[str] | None = None,
    *,
    device: Device = "auto",
    threads: int | None = None,
    memory_limit: int | None = None,
    tensorrt_cache: str | os.PathLike[str] | None = None,
    gallery: GalleryPlace = "auto",
    runs: int = 1000,
    warm_up: int = 1000,
    seconds: float = 60.0,
    takt_s: float | None = None,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure a recipe on this machine.

    Parameters
    ----------
    folder
        The recipe.
    images
        An image, or a folder of them, as the camera delivers them; of more than ``MOST_FRAMES`` as many, evenly spread.
        None: drawn ones, which look like no normal image, so that matching takes longer than it will.
    device, threads, memory_limit, tensorrt_cache, gallery
        See :meth:`.Detector.load`.
    runs, warm_up
        Frames timed, after so many that aren't: MVTec's protocol takes 1000 of each.
    seconds
        The most that each of the two latencies may take; warming up takes a tenth of it, throughput as long again.
    takt_s
        Seconds between two parts: the advice then says whether they suffice.
    on_progress
        Called with what is measured, what is done and what there is to do.

    Returns
    -------
    dict
        Fit for JSON: recipe, detector, frames, latency (from the camera's frame, and from one that has the extractor's
        size), throughput, start, knobs (what other settings would change), verdict (see :func:`.takt.judge`),
        advice; see ``benchmarks/README.md``.

    Raises
    ------
    InputError
        Numbers out of range, or an image that can't be used.
    SpadelineError
        As :meth:`.Detector.load`.
    """
    check_integer("runs", runs, low=1, high=10**9)
    check_integer("warm_up", warm_up, low=0, high=10**9)
    check_number("seconds", seconds, low=0)
    if takt_s is not None:
        check_number("takt_s", takt_s, low=SHORTEST_TAKT_S)
    how: dict[str, Any] = {"device": device, "threads": threads, "gallery": gallery}
    how |= {"memory_limit": memory_limit, "tensorrt_cache": None if tensorrt_cache is None else str(tensorrt_cache)}
    detector = Detector.load(folder, **how)
    names, frames = _load_frames(images) if images is not None else _drawn_frames(detector)
    inputs = {"camera frame": frames}
    if detector.recipe.settings.framing == "whole":  # another framing would frame a prepared frame once more
        inputs["prepared frame"] = [prepared(detector, frame) for frame in frames]
    measured = {
        what: measure_latency(
            detector,
            taken,
            runs=runs,
            warm_up=warm_up,
            seconds=seconds,
            on_progress=on_progress and partial(on_progress, f"latency from the {what}"),
        )
        for what, taken in inputs.items()
    }
    document: dict[str, Any] = {
        "benchmark": "bench",
        "environment": environment(detector.info["threads"]),
        "recipe": describe(detector) | {"extractor": str(detector.recipe.extractor_path)},
        "detector": {},
        "frames": {
            "count": len(frames),
            "drawn": images is None,
            "source": "drawn" if images is None else Path(images).resolve().name,
            "names": names,
            "sizes": sorted({frame.shape[:2] for frame in frames}),
        },
        "takt_s": takt_s,
        "latency": [runs_.figures(what) for what, runs_ in measured.items()],
        "throughput": measure_throughput(detector, frames, measured["camera frame"], seconds=seconds / 2),
        "knobs": measure_knobs(detector, frames),
    }
    document["detector"] = detector.info  # once more: by now with the split that was measured
    recipe = detector.recipe
    del detector  # on a GPU it holds the memory that the processes to be started are measured with
    document["start"] = measure_start(recipe, frames[0], how)
    return document | {"verdict": judge(document), "advice": advise(document)}


def describe(detector: Detector) -> dict[str, Any]:
    """Return what of a recipe decides how long a frame takes."""
    recipe = detector.recipe
    return {
        "name": recipe.folder.resolve().name,
        "images": len(recipe.images),
        "input_size": list(recipe.input_size),
        "backbone": detector.info["backbone"],
        "precision": detector.info["precision"],
        "codes": recipe.codes is not None,
        "can_have_codes": can_have_codes(recipe.geometry),
        "settings": asdict(recipe.settings),
    }


def prepared(detector: Detector, frame: Frame) -> Frame:
    """Return a frame as the extractor takes it: nothing is left to resize."""
    return place(as_rgb(frame), detector.recipe.input_size, framing="whole")[0]


def _drawn_frames(detector: Detector) -> tuple[list[str], list[Frame]]:
    """Draw blobs, in the proportions of the frames that the recipe knows."""
    height, width = (detector.recipe.frame_sizes or ((1, 1),))[0]
    size = (round(DRAWN_SIDE * width / max(height, width)), round(DRAWN_SIDE * height / max(height, width)))
    random = np.random.default_rng(0)
    blobs = [random.integers(0, 256, (16, 16, 3), np.uint8) for _ in range(DRAWN_FRAMES)]
    drawn = [np.asarray(cv2.resize(blob, size, interpolation=cv2.INTER_CUBIC), np.uint8) for blob in blobs]
    return [f"drawn {index}" for index in range(len(drawn))], drawn


def _load_frames(images: str | os.PathLike[str]) -> tuple[list[str], list[Frame]]:
    found = named_images(images)
    count = min(len(found), MOST_FRAMES)
    chosen = [found[index * len(found) // count] for index in range(count)]  # folders differ by what they show
    return [name for name, _ in chosen], [read_image(path) for _, path in chosen]
