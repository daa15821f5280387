"""The speed of an int8 extractor compared with its float32 one, on this machine: single frames, both in turns.

``benchmarks/extractor.py`` measures percentiles, numbers of threads and other sizes.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..engine.extract.extractor import Extractor

WARM_UPS, RUNS = 2, 11  # the median of eleven times on a noisy machine varies by a few percent


def float32_per_int8(float32: Path, int8: Path, image: NDArray[np.uint8]) -> float:
    """Return `float32`'s median time divided by `int8`'s, on the CPU as :meth:`Detector.load` would run them."""
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
