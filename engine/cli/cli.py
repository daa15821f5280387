"""The command line: ``spadeline export | fit | predict | eval | …``. The only place that prints.

Results go to standard output, progress and warnings to standard error. Exit codes: 0 done (predict: every image is
normal), 1 predict found an anomalous image, 2 an error, in one sentence and without a traceback, or a
fault of spadeline's own, with one.
"""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, fields
from importlib import metadata
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from tqdm import tqdm

from ..bench.bench import bench
from ..bench.bench_report import bench_text, write_bench_page
from ..errors import InputError, SpadelineError
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
from ..settings import Settings
from .arguments import parse
from .demo import run_demo
from .image_files import inspect_files, overlay_paths
from .tables import dataset_line, images_line, quantization_table, recipe_table, record_line, summary_table
from .terminal import Results, escaped, say, say_lines

if TYPE_CHECKING:
    from ...export import Quantization

NORMAL, ANOMALOUS, FAILED, INTERRUPTED = 0, 1, 2, 130
RESULTS = Results()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a file may have a name that the terminal's encoding lacks
            stream.reconfigure(errors="backslashreplace")
    options = parse(arguments, version=metadata.version("spadeline"))
    options.typed = shlex.join(["spadeline", *(sys.argv[1:] if arguments is None else arguments)])
    RESULTS.lost = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default", UserWarning)  # each text once
            warnings.showwarning = _show_warning
            code = COMMANDS[options.command](options)
    except SpadelineError as error:
        say(str(error))
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        pass
    except OSError as error:  # such as a name that is too long for any file
        say(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except Exception:  # noqa: BLE001 - uncaught it would exit with 1, which means that an image is anomalous
        say_lines(traceback.format_exc())
    else:
        return FAILED if RESULTS.lost else code
    return FAILED


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM do as Ctrl-C does: the file that an export has begun goes."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@_terminable()
def _export(options: argparse.Namespace) -> int:
    from ...export import export_extractor, quantize_extractor  # noqa: PLC0415 - no other command needs it

    if options.source is not None and options.precision != "int8":
        raise InputError(f"--from: expected --precision int8 with it, got {options.precision}")
    if (options.precision == "int8") != (options.calibrate is not None):
        raise InputError(f"--calibrate: expected it with --precision int8, and only then, got {options.precision}")
    names = ("backbone", "levels", "input_size", "weights", "embedding")
    network = {name: value for name in names if (value := getattr(options, name)) is not None}
    if options.source is not None and network:
        raise InputError(f"--{next(iter(network)).replace('_', '-')}: expected none with --from, which has its own")
    integers = {
        "framing": options.framing,
        "evaluation_images": options.evaluate,
        "least_correlation": options.least_correlation,
        "most_rocauc_loss": options.most_rocauc_loss,
    }
    if options.source is not None:
        quantization = quantize_extractor(
            options.file, options.source, calibration_images=options.calibrate, **integers
        )
        return _report_quantization(quantization, as_json=options.json)
    report = export_extractor(
        options.file,
        precision=options.precision,
        calibration_images=options.calibrate,
        **network,
        **integers,
    )
    if options.json:
        _print_json(asdict(report), default=str)
        return NORMAL
    RESULTS.print(
        f"{escaped(str(report.path))}: {report.backbone}, {', '.join(report.levels)}, weights {report.weights}"
    )
    for check in report.checks:
        RESULTS.print(
            f"  {check.name}: largest error against torch {check.largest_error:.2e}, allowed {check.tolerance:.2e}"
        )
    if report.quantization is not None:
        _report_quantization(report.quantization, as_json=False)
    return NORMAL


def _report_quantization(quantization: Quantization, *, as_json: bool) -> int:
    if as_json:
        _print_json(asdict(quantization), default=str)
    else:
        RESULTS.print(quantization_table(quantization))
    return NORMAL


def _fit(options: argparse.Namespace) -> int:
    images = _normal_images(options.images)
    with _Progress() as progress:
        recipe = fit(
            images,
            options.recipe,
            extractor=options.extractor,
            settings=Settings(**_given_settings(options)),
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
    with _Progress() as progress:
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
    with _Progress() as progress:
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
    with _Progress() as progress:
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
    # One worker: each image has all threads, so that its times are predict's, and the next file is read meanwhile.
    detector = Detector.load(options.recipe, **_load_options(options), workers=1)
    sources = [(source, named_images(source)) for source in options.images]
    paths = [path for _, named in sources for _, path in named]
    overlays = overlay_paths(sources, options.overlays) if options.overlays else {}
    codes = {NORMAL}
    with _Progress() as progress, closing(inspect_files(detector, paths, overlays)) as records:
        for done, record in enumerate(records, start=1):
            codes.add(_show_record(record, as_json=options.json))
            progress.show("predict", done, len(paths))
    return max(codes)


def _show_record(record: dict[str, Any], *, as_json: bool) -> int:
    """Print an image's verdict, and what went wrong with it; return the exit code that it asks for."""
    wrong = [record[name] for name in ("error", "overlay_error") if name in record]
    if as_json:
        RESULTS.print(json.dumps(record, allow_nan=False))
    else:
        if "error" not in record:
            RESULTS.print(record_line(record))
        for text in wrong:
            say(text)
    return FAILED if wrong else ANOMALOUS if record["pred_label"] else NORMAL


def _eval(options: argparse.Namespace) -> int:
    dataset = find_dataset(options.dataset)
    dataset.check_test()
    say(dataset_line(dataset))
    detector = Detector.load(options.recipe, **_load_options(options))
    with _Progress() as progress:
        evaluation = evaluate(detector, dataset, on_progress=progress.show)
    summary = evaluation.summary()
    if options.json:
        _print_json(summary)
    else:
        RESULTS.print(summary_table(summary))
    if options.html:
        normal_images = options.normal_images or dataset.train_folder
        write_report(options.html, evaluation, title=dataset.folder.resolve().name, normal_images=normal_images)
    return NORMAL


def _bench(options: argparse.Namespace) -> int:
    with _Progress() as progress:
        document = bench(
            options.recipe,
            options.images,
            **_load_options(options),
            runs=options.runs,
            warm_up=options.warm_up,
            seconds=options.seconds,
            takt_s=options.takt,
            command=options.typed,
            on_progress=progress.show,
        )
    if options.json:
        _print_json(to_json(document))
    else:
        RESULTS.print(bench_text(document))
    if options.html:
        write_bench_page(options.html, document)
    return NORMAL


def _demo(options: argparse.Namespace) -> int:
    with _Progress() as progress:
        tell = say_lines if options.json else RESULTS.print
        outcome = run_demo(options.folder, threads=options.threads, on_progress=progress.show, say=tell)
    if options.json:
        _print_json({"report": str(outcome.report), "notices": outcome.notices, "summary": outcome.summary})
    else:
        RESULTS.print(summary_table(outcome.summary))
        RESULTS.print(f"report: {escaped(str(outcome.report))}")
    return NORMAL


def _normal_images(source: Path) -> NormalImages:
    """Find the normal images and say where they come from, before any work: so a wrong folder is seen in time."""
    images = normal_images(source)
    if images.taken:
        say(images_line(images))
    return images


def _report_recipe(recipe: Recipe, *, as_json: bool, images: NormalImages | None = None) -> int:
    record: dict[str, Any] = {
        "recipe": str(recipe.folder),
        "version": recipe.version,
        "generation": recipe.generation,
        "images": len(recipe.images),
        "created": recipe.created,
        "settings": asdict(recipe.settings),
        "levels": dict(zip(recipe.level_names, recipe.level_shapes, strict=True)),
        "ignored_share": None if recipe.ignore is None else float(recipe.ignore.mean()),
        "codes": recipe.codes is not None,
        "frame_sizes": None
        if recipe.frame_sizes is None
        else [{"size": size, "images": count} for size, count in Counter(recipe.frame_sizes).most_common()],
        "frame_check": recipe.settings.frame_check == "on" and recipe.frame_facts is not None,
        "calibration": None,
    }
    if recipe.calibration:
        thresholds = {"tau": asdict(recipe.calibration.tau), "theta": asdict(recipe.calibration.theta)}
        record["calibration"] = {"method": recipe.calibration.method, **thresholds}
        record["calibration"]["highest"] = highest_scores(recipe.calibration)
        record["calibration"]["suspects"] = asdict(find_suspects(recipe))
    if images is not None:
        record["taken"] = {"source": images.source, "images": dict(images.taken), "left_out": list(images.left_out)}
    if as_json:
        _print_json(record)
    else:
        RESULTS.print(recipe_table(recipe))
    return NORMAL


def _load_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return what :meth:`Detector.load` is to know of the machine."""
    names = ("device", "threads", "memory_limit", "tensorrt_cache", "gallery")
    return {name: getattr(options, name) for name in names}


def _given_settings(options: argparse.Namespace) -> dict[str, Any]:
    names = (field.name for field in fields(Settings))
    return {name: value for name in names if (value := getattr(options, name, None)) is not None}


def _print_json(value: Any, *, default: Callable[[Any], Any] | None = None) -> None:
    RESULTS.print(json.dumps(value, indent=2, allow_nan=False, default=default))


def _show_warning(
    message: Warning | str,
    category: type[Warning],  # noqa: ARG001 - the hook's signature, as is the rest
    filename: str,  # noqa: ARG001
    lineno: int,  # noqa: ARG001
    file: TextIO | None = None,  # noqa: ARG001
    line: str | None = None,  # noqa: ARG001
) -> None:
    say(f"warning: {message}")


def _on_terminal() -> bool:
    """Whether somebody sees standard error, which may be closed."""
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):
        return False


class _Progress:
    """One bar a stage on a terminal's standard error; nothing elsewhere."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None
        self._stage = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def show(self, stage: str, done: int, total: int) -> None:
        if self._bar is None or self._stage != stage:
            self._close()
            self._stage = stage
            self._bar = tqdm(total=total, desc=stage, unit="image", disable=not _on_terminal(), leave=False)
        self._bar.update(done - self._bar.n)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "export": _export,
    "fit": _fit,
    "calibrate": _calibrate,
    "add": _add,
    "remove": _remove,
    "codes": _codes,
    "info": _info,
    "predict": _predict,
    "eval": _eval,
    "bench": _bench,
    "demo": _demo,
}
