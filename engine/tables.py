"""The main figures of an evaluation and of a bench as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def summary_table(summary: Mapping[str, Any]) -> str:
    """Return an evaluation's main figures as text."""
    rows = [
        ("image ROCAUC by map maximum", summary["image_rocauc_by_map_score"]),
        ("image ROCAUC by embedding", summary["image_rocauc_by_image_score"]),
        ("pixel ROCAUC", summary["pixel_rocauc"]),
        ("AU-PRO to 0.3", summary["aupro_0.3"]),
        ("AU-PRO to 0.05", summary["aupro_0.05"]),
    ]
    lines = [f"{name:30} {'not defined here' if value is None else f'{value:.4f}'}" for name, value in rows]
    counts = summary["confusion"]["pred_label"]
    lines.append(
        f"{'at the calibrated threshold':30} {counts['true_positives']} of "
        f"{counts['true_positives'] + counts['false_negatives']} abnormal found, {counts['false_positives']} of "
        f"{counts['false_positives'] + counts['true_negatives']} normal flagged"
    )
    total = summary["timings_s"]["total"]
    lines.append(f"{'time per image':30} p50 {total['p50'] * 1e3:.1f} ms, max {total['max'] * 1e3:.1f} ms")
    return "\n".join(lines)


def bench_table(document: Mapping[str, Any]) -> str:
    """Return a bench's figures as text: latency, stages, throughput, start, the takt's verdict and what to do next."""
    return "\n".join(_bench_lines(document))


def _bench_lines(document: Mapping[str, Any]) -> Iterator[str]:
    recipe, detector, machine = document["recipe"], document["detector"], document["environment"]
    rows, columns = recipe["input_size"]
    yield (
        f"{recipe['name']}: {recipe['images']} normal images, {recipe['backbone']} in {recipe['precision']}, "
        f"{rows} x {columns}, k_gallery {recipe['settings']['k_gallery']}, kappa {recipe['settings']['kappa']}"
    )
    yield (
        f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads; {detector['extractor']}; "
        f"matcher {detector['matcher']}, {detector['instruction_set']}"
    )
    yield f"{document['frames']['count']} frames, {document['frames']['source']}"
    yield ""
    percentiles = ("p50", "p95", "p99", "p99.9", "max")
    yield f"{'latency in ms from':20}" + "".join(f"{name:>9}" for name in percentiles) + f"{'runs':>7}"
    for figures in document["latency"]:
        yield (
            f"{'the ' + figures['from']:20}"
            + "".join(f"{_milliseconds(figures[f'{name}_s']):>9}" for name in percentiles)
            + f"{figures['runs']:7}"
        )
    stages = document["latency"][0]["stages_s"]
    yield "stages, ms: " + ", ".join(f"{name} {_milliseconds(s['p50_s'])}" for name, s in stages.items())
    yield "frames a second: " + ", ".join(f"{_way(way)} {way['frames_per_s']:.1f}" for way in document["throughput"])
    start = document["start"]
    yield (
        f"start to first result: {start['process_to_first_result_s']:.2f} s (import {start['import_s']:.2f}, load "
        f"{start['load_s']:.2f}, first frame {start['first_result_s']:.2f}); memory {start['peak_bytes'] / 1e6:.0f} MB"
    )
    if document["takt_s"] is not None:
        yield takt_verdict(document)
    yield ""
    for advice in document["advice"]:
        share = "" if advice["share"] is None else f" {advice['share']:.0%}"
        yield f"{advice['stage']}{share}: {advice['text']}"


def takt_verdict(document: Mapping[str, Any]) -> str:
    """Say whether a bench's latency from the camera's frame fits the takt: all but 1 % of the runs, if so many ran."""
    latency, takt_s = document["latency"][0], document["takt_s"]
    name = "p99" if latency["p99_s"] is not None else "max"
    taken = latency[f"{name}_s"]
    verdict = "met" if taken <= takt_s else "missed"
    over = ", most of them within it" if verdict == "missed" and latency["p50_s"] <= takt_s else ""
    return f"takt of {1e3 * takt_s:.1f} ms: {verdict}, {name} is {1e3 * taken:.1f} ms{over}"


def _way(way: Mapping[str, Any]) -> str:
    return f"{way['mode']} of {way['batch']}" if way["batch"] else str(way["mode"])


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1e3 * seconds:.1f}"
