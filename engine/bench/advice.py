"""What limits a recipe's speed on this machine, and which setting to change next, by what was measured.

Settings that change the matcher alone are tried out on the bench's frames; the others are named without a figure.
What a change costs in accuracy is for ``spadeline eval`` to tell.
"""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Sequence
from dataclasses import replace

from ..errors import InputError
from ..images.resizing import as_rgb, place
from ..inspect.detector import Detector, Frame
from ..inspect.scoring import Scorer
from ..settings import Need, Settings
from .documents import Advice, FrameLatency, Knob, Measured, RecipeFacts

TRIED_FRAMES, TRIED_TURNS = 4, 3  # of each setting
LEAST_SHARE = 0.15  # of a frame's time: a stage below it doesn't limit
LONG_TAIL = 1.3  # p99 over p50
LEAST_GAIN = 0.05  # of the matcher's time: a smaller one is within the spread of some turns
PROCESSORS = ("CPUExecutionProvider", "OpenVINOExecutionProvider")
BACKBONES = ("resnet18", "resnet34", "resnet50", "resnet101", "wide_resnet50_2", "wide_resnet101_2")
SIDE_STEP = 32  # spadeline export takes sides that are multiples of it
BY_FRAMES = 0.8  # of p99: a frame with such a median makes the tail


def measure_knobs(detector: Detector, frames: Sequence[Frame], *, need: Need = "map") -> list[Knob]:
    """Match some frames with half of the gallery, within a window, and to the nearest pixel alone.

    The settings and the recipe's own take turns. A setting that the recipe's others rule out is left out, such as half
    of a gallery that kappa needs. On a GPU none is tried, since a second gallery may not fit.

    Parameters
    ----------
    need
        What the search must be exact in.
    """
    recipe = detector.recipe
    if detector.info["matcher_device"] != "cpu":
        return []
    now, threads = recipe.settings, detector.info["threads"]
    others = _worth_trying(now, len(recipe.images))
    now_s, *others_s = _match_times(detector, frames, [now, *(changed for _, _, changed in others)], threads, need)
    return [
        Knob(
            setting=setting,
            value=value,
            now=getattr(now, setting),
            match_p50_s=statistics.median(match_s),
            match_now_p50_s=statistics.median(now_s),
        )
        for (setting, value, _), match_s in zip(others, others_s, strict=True)
        if match_s
    ]


def _worth_trying(settings: Settings, images: int) -> list[tuple[str, int, Settings]]:
    tried = []
    if (k := min(settings.k_gallery, images)) > 1:
        tried.append(("k_gallery", k // 2, replace(settings, k_gallery=k // 2)))
    if settings.window is None:
        tried.append(("window", 1, replace(settings, window=1)))
    if settings.kappa > 1:
        tried.append(("kappa", 1, replace(settings, kappa=1)))
    return tried


def _match_times(
    detector: Detector, frames: Sequence[Frame], tried: Sequence[Settings], threads: int, need: Need
) -> list[list[float]]:
    """Return the matcher's seconds by setting, the recipe's own first; an empty list for one that is ruled out."""
    recipe = detector.recipe
    scorers = [Scorer(replace(recipe, settings=settings), threads=threads) for settings in tried]
    taken: list[list[float]] = [[] for _ in scorers]
    possible = set(range(len(scorers)))
    count = min(len(frames), TRIED_FRAMES)
    for frame in (frames[index * len(frames) // count] for index in range(count)):  # from all parts of a folder
        image, _ = place(as_rgb(frame), recipe.input_size, framing=recipe.settings.framing)
        features = detector.extractor.extract(image[None])
        levels = [level[0] for level in features.levels]
        for turn in range(1 + TRIED_TURNS):
            for index in sorted(possible):
                try:
                    retrieved = scorers[index].retrieve(features.embedding[0])
                    scores = scorers[index].search(levels, retrieved, need=need)
                except InputError:
                    if index == 0:
                        raise
                    possible.discard(index)
                    taken[index].clear()
                    continue
                if turn:  # in the first turn the matcher allocates its workspaces
                    taken[index].append(scores.timings_s["match"])
    return taken


def advise(measured: Measured) -> list[Advice]:
    """Say what to do about each stage that limits, the costliest first, and about slow frames ("tail")."""
    times = measured.latency[0]
    medians = {stage: taken.p50_s for stage, taken in times.stages_s.items()}
    whole = sum(medians.values())
    advice = []
    for stage, seconds in sorted(medians.items(), key=lambda item: -item[1]):
        if (share := seconds / whole) >= LEAST_SHARE:
            advice += [Advice(stage=stage, share=share, text=text) for text in _KNOBS[stage](measured)]
    if times.p99_s is not None and times.p99_s > LONG_TAIL * times.p50_s:
        advice.append(Advice(stage="tail", share=None, text=_on_the_tail(measured, times, times.p99_s)))
    return advice


def _on_prepare(measured: Measured) -> list[str]:
    sizes = "Frames of {} x {} become {} x {}".format(*measured.frames.sizes[-1], *measured.recipe.input_size)
    return [f"{sizes}: let the camera bin or crop, and deliver RGB or gray without a copy."]


def _on_extract(measured: Measured) -> list[str]:
    recipe = measured.recipe
    on_processor = measured.detector.extractor in PROCESSORS
    knobs = []
    if on_processor and recipe.precision == "float32":
        knobs.append(_int8(measured))
    if recipe.backbone != "resnet18":
        knobs.append("take a smaller backbone: spadeline export resnet18.onnx --backbone resnet18")
    knobs.append(_smaller_input(recipe))
    text = "; ".join(knobs)
    text = f"{text[0].upper()}{text[1:]}. Each needs a new recipe: let spadeline eval compare them."
    return [text + " Or run it on a GPU: pip install 'spadeline[gpu]'." if on_processor else text]


def _int8(measured: Measured) -> str:
    """Return the command that quantizes the recipe's own extractor, and whether this processor is made for that."""
    recipe = measured.recipe
    framing = "" if recipe.settings.framing == "whole" else f" --framing {recipe.settings.framing}"
    command = (
        f"spadeline export int8.onnx --from {shlex.quote(recipe.extractor)} --precision int8 "
        f"--calibrate FOLDER{framing}, where FOLDER holds your normal images"
    )
    if any("vnni" in name for name in measured.environment.instruction_sets):
        return f"take 8-bit integers: {command}"
    return f"try 8-bit integers, which may be no faster here, since this processor has no VNNI instructions: {command}"


def _smaller_input(recipe: RecipeFacts) -> str:
    rows, columns = (max(SIDE_STEP, side * 3 // 4 // SIDE_STEP * SIDE_STEP) for side in recipe.input_size)
    backbone = f"--backbone {recipe.backbone} " if recipe.backbone in BACKBONES else ""
    command = f"spadeline export small.onnx {backbone}--input-size {rows}x{columns}"
    return "take a smaller input than {} x {}: {}".format(*recipe.input_size, command)


def _on_retrieve(measured: Measured) -> list[str]:
    images = measured.recipe.images
    return [f"Retrieval searches {images} embeddings one by one: an --index-factory such as IVF64,Flat searches fewer."]


def _on_match(measured: Measured) -> list[str]:
    recipe = measured.recipe
    if recipe.settings.upsampling == "bilinear":
        return ["Bilinear upsampling takes the dense path: --upsampling nearest is tens of times as fast."]
    if not recipe.codes and recipe.can_have_codes:
        return ["The recipe has no codes, so every pair is computed: spadeline codes makes them."]
    texts = []
    for knob in sorted(measured.knobs, key=lambda knob: knob.match_p50_s):
        if knob.match_p50_s <= (1 - LEAST_GAIN) * knob.match_now_p50_s:
            remark = " (for parts in a fixed position)" if knob.setting == "window" else ""
            texts.append(
                f"--{knob.setting.replace('_', '-')} {knob.value}{remark}: the matcher took "
                f"{1e3 * knob.match_p50_s:.1f} ms instead of {1e3 * knob.match_now_p50_s:.1f} on these frames. "
                "spadeline calibrate sets it, without the images."
            )
    if texts:
        return texts
    on_gpu = measured.detector.matcher_device == "cuda"
    return ["The matcher: fewer gallery images, --k-gallery" + ("." if on_gpu else ", or more processors.")]


def _on_map(measured: Measured) -> list[str]:
    size = "{} x {}".format(*measured.recipe.input_size)
    return [f"The anomaly map is {size}: a smaller input or a smaller --sigma makes it cheaper."]


def _on_the_tail(measured: Measured, times: FrameLatency, p99_s: float) -> str:
    slowest = times.slowest_frame
    name = measured.frames.names[slowest.frame]
    tail = f"1 in 100 runs took {p99_s / times.p50_s:.1f} times the median or longer"
    if slowest.p50_s >= BY_FRAMES * p99_s:
        return (
            f"{tail}, and frames differ: {name} takes {1e3 * slowest.p50_s:.1f} ms every time. Fewer pairs can be "
            "pruned in a frame that looks like no normal image; if it is normal, spadeline add makes it one."
        )
    return (
        f"{tail}, while no frame takes long every time: other processes get in between. Give spadeline processors of "
        "its own (taskset, isolcpus), fewer --threads than there are processors, and a fixed clock."
    )


_KNOBS = {
    "prepare": _on_prepare,
    "extract": _on_extract,
    "retrieve": _on_retrieve,
    "match": _on_match,
    "map": _on_map,
}
