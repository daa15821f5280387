"""Why a recipe has its settings: what ``spadeline tune`` tried, on how many images, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass

from ..checks import check_instances, check_integer, check_text, check_unique, check_utc
from ..errors import InputError
from ..settings import all_settings

CHANGED_EXTRACTOR = "extractor"  # among the names of what was changed
MOST = 2**31 - 1  # images, settings and extractors tried


@dataclass(frozen=True, kw_only=True)
class TuningRecord:
    """What tuning did. Its figures are those of the final half, whose images had no part in the choice.

    They hold for the thresholds and the normal images of that moment.

    Attributes
    ----------
    date
        When: UTC, ISO 8601.
    extractors
        The number of extractors tried, the recipe's own among them.
    tried
        The number of settings tried, the recipe's own among them; with several extractors, the sum over all of them.
    changed
        The names of the settings that were changed, after ``"extractor"`` if that was replaced, too. Empty: the
        recipe's own extractor and settings stayed.
    choosing_abnormal, choosing_good
        The number of images that the choice was made on.
    final_abnormal, final_good
        The number of images of the final half.
    found_before, found
        How many of the abnormal ones were found with the extractor and settings of before, and with the chosen ones.
    false_alarms_before, false_alarms
        How many of the good ones were flagged.
    """

    date: str
    extractors: int
    tried: int
    changed: tuple[str, ...]
    choosing_abnormal: int
    choosing_good: int
    final_abnormal: int
    final_good: int
    found_before: int
    found: int
    false_alarms_before: int
    false_alarms: int

    def __post_init__(self) -> None:
        check_utc("date", self.date)
        check_instances("changed", self.changed, str)
        known = [CHANGED_EXTRACTOR, *(setting.name for setting in all_settings())]
        for index, name in enumerate(self.changed):
            check_text(f"changed[{index}]", name)
            if name not in known:
                raise InputError(f"changed[{index}]: expected a setting's name or 'extractor', got {name!r:.100}")
        check_unique("changed", self.changed)
        for name in ("extractors", "tried", "choosing_abnormal", "choosing_good", "final_abnormal", "final_good"):
            check_integer(name, getattr(self, name), low=1, high=MOST)
        for name in ("found_before", "found"):
            check_integer(name, getattr(self, name), low=0, high=self.final_abnormal)
        for name in ("false_alarms_before", "false_alarms"):
            check_integer(name, getattr(self, name), low=0, high=self.final_good)
