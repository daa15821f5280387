"""Two scored folders side by side: how many images got another verdict, and which.

The rows are joined by path as Arrow tables. Python sees the counts, and the images that changed, so 10^7 images fit in
a few GB. No image is read here and no recipe is opened; :mod:`.compare_page` shows pictures.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from ..errors import InputError
from ..optional import imported
from ..settings import Framing, LabelRule
from .addresses import RAY, failing_as, pyarrow
from .description import DESCRIPTION, Description, RecipeUsed, read_description
from .rows import schema
from .written import folder_of, read_rows

Change = Literal["normal to anomalous", "anomalous to normal", "to error", "from error"]
MOST_LISTED = 100_000  # changed images of each kind: objects of Python, which take some 1 kB each
_COLUMNS = ("path", "label", "reason", "pred_score", "error")
_ERROR = 2  # stands for the verdict of an image that couldn't be judged, beside 0 and 1
_KINDS: dict[Change, tuple[tuple[int, int], ...]] = {
    "normal to anomalous": ((0, 1),),
    "anomalous to normal": ((1, 0),),
    "to error": ((0, _ERROR), (1, _ERROR)),
    "from error": ((_ERROR, 0), (_ERROR, 1)),
}
_LEAST = sys.float_info.min  # a score or a threshold of 0 has no logarithm


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two runs that are compared.

    Attributes
    ----------
    rows
        The folder of its rows.
    source
        What was scored: its absolute path, or its address.
    recipe, folder, generation, sha256
        The recipe's name, its folder or address, its generation, and the SHA-256 of its recipe.json.
    label_rule, tau, theta, framing
        The recipe's, as the run used them.
    threshold
        What pred_score is compared with: theta, tau, or, with the rule "either", 1.
    need
        What the rows are exact in; None: as the recipe says.
    maps
        Whether the rows hold anomaly maps.
    complete
        Whether all images of the source have rows.
    images
        How many images have rows.
    """

    rows: str
    source: str
    recipe: str
    folder: str
    generation: int
    sha256: str
    label_rule: LabelRule
    tau: float
    theta: float
    framing: Framing
    threshold: float
    need: str | None
    maps: bool
    complete: bool
    images: int


@dataclass(frozen=True, kw_only=True)
class VerdictCounts:
    """How many images there are of each kind.

    Attributes
    ----------
    in_both, only_in_a, only_in_b
        Images that have rows on both sides, or on one of them alone.
    both_normal, both_anomalous, both_errors
        Of those in both: the images whose verdict is the same.
    changed
        Of those in both: the other images, by the kind of their change.
    """

    in_both: int
    only_in_a: int
    only_in_b: int
    both_normal: int
    both_anomalous: int
    both_errors: int
    changed: dict[Change, int]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What one side says of an image: a label with its reason and score, or the error alone."""

    label: bool | None
    reason: str | None
    pred_score: float | None
    error: str | None


@dataclass(frozen=True, kw_only=True)
class ChangedImage:
    """An image whose verdict isn't the same on both sides."""

    path: str
    change: Change
    a: Verdict
    b: Verdict


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What :func:`compare` returns; :func:`.json_data.to_json` makes JSON of it.

    Attributes
    ----------
    a, b
        The two sides.
    counts
        How many images there are of each kind.
    changed
        The images whose verdict changed, see :func:`compare`.
    notices
        Sentences that nobody should miss.
    """

    a: Side
    b: Side
    counts: VerdictCounts
    changed: tuple[ChangedImage, ...]
    notices: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The outcome in one sentence."""
        counts = self.counts
        if not counts.in_both:
            return "No image has a verdict on both sides."
        if not (changed := sum(counts.changed.values())):
            return f"B gives the same verdict as A on all images that both have: {counts.in_both:,}."
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in counts.changed.items() if count)
        return f"B gives another verdict than A on {changed:,} of {counts.in_both:,} images: {kinds}."


def compare(scored_a: str | os.PathLike[str], scored_b: str | os.PathLike[str]) -> Comparison:
    """Say which images have another verdict in one scored folder than in another one.

    Changed images stand by kind, in the order of ``Change``, and in each kind the clearest change comes first. A change
    is the clearer, the larger the factor between the two multiples ``pred_score / threshold``: an image at 3 times A's
    threshold and at half of B's has 6. Where a run needed no exact map, its scores are bounds, and so is the factor.
    Images with an error on one side stand by path. Of each kind, the first ``MOST_LISTED`` images are listed; the
    counts are of all.

    Parameters
    ----------
    scored_a, scored_b
        A folder that :func:`.score` wrote with one recipe; or, of one that it wrote with several, the folder of one
        recipe. Images are the same if their paths are spelt alike.

    Raises
    ------
    InputError
        Not such a folder, one with several recipes, or one whose rows can't be read.
    DependencyError
        pyarrow isn't installed.

    Examples
    --------
    >>> comparison = compare("scored/hazelnut", "rescored")  # doctest: +SKIP
    >>> comparison.sentence, comparison.changed[0].path  # doctest: +SKIP
    """
    a, rows_a = _opened("scored_a", Path(scored_a))
    b, rows_b = _opened("scored_b", Path(scored_b))
    pairs = _pairs(rows_a, rows_b)
    counts = _counted(pairs, len(rows_a), len(rows_b))
    compute = imported("pyarrow.compute", RAY)
    changed = _with_both_rows(pairs.filter(compute.not_equal(pairs["verdict_a"], pairs["verdict_b"])), rows_a, rows_b)
    images = tuple(image for change in get_args(Change) for image in _listed(changed, change, a, b))
    return Comparison(a=a, b=b, counts=counts, changed=images, notices=tuple(_notices(a, b, rows_a, rows_b, counts)))


def _opened(argument: str, folder: Path) -> tuple[Side, Any]:
    """Return one side, and its rows."""
    rows_folder, described, used = _found(argument, folder)
    arrow = pyarrow()
    kind = arrow.schema([schema(maps=False, masks=False).field(name) for name in _COLUMNS])
    with failing_as(InputError, str(rows_folder), "rows that spadeline score wrote"):
        rows = read_rows(rows_folder, _COLUMNS).cast(kind)  # without any part, the columns have no types yet
        if imported("pyarrow.compute", RAY).count_distinct(rows["path"], mode="all").as_py() != len(rows):
            raise InputError(f"{rows_folder}: expected one row for each image, got more for some")
    side = Side(
        rows=str(rows_folder),
        source=described.source,
        recipe=used.name,
        folder=used.folder,
        generation=used.generation,
        sha256=used.sha256,
        label_rule=used.label_rule,
        tau=used.tau,
        theta=used.theta,
        framing=used.framing,
        threshold={"map": used.theta, "image": used.tau, "either": 1.0}[used.label_rule],
        need=described.need,
        maps=described.maps,
        complete=described.counts is not None and described.counts.images == len(rows),
        images=len(rows),
    )
    return side, rows


def _found(argument: str, folder: Path) -> tuple[Path, Description, RecipeUsed]:
    """Return the folder of the rows, what the run says of itself, and the recipe that is meant."""
    parent, name = folder.resolve().parent, folder.resolve().name
    if (folder / DESCRIPTION).exists() or not (parent / DESCRIPTION).exists():
        described = read_description(folder)
        choices = [str(folder / folder_of(used.name)) for used in described.recipes]
        if len(choices) != 1:
            raise InputError(
                f"{argument}: expected a folder with the rows of one recipe, got {folder} with those of "
                f"{len(choices)}; give one of {', '.join(choices)}"
            )
        return Path(choices[0]), described, described.recipes[0]
    described = read_description(parent)
    for used in described.recipes:
        if folder_of(used.name) == name:
            return folder, described, used
    raise InputError(f"{argument}: expected the folder of a recipe's rows in {parent}, got {folder}")


def _pairs(rows_a: Any, rows_b: Any) -> Any:
    """Return the images in both tables: each one's verdicts, and its rows' places.

    The other columns are taken of the changed images alone, to save memory.
    """
    arrow, compute = pyarrow(), imported("pyarrow.compute", RAY)

    def narrow(rows: Any, side: str) -> Any:
        verdict = compute.fill_null(compute.cast(rows["label"], arrow.int8()), _ERROR)
        places = arrow.array(np.arange(len(rows)))
        return arrow.table({"path": rows["path"], f"verdict_{side}": verdict, f"row_{side}": places})

    return narrow(rows_a, "a").join(narrow(rows_b, "b"), keys="path", join_type="inner").drop_columns("path")


def _counted(pairs: Any, images_a: int, images_b: int) -> VerdictCounts:
    groups = pairs.group_by(["verdict_a", "verdict_b"]).aggregate([([], "count_all")]).to_pylist()
    found = {(group["verdict_a"], group["verdict_b"]): group["count_all"] for group in groups}

    def images(*kinds: tuple[int, int]) -> int:
        return sum(found.get(kind, 0) for kind in kinds)

    return VerdictCounts(
        in_both=len(pairs),
        only_in_a=images_a - len(pairs),
        only_in_b=images_b - len(pairs),
        both_normal=images((0, 0)),
        both_anomalous=images((1, 1)),
        both_errors=images((_ERROR, _ERROR)),
        changed={change: images(*kinds) for change, kinds in _KINDS.items()},
    )


def _with_both_rows(changed: Any, rows_a: Any, rows_b: Any) -> Any:
    """Return the changed images with both sides' columns."""
    found = changed.append_column("path", rows_a["path"].take(changed["row_a"]))
    for side, rows in (("a", rows_a), ("b", rows_b)):
        own = rows.select(_COLUMNS[1:]).take(changed[f"row_{side}"])
        for name in own.column_names:
            found = found.append_column(f"{name}_{side}", own[name])
    return found.drop_columns(["row_a", "row_b"])


def _listed(changed: Any, change: Change, a: Side, b: Side) -> Iterator[ChangedImage]:
    """Yield the images of one kind, the clearest change first."""
    compute = imported("pyarrow.compute", RAY)
    verdicts = compute.add(compute.multiply(changed["verdict_a"], _ERROR + 1), changed["verdict_b"])
    of_kind = [before * (_ERROR + 1) + after for before, after in _KINDS[change]]
    own = changed.filter(compute.is_in(verdicts, value_set=pyarrow().array(of_kind, verdicts.type)))
    logarithms = [
        compute.subtract(compute.ln(compute.max_element_wise(own[score], _LEAST)), math.log(max(threshold, _LEAST)))
        for score, threshold in (("pred_score_a", a.threshold), ("pred_score_b", b.threshold))
    ]
    own = own.append_column("factor", compute.abs(compute.subtract(*logarithms)))
    own = own.sort_by([("factor", "descending"), ("path", "ascending")]).slice(0, MOST_LISTED)
    for row in own.to_pylist():
        verdict_a, verdict_b = (Verdict(**{name: row[f"{name}_{side}"] for name in _COLUMNS[1:]}) for side in "ab")
        yield ChangedImage(path=row["path"], change=change, a=verdict_a, b=verdict_b)


def _notices(a: Side, b: Side, rows_a: Any, rows_b: Any, counts: VerdictCounts) -> Iterator[str]:
    for name, side, other in (("A", a, "B"), ("B", b, "A")):
        if not side.complete:
            yield (
                f"{name} isn't complete: {side.rows} has rows of {side.images:,} images so far. Images that it lacks "
                f"count as those that {other} alone has; spadeline score --resume goes on with it."
            )
    if not counts.in_both and a.images and b.images:
        first_a, first_b = (rows["path"][0].as_py() for rows in (rows_a, rows_b))
        yield (
            f"No image is on both sides: A has {first_a!r:.300}, B has {first_b!r:.300}. Images are the same if their "
            "paths are spelt alike."
        )
    for change, count in counts.changed.items():
        if count > MOST_LISTED:
            yield f"Of {count:,} images that went {change}, the first {MOST_LISTED:,} are listed."
