"""Means of what accuracy.py measured, one CSV of everything, and a plot of the sweep; the paper's own figures.

A mean is over those classes of a data set that define the figure; the document says how many they are.
"""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accuracy_parts.classes import DataSet
from accuracy_parts.figures import FIGURES
from accuracy_parts.knobs import label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

PAPER: dict[str, Any] = {
    "source": "Cohen and Hoshen, Sub-Image Anomaly Detection with Deep Pyramid Correspondences, arXiv 2005.02357",
    "extractor": "Wide-ResNet50-2",
    "pixel_rocauc": {
        "bottle": 0.984, "cable": 0.972, "capsule": 0.990, "carpet": 0.975, "grid": 0.937, "hazelnut": 0.991,
        "leather": 0.976, "metal_nut": 0.981, "pill": 0.965, "screw": 0.989, "tile": 0.874, "toothbrush": 0.979,
        "transistor": 0.941, "wood": 0.885, "zipper": 0.965,
    },
    "figures": {"image_rocauc_by_image_score": 0.855, "pixel_rocauc": 0.960, "aupro_0.3": 0.917},
}  # fmt: skip
HEADS = {  # figures of the tables and the plot
    "image_rocauc_by_image_score": "image, embedding",
    "image_rocauc_by_map_score": "image, map",
    "pixel_rocauc": "pixel",
    "aupro_0.3": "PRO",
}
POINT = ("data", "extractor", "protocol", "knob", "value")
PANELS_A_ROW = 4


def described(data_set: DataSet) -> dict[str, Any]:
    """Return a data set's classes, what else lies in its folder, and which of the paper's classes are missing."""
    names = {image_class.name: image_class.counts for image_class in data_set.classes}
    known = PAPER["pixel_rocauc"]
    missing = [] if known.keys().isdisjoint(names) else [name for name in known if name not in names]
    return {"name": data_set.name, "classes": names, "left_out": dict(data_set.left_out), "missing": missing}


def means(results: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each figure's mean over the classes of each data set, for every point that was measured."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for result in results:
        groups.setdefault(tuple(result[name] for name in POINT), []).append(result)
    rows = []
    for point, members in groups.items():
        row = dict(zip(POINT, point, strict=True)) | {"figures": {}, "classes": {}}
        for figure in FIGURES:
            values = [value for member in members if (value := member["figures"][figure]) is not None]
            row["figures"][figure] = statistics.fmean(values) if values else None
            row["classes"][figure] = len(values)
        rows.append(row)
    return rows


def write_csv(document: dict[str, Any], path: Path) -> None:
    """Write a line for each class and point: which it was, every setting, the images' numbers, the figures."""
    extractors = {extractor["file"]: extractor for extractor in document["extractors"]}
    lines = [dict(_line(row, extractors[row["extractor"]])) for row in document["results"]]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def _line(row: dict[str, Any], extractor: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from ((name, row[name]) for name in ("data", "class", "extractor"))
    yield from ((name, extractor[name]) for name in ("sha256", "backbone", "weights", "precision"))
    yield "input_size", "x".join(map(str, extractor["input_size"]))
    yield from (("protocol", row["protocol"]), ("knob", row["knob"]))
    yield "value", "" if row["knob"] is None else label(row["value"])
    yield from ((name, label(value)) for name, value in row["settings"].items())
    yield from ((f"images_{name}", count) for name, count in row["images"].items())
    yield from row["figures"].items()


def plot(document: dict[str, Any], path: Path) -> None:
    """Draw the mean figures against each knob, and against the extractor if there are several."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "spadeline"  # the same figures give the same file
    panels = {
        data["name"]: _panels([mean for mean in document["means"] if mean["data"] == data["name"]])
        for data in document["data"]
    }
    rows = [math.ceil(len(members) / PANELS_A_ROW) for members in panels.values()]
    columns = min(PANELS_A_ROW, max(len(members) for members in panels.values()))
    width = max(3.6 * columns, 7.2)  # the legend needs this width
    figure = Figure(figsize=(width, 3.0 * sum(rows) + 0.6), layout="constrained")
    blocks = figure.subfigures(len(panels), 1, squeeze=False, height_ratios=rows)[:, 0]
    for block, (name, members), count in zip(blocks, panels.items(), rows, strict=True):
        block.suptitle(name)
        _draw_block(block, members, count, columns)
    handles = {line.get_label(): line for axis in figure.axes for line in axis.get_lines()}
    figure.legend(
        list(handles.values()), [str(name) for name in handles], loc="outside lower center", ncols=len(handles)
    )
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _panels(rows: Sequence[dict[str, Any]]) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """Return each panel's means by the value's label: the first protocol by extractor, then by knob."""
    plain = [row for row in rows if row["knob"] is None and row["protocol"] == rows[0]["protocol"]]
    panels = {"extractor": [(Path(row["extractor"]).stem, row) for row in plain]} if len(plain) > 1 else {}
    for row in rows:
        if row["knob"] is not None:
            panels.setdefault(row["knob"], []).append((label(row["value"]), row))
    return panels


def _draw_block(block: SubFigure, panels: dict[str, list[tuple[str, dict[str, Any]]]], rows: int, columns: int) -> None:
    axes: list[Axes] = list(block.subplots(rows, columns, sharey=True, squeeze=False).ravel())
    for axis, (knob, values) in zip(axes, panels.items(), strict=False):
        for figure, head in HEADS.items():
            heights = [row["figures"][figure] for _, row in values]
            if None not in heights:  # without masks a figure is missing at every value
                axis.plot(range(len(values)), heights, marker="o", markersize=4, label=head)
        slanted: dict[str, Any] = (
            {"rotation": 20, "ha": "right", "rotation_mode": "anchor"} if knob == "extractor" else {}
        )
        axis.set_xticks(range(len(values)), [text for text, _ in values], **slanted)
        axis.set_xlim(-0.5, len(values) - 0.5)
        axis.set_title(knob)
        axis.grid(visible=True, alpha=0.3)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
