"""Which settings are tried: one after the other is changed, and the best value stays (coordinate descent).

Only settings are changed that need no other features. Their values stand below; :func:`choices_of` has the order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any, get_args

from ..recipe.recipe import Recipe
from ..settings import LARGEST_WEIGHT, SMALLEST_WEIGHT, LabelRule, Settings
from .trials import Trial, Trials

Choices = Callable[[Settings], list[Settings]]

WINDOWS = (None, 0, 1, 2, 4)
NEIGHBOURS = (1, 3, 5, 10, 20, 50)  # normal images that are searched
NEAREST = (1, 3, 5, 10)  # normal images that the image score is made of
KAPPAS = (1, 3, 5)
FACTORS = (0.1, 1.0, 10.0)  # of each level's weight, as the recipe has it
SIGMAS = (0.0, 2.0, 4.0, 8.0)
MOST_ROUNDS = 3  # through all settings
LEAST_GAIN = 2  # images that other settings must find more than the recipe's own: one alone is chance


def sigmas(recipe: Recipe) -> tuple[float, ...]:
    """Return every sigma that is tried: the recipe's own first."""
    return tuple(dict.fromkeys((recipe.settings.sigma, *SIGMAS)))


def search(trials: Trials, recipe: Recipe) -> Trial:
    """Try the recipe's own settings and their changes, and return the best trial.

    Other settings are returned only if they find at least ``LEAST_GAIN`` images more than the recipe's own.
    """
    own = best = trials.run(recipe.settings, "the recipe's own settings")
    for _ in range(MOST_ROUNDS):
        before = best
        for choices in choices_of(recipe):
            for settings in choices(best.settings):
                if settings != best.settings and trials.possible(settings):
                    stage = f"trial {len(trials.done) + 1}: {described(settings, recipe.settings)}"
                    trial = trials.run(settings, stage)
                    best = trial if trial.is_better(best) else best
        if best is before:
            break
    return best if best.figures.found - own.figures.found >= LEAST_GAIN else own


def best_of(trials: Sequence[Trial]) -> Trial:
    """Return the best of the trials that the extractors were chosen by, the recipe's own extractor first.

    It stays unless another finds at least ``LEAST_GAIN`` images more.
    """
    own = best = trials[0]
    for trial in trials[1:]:
        if trial.figures.found - own.figures.found >= LEAST_GAIN and trial.is_better(best):
            best = trial
    return best


def choices_of(recipe: Recipe) -> tuple[Choices, ...]:
    """Return for each setting what makes of any settings those in which it has each of its values."""
    count, coarsest = len(recipe.images), max(recipe.level_shapes[-1][1:])
    windows = [window for window in WINDOWS if window is None or window < coarsest - 1]  # a wider one changes nothing
    rules: tuple[LabelRule, ...] = get_args(LabelRule)
    levels = range(len(recipe.level_names) if len(recipe.level_names) > 1 else 0)  # a single weight is but a scale
    return (
        partial(_each, name="window", values=windows),
        partial(_each_number, name="k_gallery", numbers=NEIGHBOURS, count=count),
        partial(_each, name="kappa", values=KAPPAS),
        *(
            partial(_each_weight, own=recipe.settings.level_weights, level=level, levels=len(levels))
            for level in levels
        ),
        partial(_each, name="sigma", values=sigmas(recipe)),
        partial(_each, name="label_rule", values=rules),
        partial(_each_number, name="k_score", numbers=NEAREST, count=count),
    )


def _each(settings: Settings, *, name: str, values: Sequence[Any]) -> list[Settings]:
    return [replace(settings, **{name: value}) for value in values]


def _each_number(settings: Settings, *, name: str, numbers: Sequence[int], count: int) -> list[Settings]:
    """Return settings with other numbers of images, of which there are ``count``."""
    if name == "k_score" and settings.label_rule == "map":
        return []  # the verdict doesn't depend on it
    now = min(getattr(settings, name), count)
    return _each(settings, name=name, values=[number for number in numbers if number <= count and number != now])


def _each_weight(settings: Settings, *, own: tuple[float, ...] | None, level: int, levels: int) -> list[Settings]:
    """Return settings with other weights of a level: multiples of the recipe's own."""
    base = own or (1.0,) * levels
    now = settings.level_weights or base
    weights = [base[level] * factor for factor in FACTORS]
    changed_ones = [
        (*now[:level], weight, *now[level + 1 :]) for weight in weights if SMALLEST_WEIGHT <= weight <= LARGEST_WEIGHT
    ]
    # All of the recipe's own weights are written as the recipe writes them, which may be None.
    return _each(settings, name="level_weights", values=[own if each == base else each for each in changed_ones])


def described(settings: Settings, own: Settings) -> str:
    """Return in words how settings differ from the recipe's own."""
    changes = changed(settings, own)
    return ", ".join(f"{name} {told(getattr(settings, name))}" for name in changes) or "the recipe's own"


def changed(settings: Settings, own: Settings) -> tuple[str, ...]:
    """Return the names of the settings that differ."""
    return tuple(each.name for each in fields(Settings) if getattr(settings, each.name) != getattr(own, each.name))


def told(value: object) -> str:
    """Return a setting's value for a reader."""
    if value is None:
        return "none"
    parts = value if isinstance(value, tuple) else (value,)
    return " ".join(f"{part:g}" if isinstance(part, float) else str(part) for part in parts)
