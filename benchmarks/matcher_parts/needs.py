"""Map, mask and label in the matcher: from a frame's features to the verdict, without the network's time.

Features, retrieval and thresholds are the recipe's own. The dense path without codes, which multiplies every pair in
float32, is a yardstick where it is asked for.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

from spadeline.engine.inspect.scoring import Scorer
from spadeline.engine.match.matcher import Matcher
from spadeline.engine.settings import Need

from shared_parts.contrast import Found, contrast, features
from shared_parts.needs import NEEDS, Contestant, Verdict, hold
from shared_parts.subjects import Subject

DENSE = "dense path"


def measure(subject: Subject, options: argparse.Namespace) -> dict[str, Any]:
    """Measure a subject; ``options`` have threads, rounds, seconds and dense."""
    ratios = contrast(subject, options.threads)
    scorer = Scorer(subject.recipe, threads=options.threads)
    frames = list(features(subject, scorer, options.threads))
    contestants = [Contestant(need, partial(_search, subject, scorer, frames, need), equal=need) for need in NEEDS]
    if options.dense:
        dense = partial(_search, subject, _on_dense_path(scorer, options.threads), frames, "map")
        contestants.append(Contestant(DENSE, dense, equal="map", every_round=False))
    return {
        "matcher": scorer.matcher.path,
        "instruction_set": scorer.matcher.instruction_set,
        "nearest_per_random": ratios,
        "rows": hold(subject, contestants, rounds=options.rounds, seconds=options.seconds),
    }


def _on_dense_path(scorer: Scorer, threads: int) -> Scorer:
    """Return a scorer over the same gallery whose matcher has no codes, and multiplies every pair."""
    other, own = copy.copy(scorer), scorer.matcher
    levels = scorer.gallery.levels
    other.matcher = Matcher.from_cells(levels, own.sizes, weights=own.weights, threads=threads, path="dense")
    return other


def _search(subject: Subject, scorer: Scorer, frames: Sequence[Found], need: Need, index: int) -> Verdict:
    found = scorer.search(*frames[index], need=need)
    return Verdict(
        label=found.map_score > subject.theta,
        mask=found.anomaly_map > subject.theta,
        upper=found.anomaly_map,
        lower=found.lower_map,
        decided=found.decided,
        statistics=found.match_statistics,
        stages_s=found.timings_s,
    )
