"""How fast a recipe is on this machine: latency by stage, throughput, start, what limits it and which knob helps.

All frames go through the detector that a line would run. Accuracy is not measured: see :mod:`.evaluation`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np

from ..checks import check_choice, check_integer, check_number
from ..environment import environment
from ..extract.providers import Device
from ..folders.listing import named_images
from ..images.reading import read_image
from ..images.resizing import as_rgb, place
from ..inspect.detector import Detector, Frame
from ..json_data import from_json
from ..recipe.held import GalleryPlace
from ..recipe.stored_codes import can_have_codes
from ..settings import Need
from .advice import advise, measure_knobs
from .documents import BenchDocument, DetectorFacts, Frames, Measured, RecipeFacts
from .latency import measure_latency, measure_throughput
from .start import measure_start
from .takt import judge_takt

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
    need: Need | None = None,
    deadline_s: float | None = None,
    command: str = "",
    on_progress: Progress | None = None,
) -> BenchDocument:
    """Measure a recipe on this machine.

    Parameters
    ----------
    folder
        The recipe.
    images
        An image, or a folder of them, as the camera delivers them. Of more than ``MOST_FRAMES`` so many are taken,
        evenly spread. None: frames are drawn. They look like no normal image, so that matching takes longer than it
        will.
    device, threads, memory_limit, tensorrt_cache, gallery
        See :meth:`.Detector.load`.
    runs, warm_up
        How many frames are timed, and how many come before them. MVTec's protocol takes 1000 of each.
    seconds
        The most that each of the two latencies may take. Warming up takes a tenth of it, throughput half of it.
    takt_s
        Seconds between two parts: the verdict then says whether the frames are inspected in time.
    need, deadline_s
        As for :meth:`.Detector.predict`, or :meth:`.Detector.stream` where a stream is measured. The document counts
        the frames that a deadline left undecided.
    command
        The command that was typed, for the document.
    on_progress
        Called with what is measured, what is done and what there is to do.

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
    if need is not None:
        check_choice("need", need, get_args(Need))
    if deadline_s is not None:
        check_number("deadline_s", deadline_s, low=0)
    how: dict[str, Any] = {"device": device, "threads": threads, "gallery": gallery}
    how |= {"memory_limit": memory_limit, "tensorrt_cache": None if tensorrt_cache is None else str(tensorrt_cache)}
    detector = Detector.load(folder, **how)
    need = need or detector.recipe.settings.need
    asked: dict[str, Any] = {"need": need, "deadline_s": deadline_s}
    names, frames = _load_frames(images) if images is not None else _drawn_frames(detector)
    inputs = {"camera frame": frames}
    if detector.recipe.settings.framing == "whole":  # another framing would frame a prepared frame once more
        inputs["prepared frame"] = [prepared(detector, frame) for frame in frames]
    times = {
        begins_at: measure_latency(
            detector,
            taken,
            runs=runs,
            warm_up=warm_up,
            seconds=seconds,
            **asked,
            on_progress=on_progress and partial(on_progress, f"latency from the {begins_at}"),
        )
        for begins_at, taken in inputs.items()
    }
    throughput = measure_throughput(detector, frames, times["camera frame"], seconds=seconds / 2, **asked)
    knobs = measure_knobs(detector, frames, need=need)
    recipe, recipe_facts = detector.recipe, describe(detector)
    detector_facts = from_json(DetectorFacts, detector.info)  # only now: with the split that throughput measured
    del detector  # on a GPU it holds memory that the processes to be started need
    measured = Measured(
        command=command,
        environment=environment(detector_facts.threads),
        recipe=recipe_facts,
        detector=detector_facts,
        frames=Frames(
            count=len(frames),
            drawn=images is None,
            source="drawn" if images is None else Path(images).resolve().name,
            names=tuple(names),
            sizes=tuple(sorted({frame.shape[:2] for frame in frames})),
        ),
        takt_s=takt_s,
        **asked,
        latency=tuple(runs_.figures(begins_at) for begins_at, runs_ in times.items()),
        throughput=tuple(throughput),
        knobs=tuple(knobs),
        start=measure_start(recipe, frames[0], how, need=need),
    )
    return BenchDocument(**vars(measured), verdict=judge_takt(measured), advice=tuple(advise(measured)))


def describe(detector: Detector) -> RecipeFacts:
    """Return what of a recipe decides how long a frame takes."""
    recipe = detector.recipe
    return RecipeFacts(
        name=recipe.folder.resolve().name,
        images=len(recipe.images),
        input_size=recipe.input_size,
        backbone=detector.info["backbone"],
        precision=detector.info["precision"],
        codes=recipe.codes is not None,
        can_have_codes=can_have_codes(recipe.geometry),
        settings=recipe.settings,
        extractor=str(recipe.extractor_path),
    )


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
    chosen = [found[index * len(found) // count] for index in range(count)]  # a folder's parts may show other things
    return [name for name, _ in chosen], [read_image(path) for _, path in chosen]
