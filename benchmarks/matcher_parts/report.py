"""What the matcher's benchmarks say: a table for each setting, growth with K, a plot, and the machine."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np

STEADY = 1.25  # the yardstick does the same work each time: beyond this, something else had the processors
SWEPT = ("features", "size", "kappa")  # what a line of the plot holds fixed, besides the contestant


def print_result(result: dict[str, Any]) -> None:
    """Print one setting's table: a line for each contestant, the yardstick's ratio to it, and its slowest query."""
    print(
        "\nK = {images}, kappa = {kappa}, input {size}, {features} features, {queries} queries".format(**result)
        + (f"; {result['real_images']} images as taken" if result["real_images"] else "")
    )
    if "yardstick" in result:
        print(f"ratios: how often faster than {result['yardstick']}")
    print(f"{'':28}{'median':>10}  {'smallest to largest':>22}{'runs':>6}{'ratio':>9}  worst query")
    for row in result["rows"]:
        spread = f"{_time(row['min_s'])} to {_time(row['max_s'])}"
        worst = row["worst"]
        slowest = f"{_time(worst['median_s'])}{_ratio(worst):>9}  {worst['query']}" if row["queries"] > 1 else ""
        print(f"{row['name']:28}{_time(row['median_s']):>10}  {spread:>22}{row['runs']:6}{_ratio(row):>9}  {slowest}")
        if row["name"] == result.get("yardstick") and row["max_s"] > STEADY * row["min_s"]:
            print(f"{'':28}an unsteady machine: ratios to this one mean little, run again when nothing else does")
    for row in result["rows"]:
        if "per_dense" in row:
            worst = row["worst"]
            print(f"{row['name']} / dense: {row['per_dense']:.3f}, worst query {worst['per_dense']:.3f}")
            print(f"  worst query: {_counts(worst['statistics'])}")
    _print_beside(result)


def _print_beside(result: dict[str, Any]) -> None:
    for name, reason in result["left_out"].items():
        print(f"{name}: left out, {reason}")
    for storage, held in result["bytes"].items():
        print(f"memory, {storage}: levels {held['levels'] / 1e6:.0f} MB, codes {held['codes'] / 1e6:.0f} MB")
    if "memory" in result:
        memory = result["memory"]
        peak, imported, grown = (memory[f"{name}_bytes"] / 1e6 for name in ("peak", "imported", "grown"))
        print(
            f"{memory['name']} alone in a process: peak {peak:.0f} MB, {imported:.0f} MB before it opened the gallery; "
            f"matches after the first added {grown:.2f} MB"
        )
    if "batch" in result:
        batch = result["batch"]
        loop, together = _time(batch["loop_s"]), _time(batch["batch_s"])
        print(
            f"{batch['name']}, {batch['queries']} queries: a loop of match {loop}, match_batch {together}, "
            f"{batch['loop_per_batch']:.2f} x"
        )


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.2f} ms"


def _ratio(row: dict[str, Any]) -> str:
    return f"{row['against_yardstick']:.2f} x" if "against_yardstick" in row else ""


def _counts(statistics: dict[str, Any]) -> str:
    passed = ", ".join(f"{count:,}" for count in reversed(statistics["passed"]))
    return (
        f"{statistics['pairs']:,} coarse pairs; passed, coarse to fine: {passed}; "
        f"exact {statistics['exact']:,}; guarded cells {statistics['guarded_cells']:,}"
    )


def growth(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each contestant's times by K, and the slope of log time against log K where there are several."""
    lines = []
    for fixed, members in itertools.groupby(_by_sweep(results), key=_fixed):
        times: dict[str, dict[int, float]] = {}
        for result in members:
            for row in result["rows"]:
                times.setdefault(row["name"], {})[result["images"]] = row["median_s"]
        for name, by_images in times.items():
            line = {**dict(zip(SWEPT, fixed, strict=True)), "name": name, "median_s": by_images}
            if len(by_images) > 1:
                line["slope"] = float(np.polyfit(np.log(list(by_images)), np.log(list(by_images.values())), 1)[0])
            if {50, 200} <= by_images.keys():
                line["from_50_to_200"] = by_images[200] / by_images[50]
            lines.append(line)
    return lines


def _by_sweep(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(results, key=lambda result: (*_fixed(result), result["images"]))


def _fixed(result: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(result[key] for key in SWEPT)


def print_growth(lines: list[dict[str, Any]]) -> None:
    """Print slopes, where there are any."""
    for line in lines:
        if "slope" in line:
            ratio = f", time(K = 200) / time(K = 50) = {line['from_50_to_200']:.2f}" if "from_50_to_200" in line else ""
            print("kappa {kappa}, input {size}, {features}: {name} grows as K ** {slope:.2f}".format(**line) + ratio)


def print_counts(counts: list[dict[str, Any]]) -> None:
    """Print instructions a query."""
    for count in counts:
        print(
            "{name}, K = {images}, kappa = {kappa}, input {size}, {features}: {instructions:,} instructions".format(
                **count
            )
        )


def plot(lines: list[dict[str, Any]], path: Path) -> None:
    """Draw time against K, one panel for each kappa, input size and kind of features."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "spadeline"  # the same figures give the same file
    panels = [list(members) for _, members in itertools.groupby(lines, key=_fixed)]
    columns = len({line["kappa"] for line in lines})
    rows = len(panels) // columns
    figure = Figure(figsize=(6.4 * columns, 6.4 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, members in zip(axes, panels, strict=True):
        for line in members:
            slope = f", slope {line['slope']:.2f}" if "slope" in line else ""
            axis.plot(list(line["median_s"]), list(line["median_s"].values()), marker="o", label=line["name"] + slope)
        axis.set(xscale="log", yscale="log", xlabel="K, gallery images", ylabel="seconds a query, median")
        axis.set_title("kappa {kappa}, input {size}, {features} features".format(**members[0]))
        ticks = list(members[0]["median_s"])
        axis.set_xticks(ticks, [str(tick) for tick in ticks])
        axis.minorticks_off()
        axis.grid(visible=True, alpha=0.3)
        axis.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
