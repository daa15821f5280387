"""``spadeline export``: make an extractor of a network, or of another extractor: averaged, in integers, or both."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

from ..errors import InputError
from .exit_codes import NORMAL
from .tables import quantization_table
from .terminal import RESULTS, escaped, print_json

if TYPE_CHECKING:
    from ...export import Averaging, ExportReport, OutputCheck, Quantization


NETWORK = ("backbone", "levels", "input_size", "weights", "embedding")
# By the names of the options, and of the functions' arguments.
INTEGERS = {
    "calibrate": "calibration_images",
    "framing": "framing",
    "evaluate": "evaluation_images",
    "least_correlation": "least_correlation",
    "most_rocauc_loss": "most_rocauc_loss",
}


def export(options: argparse.Namespace) -> int:
    """Write an extractor and print how it was verified."""
    from ...export import average_extractor, export_extractor, quantize_extractor  # noqa: PLC0415 - no other command

    _check_together(options, {name for name, value in vars(options).items() if value is not None})
    if options.preset == "paper":
        _take_paper(options)
    given = {name for name, value in vars(options).items() if value is not None}
    network = {name: getattr(options, name) for name in (*NETWORK, "precision") if name in given}
    integers = {argument: getattr(options, name) for name, argument in INTEGERS.items() if name in given}
    averaging = {"neighbourhood": options.neighbourhood} if "neighbourhood" in given else {}
    report: ExportReport | Quantization | Averaging
    with _terminable():
        if options.source is None:
            report = export_extractor(options.file, **network, **averaging, **integers)
            text = _export_text(report)
        elif options.precision == "int8":
            report = quantize_extractor(options.file, options.source, **averaging, **integers)
            text = "\n".join([quantization_table(report), *_averaging_lines(report.neighbourhood)])
        else:
            report = average_extractor(options.file, options.source, **averaging)
            text = _averaging_text(report)
    if options.json:
        print_json(asdict(report), default=str)
    else:
        RESULTS.print(text)
    return NORMAL


def _check_together(options: argparse.Namespace, given: set[str]) -> None:
    """Check that the options fit together."""
    int8 = options.precision == "int8"
    if options.source is not None:
        if options.precision not in (None, "int8"):
            raise InputError(f"--precision: expected int8 or none with --from, got {options.precision}")
        if not int8 and "neighbourhood" not in given:
            raise InputError("--from: expected --neighbourhood N, --precision int8 or both with it, got neither")
    if int8 != (options.calibrate is not None):
        raise InputError(
            "--calibrate: expected normal images with int8, and none without, got --precision "
            f"{options.precision or 'float32'}"
        )
    if options.source is not None:
        for name in NETWORK:
            if name in given:
                raise InputError(f"{_option(name)}: expected none with --from, which has its own")
        for name in INTEGERS:
            if name in given and not int8:
                raise InputError(f"{_option(name)}: expected it with --precision int8 alone")


def _take_paper(options: argparse.Namespace) -> None:
    """Fill in what the paper's protocol says, where no option says otherwise."""
    if options.source is None and options.neighbourhood is None:
        options.neighbourhood = 1
    if options.precision == "int8" and options.framing is None:
        options.framing = "paper"


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


@contextmanager
def _terminable() -> Iterator[None]:
    """Handle SIGTERM like Ctrl-C, so that the file that an export has begun is removed."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _export_text(report: ExportReport) -> str:
    lines = [f"{escaped(str(report.path))}: {report.backbone}, {', '.join(report.levels)}, weights {report.weights}"]
    lines += _averaging_lines(report.neighbourhood)
    lines += _check_lines(report.checks, "torch")
    if report.quantization is not None:
        lines.append(quantization_table(report.quantization))
    return "\n".join(lines)


def _averaging_text(report: Averaging) -> str:
    lines = [f"{escaped(str(report.path))}: {report.precision}", *_averaging_lines(report.neighbourhood)]
    return "\n".join([*lines, *_check_lines(report.checks, "the given file")])


def _averaging_lines(neighbourhood: int) -> list[str]:
    return [f"  levels averaged over {neighbourhood} x {neighbourhood} positions"] if neighbourhood > 1 else []


def _check_lines(checks: Sequence[OutputCheck], reference: str) -> list[str]:
    return [
        f"  {check.name}: largest error against {reference} {check.largest_error:.2e}, allowed {check.tolerance:.2e}"
        for check in checks
    ]
