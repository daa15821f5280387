"""Make an int8 extractor of a float32 one, whoever made that, and keep it only if its cost is within bounds.

Some of the normal images calibrate the integers. The others are held out, and both extractors' results on them are
compared, in accuracy and in speed. Importing this module imports neither ONNX nor ONNX Runtime.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import numpy as np

from ..engine.checks import check_choice, check_number
from ..engine.errors import ExportError, InputError, SpadelineError
from ..engine.extract.extractor import Extractor
from ..engine.files import replacing, write_durably
from ..engine.folders.dataset import Dataset, find_dataset
from ..engine.folders.normal_images import normal_images
from ..engine.images.reading import read_placed
from ..engine.settings import Framing
from .cost import Cost, measure_cost
from .neighbourhood import average_into, check_another_file
from .packages import require_packages
from .speed import float32_per_int8

# A broken graph is far below. Good graphs had 0.998 on hazelnuts and 0.98 on solar cells.
LEAST_CORRELATION = 0.95
MOST_ROCAUC_LOSS = 0.01
LEAST_IMAGES = 8
# The images are evenly spread. Each further image can only widen the ranges by its outliers, which makes the integers
# coarser.
MOST_CALIBRATING, MOST_HELD_OUT = 32, 25
HELD_OUT_EVERY = 4


@dataclass(frozen=True)
class Quantization:
    """How the integers were calibrated, and what they cost.

    Attributes
    ----------
    path
        The int8 file.
    neighbourhood
        The number of positions a side that each level is averaged over; 1: it isn't.
    calibrated
        The number of normal images that the ranges were taken from.
    float32_bytes, int8_bytes
        The two files' sizes.
    cost
        The cost on held-out normal images, and on labelled images if there were any.
    float32_per_int8
        float32's time divided by int8's, on this machine's CPU with all threads: medians of single frames.
    """

    path: Path
    neighbourhood: int
    calibrated: int
    float32_bytes: int
    int8_bytes: int
    cost: Cost
    float32_per_int8: float


@dataclass(frozen=True)
class Task:
    """The images to calibrate on and to hold out, the labelled ones if there are any, and the bounds."""

    calibrating: list[Path]
    held_out: list[Path]
    labelled: Dataset | None
    framing: Framing
    least_correlation: float
    most_rocauc_loss: float


def plan(
    calibration_images: str | os.PathLike[str],
    framing: Framing,
    evaluation_images: str | os.PathLike[str] | None,
    least_correlation: float,
    most_rocauc_loss: float,
) -> Task:
    """Check the arguments of :func:`quantize_extractor` and find the images, before anything costs time.

    Raises
    ------
    InputError
        As :func:`quantize_extractor`, except for images that can't be read: none is opened.
    """
    check_choice("framing", framing, get_args(Framing))
    check_number("least_correlation", least_correlation, low=-1, high=1)
    check_number("most_rocauc_loss", most_rocauc_loss, low=-1, high=1)
    # As fit finds them, without abnormal images: defects would widen the ranges.
    paths = [path for _, path in normal_images(calibration_images).named]
    if len(paths) < LEAST_IMAGES:
        raise InputError(
            f"calibration_images: expected {LEAST_IMAGES} or more normal images in {calibration_images}, "
            f"got {len(paths)}"
        )
    labelled = None if evaluation_images is None else find_dataset(evaluation_images)
    if labelled is not None and not labelled.test:
        raise InputError(f"evaluation_images: expected test images in {labelled.folder}, got none")
    held_out = paths[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY]
    calibrating = [path for index, path in enumerate(paths) if index % HELD_OUT_EVERY != HELD_OUT_EVERY - 1]
    calibrating = _spread(calibrating, MOST_CALIBRATING)
    if labelled is not None and not labelled.train:
        _check_apart(labelled, calibrating)
    return Task(calibrating, _spread(held_out, MOST_HELD_OUT), labelled, framing, least_correlation, most_rocauc_loss)


def quantize_extractor(
    path: str | os.PathLike[str],
    source: str | os.PathLike[str],
    *,
    calibration_images: str | os.PathLike[str],
    neighbourhood: int = 1,
    framing: Framing = "whole",
    evaluation_images: str | os.PathLike[str] | None = None,
    least_correlation: float = LEAST_CORRELATION,
    most_rocauc_loss: float = MOST_ROCAUC_LOSS,
) -> Quantization:
    """Make an int8 extractor of a float32 one, whoever made that, and write it.

    It keeps the extractor's contract: levels and embedding are float32.

    Parameters
    ----------
    path
        The ONNX file to write. An existing one is replaced if the new one's cost is within bounds.
    source
        A float32 ONNX file that keeps the extractor's contract.
    calibration_images
        A folder of at least 8 normal images, or of a data set with ``train/good``. Three of four images calibrate, 32
        at most. The cost is measured on the others, which are held out.
    neighbourhood
        More than 1: the levels are averaged, too, as by :func:`average_extractor`. The cost is that of the integers
        alone: both files are averaged.
    framing
        How the recipe will place images: see :class:`~..engine.Settings`.
    evaluation_images
        A labelled data set on which ROCAUC is measured: see :func:`~..engine.dataset.find_dataset`. If it has no
        ``train``, its images are matched with the calibrating images, and it must not contain any of those.
    least_correlation
        The smallest allowed correlation of the int8 and float32 anomaly maps of a held-out image.
    most_rocauc_loss
        The largest allowed loss of any ROCAUC.

    Raises
    ------
    InputError
        An argument that isn't one of the above, or an image that can't be read.
    ExtractorError
        `source` breaks the contract.
    OutputError
        `path` can't be written.
    ExportError
        The graph can't be quantized or averaged, or int8 costs more accuracy than allowed; nothing is written then.
    DependencyError
        onnx or ONNX Runtime is missing.
    """
    target, source = Path(path), Path(source)
    check_another_file(target, source)
    task = plan(calibration_images, framing, evaluation_images, least_correlation, most_rocauc_loss)
    require_packages("onnx")
    with replacing(target) as partial, TemporaryDirectory(prefix="spadeline-export-") as folder:
        if neighbourhood != 1:
            source = _averaged(source, neighbourhood, Path(folder))
        return quantize_into(partial, source, task, target=target)


def quantize_into(partial: Path, source: Path, task: Task, *, target: Path) -> Quantization:
    """Write the int8 graph of `source` into a file reserved for `target`, and check the task's bounds."""
    from .quantize import quantize  # noqa: PLC0415 - imports onnx

    extractor = Extractor(source, device="cpu")
    images = [read_placed(path, extractor.input_size, framing=task.framing) for path in task.calibrating]
    properties = {
        "precision": "int8",
        "calibration_images": str(len(images)),
        "calibration_sha256": hashlib.sha256(b"".join(image.tobytes() for image in images)).hexdigest(),
    }
    write_durably(partial, quantize(source, images, properties=properties), target=target)
    try:
        cost = measure_cost(
            source,
            partial,
            gallery=task.calibrating,
            held_out=task.held_out,
            framing=task.framing,
            labelled=task.labelled,
        )
    except SpadelineError as error:
        raise ExportError(f"int8: its cost can't be measured: {error}") from error
    cost.check(least_correlation=task.least_correlation, most_rocauc_loss=task.most_rocauc_loss)
    speed = float32_per_int8(source, partial, images[0])
    return Quantization(
        path=target,
        neighbourhood=extractor.neighbourhood,
        calibrated=len(images),
        float32_bytes=source.stat().st_size,
        int8_bytes=partial.stat().st_size,
        cost=cost,
        float32_per_int8=speed,
    )


def _averaged(source: Path, neighbourhood: int, folder: Path) -> Path:
    """Return the averaged file, written into `folder`. A source that can't be quantized is named by its own path."""
    import onnx  # noqa: PLC0415 - only while exporting

    from .quantize import check_float32  # noqa: PLC0415 - imports onnx

    averaged = folder / "averaged.onnx"
    average_into(averaged, source, neighbourhood, target=averaged)
    check_float32(source, onnx.load(source))
    return averaged


def _check_apart(labelled: Dataset, gallery: list[Path]) -> None:
    """Raise InputError for test images that are in the gallery: each would find itself, and score 0 at any loss."""
    taken = {path.resolve() for path in gallery}
    both = [image.path for image in labelled.test if image.path.resolve() in taken]
    if both:
        raise InputError(
            f"evaluation_images: expected test images that don't calibrate, or train/good beside them, got {both[0]} "
            f"and {len(both) - 1} more"
        )


def _spread(paths: list[Path], most: int) -> list[Path]:
    """Return at most ``most`` of the paths, evenly spread."""
    if len(paths) <= most:
        return paths
    return [paths[index] for index in np.linspace(0, len(paths) - 1, most).round().astype(int)]
