"""How much memory this process may still take: the machine's, or its container's where that is less."""

from __future__ import annotations

import re
from pathlib import Path

from .processors import control_groups

MACHINE = Path("/proc/meminfo")


def available_memory() -> int:
    """Return the bytes that can be had without swapping, caches that give way included."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", MACHINE.read_text(encoding="ascii"), re.MULTILINE)
    available = [1024 * int(found[1])] if found else [0]
    for group in control_groups():
        limit = group / "memory.max"
        if limit.is_file() and (text := limit.read_text().strip()) != "max":
            used = int((group / "memory.current").read_text())
            cached = re.search(r"^inactive_file (\d+)$", (group / "memory.stat").read_text(), re.MULTILINE)
            available.append(max(int(text) - used + (int(cached[1]) if cached else 0), 0))
    return min(available)
