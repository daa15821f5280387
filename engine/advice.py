"""What limits a recipe's speed on this machine, and which knob to turn next, told from what was measured.

Settings that change the matcher alone are tried out on the frames at hand; the others are named without a figure.
Whether a knob costs accuracy isn't known here: ``spadeline eval`` tells.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from .detector import Detector, Frame
from .images import as_rgb, place
from .scoring import Scorer
from .settings import Settings

TRIED_FRAMES, TRIED_TURNS = 4, 3  # of each setting
WORTH_A_WORD = 0.15  # share of a frame's time: below it, a stage isn't what limits
LONG_TAIL = 1.3  # p99 over p50
BY_FRAMES = 0.8  # of p99: a frame whose own median comes so near is what makes the tail


def measure_knobs(detector: Detector, frames: Sequence[Frame]) -> list[dict[str, Any]]:
    """Match the frames with half of the gallery, and within a window, beside the recipe's own settings.

    Returns
    -------
    list of dict
        setting, value, now (the recipe's value), match_p50_s, match_now_p50_s: medians of the matcher's time, taken in
        turns. Empty on a GPU, where a second gallery may not fit.
    """
    recipe = detector.recipe
    if detector.info["matcher_device"] != "cpu":
        return []
    settings, threads = recipe.settings, detector.info["threads"]
    others: list[tuple[str, int, Settings]] = []
    if (k := min(settings.k_gallery, len(recipe.images))) > 1:
        others.append(("k_gallery", k // 2, replace(settings, k_gallery=k // 2)))
    if settings.window is None:
        others.append(("window", 1, replace(settings, window=1)))
    tried = [settings, *(changed for _, _, changed in others)]
    scorers = [Scorer(replace(recipe, settings=changed), threads=threads) for changed in tried]
    taken: list[list[float]] = [[] for _ in scorers]
    for frame in frames[:TRIED_FRAMES]:
        image, _ = place(as_rgb(frame), recipe.input_size, framing=settings.framing)
        features = detector.extractor.extract(image[None])
        levels = [level[0] for level in features.levels]
        for turn in range(1 + TRIED_TURNS):
            for scorer, seconds in zip(scorers, taken, strict=True):
                match_s = scorer.score(levels, features.embedding[0]).timings_s["match"]
                if turn:  # the first one makes the matcher's workspaces
                    seconds.append(match_s)
    now_s, *others_s = (statistics.median(seconds) for seconds in taken)
    return [
        {
            "setting": setting,
            "value": value,
            "now": getattr(settings, setting),
            "match_p50_s": match_s,
            "match_now_p50_s": now_s,
        }
        for (setting, value, _), match_s in zip(others, others_s, strict=True)
    ]


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
    on_processor = detector["extractor"] == "CPUExecutionProvider"
    knobs = []
    if on_processor and recipe["precision"] == "float32":
        knobs.append("export in int8 (spadeline export --precision int8 --calibrate FOLDER, then fit anew)")
    if recipe["backbone"] != "resnet18":
        knobs.append("take a smaller backbone (spadeline export --backbone resnet18)")
    rows, columns = recipe["input_size"]
    knobs.append(f"take a smaller input than {rows} x {columns} (spadeline export --input-size HxW)")
    if on_processor:
        knobs.append("run it on a GPU (pip install 'spadeline[gpu]')")
    return ["The backbone: " + "; ".join(knobs) + ". Each needs a new recipe: let spadeline eval compare them."]


def _on_retrieve(document: Mapping[str, Any]) -> list[str]:
    images = document["recipe"]["images"]
    return [f"Retrieval searches {images} embeddings one by one: an --index-factory such as IVF64,Flat searches fewer."]


def _on_match(document: Mapping[str, Any]) -> list[str]:
    recipe = document["recipe"]
    settings = recipe["settings"]
    if settings["upsampling"] == "bilinear":
        return ["Bilinear upsampling takes the dense path: --upsampling nearest is tens of times as fast."]
    if not recipe["codes"]:
        return ["The recipe has no codes, so every pair is computed: spadeline codes makes them."]
    texts = []
    for knob in document["knobs"]:
        if knob["match_p50_s"] < knob["match_now_p50_s"]:
            remark = " (for parts in a fixed position)" if knob["setting"] == "window" else ""
            texts.append(
                f"--{knob['setting'].replace('_', '-')} {knob['value']}{remark}: the matcher took "
                f"{1e3 * knob['match_p50_s']:.1f} ms instead of {1e3 * knob['match_now_p50_s']:.1f} on these frames. "
                "spadeline calibrate sets it, from what is stored."
            )
    return texts or ["The matcher: fewer gallery images or more processors."]


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
