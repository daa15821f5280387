"""Durations and figures as text, and the summary of many durations: what pages, tables and benchmarks share."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np

from .errors import InputError

PERCENTILES = (50, 95, 99, 99.9)


def latency(seconds: Sequence[float]) -> dict[str, float | int | None]:
    """Summarise the times of single runs.

    Returns
    -------
    dict
        runs; mean_s, std_s, min_s, p50_s, p95_s, p99_s, p99.9_s, max_s, in seconds. A percentile that less than one
        run lies above is None: it would be the maximum under another name.

    Raises
    ------
    InputError
        No runs.
    """
    if len(seconds) == 0:
        raise InputError("seconds: expected at least one run, got none")
    figures: dict[str, float | int | None] = {
        "runs": len(seconds),
        "mean_s": statistics.fmean(seconds),
        "std_s": statistics.pstdev(seconds),
        "min_s": min(seconds),
    }
    for percent in PERCENTILES:
        enough = percent == 50 or round(len(seconds) * (100 - percent), 6) >= 100
        figures[f"p{percent}_s"] = float(np.percentile(seconds, percent)) if enough else None
    return figures | {"max_s": max(seconds)}


def three_digits(value: float) -> str:
    """Return a figure with three digits, or with all of those before the point."""
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:#.3g}".rstrip(".")


def duration(seconds: float) -> str:
    """Return a time with three digits and the unit that suits it."""
    if seconds >= 0.9995:  # what three digits make a second
        return f"{three_digits(seconds)} s"
    return f"{three_digits(1e3 * seconds)} ms"
