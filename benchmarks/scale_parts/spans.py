"""Rates of workers that run side by side: only the time counts in which all of them are busy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Span(NamedTuple):
    """Some images that a worker scored one after the other; the clock is the machine's, the same for all processes."""

    start_s: float
    end_s: float
    images: int


def steady_rate(spans: Mapping[int, Sequence[Span]]) -> float:
    """Return images a second of all workers together, by their spans, from the last start to the first end.

    Before it not all have begun, and after it not all are busy. An image that lies in it in part counts in part.
    """
    begin = max(min(span.start_s for span in own) for own in spans.values())
    end = min(max(span.end_s for span in own) for own in spans.values())
    if end <= begin:
        raise SystemExit("expected workers that are busy at the same time, got none; take more images")
    images = 0.0
    for own in spans.values():
        for span in own:
            inside = min(span.end_s, end) - max(span.start_s, begin)
            images += span.images * max(inside, 0.0) / (span.end_s - span.start_s)
    return images / (end - begin)
