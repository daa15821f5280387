"""A run: a source's images, scored by Ray Data's workers, and written in parts.

This process alone writes. Ray hands it each block of rows once, also where a worker died and its task ran again. So no
image has two rows, and none is missing at the end.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..checks import check_integer
from ..errors import RecipeError, ScaleError
from ..optional import imported
from ..recipe.held import GalleryPlace
from ..resources import MOST_THREADS
from ..settings import Need
from .addresses import RAY, is_address
from .cluster import connected
from .description import Counts, Description, RecipeUsed
from .local_recipes import LocalRecipe, Recipes, find_recipes
from .sources import find_source
from .worker import FAILURE, Worker, start_attempts
from .written import open_written

# Images in one task: at 10 ms each, what Ray adds to a task is about a hundredth. Of few images, each worker gets
# several tasks all the same, so that all are busy to the end.
MOST_TOGETHER, TASKS_EACH = 64, 8


def score(
    recipes: Recipes,
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    address: str | None = None,
    workers: int | None = None,
    threads: int = 1,
    need: Need | None = None,
    maps: bool = False,
    masks: bool = False,
    gallery: GalleryPlace = "mapped",
    cache: str | os.PathLike[str] | None = None,
    resume: bool = False,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Counts:
    """Score all images of a source, and write a row for each image and recipe.

    Parameters
    ----------
    recipes, threads, need, maps, masks, gallery, cache
        As for :class:`.RecipeScorer`.
    source
        See :func:`.sources.find_source`.
    out
        The folder to write: in it, one folder for each recipe, with Parquet files of the columns ``COLUMNS``.
    address
        A Ray cluster's address, or "auto". None: this machine's cores.
    workers
        Processes that score; None: as many as there is room for.
    resume
        Score only the images that ``out`` has no rows of yet. A folder that holds nothing is begun.
    on_progress
        Called with "score", the number of images done, and that of all.

    Returns
    -------
    Counts
        For each recipe, the images scored and those with an error; together, all images of the source.

    Raises
    ------
    InputError
        No images, a source or an option that can't be used, a folder that holds another run, too few CPUs.
    RecipeError, ExtractorError
        A recipe can't be opened, here or by a worker.
    OutputError
        The folder can't be written.
    ScaleError
        Ray failed.
    DependencyError
        Ray isn't installed.
    """
    check_integer("threads", threads, low=1, high=MOST_THREADS)
    imported("ray", RAY)
    found = find_recipes(recipes, cache=cache)
    images = find_source(source)
    description = Description(
        source=text if is_address(text := os.fspath(source)) else os.path.abspath(text),  # noqa: PTH100 - as its images
        recipes=tuple(map(_used, found)),
        need=need,
        maps=maps,
        masks=masks,
    )
    scorer = {
        "recipes": [local.address or str(local.recipe.folder.resolve()) for local in found],
        "threads": threads,
        "need": need,
        "maps": maps,
        "masks": masks,
        "gallery": gallery,
        "cache": cache,
        "sha256": [local.sha256 for local in found],
    }
    wanted = set(images.paths)
    with open_written(Path(out), description, resume=resume) as written:
        done, total = written.paths & wanted, len(written.paths | wanted)
        if left := wanted - done:
            with connected(address, workers=workers, threads=threads) as count, _ray_errors():
                together = max(1, min(MOST_TOGETHER, len(left) // (TASKS_EACH * count)))
                dataset = images.dataset(without=done, together=together)
                for rows in _scored(dataset, scorer, together=together, workers=count, threads=threads):
                    written.add(rows)
                    if on_progress is not None:
                        on_progress("score", len(written.paths), total)
        if missing := left - written.paths:
            raise ScaleError(f"{out}: expected rows for all {len(wanted)} images, got none for {len(missing)}")
        return written.finish()


def _used(local: LocalRecipe) -> RecipeUsed:
    recipe = local.recipe
    if recipe.calibration is None:
        raise RecipeError(f"{recipe.folder}: expected thresholds, got none; make them with: spadeline calibrate")
    return RecipeUsed(
        name=local.name,
        folder=local.address or str(recipe.folder.resolve()),
        generation=recipe.generation,
        sha256=local.sha256,
        label_rule=recipe.settings.label_rule,
        tau=recipe.calibration.tau.value,
        theta=recipe.calibration.theta.value,
        framing=recipe.settings.framing,
    )


def _scored(dataset: Any, scorer: dict[str, Any], *, together: int, workers: int, threads: int) -> Iterator[Any]:
    """Yield blocks of rows as the workers finish them, each with all recipes' rows of some images.

    Raises
    ------
    SpadelineError
        What a worker failed with.
    """
    data = imported("ray.data", RAY)
    scored = dataset.map_batches(
        Worker,
        fn_constructor_kwargs=scorer | {"attempts": start_attempts()},
        batch_size=together,
        batch_format="pyarrow",
        num_cpus=threads,
        # The pool may shrink: after a node has died, a worker that finds no room elsewhere would be waited for.
        compute=data.ActorPoolStrategy(min_size=1, max_size=workers, initial_size=workers),
    )
    for rows in scored.iter_batches(batch_size=None, batch_format="pyarrow"):
        if FAILURE in rows.column_names:
            raise next(pickle.loads(error) for error in rows[FAILURE].to_pylist() if error)  # noqa: S301 - our worker's
        yield rows


@contextmanager
def _ray_errors() -> Iterator[None]:
    """Turn Ray's errors into one of ours, which says how to go on."""
    try:
        yield
    except imported("ray.exceptions", RAY).RayError as error:
        reason = " ".join(str(error).split())[-500:]
        raise ScaleError(f"ray: the run ended early; go on with --resume; the reason: {reason}") from error
