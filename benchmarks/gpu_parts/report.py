"""What gpu.py says: the GPU, a table for each setting by either clock, and the chain."""

from __future__ import annotations

from typing import Any


def print_gpu(facts: dict[str, Any]) -> None:
    """Print the GPU and its rates, or why there are none."""
    name = f"{facts['name']}, " if "name" in facts else ""
    print(f"{name}{facts['architecture']}")
    if "without_torch" in facts:
        print(f"no peers, rates and times by the device's clock: {facts['without_torch']}")
    if "rates" in facts:
        rates = facts["rates"]
        tensor, copied = rates["fp16_operations_per_s"] / 1e12, rates["copied_bytes_per_s"] / 1e9
        print(
            f"measured on torch's {facts['torch_device']}: fp16 products {tensor:.1f} TFLOP/s, copies {copied:.0f} GB/s"
        )


def print_gpu_result(result: dict[str, Any]) -> None:
    """Print one setting's table: percentiles by either clock, how often faster than torch, shares of the rates."""
    print(
        "\nK = {images}, kappa = {kappa}, batch {batch}, input {size}, {features} features, {storage}, "
        "{queries} queries".format(**result)
        + (f"; {result['real_images']} images as taken" if result["real_images"] else "")
    )
    print(
        f"{'ms a call':14}{'device p50':>11}{'p95':>9}{'p99':>9}{'ratio':>9} |{'wall p50':>10}{'p95':>9}{'p99':>9}",
        end="",
    )
    print(f"{'ratio':>9}{'runs':>6}{'tensor':>8}{'memory':>8}")
    for row in result["rows"]:
        print(f"{row['name']:14}{_clock(row, 'device', 11)} |{_clock(row, 'wall', 10)}{row['runs']:6}", end="")
        print(
            "".join(f"{row[share]:8.1%}" if share in row else f"{'':8}" for share in ("tensor_share", "memory_share"))
        )
    for row in result["rows"]:
        if "equal_neighbours" in row:
            print(f"{row['name']}: {row['equal_neighbours']:.2%} of its neighbours are the nearest")
    for name, reason in result["left_out"].items():
        print(f"{name}: left out, {reason}")


def _clock(row: dict[str, Any], clock: str, width: int) -> str:
    if f"{clock}_s" not in row:
        return " " * (width + 27)
    times = ["-" if value is None else f"{1e3 * value:.3f}" for value in row[f"{clock}_s"].values()]
    ratio = row.get(f"yardstick_per_{clock}")
    return f"{times[0]:>{width}}{times[1]:>9}{times[2]:>9}" + (f"{ratio:7.1f} x" if ratio else " " * 9)


def print_chain(chain: dict[str, Any]) -> None:
    """Print what the whole chain took, or why that isn't known."""
    if "not_measured" in chain:
        print(f"\nchain: not measured, {chain['not_measured']}")
        return
    facts = chain["detector"]
    print(
        "\nchain on the {chain}, {images} images: {backbone} ({weights} weights, {precision}) by {extractor}, "
        "matcher {matcher} on {matcher_device}".format(**facts)
    )
    wall = {name: value for name, value in chain["wall_s"].items() if value is not None}
    times = ", ".join(f"{name} {1e3 * value:.2f}" for name, value in wall.items())
    stages = ", ".join(f"{name} {1e3 * value:.2f}" for name, value in chain["stages_s"].items())
    print(f"ms a frame, {chain['runs']} runs: {times}; stages' medians: {stages}")
    print(f"batches of {chain['batch']}: {chain['frames_per_s']:.1f} frames/s")
