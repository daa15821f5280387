"""What false-alarm rate a threshold of few normal images really has, and what it finds: by a score, by fitted tails.

Two thirds of a data set's normal images, drawn 16 times, make the thresholds; all other normal ones count false alarms,
and the defective ones what is found. The data sets have MVTec AD's layout. How scores are made stands in
``shared_parts/matched.py``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import genpareto, norm
from spadeline.engine.calibration import threshold

from shared_parts.matched import Matched

RATE = 0.01
DRAWS, SHARE = 16, 2 / 3
TAIL = 0.3  # share of the scores that a tail is fitted to

Scores = NDArray[np.float64]


def main() -> None:
    """Print a line for each data set and rule, then the rules' means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="data sets with train/good and test/<kind>")
    parser.add_argument("--extractor", type=Path, required=True)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    print(f"| data set | threshold, for {RATE:.0%} | false alarms | found |")
    print("| --- | --- | ---: | ---: |")
    met: dict[str, list[Scores]] = {name: [] for name in RULES}
    for folder in options.folders:
        matched = Matched(folder, options.extractor, options.threads)
        for name, shares in _met(matched).items():
            met[name].append(shares)
            print(f"| {folder.name} | {name} | {shares[0]:.1%} | {shares[1]:.1%} |", flush=True)
    for name, shares in met.items():
        alarms, found = np.mean(shares, axis=0)
        print(f"| mean | {name} | {alarms:.1%} | {found:.1%} |")


def _met(matched: Matched) -> dict[str, Scores]:
    """Return each rule's share of false alarms and of defects found, the mean over all draws."""
    rng, shares = np.random.default_rng(0), {name: np.zeros(2) for name in RULES}
    defective = np.arange(matched.good, len(matched.distances))
    for _ in range(DRAWS):
        order = rng.permutation(matched.good)
        gallery, others = np.split(order, [round(SHARE * matched.good)])
        scores = matched.map_scores(gallery)
        normal, abnormal = (matched.map_scores_against(images, gallery) for images in (others, defective))
        for name, rule in RULES.items():
            value = rule(scores)
            shares[name] += np.array([(normal > value).mean(), (abnormal > value).mean()]) / DRAWS
    return shares


def _by_score(scores: Scores) -> float:
    return threshold(scores, false_alarm_rate=RATE).value


def _by_tail(scores: Scores) -> float:
    """Fit a generalised Pareto distribution to the highest scores, above the highest of the others."""
    ordered = np.sort(scores)
    count = max(round(TAIL * len(ordered)), 5)
    start = ordered[-count - 1]
    shape, _, scale = genpareto.fit(ordered[-count:] - start, floc=0)
    return float(start + genpareto.ppf(1 - RATE * len(ordered) / count, shape, scale=scale))


def _by_logarithms(scores: Scores) -> float:
    """Take the logarithms for normally distributed."""
    logarithms = np.log(scores)
    return float(np.exp(logarithms.mean() + norm.ppf(1 - RATE) * logarithms.std(ddof=1)))


def _by_quartiles(scores: Scores) -> float:
    """Take the logarithms for normally distributed, by their quartiles, which odd images don't move."""
    low, middle, high = np.quantile(np.log(scores), (0.25, 0.5, 0.75))
    return float(np.exp(middle + norm.ppf(1 - RATE) * (high - low) / (norm.ppf(0.75) - norm.ppf(0.25))))


RULES: dict[str, Callable[[Scores], float]] = {
    "a score": _by_score,
    "fitted tail": _by_tail,
    "log-normal": _by_logarithms,
    "log-normal by quartiles": _by_quartiles,
}


if __name__ == "__main__":
    main()
