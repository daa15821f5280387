"""Plain processes and Ray's workers in turns on the same files: equality first, then rates."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from spadeline.engine.settings import Need

from scale_parts import scored
from scale_parts.plain import Inspected, Verdict, plain
from scale_parts.spans import Span, steady_rate


def measure(
    recipe: Path, paths: Sequence[Path], *, needs: Sequence[Need], workers: Sequence[int], repeats: int
) -> dict[str, Any]:
    """Return rates by need, contestant and number of workers, a figure for each repeat; and one image's stages.

    In each repeat all contestants take one turn each, so each ratio is of turns that lie beside each other.

    Raises
    ------
    SystemExit
        A row isn't what ``Detector.predict`` says of its image.
    """
    source = paths[0].parent
    rows: dict[tuple[Need, str, int], dict[str, Any]] = {}
    stages: list[dict[str, Any]] = []
    with ExitStack() as stack:
        processes = {count: stack.enter_context(plain(recipe, count)) for count in sorted({1, *workers})}
        for need in needs:
            truth: dict[str, Verdict] = {}
            alone: list[Inspected] = []
            for _ in range(repeats):
                for count, own in processes.items():
                    shares = own.inspect(paths, need)
                    found = [image for share in shares for image in share]
                    verdicts = {image.path: image.verdict for image in found}
                    truth = truth or verdicts
                    check(truth, verdicts, f"{need}, plain processes ({count})")
                    spans = {index: [image.span for image in share] for index, share in enumerate(shares)}
                    _note(rows, (need, "plain", count), spans, {})
                    if count == 1:
                        alone += found
                    if count in workers:
                        run = scored.run(recipe, source, workers=count, need=need)
                        check(truth, run.verdicts, f"{need}, Ray's workers ({count})")
                        _note(rows, (need, "Ray", count), run.spans, _around(run, len(paths)))
            stages.append({"need": need, "images": len(alone), "seconds": _means(image.stages_s for image in alone)})
    return {"rates": list(rows.values()), "stages": stages}


def check(truth: Mapping[str, Verdict], found: Mapping[str, Verdict], who: str) -> None:
    """End the run if the verdicts aren't those of ``Detector.predict``, to the last bit."""
    if truth.keys() != found.keys():
        differing = sorted(truth.keys() ^ found.keys())
        raise SystemExit(f"{who}: expected a row for each image, got none or too many for {len(differing)} of them")
    for path, expected in truth.items():
        for name, wanted, came in zip(Verdict._fields, expected, found[path], strict=True):
            if wanted != came:
                raise SystemExit(
                    f"{who}: {path}: expected the {name} of Detector.predict, {wanted!r}, got {came!r}; "
                    "no rate is worth reporting"
                )


def _note(
    rows: dict[tuple[Need, str, int], dict[str, Any]],
    key: tuple[Need, str, int],
    spans: Mapping[int, Sequence[Span]],
    others: Mapping[str, float],
) -> None:
    """Add a turn's figures to its contestant's row."""
    need, kind, workers = key
    row = rows.setdefault(key, {"need": need, "kind": kind, "workers": workers})
    for name, value in {"images_per_s": steady_rate(spans), **others}.items():
        row.setdefault(name, []).append(value)


def _around(run: scored.Run, images: int) -> dict[str, float]:
    """Return what a run takes before its first batch begins and after its last one ended, and the rate with both."""
    spans = [span for own in run.spans.values() for span in own]
    return {
        "before_s": min(span.start_s for span in spans) - run.start_s,
        "after_s": run.end_s - max(span.end_s for span in spans),
        "whole_s": run.end_s - run.start_s,
        "whole_images_per_s": images / (run.end_s - run.start_s),
        "written_bytes_per_image": run.written_bytes / images,
    }


def _means(stages_s: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each stage: their sum is an image's mean time."""
    by_stage: dict[str, list[float]] = {}
    for taken in stages_s:
        for stage, seconds in taken.items():
            by_stage.setdefault(stage, []).append(seconds)
    return {stage: statistics.fmean(seconds) for stage, seconds in by_stage.items()}
