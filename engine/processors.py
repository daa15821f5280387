"""How many processors this process may use: what ``threads=None`` takes, everywhere.

Not how many the machine has: in a container, or under taskset, threads that share fewer processors than they are many
get in each other's way, and a quota that is used up stops all of them until its next period.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

CONTROL_GROUPS = Path("/sys/fs/cgroup")
OWN_GROUP = Path("/proc/self/cgroup")


def processors() -> int:
    """Return the processors that the process is let run on, or its control groups' quota where that is less."""
    return math.ceil(min(len(os.sched_getaffinity(0)), _quota()))


def control_groups() -> Iterator[Path]:
    """Yield the folders of the process's control group, of version 2, and of each above it; none on other systems."""
    try:
        own = next(line[3:] for line in OWN_GROUP.read_text().splitlines() if line.startswith("0::"))
    except (OSError, StopIteration):  # another system, or version 1
        return
    group = CONTROL_GROUPS / own.lstrip("/")
    yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(CONTROL_GROUPS))


def _quota() -> float:
    """Return the processors' worth of time that control groups grant: this one or any above it."""
    granted = [math.inf]
    for folder in control_groups():
        if (limit := folder / "cpu.max").is_file():
            quota, period = limit.read_text().split()  # in microseconds; "max" is none
            granted.append(math.inf if quota == "max" else int(quota) / int(period))
    return min(granted)
