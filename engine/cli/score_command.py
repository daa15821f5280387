"""The commands for archives: ``spadeline score`` and ``spadeline compare``."""

from __future__ import annotations

import argparse

from ..json_data import to_json
from ..scale.compare_page import write_comparison
from ..scale.comparing import compare as compare_scored
from ..scale.run import score as score_images
from .exit_codes import NORMAL
from .progress import Progress
from .tables import comparison_text
from .terminal import RESULTS, escaped, print_json, say


def score(options: argparse.Namespace) -> int:
    """Score a source with one recipe or several, and print how many rows there are."""
    with Progress() as progress:
        counts = score_images(
            options.recipes,
            options.source,
            options.out,
            address=options.address,
            workers=options.workers,
            threads=options.threads,
            need=options.need,
            maps=options.maps,
            masks=options.masks,
            gallery=options.gallery,
            cache=options.cache,
            resume=options.resume,
            on_progress=progress.show,
        )
    if options.json:
        print_json(to_json(counts))
        return NORMAL
    for name, scored in counts.scored.items():
        RESULTS.print(
            f"{escaped(name)}: {counts.images:,} images = {scored:,} scored + {counts.errors[name]:,} errors; "
            f"{counts.anomalous[name]:,} anomalous"
        )
    return NORMAL


def compare(options: argparse.Namespace) -> int:
    """Print which images have another verdict in one scored folder than in another one."""
    comparison = compare_scored(options.scored_a, options.scored_b)
    for notice in comparison.notices:
        say(f"warning: {notice}")
    if options.json:
        print_json(to_json(comparison))
    else:
        RESULTS.print(comparison_text(comparison))
    if options.html:
        write_comparison(options.html, comparison)
    return NORMAL
