"""The chapter of the matcher on a GPU: times by two clocks, and the whole chain there (gpu.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spadeline.engine.bench.bench_report import milliseconds
from spadeline.engine.pages.sections import Cell, Section, Table
from spadeline.engine.units import duration

from page_parts.chapter import Chapter, left_out, times

SHARES = {"tensor_share": "of tensor rate", "memory_share": "of copy rate"}


def gpu(document: Mapping[str, Any]) -> Chapter:
    """Return times on a GPU by both clocks, and the whole chain there."""
    facts, results, chain = document["gpu"], document["results"], document.get("chain", {"not_measured": "cut short"})
    name = facts.get("name", facts["architecture"])
    tables = {"times": gpu_times(results)}
    finding = ""
    if "not_measured" in chain:
        text = f"The chain wasn't measured: {chain['not_measured']}."
    else:
        wall = {percentile: seconds for percentile, seconds in chain["wall_s"].items() if seconds is not None}
        text = _chain_text(chain, wall)
        tail = f"p99 {duration(wall['p99'])}" if "p99" in wall else f"at most {duration(wall['max'])}"
        finding = f"On the {name} a frame takes {duration(wall['p50'])}, {tail}."
        rows = [(stage, 1e3 * seconds) for stage, seconds in chain["stages_s"].items()]
        tables["chain"] = Table("The chain by stage", ("stage", "p50, ms"), rows)
    text = "\n\n".join([_gpu_text(facts), text])
    return Chapter(finding, Section(f"On a GPU: {name}", text, document["command"], [*tables.values()]), tables)


def gpu_times(results: Sequence[Mapping[str, Any]]) -> Table:
    """Return a row for each setting and contestant: percentiles by either clock, ratios, shares of the GPU's rates."""
    setting = {"features": "features", "images": "K", "kappa": "kappa", "batch": "batch", "size": "input"}
    head = [*setting.values(), "who", *_clock_head("device"), *_clock_head("wall"), "runs", *SHARES.values(), "exact"]
    rows = [
        (
            *(result[key] for key in setting),
            row["name"],
            *_clock(row, "device"),
            *_clock(row, "wall"),
            row["runs"],
            *(_share(row.get(key), digits=1) for key in SHARES),
            _share(row.get("equal_neighbours"), digits=2),
        )
        for result in results
        for row in result["rows"]
    ]
    reasons = {name: why for result in results for name, why in result["left_out"].items()}
    held = {f"{result['storage']}, {result['queries']} queries" for result in results}
    taken = max((result["real_images"] for result in results), default=0)
    note = f"Features in {' or '.join(sorted(held))}. " + (f"Up to {taken} images are as taken. " if taken else "")
    note += "Ratios to torch fp16. Exact: share of the neighbours that are the nearest. "
    return Table("Time a call", head, rows, (note + left_out(reasons)).strip()).without_empty_columns()


def _clock_head(clock: str) -> tuple[str, ...]:
    return f"{clock} p50, ms", "p95", "p99", "ratio"


def _clock(row: Mapping[str, Any], clock: str) -> tuple[Cell, ...]:
    if f"{clock}_s" not in row:
        return (None,) * len(_clock_head(clock))
    ratio = row.get(f"yardstick_per_{clock}")
    return *map(milliseconds, row[f"{clock}_s"].values()), None if ratio is None else times(ratio)


def _share(share: float | None, *, digits: int) -> str | None:
    return None if share is None else f"{share:.{digits}%}"


def _gpu_text(facts: Mapping[str, Any]) -> str:
    """Say which kind of GPU it is and how fast, or why its own clock and the peers are missing."""
    text = f"Built for {facts['architecture']}."
    if "without_torch" in facts:
        text += f" No peers, no rates and no times by the device's clock: {facts['without_torch']}."
    if "rates" in facts:
        tensor, copied = facts["rates"]["fp16_operations_per_s"] / 1e12, facts["rates"]["copied_bytes_per_s"] / 1e9
        text += (
            f" Measured on torch's {facts['torch_device']}: fp16 products {tensor:.1f} TFLOP/s, copies "
            f"{copied:.0f} GB/s."
        )
    return text


def _chain_text(chain: Mapping[str, Any], wall: Mapping[str, float]) -> str:
    percentiles = ", ".join(f"{name} {duration(seconds)}" for name, seconds in wall.items())
    return (
        "The chain on the {chain}, {images} images: {backbone} ({weights} weights, {precision}) by {extractor}, "
        "matcher {matcher} on {matcher_device}. ".format(**chain["detector"])
        + f"A frame takes {percentiles}, of {chain['runs']} runs. Batches of {chain['batch']}: "
        f"{chain['frames_per_s']:.1f} frames a second."
    )
