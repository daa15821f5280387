"""Whether a recipe keeps a line's takt, the seconds between two parts: as figures and in a sentence."""

from __future__ import annotations

from ..units import duration, three_digits
from .documents import BenchDocument, Measured, TaktVerdict


def judge_takt(measured: Measured) -> TaktVerdict:
    """Compare the slow frames with the takt."""
    times, takt_s = measured.latency[0], measured.takt_s
    enough = times.p99_s is not None
    seconds = times.max_s if times.p99_s is None else times.p99_s
    rate = _stream_rate(measured)
    return TaktVerdict(
        percentile=99 if enough else 100,
        seconds=seconds,
        met=None if takt_s is None else seconds <= takt_s,
        met_by_stream=None if takt_s is None or rate is None else rate * takt_s >= 1,
    )


def takt_sentence(document: BenchDocument) -> str:
    """Say whether the takt is met and by what margin; without a takt, which takts are."""
    times, takt_s, verdict = document.latency[0], document.takt_s, document.verdict
    runs, slow = f"{times.runs:,} runs", verdict.seconds
    who = f"the slowest of {runs}" if verdict.percentile == 100 else f"all but 1 % of {runs}"
    median = duration(times.p50_s)
    if takt_s is None:
        return (
            f"From the camera's frame to the result: {median} (median); {who} took at most {duration(slow)}. "
            f"A takt of that or more is met; --takt SECONDS judges yours."
        )
    if verdict.met:
        spare = f"{100 * (1 - slow / takt_s):.0f} % of it to spare"
        return f"The takt of {duration(takt_s)} is met: {who} took at most {duration(slow)}, {spare} (median {median})."
    within = " The median is within it: look at what makes the slow ones slow." if times.p50_s <= takt_s else ""
    over = f"{three_digits(slow / takt_s)} times the takt (median {median})"
    return (
        f"The takt of {duration(takt_s)} is missed: {who} took up to {duration(slow)}, {over}.{within}"
        f"{_stream_sentence(document)}"
    )


def _stream_sentence(document: BenchDocument) -> str:
    if document.verdict.met_by_stream is None:
        return ""
    rate = f"{three_digits(_stream_rate(document) or 0.0)} frames a second"
    if document.verdict.met_by_stream:
        return f" A stream keeps up with it, {rate}, if a result may come later than the next part."
    return f" A stream doesn't keep up with it either: {rate}."


def _stream_rate(measured: Measured) -> float | None:
    """Return the most frames a second of a stream; None: none was measured."""
    return max((way.frames_per_s for way in measured.throughput if way.mode == "stream"), default=None)
