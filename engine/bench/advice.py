"""What limits a recipe's speed on this machine, and which knob to turn next, told from what was measured.

Settings that change the matcher alone are tried out on the frames at hand; the others are named without a figure.
Whether a knob costs accuracy isn't known here: ``spadeline eval`` tells.
"""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..errors import InputError
from ..images.resizing import as_rgb, place
from ..inspect.detector import Detector, Frame
from ..inspect.scoring import Scorer
from ..settings import Settings

TRIED_FRAMES, TRIED_TURNS = 4, 3  # of each setting
WORTH_A_WORD = 0.15  # share of a frame's time: below it, a stage isn't what limits
LONG_TAIL = 1.3  # p99 over p50
LEAST_GAIN = 0.05  # of the matcher's time: less is within the spread of some turns
PROCESSORS = ("CPUExecutionProvider", "OpenVINOExecutionProvider")
BACKBONES = ("resnet18", "resnet34", "resnet50", "resnet101", "wide_resnet50_2", "wide_resnet101_2")
SIDE_STEP = 32  # spadeline export takes multiples of it
BY_FRAMES = 0.8  # of p99: a frame whose own median comes so near is what makes the tail


def measure_knobs(detector: Detector, frames: Sequence[Frame]) -> list[dict[str, Any]]:
    """Match some frames with half of the gallery, within a window, and to the nearest pixel alone, beside what is set.

    Returns
    -------
    list of dict
        setting, value, now (the recipe's value), match_p50_s, match_now_p50_s: medians of the matcher's time, taken in
        turns. A setting that the recipe's others rule out, such as half of a gallery that kappa needs, is left out.
        Empty on a GPU, where a second gallery may not fit.
    """
    recipe = detector.recipe
    if detector.info["matcher_device"] != "cpu":
        return []
    now, threads = recipe.settings, detector.info["threads"]
    others = _worth_trying(now, len(recipe.images))
    now_s, *others_s = _match_times(detector, frames, [now, *(changed for _, _, changed in others)], threads)
    return [
        {
            "setting": setting,
            "value": value,
            "now": getattr(now, setting),
            "match_p50_s": statistics.median(match_s),
            "match_now_p50_s": statistics.median(now_s),
        }
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
    detector: Detector, frames: Sequence[Frame], tried: Sequence[Settings], threads: int
) -> list[list[float]]:
    """Return the matcher's seconds with each of the settings, the recipe's own first; none if one is ruled out."""
    recipe = detector.recipe
    scorers = [Scorer(replace(recipe, settings=settings), threads=threads) for settings in tried]
    taken: list[list[float]] = [[] for _ in scorers]
    possible = set(range(len(scorers)))
    count = min(len(frames), TRIED_FRAMES)
    for frame in (frames[index * len(frames) // count] for index in range(count)):  # folders differ by what they show
        image, _ = place(as_rgb(frame), recipe.input_size, framing=recipe.settings.framing)
        features = detector.extractor.extract(image[None])
        levels = [level[0] for level in features.levels]
        for turn in range(1 + TRIED_TURNS):
            for index in sorted(possible):
                try:
                    scores = scorers[index].score(levels, features.embedding[0])
                except InputError:
                    if index == 0:
                        raise
                    possible.discard(index)
                    taken[index].clear()
                    continue
                if turn:  # the first one makes the matcher's workspaces
                    taken[index].append(scores.timings_s["match"])
    return taken


def advise(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Say what to do about each stage that limits, the costliest first.

    Parameters
    ----------
    document
        As :func:`.bench.bench` makes it.

    Returns
    -------
    list of dict
        stage ("tail" for what isn't one), share of a frame's median time (None for the tail), text.
    """
    latency = document["latency"][0]
    medians = {stage: figures["p50_s"] for stage, figures in latency["stages_s"].items()}
    whole = sum(medians.values())
    advice = []
    for stage, seconds in sorted(medians.items(), key=lambda item: -item[1]):
        if (share := seconds / whole) >= WORTH_A_WORD:
            advice += [{"stage": stage, "share": share, "text": text} for text in _KNOBS[stage](document)]
    if latency["p99_s"] is not None and latency["p99_s"] > LONG_TAIL * latency["p50_s"]:
        advice.append({"stage": "tail", "share": None, "text": _on_the_tail(document, latency)})
    return advice


def _on_prepare(document: Mapping[str, Any]) -> list[str]:
    height, width = document["frames"]["sizes"][-1]
    rows, columns = document["recipe"]["input_size"]
    sizes = f"Frames of {height} x {width} become {rows} x {columns}"
    return [f"{sizes}: let the camera bin or crop, and deliver RGB or gray without a copy."]


def _on_extract(document: Mapping[str, Any]) -> list[str]:
    recipe, detector = document["recipe"], document["detector"]
    on_processor = detector["extractor"] in PROCESSORS
    knobs = []
    if on_processor and recipe["precision"] == "float32":
        knobs.append(_int8(document))
    if recipe["backbone"] != "resnet18":
        knobs.append("take a smaller backbone: spadeline export resnet18.onnx --backbone resnet18")
    knobs.append(_smaller_input(recipe))
    text = "; ".join(knobs)
    text = f"{text[0].upper()}{text[1:]}. Each needs a new recipe: let spadeline eval compare them."
    return [text + " Or run it on a GPU: pip install 'spadeline[gpu]'." if on_processor else text]


def _int8(document: Mapping[str, Any]) -> str:
    """Return the command that quantizes the recipe's own extractor, and whether this processor is made for that."""
    recipe = document["recipe"]
    framing = "" if recipe["settings"]["framing"] == "whole" else f" --framing {recipe['settings']['framing']}"
    command = (
        f"spadeline export int8.onnx --from {shlex.quote(recipe['extractor'])} --precision int8 "
        f"--calibrate FOLDER{framing}, FOLDER being your normal images"
    )
    if any("vnni" in name for name in document["environment"]["instruction_sets"]):
        return f"take 8-bit integers: {command}"
    return f"try 8-bit integers, which may be no faster here, since this processor has no VNNI instructions: {command}"


def _smaller_input(recipe: Mapping[str, Any]) -> str:
    rows, columns = (max(SIDE_STEP, side * 3 // 4 // SIDE_STEP * SIDE_STEP) for side in recipe["input_size"])
    backbone = f"--backbone {recipe['backbone']} " if recipe["backbone"] in BACKBONES else ""
    command = f"spadeline export small.onnx {backbone}--input-size {rows}x{columns}"
    return "take a smaller input than {} x {}: {}".format(*recipe["input_size"], command)


def _on_retrieve(document: Mapping[str, Any]) -> list[str]:
    images = document["recipe"]["images"]
    return [f"Retrieval searches {images} embeddings one by one: an --index-factory such as IVF64,Flat searches fewer."]


def _on_match(document: Mapping[str, Any]) -> list[str]:
    recipe = document["recipe"]
    settings = recipe["settings"]
    if settings["upsampling"] == "bilinear":
        return ["Bilinear upsampling takes the dense path: --upsampling nearest is tens of times as fast."]
    if not recipe["codes"] and recipe["can_have_codes"]:
        return ["The recipe has no codes, so every pair is computed: spadeline codes makes them."]
    texts = []
    for knob in sorted(document["knobs"], key=lambda knob: float(knob["match_p50_s"])):
        if knob["match_p50_s"] <= (1 - LEAST_GAIN) * knob["match_now_p50_s"]:
            remark = " (for parts in a fixed position)" if knob["setting"] == "window" else ""
            texts.append(
                f"--{knob['setting'].replace('_', '-')} {knob['value']}{remark}: the matcher took "
                f"{1e3 * knob['match_p50_s']:.1f} ms instead of {1e3 * knob['match_now_p50_s']:.1f} on these frames. "
                "spadeline calibrate sets it, from what is stored."
            )
    if texts:
        return texts
    on_gpu = document["detector"]["matcher_device"] == "cuda"
    return ["The matcher: fewer gallery images, --k-gallery" + ("." if on_gpu else ", or more processors.")]


def _on_map(document: Mapping[str, Any]) -> list[str]:
    rows, columns = document["recipe"]["input_size"]
    return [f"The anomaly map is {rows} x {columns}: a smaller input or a smaller --sigma make it cheaper."]


def _on_the_tail(document: Mapping[str, Any], latency: Mapping[str, Any]) -> str:
    slowest = latency["slowest_frame"]
    name = document["frames"]["names"][slowest["frame"]]
    tail = f"1 in 100 runs took {latency['p99_s'] / latency['p50_s']:.1f} times the median or longer"
    if slowest["p50_s"] >= BY_FRAMES * latency["p99_s"]:
        return (
            f"{tail}, and frames differ: {name} takes {1e3 * slowest['p50_s']:.1f} ms every time. One that looks like "
            "no normal image can't be pruned so well; if it is normal, spadeline add makes it one."
        )
    return (
        f"{tail}, while no frame takes long every time: other processes get in between. Give spadeline processors of "
        "its own (taskset, isolcpus), fewer --threads than there are, and a fixed clock."
    )


_KNOBS = {
    "prepare": _on_prepare,
    "extract": _on_extract,
    "retrieve": _on_retrieve,
    "match": _on_match,
    "map": _on_map,
}
