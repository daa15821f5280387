"""What ``spadeline tune`` does: it prints the trials, the choice, and the result."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from ..folders.dataset import find_dataset
from ..folders.normal_images import normal_images
from ..recipe.tuning_record import CHANGED_EXTRACTOR
from ..tuning.search import LEAST_GAIN, described
from ..tuning.trials import Figures, Trial
from ..tuning.tuning import Tuned
from ..tuning.tuning import tune as tune_recipe
from .exit_codes import NORMAL
from .progress import Progress
from .tables import dataset_line, images_line
from .terminal import RESULTS, escaped, print_json, say

OWN, CHOSEN = "the recipe's own", "the chosen ones"
HEAD = f"{'found':>10}  {'flagged good':>12}"
WIDEST = 60  # characters of a column of settings; longer ones push their row's figures to the right


def tune(options: argparse.Namespace) -> int:
    """Run ``spadeline tune``."""
    dataset = find_dataset(options.labelled)
    dataset.check_test()
    say(dataset_line(dataset))
    images = None if options.images is None else normal_images(options.images)
    if images is not None and images.taken:
        say(images_line(images))
    with Progress() as progress:
        tuned = tune_recipe(
            options.recipe,
            dataset,
            extractors=options.extractors,
            images=images,
            false_alarm_rate=options.false_alarm_rate,
            device=options.device,
            threads=options.threads,
            dry_run=options.dry_run,
            on_progress=progress.show,
        )
    if options.json:
        print_json(_record(tuned))
    else:
        RESULTS.print("\n".join(_lines(tuned)))
    return NORMAL


def _lines(tuned: Tuned) -> Iterator[str]:
    extractors = tuned.record.extractors
    yield (
        f"{escaped(str(tuned.recipe.folder))}: {len(tuned.trials)} settings tried "
        f"{f'with {extractors} extractors ' if extractors > 1 else ''}at a false-alarm rate of "
        f"{tuned.false_alarm_rate:.2%}, on half of the labelled images ({_counts(tuned.own.figures)}); these figures "
        "choose, and are no result:"
    )
    told = [described(trial.settings, tuned.own.settings) for trial in tuned.trials]
    width = min(WIDEST, max(map(len, told)))
    yield f"  {'settings':{width}}  {HEAD}    separation  matching"
    heading = None
    for trial, text in zip(tuned.trials, told, strict=True):
        if trial.extractor != heading:
            heading = trial.extractor
            yield f"  with {escaped(str(heading))}:"
        refused = "" if trial.eligible else "  too many false alarms"
        yield f"  {text:{width}}  {_row(trial.figures, trial.separation)}  {trial.match_s * 1e3:5.1f} ms{refused}"
    if tuned.chosen is tuned.own:
        yield f"chosen: {OWN}, since no others find at least {LEAST_GAIN} abnormal images more"
    else:
        more = tuned.chosen.figures.found - tuned.own.figures.found
        yield f"chosen: {_choice(tuned)}: {more} abnormal images more"
    yield f"result, on the other half ({_counts(tuned.after)}), which had no part in the choice:"
    yield f"  {'settings':{len(OWN)}}  {HEAD}  image ROCAUC"
    yield f"  {OWN:{len(OWN)}}  {_row(tuned.before, tuned.before.image_rocauc)}"
    if tuned.chosen is not tuned.own:
        yield f"  {CHOSEN:{len(OWN)}}  {_row(tuned.after, tuned.after.image_rocauc)}"
    yield "written, with thresholds made anew" if tuned.written else "dry run: nothing was written"


def _choice(tuned: Tuned) -> str:
    """Return in words what was chosen in place of the recipe's own."""
    chosen = tuned.chosen
    settings = described(chosen.settings, tuned.own.settings)
    if chosen.extractor is None:
        return settings
    changes = f" with {settings}" if chosen.settings != tuned.own.settings else ", the settings stay"
    return f"{escaped(str(chosen.extractor))}{changes}"


def _row(figures: Figures, rocauc: float) -> str:
    found, alarms = f"{figures.found} of {figures.abnormal}", f"{figures.false_alarms} of {figures.good}"
    return f"{found:>10}  {alarms:>12}  {rocauc:12.4f}"


def _counts(figures: Figures) -> str:
    return f"{figures.abnormal} abnormal, {figures.good} good"


def _record(tuned: Tuned) -> dict[str, Any]:
    """Return what ``--json`` prints."""
    own, chosen = _values(tuned.own), _values(tuned.chosen)
    return {
        "recipe": str(tuned.recipe.folder),
        "written": tuned.written,
        "false_alarm_rate": tuned.false_alarm_rate,
        "changed": {name: {"before": own[name], "after": chosen[name]} for name in tuned.record.changed},
        "result": {"before": asdict(tuned.before), "after": asdict(tuned.after)},
        "trials": [_trial(trial, own) for trial in tuned.trials],
        "record": asdict(tuned.record),
    }


def _trial(trial: Trial, own: dict[str, Any]) -> dict[str, Any]:
    return {
        "changed": {name: value for name, value in _values(trial).items() if value != own[name]},
        "on_the_choosing_half": asdict(trial.figures),
        "allowed_false_alarms": trial.allowed,
        "separation": trial.separation,
        "match_s": trial.match_s,
        "theta": trial.calibration.theta.value,
        "tau": trial.calibration.tau.value,
    }


def _values(trial: Trial) -> dict[str, Any]:
    """Return a trial's extractor, None being the recipe's own, and its settings."""
    return {CHANGED_EXTRACTOR: None if trial.extractor is None else str(trial.extractor), **asdict(trial.settings)}
