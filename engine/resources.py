"""What this process may use of the machine: processors, memory, and its instruction set.

In a container there are fewer processors and less memory than the machine has.

``threads=None`` means this number of processors, wherever it is an argument. More threads than processors slow each
other down, and a process that has used up its quota stands still until the quota's next period.

joblib's loky can count processors, too. It isn't used, since it reads the quota of the outermost mounted control group
alone, and no limit of memory.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MOST_THREADS = 1024
# Names the instruction set of what the native module computes on a CPU.
INSTRUCTION_SET_VARIABLE = "SPADELINE_INSTRUCTION_SET"

CONTROL_GROUPS = Path("/sys/fs/cgroup")
OWN_GROUP = Path("/proc/self/cgroup")
MACHINE = Path("/proc/meminfo")


def processors() -> int:
    """Return the number of processors that the process may run on, or the quota of its control groups if it is less."""
    return math.ceil(min(len(os.sched_getaffinity(0)), _quota()))


def asked_instruction_set() -> str:
    """Return the instruction set that ``SPADELINE_INSTRUCTION_SET`` names, or "auto"."""
    return os.environ.get(INSTRUCTION_SET_VARIABLE, "auto")


def control_groups() -> Iterator[Path]:
    """Yield the folders of the process's control group (version 2) and of each group above it.

    There are none on a system without control groups of version 2.
    """
    try:
        own = next(line[3:] for line in OWN_GROUP.read_text().splitlines() if line.startswith("0::"))
    except (OSError, StopIteration):  # no control groups, or version 1
        return
    group = CONTROL_GROUPS / own.lstrip("/")
    yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(CONTROL_GROUPS))


def _quota() -> float:
    """Return how many processors' time the process's control group and those above it grant."""
    granted = [math.inf]
    for folder in control_groups():
        if (limit := folder / "cpu.max").is_file():
            quota, period = limit.read_text().split()  # in microseconds; the quota "max" is no limit
            granted.append(math.inf if quota == "max" else int(quota) / int(period))
    return min(granted)


def available_memory() -> int:
    """Return the bytes that can be allocated without swapping, those of caches that can be dropped included."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", MACHINE.read_text(encoding="ascii"), re.MULTILINE)
    available = [1024 * int(found[1])] if found else [0]
    for group in control_groups():
        limit = group / "memory.max"
        if limit.is_file() and (text := limit.read_text().strip()) != "max":
            used = int((group / "memory.current").read_text())
            cached = re.search(r"^inactive_file (\d+)$", (group / "memory.stat").read_text(), re.MULTILINE)
            available.append(max(int(text) - used + (int(cached[1]) if cached else 0), 0))
    return min(available)


class Memory(NamedTuple):
    """What a process has of the memory, in bytes.

    Attributes
    ----------
    resident_bytes
        All of its pages that lie in memory, those of mapped files included.
    own_bytes
        Those that belong to no file.
    peak_bytes
        The most that ever was resident. getrusage's peak would start from that of the parent process.
    """

    resident_bytes: int
    own_bytes: int
    peak_bytes: int


def process_memory(process: int | None = None) -> Memory:
    """Return what a process has, by its id; None: this process. What the system doesn't tell is 0."""
    status = Path("/proc", "self" if process is None else str(process), "status").read_text(errors="replace")
    found = (re.search(rf"^{key}:\s+(\d+) kB", status, re.MULTILINE) for key in ("VmRSS", "RssAnon", "VmHWM"))
    return Memory(*(1024 * int(size[1]) if size else 0 for size in found))
