"""What pipeline.py says: a line for each setting, with its stages and frames a second below it."""

from __future__ import annotations

from typing import Any

from spadeline.engine.bench.bench_page import way_name


def print_head() -> None:
    """Print what the columns are."""
    print(f"\n{'':54}{'ms from the camera frame':>40}  frames a second")
    print(f"{'extractor':22}{'input':>10}{'frame':>11}{'images':>7}{'thr':>4}", end="")
    print(f"{'p50':>8}{'p95':>8}{'p99':>8}{'p99.9':>8}{'max':>8}{'start s':>8}{'MB':>7}")


def print_result(result: dict[str, Any]) -> None:
    """Print one setting's line, and what it spent its time on."""
    setting, latency = result["setting"], result["latency"][0]
    sizes = setting["frame_sizes"]
    frame = "{}x{}".format(*sizes[0]) if len(sizes) == 1 else f"{len(sizes)} sizes"
    line = f"{setting['extractor'][:21]:22}{'{}x{}'.format(*setting['input_size']):>10}{frame:>11}"
    line += f"{setting['gallery_images']:7}{setting['threads']:4}"
    for name in ("p50", "p95", "p99", "p99.9", "max"):
        seconds = latency[f"{name}_s"]
        line += f"{'-':>8}" if seconds is None else f"{1e3 * seconds:8.1f}"
    line += f"{result['start']['process_to_first_result_s']:8.2f}{result['start']['peak_bytes'] / 1e6:7.0f}"
    ways = "; ".join(f"{way_name(way)} {way['frames_per_s']:.1f}" for way in result["throughput"])
    stages = ", ".join(f"{stage} {1e3 * taken['p50_s']:.1f}" for stage, taken in latency["stages_s"].items())
    print(f"{line}  {ways}\n{'':22}{stages} ms; {latency['runs']} runs", flush=True)
    if "not_measured" not in result["energy"]:
        print("{:22}{joules_per_frame:.3f} J a frame at {watts:.1f} W".format("", **result["energy"]))
