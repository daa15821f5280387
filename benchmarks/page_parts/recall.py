"""The tables of what thresholds find: accuracy.py's detectors side by side, each class and the means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from spadeline.engine.pages.sections import Table

from accuracy_parts.figures import RATES, false_alarms, recall

PATCHCORE = {"patchcore-coreset": "PatchCore, coreset of 10 %", "patchcore-all": "PatchCore, all features"}
SCORES = {"map_score": "the map's maximum", "image_score": "the detector's own image score"}


def recall_tables(document: Mapping[str, Any]) -> dict[str, Table]:
    """Return by name, for each data set, what thresholds on the map's maximum find, and means by the other score."""
    found = recall("map_score", RATES[0])
    means = [mean for mean in document["means"] if mean["knob"] in (None, "angles") and found in _of(mean)]
    tables = {}
    for data in dict.fromkeys(mean["data"] for mean in means):
        members = [mean for mean in means if mean["data"] == data]
        by_class = [*_of_classes(data, members, document), *_of_means(members, document, "map_score")]
        tables[f"{data}-recall"] = _table(data, by_class, "map_score")
        by_score = [*_of_means(members, document, "image_score")]
        tables[f"{data}-recall-by-image-score"] = _table(data, by_score, "image_score")
        tables[f"{data}-brief"] = _brief(data, [*_of_means(members, document, "map_score")])
    return tables


def left_out(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence about PatchCore's environment, and about each class that it has no figures of."""
    peers = document.get("peers", {"versions": {}, "left_out": {}})
    if peers["versions"]:
        packages = ("anomalib", "torch")
        named = " and ".join(f"{name} {peers['versions'][name]}" for name in packages if name in peers["versions"])
        yield (
            f"PatchCore is that of {named}, on the extractor's backbone and pixels. Its thresholds are made of normal "
            "images that its memory bank doesn't hold: each is left out once, with the coreset each fifth of them."
        )
    yield from (f"{what}: left out, {reason.rstrip('.')}." for what, reason in peers["left_out"].items())


def _table(data: str, rows: Sequence[tuple[str | None, ...]], score: str) -> Table:
    heads = [f"{what} at {rate:.0%}".replace("%", " %") for rate in RATES for what in ("found", "false alarms")]
    caption = f"{data}: what thresholds on {SCORES[score]} find"
    return Table(caption, ("class", "detector", "settings", "image ROCAUC", "pixel ROCAUC", *heads), rows)


def _brief(data: str, means: Sequence[tuple[str | None, ...]]) -> Table:
    """Return the means at the first rate alone, for README."""
    heads = ("", "image ROCAUC", "pixel ROCAUC", f"found at {RATES[0]:.0%}", "false alarms")
    rows = [(detector, image, pixel, found, alarms) for _, detector, _, image, pixel, found, alarms, *_ in means]
    return Table(f"{data}: what thresholds find, means", tuple(head.replace("%", " %") for head in heads), rows)


def _of_classes(
    data: str, means: Sequence[Mapping[str, Any]], document: Mapping[str, Any]
) -> Iterator[tuple[str | None, ...]]:
    classes = next(entry["classes"] for entry in document["data"] if entry["name"] == data)
    for name in classes:
        for mean in means:
            point = {key: mean[key] for key in ("data", "extractor", "protocol", "knob", "value")} | {"class": name}
            for row in document["results"]:
                if all(row[key] == value for key, value in point.items()):
                    yield (name, *who(row, document), *_areas(row, "map_score"), *_counts(row, "map_score"))


def _of_means(
    means: Sequence[Mapping[str, Any]], document: Mapping[str, Any], score: str
) -> Iterator[tuple[str | None, ...]]:
    for mean in means:
        shares = [_of(mean)[name(score, rate)] for rate in RATES for name in (recall, false_alarms)]
        written = [None if share is None else f"{100 * share:.0f} %" for share in shares]
        yield ("mean", *who(mean, document), *_areas(mean, score), *written)


def who(row: Mapping[str, Any], document: Mapping[str, Any]) -> tuple[str, str]:
    """Return the detector of a row, and its settings' name; the extractor's name too where that is needed."""
    if row["protocol"] in PATCHCORE:
        name, settings = PATCHCORE[row["protocol"]], "anomalib's"
    else:
        name = f"spadeline, {_levels(row['extractor'], document)}"
        settings = row["protocol"] if row.get("knob") is None else f"{row['protocol']}, {row['value']} angles"
    extractors = document["extractors"]
    if len({facts["neighbourhood"] for facts in extractors}) < len(extractors) > 1:
        name += f" ({Path(row['extractor']).stem})"
    return name, settings


def _levels(extractor: str, document: Mapping[str, Any]) -> str:
    side = next(facts["neighbourhood"] for facts in document["extractors"] if facts["file"] == extractor)
    return "levels as they are" if side == 1 else f"levels averaged over {side} × {side}"


def _of(row: Mapping[str, Any]) -> Mapping[str, Any]:
    figures: Mapping[str, Any] = row["figures"]
    return figures


def _areas(row: Mapping[str, Any], score: str) -> list[str | None]:
    areas = [_of(row)[name] for name in (f"image_rocauc_by_{score}", "pixel_rocauc")]
    return [None if area is None else f"{area:.3f}" for area in areas]


def _counts(row: Mapping[str, Any], score: str) -> list[str | None]:
    """Return how many of how many test images lie above each threshold."""
    counts = []
    for rate in RATES:
        for name, images in ((recall, row["images"]["abnormal"]), (false_alarms, row["images"]["normal"])):
            share = _of(row)[name(score, rate)]
            counts.append(None if share is None else f"{round(share * images)} of {images}")
    return counts
