"""What each command does: it reads its options, calls the library and prints the result.

``spadeline export`` stands in :mod:`.export_command`, ``spadeline tune`` in :mod:`.tune_command`, ``spadeline score``
and ``compare`` in :mod:`.score_command`.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from ..bench.bench import bench
from ..bench.bench_report import bench_text, write_bench_page
from ..evaluate.evaluation import evaluate
from ..evaluate.report import write_report
from ..fitting.fitting import add, calibrate, fit, remove
from ..fitting.normals_page import write_normals_page
from ..fitting.suspects import find_suspects, highest_scores, warn_of_suspects
from ..folders.dataset import find_dataset
from ..folders.listing import named_images
from ..folders.normal_images import NormalImages, normal_images
from ..inspect.detector import Detector
from ..json_data import to_json
from ..recipe.changes import remove_images, update_codes
from ..recipe.recipe import Recipe
from ..settings import Settings, preset
from .demo import run_demo
from .exit_codes import ANOMALOUS, FAILED, NORMAL
from .export_command import export
from .image_files import inspect_files, overlay_paths
from .progress import Progress
from .score_command import compare, score
from .tables import dataset_line, images_line, recipe_table, record_line, summary_table
from .terminal import RESULTS, escaped, print_json, say, say_lines
from .tune_command import tune


def _fit(options: argparse.Namespace) -> int:
    images = _normal_images(options.images)
    with Progress() as progress:
        recipe = fit(
            images,
            options.recipe,
            extractor=options.extractor,
            settings=replace(preset(options.preset), **_given_settings(options)),
            ignore=options.ignore,
            false_alarm_rate=options.false_alarm_rate,
            held_out=options.held_out,
            device=options.device,
            threads=options.threads,
            overwrite=options.overwrite,
            on_progress=progress.show,
        )
    _report_recipe(recipe, as_json=options.json, images=images)
    if options.html:
        write_normals_page(options.html, recipe, images=images, threads=options.threads)
    return NORMAL


def _calibrate(options: argparse.Namespace) -> int:
    with Progress() as progress:
        recipe = calibrate(
            options.recipe,
            false_alarm_rate=options.false_alarm_rate,
            changes=_given_settings(options),
            threads=options.threads,
            on_progress=progress.show,
        )
    return _report_recipe(recipe, as_json=options.json)


def _add(options: argparse.Namespace) -> int:
    images = _normal_images(options.images)
    with Progress() as progress:
        recipe = add(
            options.recipe,
            images,
            rename=options.rename,
            device=options.device,
            threads=options.threads,
            on_progress=progress.show,
        )
    return _report_recipe(recipe, as_json=options.json, images=images)


def _remove(options: argparse.Namespace) -> int:
    if not options.calibrate:
        return _report_recipe(remove_images(options.recipe, options.names), as_json=options.json)
    with Progress() as progress:
        recipe = remove(options.recipe, options.names, threads=options.threads, on_progress=progress.show)
    return _report_recipe(recipe, as_json=options.json)


def _codes(options: argparse.Namespace) -> int:
    return _report_recipe(update_codes(options.recipe), as_json=options.json)


def _info(options: argparse.Namespace) -> int:
    recipe = Recipe.load(options.recipe, verify=options.verify)
    _report_recipe(recipe, as_json=options.json)
    warn_of_suspects(recipe)
    if options.html:
        images = normal_images(options.normal_images) if options.normal_images else None
        write_normals_page(options.html, recipe, images=images)
    return NORMAL


def _predict(options: argparse.Namespace) -> int:
    # One worker: an image has all threads, so that its times are those of Detector.predict, and the next file is read
    # while it is inspected.
    detector = Detector.load(options.recipe, **_load_options(options), workers=1)
    sources = [(source, named_images(source)) for source in options.images]
    paths = [path for _, named in sources for _, path in named]
    overlays = overlay_paths(sources, options.overlays) if options.overlays else {}
    how = {"need": options.need or detector.recipe.settings.need, "deadline_s": options.deadline_s}
    if overlays and how != {"need": "map", "deadline_s": None}:
        say("overlays: maps that aren't exact are drawn as their upper bounds; --need map without a deadline is exact")
    codes = {NORMAL}
    with Progress() as progress, closing(inspect_files(detector, paths, overlays, **how)) as records:
        for done, record in enumerate(records, start=1):
            codes.add(_show_record(record, as_json=options.json))
            progress.show("predict", done, len(paths))
    return max(codes)


def _show_record(record: dict[str, Any], *, as_json: bool) -> int:
    """Print an image's verdict, and what went wrong with it. Return the exit code for this image alone."""
    errors = [record[name] for name in ("error", "overlay_error") if name in record]
    if as_json:
        RESULTS.print(json.dumps(record, allow_nan=False))
    else:
        if "error" not in record:
            RESULTS.print(record_line(record))
        for text in errors:
            say(text)
    return FAILED if errors else ANOMALOUS if record["pred_label"] else NORMAL


def _eval(options: argparse.Namespace) -> int:
    dataset = find_dataset(options.dataset)
    dataset.check_test()
    say(dataset_line(dataset))
    detector = Detector.load(options.recipe, **_load_options(options))
    with Progress() as progress:
        evaluation = evaluate(detector, dataset, on_progress=progress.show)
    summary = evaluation.summary()
    if options.json:
        print_json(summary)
    else:
        RESULTS.print(summary_table(summary))
    if options.html:
        title = dataset.folder.resolve().name
        write_report(options.html, evaluation, title=title, normal_images=options.normal_images or dataset.train_folder)
    return NORMAL


def _bench(options: argparse.Namespace) -> int:
    with Progress() as progress:
        document = bench(
            options.recipe,
            options.images,
            **_load_options(options),
            runs=options.runs,
            warm_up=options.warm_up,
            seconds=options.seconds,
            takt_s=options.takt,
            need=options.need,
            deadline_s=options.deadline_s,
            command=options.typed,
            on_progress=progress.show,
        )
    if options.json:
        print_json(to_json(document))
    else:
        RESULTS.print(bench_text(document))
    if options.html:
        write_bench_page(options.html, document)
    return NORMAL


def _demo(options: argparse.Namespace) -> int:
    with Progress() as progress:
        tell = say_lines if options.json else RESULTS.print
        outcome = run_demo(options.folder, threads=options.threads, on_progress=progress.show, say=tell)
    if options.json:
        print_json({"report": str(outcome.report), "notices": outcome.notices, "summary": outcome.summary})
    else:
        RESULTS.print(summary_table(outcome.summary))
        RESULTS.print(f"report: {escaped(str(outcome.report))}")
    return NORMAL


def _normal_images(source: Path) -> NormalImages:
    """Find the normal images and print where they come from, before any work, so that a wrong folder shows early."""
    images = normal_images(source)
    if images.taken:
        say(images_line(images))
    return images


def _report_recipe(recipe: Recipe, *, as_json: bool, images: NormalImages | None = None) -> int:
    if as_json:
        print_json(_recipe_record(recipe, images))
    else:
        RESULTS.print(recipe_table(recipe))
    return NORMAL


def _recipe_record(recipe: Recipe, images: NormalImages | None) -> dict[str, Any]:
    """Return what ``--json`` prints of a recipe, and of the folder that its images have just been taken from."""
    sizes = recipe.frame_sizes
    record: dict[str, Any] = {
        "recipe": str(recipe.folder),
        "version": recipe.version,
        "generation": recipe.generation,
        "images": len(recipe.originals),
        "created": recipe.created,
        "settings": asdict(recipe.settings),
        "levels": dict(zip(recipe.level_names, recipe.level_shapes, strict=True)),
        "ignored_share": None if recipe.ignore is None else float(recipe.ignore.mean()),
        "codes": recipe.codes is not None,
        "frame_sizes": sizes and [{"size": size, "images": count} for size, count in Counter(sizes).most_common()],
        "frame_check": recipe.settings.frame_check == "on" and recipe.frame_facts is not None,
        "calibration": recipe.calibration
        and {
            "method": recipe.calibration.method,
            "tau": asdict(recipe.calibration.tau),
            "theta": asdict(recipe.calibration.theta),
            "highest": highest_scores(recipe.calibration),
            "suspects": asdict(find_suspects(recipe)),
        },
        "tuning": recipe.tuning and asdict(recipe.tuning),
    }
    if images is not None:
        record["taken"] = {"source": images.source, "images": dict(images.taken), "left_out": list(images.left_out)}
    return record


def _load_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of :meth:`.Detector.load` that concern the machine."""
    names = ("device", "threads", "memory_limit", "tensorrt_cache", "gallery")
    return {name: getattr(options, name) for name in names}


def _given_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings whose options were given."""
    names = (field.name for field in fields(Settings))
    return {name: value for name in names if (value := getattr(options, name, None)) is not None}


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "export": export,
    "fit": _fit,
    "calibrate": _calibrate,
    "add": _add,
    "remove": _remove,
    "codes": _codes,
    "info": _info,
    "tune": tune,
    "predict": _predict,
    "eval": _eval,
    "bench": _bench,
    "demo": _demo,
    "score": score,
    "compare": compare,
}
