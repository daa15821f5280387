"""Choose a recipe's settings, and its extractor if others are given, by labelled images: ``spadeline tune``.

Thresholds come from normal images alone, as always; labelled images only choose between settings. Half of them has no
part in the choice and gives the final figures.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

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
from ..folders.listing import Source
from ..folders.normal_images import NormalImages
from ..recipe.changes import replace_extractor, set_calibration
from ..recipe.recipe import Recipe
from ..recipe.tuning_record import CHANGED_EXTRACTOR, TuningRecord
from .candidates import open_candidates
from .halves import Halves
from .image_scores import ImageScores, Queried
from .labelled import LabelledQuery, prepare, prepare_for, store
from .search import best_of, changed, search, sigmas
from .trials import Figures, Trial, Trials, final_figures


@dataclass(frozen=True, kw_only=True, eq=False)
class Tuned:
    """What tuning found.

    Attributes
    ----------
    recipe
        The recipe as it is now in its folder.
    written
        Whether the choice and its thresholds were written; not in a dry run.
    false_alarm_rate
        The rate that thresholds were made at.
    own
        The trial of the settings that the recipe had.
    chosen
        The trial of the extractor and the settings that were chosen; ``own`` if no others find more.
    trials
        All trials, in their order, extractor by extractor. Their figures come from the half that the choice was made
        on: they are no result.
    before, after
        What the recipe and the choice find on the final half, whose images had no part in the choice.
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
    extractors: Sequence[str | os.PathLike[str]] = (),
    images: Source | NormalImages | None = None,
    false_alarm_rate: float | None = None,
    device: Device = "auto",
    threads: int | None = None,
    dry_run: bool = False,
    on_progress: Progress | None = None,
) -> Tuned:
    """Try settings that need no other features, with each extractor, and write those that find most.

    Each setting's thresholds are made from the normal images alone, as :func:`calibrate` makes them. The labelled
    images are split into two halves, kind by kind. Settings are chosen on one half: they must find at least two of its
    abnormal images more than the recipe's own settings, and may not flag more of its good images than the bound of the
    false-alarm rate allows. The final figures come from the other half alone.

    For each further extractor, a recipe is made in a temporary folder beside the recipe's, and tuned in the same way.
    The recipe's own extractor stays unless another one finds at least two images more, each with its chosen settings.

    Parameters
    ----------
    folder
        The recipe.
    labelled
        A data set's folder, as ``spadeline eval`` takes it: at least 8 abnormal and 2 good images. Exact copies of the
        recipe's images, or of each other, are left out with a warning.
    extractors
        Further extractors to try: ONNX files. Copies of the recipe's own, or of each other, are tried once.
    images
        The recipe's normal images, as :func:`fit` takes them, to try further extractors with: all images that the
        recipe holds. Others among them are left out with a warning.
    false_alarm_rate
        As for :func:`calibrate`.
    device
        Where the extractors run: as for :meth:`Detector.load`.
    threads, on_progress
        As for :func:`fit`.
    dry_run
        Write nothing into the recipe.

    Returns
    -------
    Tuned
        ``tuned.before`` and ``tuned.after`` are the final figures.

    Raises
    ------
    InputError
        Too few labelled images, one that can't be read, a rate or a recipe as :func:`calibrate` refuses it, or images
        that lack one of the recipe's.
    ExtractorError, RecipeError, OutputError, DependencyError
        As :func:`add` and :func:`calibrate` raise them.
    """
    recipe = Recipe.load(folder)
    rate = rate_asked_for(recipe) if false_alarm_rate is None else false_alarm_rate
    check_rate(rate)
    dataset = labelled if isinstance(labelled, Dataset) else find_dataset(labelled)
    single = single_images(recipe)
    candidates = open_candidates(recipe, extractors, images, device=device, threads=threads, on_progress=on_progress)
    prepared = prepare(recipe, dataset, on_progress)
    contest = _Contest(single, prepared.halves, rate, threads, on_progress)
    beside = recipe.folder.resolve()
    with ExitStack() as stack:
        # All folders are made first: one that can't be written is an error before the long work.
        rooms = [stack.enter_context(_temporary_folder(beside.parent, f".{beside.name}-tune-")) for _ in candidates]
        features = stack.enter_context(_temporary_folder(Path(tempfile.gettempdir())))
        extractor = Extractor(recipe.extractor_file, device=device, threads=threads)
        contenders = [contest.tune(recipe, store(recipe, prepared, extractor, features, on_progress))]
        for candidate, room in zip(candidates, rooms, strict=True):
            other = candidate.fit(recipe, room / "recipe", on_progress)
            again = prepared if other.input_size == recipe.input_size else prepare_for(other, prepared, on_progress)
            stage = f"{candidate.path.name}: labelled images"
            queries = store(other, again, candidate.extractor, room, on_progress, stage=stage)
            contenders.append(contest.tune(other, queries, candidate.path))
        own = contenders[0].trials[0]
        chosen = best_of([contender.best for contender in contenders])
        winner = next(contender for contender in contenders if contender.best is chosen)
        before = contest.final_figures(contenders[0], own)
        after = before if chosen is own else contest.final_figures(winner, chosen)
        record = _record(contenders, chosen, before, after)
        if not dry_run:
            recipe = _write(recipe, winner, record)
    if not dry_run:
        warn_of_suspects(recipe)
    return Tuned(
        recipe=recipe,
        written=not dry_run,
        false_alarm_rate=rate,
        own=own,
        chosen=chosen,
        trials=tuple(trial for contender in contenders for trial in contender.trials),
        before=before,
        after=after,
        record=record,
    )


class _Contender(NamedTuple):
    """An extractor's recipe, all labelled images as it sees them, its trials and the best one."""

    recipe: Recipe
    queries: tuple[LabelledQuery, ...]
    trials: tuple[Trial, ...]
    best: Trial


@dataclass(frozen=True)
class _Contest:
    """What is the same for all extractors: the normal images that give thresholds, the halves, and how it is run."""

    single: list[int]
    halves: Halves
    false_alarm_rate: float
    threads: int | None
    on_progress: Progress | None

    def tune(self, recipe: Recipe, queries: tuple[LabelledQuery, ...], extractor: Path | None = None) -> _Contender:
        """Choose settings for an extractor's recipe by one half of the labelled images."""
        held = recipe.gallery.hold()  # once for all trials
        normal = [
            Queried(partial(_levels, recipe, index), held.embeddings[index].copy(), exclude=index)
            for index in self.single
        ]
        trials = Trials(
            recipe,
            ImageScores(recipe, normal, sigmas=sigmas(recipe), threads=self.threads),
            [recipe.images[index].name for index in self.single],
            [queries[index] for index in self.halves.choosing],
            extractor=extractor,
            sigmas=sigmas(recipe),
            false_alarm_rate=self.false_alarm_rate,
            threads=self.threads,
            on_progress=self.on_progress,
        )
        best = search(trials, recipe)
        return _Contender(recipe, queries, trials.done, best)

    def final_figures(self, contender: _Contender, trial: Trial) -> Figures:
        """Return what a contender's trial finds on the half that had no part in the choice."""
        final, done = [contender.queries[index] for index in self.halves.final], 0

        def advance() -> None:
            nonlocal done
            done += 1
            if self.on_progress:
                self.on_progress("final half", done, len(final))

        return final_figures(contender.recipe, trial, final, threads=self.threads, advance=advance)


def _write(recipe: Recipe, winner: _Contender, record: TuningRecord) -> Recipe:
    """Write the choice and its thresholds into the recipe's folder."""
    settings, calibration, generation = winner.best.settings, winner.best.calibration, recipe.generation
    if winner.best.extractor is None:
        return set_calibration(recipe.folder, calibration, settings=settings, generation=generation, tuning=record)
    fitted = winner.recipe.with_settings(settings)
    return replace_extractor(recipe.folder, fitted, calibration=calibration, generation=generation, tuning=record)


def _record(contenders: Sequence[_Contender], chosen: Trial, before: Figures, after: Figures) -> TuningRecord:
    own = contenders[0].trials[0]
    replaced = () if chosen.extractor is None else (CHANGED_EXTRACTOR,)
    return TuningRecord(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        extractors=len(contenders),
        tried=sum(len(contender.trials) for contender in contenders),
        changed=(*replaced, *changed(chosen.settings, own.settings)),
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
def _temporary_folder(parent: Path, prefix: str = "spadeline-tune-") -> Iterator[Path]:
    """Yield a folder for features, and remove it."""
    with writing(parent):
        folder = tempfile.TemporaryDirectory(prefix=prefix, dir=parent)
    with folder as name:
        yield Path(name)
