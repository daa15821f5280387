"""Energy of the machine's processors, by their own counters (RAPL).

Only Linux's powercap tree is read. If it is missing, or only root may read it, the reason is returned instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

POWERCAP = Path("/sys/class/powercap")


def measure_energy(work: Callable[[], int]) -> dict[str, Any]:
    """Run ``work``, which returns how many frames it inspected; a counter may restart once meanwhile, not twice.

    Returns
    -------
    dict
        joules_per_frame and watts of all packages together, with their idle parts; or not_measured: the reason.
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
    # A counter restarts at 0 after its limit. At full load that takes some minutes, so it happens once at most.
    taken = [(end - begin) % (limit + 1) for begin, end, limit in zip(before, after, limits, strict=True)]
    joules = sum(taken) / 1e6
    return {"joules_per_frame": joules / frames, "watts": joules / seconds}


def _packages() -> list[Path]:
    """Return the packages' counters, without those of their parts, and without the platform's, which includes them."""
    counters = sorted(POWERCAP.glob("intel-rapl:[0-9]*"))
    return [folder for folder in counters if (folder / "name").read_text().startswith("package")]


def _read(path: Path) -> int:
    return int(path.read_text())
