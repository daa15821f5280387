"""What soak.py says at the end."""

from __future__ import annotations

from typing import Any


def print_result(result: dict[str, Any]) -> None:
    """Print what went in and out, what drifted, and what was wrong."""
    frames, memory, latency = result["frames"], result["memory"], result["latency"]
    print(
        f"\n{frames['taken']:,} frames in {result['seconds']:.0f} s: {frames['results']:,} results "
        f"({frames['anomalous']:,} anomalous) and {frames['errors']:,} errors, each compared with the frame's own"
    )
    print(
        f"{result['changes']:,} changes of the recipe, {result['killed']:,} of them killed; {result['loads']:,} loads"
    )
    print(
        f"memory: {memory['early_bytes'] / 1e6:.1f} MB in the second tenth, {memory['late_bytes'] / 1e6:.1f} MB in the "
        f"last: {memory['bytes_per_frame']:+.2f} bytes a frame; peak {memory['peak_bytes'] / 1e6:.1f} MB"
    )
    for what in ("first", "last"):
        times = {name: 1e3 * seconds for name, seconds in latency[what].items()}
        line = f"p50 {times['p50_s']:.2f} ms, p99 {times['p99_s']:.2f} ms; yardstick {times['yardstick_s']:.2f} ms"
        print(f"{what} tenth: {line}")
    print(f"drift of the median, the yardstick's taken out: {latency['drift']:.2f}")
    for what in ("files", "threads"):
        print(f"{what} at rest: {result[what]['before']} before, {result[what]['after']} after")
    if not result["judged"]:
        print("too few frames to judge memory and time")
    print(f"{result['faults']['count']} faults")
    for text in result["faults"]["first"]:
        print(f"  {text}")
