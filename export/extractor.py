"""Export a torchvision ResNet as one ONNX file that keeps the extractor's contract, and compare it with torch.

The file is written beside its target and renamed only after it was verified, so a failed export leaves an older file as
it was. An int8 file is made of the verified float32 one. Importing this module imports neither torch nor ONNX;
exporting does. Nothing is trained here, and no levels are chosen for a product.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..engine.errors import InputError
from ..engine.files import replacing, write_durably
from ..engine.settings import Framing
from .choices import Precision, check_choices, chosen_neighbourhood
from .packages import require_packages
from .quantized import LEAST_CORRELATION, MOST_ROCAUC_LOSS, Quantization, plan, quantize_into
from .verify import OutputCheck, verify


@dataclass(frozen=True)
class ExportReport:
    """What was exported, from which weights, and its errors compared with torch.

    Attributes
    ----------
    path
        The ONNX file.
    backbone, levels, input_size, precision
        As asked for; `input_size` is (height, width) in pixels.
    weights
        ``torchvision IMAGENET1K_V1``, the weights file's name, or ``random``.
    weights_sha256
        Hexadecimal SHA-256 of the weights file; of the tensors' bytes in key order for random weights.
    embedding
        The level that the embedding is pooled from.
    neighbourhood
        The number of positions a side that each level is averaged over; 1: it isn't.
    checks
        Each output's largest error and its tolerance, in the file's order; at int8, those of the float32 graph that was
        quantized.
    quantization
        At int8, how the integers were calibrated and what they cost; else None.
    """

    path: Path
    backbone: str
    levels: tuple[str, ...]
    input_size: tuple[int, int]
    precision: Precision
    weights: str
    weights_sha256: str
    embedding: str
    neighbourhood: int
    checks: tuple[OutputCheck, ...]
    quantization: Quantization | None


def export_extractor(
    path: str | os.PathLike[str],
    *,
    backbone: str = "wide_resnet50_2",
    levels: Sequence[str] = ("layer1", "layer2", "layer3"),
    input_size: tuple[int, int] = (224, 224),
    weights: str | os.PathLike[str] = "torchvision",
    precision: Precision = "float32",
    embedding: str = "layer4",
    neighbourhood: int | None = None,
    calibration_images: str | os.PathLike[str] | None = None,
    framing: Framing = "whole",
    evaluation_images: str | os.PathLike[str] | None = None,
    least_correlation: float = LEAST_CORRELATION,
    most_rocauc_loss: float = MOST_ROCAUC_LOSS,
) -> ExportReport:
    """Write a backbone as an extractor: ``image`` → its levels and ``embedding``.

    ``image`` is uint8 (n, height, width, 3) RGB with n free; normalisation is inside. The levels are
    (n, c, h, w), float16 at that precision, else float32; ``embedding`` is an average-pooled level, float32 (n, d).

    Parameters
    ----------
    path
        The ONNX file to write. An existing one is replaced, once the new one was verified.
    backbone
        One of `BACKBONES`.
    levels
        Any of `LEVELS`, at least one, finest first.
    input_size
        (height, width) in pixels, multiples of 32.
    weights
        ``"torchvision"``: ``IMAGENET1K_V1``, downloaded once and kept in torch's cache; a ``.pth``, ``.pt``
        or ``.safetensors`` file with a state dict, with or without ``fc``; ``"random"``: the same random weights every
        time, for trials only.
    precision
        The number type of weights and arithmetic. Normalisation, pooling and averaging are never below float32.
    embedding
        The level to pool: the last of `levels` or a coarser one. Later stages are left out. An earlier level makes the
        network smaller and faster, but the retrieval may find other normal images.
    neighbourhood
        Each level is averaged over this number of positions a side, and counts as zero beyond the border: an odd number
        up to 9 that fits into the coarsest level. 1 leaves the levels as they are. None: 3, or 1 if that doesn't fit.
        The embedding is pooled from a level that isn't averaged.
    calibration_images, framing, evaluation_images, least_correlation, most_rocauc_loss
        Only for ``"int8"``: see :func:`quantize_extractor`.

    Raises
    ------
    InputError
        An argument that isn't one of the above.
    OutputError
        `path` can't be written.
    ExportError
        The weights can't be loaded or don't fit the backbone, the exported graph disagrees with torch, or int8 costs
        more accuracy than allowed.
    DependencyError
        A package that an export needs is missing.

    Warns
    -----
    UserWarning
        The weights are random.
    """
    target, levels = Path(path), tuple(levels)
    check_choices(backbone, levels, input_size, precision, embedding)
    neighbourhood = chosen_neighbourhood(neighbourhood, levels, input_size)
    if (precision == "int8") != (calibration_images is not None):
        raise InputError(
            "calibration_images: expected a folder of normal images for precision 'int8' and none for others, got "
            f"{calibration_images!r:.100} for {precision!r:.100}"
        )
    bounds = {"least_correlation": least_correlation, "most_rocauc_loss": most_rocauc_loss}
    _check_given(precision, framing=framing, evaluation_images=evaluation_images, **bounds)
    task = None
    if calibration_images is not None:
        task = plan(calibration_images, framing, evaluation_images, least_correlation, most_rocauc_loss)
    require_packages("torch", "torchvision", "onnx", "onnxscript")
    from .backbone import build, to_onnx  # noqa: PLC0415 - imports torch
    from .weights import load_weights  # noqa: PLC0415 - imports torch

    with replacing(target) as partial, TemporaryDirectory(prefix="spadeline-export-") as folder:
        loaded = load_weights(backbone, weights)
        model = build(
            backbone,
            loaded,
            levels=levels,
            input_size=input_size,
            embedding=embedding,
            neighbourhood=neighbourhood,
        )
        exported: Precision = "float32" if precision == "int8" else precision
        properties = {
            "backbone": backbone,
            "levels": ",".join(levels),
            "embedding": embedding,
            "input_size": "{}x{}".format(*input_size),
            "color": "rgb",
            "weights": loaded.name,
            "weights_sha256": loaded.sha256,
            "precision": exported,
        }
        if neighbourhood > 1:
            properties["neighbourhood"] = str(neighbourhood)
        graph = to_onnx(model, precision=exported, properties=properties)
        written = partial if task is None else Path(folder) / "float32.onnx"
        write_durably(written, graph, target=target)
        checks = verify(model, written, precision=exported)
        quantization = None if task is None else quantize_into(partial, written, task, target=target)
    return ExportReport(
        path=target,
        backbone=backbone,
        levels=levels,
        input_size=input_size,
        precision=precision,
        weights=loaded.name,
        weights_sha256=loaded.sha256,
        embedding=embedding,
        neighbourhood=neighbourhood,
        checks=checks,
        quantization=quantization,
    )


def _check_given(precision: Precision, **options: Any) -> None:
    """Raise InputError for an option that only int8 uses, if it isn't the default: it would be ignored."""
    parameters = inspect.signature(export_extractor).parameters
    for name, value in options.items():
        if precision != "int8" and value != parameters[name].default:
            raise InputError(
                f"{name}: expected it with precision 'int8' alone, got {value!r:.100} for {precision!r:.100}"
            )
