"""Energy of the machine's processors, as their own counters (RAPL) tell it.

Only Linux's powercap tree is read; where it is missing, or only root may read it, the reason is given instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

POWERCAP = Path("/sys/class/powercap")


def measure_energy(work: Callable[[], int]) -> dict[str, Any]:
    """Run ``work``, which returns how many frames it inspected, and takes no longer than a counter's round.

    Returns
    -------
    dict
        joules_per_frame and watts, of all packages together, what idles in them included; or not_measured: why not.
    """
    try:
        packages = _packages()
        if not packages:
            return {"not_measured": f"{POWERCAP} has no intel-rapl counters of packages"}
        limits = [_read(folder / "max_energy_range_uj") for folder in packages]
        before, start = [_read(folder / "energy_uj") for folder in packages], time.perf_counter()
        frames = work()
        after, seconds = [_read(folder / "energy_uj") for folder in packages], time.perf_counter() - start
    except OSError as error:
        return {"not_measured": f"{error.filename}: {error.strerror}"}
    # A counter begins at 0 again after its limit, which at full load is after some minutes: once at the most, here.
    taken = [(end - begin) % (limit + 1) for begin, end, limit in zip(before, after, limits, strict=True)]
    joules = sum(taken) / 1e6
    return {"joules_per_frame": joules / frames, "watts": joules / seconds}


def _packages() -> list[Path]:
    """Return the processors' counters: no part of one, and not the whole platform's, which holds them once more."""
    counters = sorted(POWERCAP.glob("intel-rapl:[0-9]*"))
    return [folder for folder in counters if (folder / "name").read_text().startswith("package")]


def _read(path: Path) -> int:
    return int(path.read_text())
