"""The chapter of accuracy: classes beside the paper's figures, what thresholds find, and each knob (accuracy.py)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from spadeline.engine.pages.sections import Chart, Section, Table
from spadeline.engine.pages.speed_charts import knob_chart

from accuracy_parts.knobs import label
from page_parts.chapter import Chapter, side
from page_parts.recall import PATCHCORE, left_out, recall_tables
from page_parts.tuned import tuned_tables

FIGURES = {
    "image_rocauc_by_image_score": "image, embedding",
    "image_rocauc_by_map_score": "image, map",
    "pixel_rocauc": "pixel",
    "aupro_0.3": "AU-PRO to 0.3",
}


def accuracy(document: Mapping[str, Any]) -> Chapter:
    """Return tables of classes for each data set, beside the paper's figures, and the effect of each knob."""
    means, results = document["means"], document["results"]
    plain = [mean for mean in means if mean["knob"] is None and mean["protocol"] not in PATCHCORE]
    tables = {_key(mean, document): _classes(mean, results, document) for mean in plain}
    tables |= recall_tables(document) | tuned_tables(document)
    turned: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for mean in means:
        if mean["knob"] is not None:
            turned.setdefault((mean["data"], mean["extractor"], mean["knob"]), []).append(mean)
    knobs = [part for point, members in turned.items() for part in _knob(*point, members)]
    text = (
        f"ROCAUC of images, by the embedding's distance and by the map's maximum, and of pixels; AU-PRO to 0.3. "
        f"{' '.join(_extractor(facts) for facts in document['extractors'])} The paper's figures are those of "
        f"{document['paper']['source']}, {document['paper']['extractor']}."
    )
    text = "\n\n".join([text, *_remarks(document)])
    return Chapter(_finding(plain), Section("Accuracy", text, document["command"], [*tables.values(), *knobs]), tables)


def _remarks(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield sentences about PatchCore, missing classes, folders that are no classes, and few normal images."""
    yield from left_out(document)
    for data in document["data"]:
        if data["missing"]:
            yield f"{data['name']}: the paper's means are over 15 classes; missing are {', '.join(data['missing'])}."
        for name, reason in data["left_out"].items():
            yield f"{data['name']}: {name} is no class: {reason}."
        for name, counts in data["classes"].items():
            rows = [row for row in document["results"] if row["data"] == data["name"] and row["class"] == name]
            for setting in ("k_score", "k_gallery"):
                most = max((row["settings"].get(setting, 0) for row in rows), default=0)
                if most > counts["train"]:
                    yield (
                        f"{name}: {counts['train']} normal images; where {setting} is up to {most}, all of them are "
                        "taken."
                    )


def _finding(means: Sequence[Mapping[str, Any]]) -> str:
    mean = next((mean for mean in means if mean["figures"]["pixel_rocauc"] is not None), None)
    if mean is None:
        return ""
    figures = mean["figures"]
    image = figures["image_rocauc_by_map_score"]
    return (
        f"On {mean['data']}, protocol {mean['protocol']}: pixel ROCAUC {figures['pixel_rocauc']:.3f}"
        + (f", image ROCAUC {image:.3f} by the map" if image is not None else "")
        + f" ({mean['extractor']})."
    )


def _key(mean: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    """Name a table by data set and protocol, with the extractor's name or path if there are several extractors."""
    path = Path(mean["extractor"])
    stems = [Path(facts["file"]).stem for facts in document["extractors"]]
    extractor = [] if len(stems) == 1 else [path.stem if stems.count(path.stem) == 1 else str(path.with_suffix(""))]
    return "-".join([mean["data"], mean["protocol"], *extractor]).replace(" ", "-")


def _extractor(facts: Mapping[str, Any]) -> str:
    return (
        f"{facts['file']}: {facts['backbone']}, weights {facts['weights']}, {facts['precision']}, "
        f"{side(facts['input_size'])}, by {facts['provider']}."
    )


def _classes(mean: Mapping[str, Any], results: Sequence[Mapping[str, Any]], document: Mapping[str, Any]) -> Table:
    point = ("data", "extractor", "protocol", "knob", "value")
    members = [row for row in results if all(row[key] == mean[key] for key in point)]
    known = document["paper"]["pixel_rocauc"]
    compared = any(row["class"] in known for row in members)
    head = ["class", *FIGURES.values(), *(["paper's pixel"] if compared else [])]
    rows = [
        (row["class"], *_figures(row), *([_figure(known.get(row["class"]))] if compared else [])) for row in members
    ]
    data = next(data for data in document["data"] if data["name"] == mean["data"])
    if len(members) > 1:
        rows.append(("mean", *_figures(mean), *([None] if compared else [])))
    if compared and not data["missing"]:
        rows.append(
            ("mean, paper", *_figures(document["paper"]), _figure(document["paper"]["figures"]["pixel_rocauc"]))
        )
    undefined = {why: None for row in members for key, why in row["not_computed"].items() if key in FIGURES}
    caption = f"{mean['data']}, protocol {mean['protocol']}, {mean['extractor']}"
    return Table(caption, head, rows, " ".join(f"–: {why}." for why in undefined))


def _figures(row: Mapping[str, Any]) -> list[str | None]:
    return [_figure(row["figures"].get(key)) for key in FIGURES]


def _figure(value: float | None) -> str | None:
    return None if value is None else f"{value:.4f}"


def _knob(data: str, extractor: str, knob: str, members: Sequence[Mapping[str, Any]]) -> list[Table | Chart]:
    """Return the means at each value of one knob, and a chart of those that are defined at several values."""
    lines = {}
    for key, name in FIGURES.items():
        figures = {_label(mean["value"]): mean["figures"][key] for mean in members}
        lines[name] = {value: figure for value, figure in figures.items() if figure is not None}
    drawn = {name: values for name, values in lines.items() if len(values) > 1}
    title = f"{knob}: {data}, {extractor}"
    charts = [Chart(title, partial(knob_chart, drawn, label=title, knob=knob))] if drawn else []
    rows = [(_label(mean["value"]), *_figures(mean)) for mean in members]
    caption = f"{title}, protocol {members[0]['protocol']} except for {knob}; means"
    return [*charts, Table(caption, (knob, *FIGURES.values()), rows)]


def _label(value: Any) -> str:
    return label(tuple(value) if isinstance(value, list) else value)
