"""Choose a recipe's settings by labelled images: ``spadeline tune``.

Thresholds come from normal images alone, as always; labelled images only choose between settings. Half of them has no
part in the choice and gives the final figures.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..calibration import check_rate
from ..extract.extractor import Extractor
from ..extract.providers import Device
from ..files import writing
from ..fitting.prepared import Progress
from ..fitting.suspects import warn_of_suspects
from ..fitting.thresholds import rate_asked_for, single_images
from ..folders.dataset import Dataset, find_dataset
from ..recipe.changes import set_calibration
from ..recipe.recipe import Recipe
from ..recipe.tuning_record import TuningRecord
from .image_scores import ImageScores, Queried
from .labelled import LabelledQuery, prepare, store
from .search import changed, search, sigmas
from .trials import Figures, Trial, Trials, final_figures


@dataclass(frozen=True, kw_only=True, eq=False)
class Tuned:
    """What tuning found.

    Attributes
    ----------
    recipe
        The recipe as it is now in its folder.
    written
        Whether settings and thresholds were written; not in a dry run.
    false_alarm_rate
        The rate that thresholds were made at.
    own
        The trial of the settings that the recipe had.
    chosen
        The trial of the settings that were chosen; ``own`` if no others find more.
    trials
        All trials, in their order. Their figures come from the half that the choice was made on: they are no result.
    before, after
        What the recipe's settings and the chosen ones find on the final half, whose images had no part in the choice.
    record
        What the recipe keeps of it.
    """

    recipe: Recipe
    written: bool
    false_alarm_rate: float
    own: Trial
    chosen: Trial
    trials: tuple[Trial, ...]
    before: Figures
    after: Figures
    record: TuningRecord


def tune(
    folder: str | os.PathLike[str],
    labelled: str | os.PathLike[str] | Dataset,
    *,
    false_alarm_rate: float | None = None,
    device: Device = "auto",
    threads: int | None = None,
    dry_run: bool = False,
    on_progress: Progress | None = None,
) -> Tuned:
    """Try settings that need no other features, and write those that find most.

    Each setting's thresholds are made from the normal images alone, as :func:`calibrate` makes them. The labelled
    images are split into two halves, kind by kind. Settings are chosen on one half: they must find at least two of its
    abnormal images more than the recipe's own settings, and may not flag more of its good images than the bound of the
    false-alarm rate allows. The final figures come from the other half alone.

    Parameters
    ----------
    folder
        The recipe.
    labelled
        A data set's folder, as ``spadeline eval`` takes it: at least 8 abnormal and 2 good images. Exact copies of the
        recipe's images, or of each other, are left out with a warning.
    false_alarm_rate
        As for :func:`calibrate`.
    device
        Where the extractor runs: as for :meth:`Detector.load`.
    threads, on_progress
        As for :func:`fit`.
    dry_run
        Write nothing.

    Returns
    -------
    Tuned
        ``tuned.before`` and ``tuned.after`` are the final figures.

    Raises
    ------
    InputError
        Too few labelled images, one that can't be read, or a rate or a recipe as :func:`calibrate` refuses it.
    ExtractorError, RecipeError, OutputError, DependencyError
        As :func:`add` and :func:`calibrate` raise them.
    """
    recipe = Recipe.load(folder)
    rate = rate_asked_for(recipe) if false_alarm_rate is None else false_alarm_rate
    check_rate(rate)
    dataset = labelled if isinstance(labelled, Dataset) else find_dataset(labelled)
    single = single_images(recipe)
    prepared = prepare(recipe, dataset, on_progress)
    held = recipe.gallery.hold()  # once for all trials
    normal = [
        Queried(partial(_levels, recipe, index), held.embeddings[index].copy(), exclude=index) for index in single
    ]
    with _temporary_folder() as temporary:
        extractor = Extractor(recipe.extractor_file, device=device, threads=threads)
        images = store(recipe, prepared, extractor, temporary, on_progress)
        trials = Trials(
            recipe,
            ImageScores(recipe, normal, sigmas=sigmas(recipe), threads=threads),
            [recipe.images[index].name for index in single],
            [images[index] for index in prepared.halves.choosing],
            sigmas=sigmas(recipe),
            false_alarm_rate=rate,
            threads=threads,
            on_progress=on_progress,
        )
        chosen = search(trials, recipe)
        final = [images[index] for index in prepared.halves.final]
        own = trials.done[0]
        before = _final(recipe, own, final, threads, on_progress)
        after = before if chosen is own else _final(recipe, chosen, final, threads, on_progress)
    record = _record(trials, chosen, before, after)
    if not dry_run:
        recipe = set_calibration(
            folder, chosen.calibration, settings=chosen.settings, generation=recipe.generation, tuning=record
        )
        warn_of_suspects(recipe)
    return Tuned(
        recipe=recipe,
        written=not dry_run,
        false_alarm_rate=rate,
        own=own,
        chosen=chosen,
        trials=trials.done,
        before=before,
        after=after,
        record=record,
    )


def _final(
    recipe: Recipe, trial: Trial, final: list[LabelledQuery], threads: int | None, on_progress: Progress | None
) -> Figures:
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        if on_progress:
            on_progress("final half", done, len(final))

    return final_figures(recipe, trial, final, threads=threads, advance=advance)


def _record(trials: Trials, chosen: Trial, before: Figures, after: Figures) -> TuningRecord:
    own = trials.done[0]
    return TuningRecord(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        tried=len(trials.done),
        changed=changed(chosen.settings, own.settings),
        choosing_abnormal=own.figures.abnormal,
        choosing_good=own.figures.good,
        final_abnormal=after.abnormal,
        final_good=after.good,
        found_before=before.found,
        found=after.found,
        false_alarms_before=before.false_alarms,
        false_alarms=after.false_alarms,
    )


def _levels(recipe: Recipe, index: int) -> tuple[NDArray[np.floating], ...]:
    return recipe.features(index).levels


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """Yield a folder for the labelled images' features, and remove it."""
    with writing(Path(tempfile.gettempdir())):
        folder = tempfile.TemporaryDirectory(prefix="spadeline-tune-")
    with folder as name:
        yield Path(name)
