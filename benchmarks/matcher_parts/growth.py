"""How the matcher's times grow with K: exponents, and a plot."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np

SWEPT = ("features", "size", "kappa")  # fixed in a line of the plot, like the contestant


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
