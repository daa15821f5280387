"""The rows of a scored image: what is written of it, one row for each recipe, as an Arrow table.

The types are given, not inferred: a table of errors alone has the same columns as any other, so all files of a run can
be read as one table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..recipe.recipe import Recipe
from ..result import Result
from .addresses import pyarrow

REASONS_BETWEEN = "+"
COLUMNS = {
    "path": "the image's absolute path, or its address; for Parquet files, what their column path holds",
    "recipe": "name of the recipe's folder",
    "generation": "the recipe's, which grows with each change of its features",
    "recipe_sha256": "SHA-256 of its recipe.json, which holds the hashes of all of its other files",
    "label": "true: anomalous; null: the image couldn't be judged",
    "reason": "why it is anomalous, such as map, or map+image; empty: it isn't",
    "need": "what the row is exact in",
    "decided": "whether it is",
    "pred_score": "what the label rule compares with a threshold",
    "image_score": "compared with tau",
    "map_score": "compared with theta",
    "regions": "list of area, box (top, left, bottom, right), peak (y, x) and score, in the image's pixels",
    "milliseconds": "of the inspection with this recipe; reading the image isn't part of it",
    "error": "why the image couldn't be judged; null: it was",
    "map": "the anomaly map, a list of rows of pixels; with --maps alone",
    "mask": "map > theta, a list of rows of pixels; with --masks alone",
}
"""Each column and what it holds; all but path, recipe, generation, recipe_sha256 and error are null beside an error."""


def schema(*, maps: bool, masks: bool) -> Any:
    """Return the Arrow schema of the rows."""
    arrow = pyarrow()
    region = [
        ("area", arrow.int64()),
        ("box", arrow.list_(arrow.int32())),
        ("peak", arrow.list_(arrow.int32())),
        ("score", arrow.float64()),
    ]
    types = {
        "path": arrow.string(),
        "recipe": arrow.string(),
        "generation": arrow.int64(),
        "recipe_sha256": arrow.string(),
        "label": arrow.bool_(),
        "reason": arrow.string(),
        "need": arrow.string(),
        "decided": arrow.bool_(),
        "pred_score": arrow.float64(),
        "image_score": arrow.float64(),
        "map_score": arrow.float64(),
        "regions": arrow.list_(arrow.struct(region)),
        "milliseconds": arrow.float64(),
        "error": arrow.string(),
    }
    if maps:
        types["map"] = arrow.list_(arrow.list_(arrow.float32()))
    if masks:
        types["mask"] = arrow.list_(arrow.list_(arrow.bool_()))
    return arrow.schema(list(types.items()))


def error_row(facts: Mapping[str, Any], path: str | None, error: Exception) -> dict[str, Any]:
    """Return the row of an image that couldn't be judged; ``facts`` are the recipe's."""
    return {**facts, "path": path, "error": str(error)}


def result_row(
    facts: Mapping[str, Any], path: str | None, result: Result, *, maps: bool, masks: bool
) -> dict[str, Any]:
    """Return the row of an image that was judged; ``facts`` are the recipe's."""
    row = {
        **facts,
        "path": path,
        "label": result.pred_label,
        "reason": REASONS_BETWEEN.join(result.reasons),
        "need": result.need,
        "decided": result.decided,
        "pred_score": result.pred_score,
        "image_score": result.image_score,
        "map_score": result.map_score,
        "regions": [vars(region) for region in result.regions],
        "milliseconds": 1e3 * sum(result.timings_s.values()),
    }
    if maps:
        row["map"] = list(result.anomaly_map)
    if masks:
        row["mask"] = list(result.pred_mask)
    return row


def table(rows: Iterable[Mapping[str, Any]], kind: Any) -> Any:
    """Return rows as an Arrow table of the given schema; a column that a row lacks is null there."""
    return pyarrow().Table.from_pylist(list(rows), schema=kind)


def recipe_facts(name: str, recipe: Recipe, digest: str) -> dict[str, Any]:
    """Return the columns that tell which recipe a row is of."""
    return {"recipe": name, "generation": recipe.generation, "recipe_sha256": digest}


def rows_of(batch: Any) -> Sequence[Mapping[str, Any]]:
    """Return a batch of Ray Data's as rows, whatever its format: an Arrow table, a DataFrame, or a dict of columns."""
    if hasattr(batch, "to_pylist"):
        rows: Sequence[Mapping[str, Any]] = batch.to_pylist()
        return rows
    columns = {name: list(batch[name]) for name in batch}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
