"""How often `fit` names defective images among the normal ones as suspects, and how often it names good ones.

The data sets have MVTec AD's layout. How a selection's scores are made stands in ``shared_parts/matched.py``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from spadeline.engine.fitting.suspects import far_above

from shared_parts.matched import Matched

HARM = 1.2  # a contamination counts if it raises the threshold to so many times that of the good images alone
DRAWS = 30  # selections of good images alone, and of each number of defective ones


def main() -> None:
    """Print a line for each data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="data sets with train/good and test/<kind>")
    parser.add_argument("--extractor", type=Path, required=True)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    print("| data set | contaminations that raise theta by a fifth | … that are told | warnings, good images alone |")
    print("| --- | ---: | ---: | ---: |")
    for folder in options.folders:
        scored = Matched(folder, options.extractor, options.threads)
        told = [named for named, harms in _contaminated(scored) if harms]
        false = [bool(far_above(scored.map_scores(images))) for images in _clean(scored)]
        share = f"{sum(told)} of {len(told)}" if told else "–"
        print(f"| {folder.name} | {len(told)} | {share} | {sum(false)} of {len(false)} |", flush=True)
        if scored.near:
            print(f"<!-- {folder.name}: {scored.near} pairs nearly equal each other -->")


def _contaminated(scored: Matched) -> Iterator[tuple[bool, bool]]:
    """Yield whether a defective image is named, and whether the defective ones raise theta, for 1 to 3 of them."""
    rng, count = np.random.default_rng(0), len(scored.distances)
    good = np.arange(scored.train)
    clean = scored.map_scores(good).max()
    for number in (1, 2, 3):
        chosen = list(combinations(range(scored.good, count), number))
        for index in rng.permutation(len(chosen))[:DRAWS]:
            scores = scored.map_scores(np.concatenate([good, chosen[index]]))
            named = far_above(scores)
            yield any(image >= scored.train for image in named), bool(scores[scored.train :].max() > HARM * clean)


def _clean(scored: Matched) -> Iterator[NDArray[np.intp]]:
    """Yield the good images to fit on, then random selections of twelve or more of all good ones."""
    rng = np.random.default_rng(0)
    yield np.arange(scored.train)
    for _ in range(DRAWS):
        yield rng.permutation(scored.good)[: rng.integers(12, scored.good + 1)]


if __name__ == "__main__":
    main()
