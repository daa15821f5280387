"""``spadeline export``: turn a network into an extractor, in integers on demand."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .exit_codes import NORMAL
from .tables import quantization_table
from .terminal import RESULTS, escaped, print_json

if TYPE_CHECKING:
    from ...export import ExportReport, Quantization


def export(options: argparse.Namespace) -> int:
    """Write an extractor and print how it was verified."""
    from ...export import export_extractor, quantize_extractor  # noqa: PLC0415 - no other command needs it

    network = _network(options)
    integers = {
        "calibration_images": options.calibrate,
        "framing": options.framing,
        "evaluation_images": options.evaluate,
        "least_correlation": options.least_correlation,
        "most_rocauc_loss": options.most_rocauc_loss,
    }
    report: ExportReport | Quantization
    with _terminable():
        if options.source is not None:
            report = quantize_extractor(options.file, options.source, **integers)
            text = quantization_table(report)
        else:
            report = export_extractor(options.file, precision=options.precision, **network, **integers)
            text = _report_text(report)
    if options.json:
        print_json(asdict(report), default=str)
    else:
        RESULTS.print(text)
    return NORMAL


def _network(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options given for the network to export, and check that all options fit together."""
    if options.source is not None and options.precision != "int8":
        raise InputError(f"--from: expected --precision int8 with it, got {options.precision}")
    if (options.precision == "int8") != (options.calibrate is not None):
        raise InputError(
            f"--calibrate: expected normal images with int8, and none without, got --precision {options.precision}"
        )
    names = ("backbone", "levels", "input_size", "weights", "embedding")
    network = {name: value for name in names if (value := getattr(options, name)) is not None}
    if options.source is not None and network:
        raise InputError(f"--{next(iter(network)).replace('_', '-')}: expected none with --from, which has its own")
    return network


@contextmanager
def _terminable() -> Iterator[None]:
    """Handle SIGTERM like Ctrl-C, so that the file that an export has begun is removed."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _report_text(report: ExportReport) -> str:
    lines = [f"{escaped(str(report.path))}: {report.backbone}, {', '.join(report.levels)}, weights {report.weights}"]
    lines += [
        f"  {check.name}: largest error against torch {check.largest_error:.2e}, allowed {check.tolerance:.2e}"
        for check in report.checks
    ]
    if report.quantization is not None:
        lines.append(quantization_table(report.quantization))
    return "\n".join(lines)
