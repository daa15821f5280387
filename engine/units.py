"""Durations and figures as text, and the summary of many durations."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .errors import InputError
from .json_data import keyed


@dataclass(frozen=True, kw_only=True)
class Latency:
    """The times of single runs.

    A percentile is None where less than one run lies above it: it would be the maximum under another name. The
    standard deviation is that of the runs themselves.
    """

    runs: int
    mean_s: float
    std_s: float
    min_s: float
    p50_s: float
    p95_s: float | None
    p99_s: float | None
    p99_9_s: float | None = keyed("p99.9_s")
    max_s: float

    def percentiles_s(self) -> dict[str, float | None]:
        """Return the percentiles and the maximum by name: p50, p95, p99, p99.9, max."""
        named = {"p50": self.p50_s, "p95": self.p95_s, "p99": self.p99_s, "p99.9": self.p99_9_s}
        return {**named, "max": self.max_s}


def latency(seconds: Sequence[float]) -> Latency:
    """Summarise the times of single runs; InputError if there are none."""
    if len(seconds) == 0:
        raise InputError("seconds: expected at least one run, got none")
    return Latency(
        runs=len(seconds),
        mean_s=statistics.fmean(seconds),
        std_s=statistics.pstdev(seconds),
        min_s=min(seconds),
        p50_s=float(np.percentile(seconds, 50)),
        p95_s=_percentile(seconds, 95),
        p99_s=_percentile(seconds, 99),
        p99_9_s=_percentile(seconds, 99.9),
        max_s=max(seconds),
    )


def _percentile(seconds: Sequence[float], percent: float) -> float | None:
    runs_above = round(len(seconds) * (100 - percent), 6) / 100
    return float(np.percentile(seconds, percent)) if runs_above >= 1 else None


def three_digits(value: float) -> str:
    """Return a figure with three digits, or with all of those before the point."""
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:#.3g}".rstrip(".")


def four_digits(value: float) -> str:
    """Return a score with four digits; a whole number as it is."""
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def duration(seconds: float) -> str:
    """Return a time in seconds or milliseconds, with three digits."""
    if seconds >= 0.9995:  # three digits round it to 1.00 s
        return f"{three_digits(seconds)} s"
    return f"{three_digits(1e3 * seconds)} ms"
