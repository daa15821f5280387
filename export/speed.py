"""How much faster an int8 extractor is than its float32 one, here and now: both in turns, single frames.

Not an account of a machine: percentiles, threads and other sizes are ``benchmarks/extractor.py``'s.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..engine.extract.extractor import Extractor

WARM_UPS, RUNS = 2, 11  # of a noisy machine's times the median of eleven is the same within some percent


def float32_per_int8(float32: Path, int8: Path, image: NDArray[np.uint8]) -> float:
    """Return the median time of `float32` by that of `int8`, on the CPU as :meth:`Detector.load` would run them."""
    extractors = [Extractor(path, device="cpu") for path in (float32, int8)]
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(WARM_UPS + RUNS):
        for extractor, taken in zip(extractors, seconds, strict=True):
            start = time.perf_counter()
            extractor.extract(image[None])
            if turn >= WARM_UPS:
                taken.append(time.perf_counter() - start)
    before, after = map(statistics.median, seconds)
    return before / after
