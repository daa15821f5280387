"""``_score.json``: what a run scored, with which recipes and options, and at its end how many images there are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from ..checks import (
    check_choice,
    check_digest,
    check_instance,
    check_instances,
    check_integer,
    check_number,
    check_text,
    check_unique,
)
from ..errors import InputError
from ..files import replace_file
from ..json_data import from_json, to_json
from ..recipe.manifest import LAST_GENERATION
from ..settings import Framing, LabelRule, Need

DESCRIPTION = "_score.json"
FORMAT, VERSION = "spadeline-score", 1


@dataclass(frozen=True, kw_only=True)
class RecipeUsed:
    """A recipe that a run scored with: what says that it is the same one, and what its rows are read with.

    Attributes
    ----------
    name, folder
        The name in the rows, and the recipe's folder or the local copy of its address.
    generation, sha256
        The recipe's generation, and the SHA-256 of its recipe.json.
    label_rule, tau, theta
        What the scores were compared with.
    framing
        How a map lies in its image.
    """

    name: str
    folder: str
    generation: int
    sha256: str
    label_rule: LabelRule
    tau: float
    theta: float
    framing: Framing

    def __post_init__(self) -> None:
        check_text("name", self.name)
        check_text("folder", self.folder)
        check_integer("generation", self.generation, low=1, high=LAST_GENERATION)
        check_digest("sha256", self.sha256)
        check_choice("label_rule", self.label_rule, get_args(LabelRule))
        check_number("tau", self.tau)
        check_number("theta", self.theta)
        check_choice("framing", self.framing, get_args(Framing))


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Images of a complete run. For each recipe, scored + errors = images.

    Attributes
    ----------
    images
        Images of the source.
    scored, errors, anomalous
        By recipe: the images that were judged, those that couldn't be, and the judged ones that are anomalous.
    """

    images: int
    scored: dict[str, int]
    errors: dict[str, int]
    anomalous: dict[str, int]

    def __post_init__(self) -> None:
        check_integer("images", self.images, low=0, high=2**63 - 1)
        for name in ("scored", "errors", "anomalous"):
            check_instance(name, getattr(self, name), dict)


@dataclass(frozen=True, kw_only=True)
class Description:
    """The content of ``_score.json``.

    Attributes
    ----------
    source
        What was scored: its absolute path, or its address as it was given.
    recipes
        With which recipes.
    need
        What the rows are exact in; None: as each recipe says.
    maps, masks
        Whether the rows have the anomaly map, the mask.
    counts
        None: the run isn't complete.
    """

    format: str = FORMAT
    version: int = VERSION
    source: str
    recipes: tuple[RecipeUsed, ...]
    need: Need | None
    maps: bool
    masks: bool
    counts: Counts | None = None

    def __post_init__(self) -> None:
        if (self.format, self.version) != (FORMAT, VERSION):
            raise InputError(
                f"format: expected {FORMAT!r} of version {VERSION}, got {self.format!r:.100} of {self.version!r:.100}"
            )
        check_text("source", self.source)
        check_instances("recipes", self.recipes, RecipeUsed)
        check_unique("recipes", (recipe.name for recipe in self.recipes))
        if not self.recipes:
            raise InputError("recipes: expected at least one, got none")
        if self.need is not None:
            check_choice("need", self.need, get_args(Need))
        check_instance("maps", self.maps, bool)
        check_instance("masks", self.masks, bool)


def read_description(folder: Path) -> Description:
    """Return what a folder says of the run that wrote it. InputError if there is none that can be read."""
    try:
        content = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        return from_json(Description, content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        raise InputError(f"{folder}: expected a folder that spadeline score wrote, got: {reason}") from error


def write_description(folder: Path, description: Description) -> None:
    """Write ``_score.json``, all of it or nothing. Raises OutputError."""
    replace_file(folder / DESCRIPTION, (json.dumps(to_json(description), indent=2) + "\n").encode("ascii"))


def check_same(folder: Path, was: Description, now: Description, *, resume: bool) -> None:
    """Raise InputError unless a run may be taken up: its recipes and options must be the same."""
    if not resume:
        raise InputError(
            f"out: expected a new folder or an empty one, got {folder}, which holds a run; --resume goes on"
        )

    def known(described: Description) -> dict[str, Any]:
        recipes = {recipe.name: recipe.sha256 for recipe in described.recipes}
        return {
            "source": described.source,
            "need": described.need,
            "maps": described.maps,
            "masks": described.masks,
        } | {f"recipe {name}": f"SHA-256 {sha256}" for name, sha256 in recipes.items()}

    before, after = known(was), known(now)
    for key in before | after:
        if before.get(key) != after.get(key):
            wanted, came = (f"{part.get(key)!r:.200}" for part in (before, after))
            raise InputError(f"{folder}: expected {key} as in the run to take up, {wanted}, got {came}")
