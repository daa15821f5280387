"""Whether a recipe keeps a line's takt, told from what ``spadeline bench`` measured: as figures and in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..units import duration, three_digits


def judge(document: Mapping[str, Any]) -> dict[str, Any]:
    """Hold the slow frames against the takt.

    Parameters
    ----------
    document
        As :func:`.bench.bench` makes it: latency, throughput, takt_s.

    Returns
    -------
    dict
        percentile of the frames' times that was taken, 99, or 100 (the slowest run) where there were too few runs;
        seconds, its value; met: whether that is within the takt; met_by_stream: whether a stream inspects as many
        frames as come, though each takes longer. Both are None without a takt, the latter without a stream, too.
    """
    latency, takt_s = document["latency"][0], document["takt_s"]
    percentile = 100 if latency["p99_s"] is None else 99
    seconds = latency["max_s"] if latency["p99_s"] is None else latency["p99_s"]
    stream = _streamed(document)
    return {
        "percentile": percentile,
        "seconds": seconds,
        "met": None if takt_s is None else seconds <= takt_s,
        "met_by_stream": None if takt_s is None or stream is None else stream * takt_s >= 1,
    }


def verdict(document: Mapping[str, Any]) -> str:
    """Say whether the takt is met and by what margin; without a takt, what takt would be."""
    latency, takt_s, judged = document["latency"][0], document["takt_s"], judge(document)
    runs, taken = f"{latency['runs']:,} runs", judged["seconds"]
    who = f"the slowest of {runs}" if judged["percentile"] == 100 else f"all but 1 % of {runs}"
    median = duration(latency["p50_s"])
    if takt_s is None:
        return (
            f"From the camera's frame to the result: {median} (median); {who} took at most {duration(taken)}. "
            f"A takt of that or more is met; --takt SECONDS judges yours."
        )
    if judged["met"]:
        spare = f"{100 * (1 - taken / takt_s):.0f} % of it to spare"
        return (
            f"The takt of {duration(takt_s)} is met: {who} took at most {duration(taken)}, {spare} (median {median})."
        )
    within = " The median is within it: look at what makes the slow ones slow." if latency["p50_s"] <= takt_s else ""
    over = f"{three_digits(taken / takt_s)} times the takt (median {median})"
    return (
        f"The takt of {duration(takt_s)} is missed: {who} took up to {duration(taken)}, {over}.{within}"
        f"{_of_the_stream(document, judged)}"
    )


def _of_the_stream(document: Mapping[str, Any], judged: Mapping[str, Any]) -> str:
    if judged["met_by_stream"] is None:
        return ""
    rate = f"{three_digits(_streamed(document) or 0.0)} frames a second"
    if judged["met_by_stream"]:
        return f" A stream keeps up with it, {rate}, if a result may come later than the next part."
    return f" Nor does a stream keep up with it: {rate}."


def _streamed(document: Mapping[str, Any]) -> float | None:
    """Return the most frames a second of a stream."""
    rates = [way["frames_per_s"] for way in document["throughput"] if way["mode"] == "stream"]
    return max(rates, default=None)
