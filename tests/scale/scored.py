"""Scored folders as ``spadeline score`` writes them, without Ray: rows that are made up, or that a scorer gives."""

from dataclasses import replace

from spadeline.engine.scale.description import Description, RecipeUsed
from spadeline.engine.scale.written import open_written

USED = RecipeUsed(
    name="nuts",
    folder="no-such-recipe",
    generation=1,
    sha256="0" * 64,
    label_rule="map",
    tau=1.0,
    theta=10.0,
    framing="whole",
)


def row(path, score, *, used=USED, **changes):
    """Return a made-up row; the label follows from the score. A text in place of the score is an error."""
    facts = {"path": path, "recipe": used.name, "generation": used.generation, "recipe_sha256": used.sha256}
    if isinstance(score, str):
        return facts | {"error": score}
    threshold = {"map": used.theta, "image": used.tau, "either": 1.0}[used.label_rule]
    label = score > threshold
    judged = {"label": label, "reason": "map" if label else "", "pred_score": score, "need": "map", "decided": True}
    return facts | judged | changes


def write(out, rows, *recipes, complete=True, source="images", maps=False):
    """Write a table of rows as a run with these recipes would, and return the folder."""
    description = Description(source=str(source), recipes=recipes or (USED,), need=None, maps=maps, masks=False)
    with open_written(out, description, resume=False) as written:
        if len(rows):
            written.add(rows)
        if complete:
            written.finish()
        else:
            written.write_part()
    return out


def used_for(recipe, name, digest):
    """Return what a run says of an opened recipe."""
    return replace(
        USED,
        name=name,
        folder=str(recipe.folder),
        generation=recipe.generation,
        sha256=digest,
        label_rule=recipe.settings.label_rule,
        tau=recipe.calibration.tau.value,
        theta=recipe.calibration.theta.value,
        framing=recipe.settings.framing,
    )
