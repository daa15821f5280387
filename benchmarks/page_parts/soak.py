"""The soak's chapter: what went in and out, and what drifted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spadeline.engine.pages.sections import Section, Table

from page_parts.chapter import Chapter, side


def soak(document: Mapping[str, Any]) -> Chapter:
    """Return the counts, and a table of the beginning beside the end."""
    (result,) = document["results"]
    setting, frames, faults = result["setting"], result["frames"], result["faults"]
    memory, latency = result["memory"], result["latency"]
    counts = Table(
        "In and out",
        ("frames in", "results", "of these anomalous", "errors", "changes of the recipe", "killed", "loads", "faults"),
        [
            (
                *(f"{frames[name]:,}" for name in ("taken", "results", "anomalous", "errors")),
                *(f"{count:,}" for count in (result["changes"], result["killed"], result["loads"], faults["count"])),
            )
        ],
        " ".join(faults["first"]),
    )
    first, last = latency["first"], latency["last"]
    drift = Table(
        "Drift",
        ("", "at the beginning", "at the end"),
        [
            ("median time of a frame, ms", 1e3 * first["p50_s"], 1e3 * last["p50_s"]),
            ("99th percentile, ms", 1e3 * first["p99_s"], 1e3 * last["p99_s"]),
            ("yardstick, ms", 1e3 * first["yardstick_s"], 1e3 * last["yardstick_s"]),
            ("resident memory, MB", memory["early_bytes"] / 1e6, memory["late_bytes"] / 1e6),
            ("open files at rest", result["files"]["before"], result["files"]["after"]),
            ("threads at rest", result["threads"]["before"], result["threads"]["after"]),
        ],
        "Times are of the first and the last tenth of the frames, memory is of the second tenth, after the warm-up, "
        f"and of the last: {memory['bytes_per_frame']:+.1f} bytes a frame. The yardstick is a sort that is timed "
        "beside the frames: it shows how fast the machine itself was.",
    )
    text = (
        f"{setting['lines']} lines of {setting['threads']} threads, frames of {side(setting['frame_size'])}, "
        f"{setting['gallery_images']} normal images, {100 * setting['bad_share']:g} % bad frames; every "
        f"{setting['change_every']} frames another process changed the recipe, and each line opened it again. Every "
        "outcome was compared with the frame's own, bit by bit."
    )
    text += (
        f"\n\nIt took {result['seconds']:,.0f} s. At the peak {memory['peak_bytes'] / 1e6:.1f} MB were resident. The "
        f"median time of a frame changed to {latency['drift']:.2f} × its first value, the yardstick's change taken out."
    )
    if not result["judged"]:
        text += " The frames were too few to judge memory and time."
    done = f"{frames['taken']:,} frames"
    good = f"A soak of {done} lost none and mixed up none" + (", and nothing drifted." if result["judged"] else ".")
    finding = f"A soak of {done} found {faults['count']} faults." if faults["count"] else good
    section = Section("Soak", text, document["command"], [counts, drift])
    return Chapter(finding, section, {"counts": counts, "drift": drift})
