"""A torchvision ResNet as one ONNX file that keeps the extractor's contract and was compared with torch.

The file is written beside its target and renamed only after it was verified, so a failed export leaves
whatever stood there before. Importing this module imports neither torch nor ONNX; exporting does. Not done
here: training, quantising, or choosing the levels for a product.
"""

from __future__ import annotations

import errno
import importlib
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..engine.errors import DependencyError
from ..engine.files import writing
from .choices import Precision, check_choices
from .verify import OutputCheck, verify


@dataclass(frozen=True)
class ExportReport:
    """What was exported, from which weights, and how far it is from torch.

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
    checks
        Per output, in the file's order: the largest error seen and the tolerance it had to keep.
    """

    path: Path
    backbone: str
    levels: tuple[str, ...]
    input_size: tuple[int, int]
    precision: Precision
    weights: str
    weights_sha256: str
    checks: tuple[OutputCheck, ...]


def export_extractor(
    path: str | os.PathLike[str],
    *,
    backbone: str = "wide_resnet50_2",
    levels: Sequence[str] = ("layer1", "layer2", "layer3"),
    input_size: tuple[int, int] = (224, 224),
    weights: str | os.PathLike[str] = "torchvision",
    precision: Precision = "float32",
) -> ExportReport:
    """Write a backbone as an extractor: ``image`` → its levels and ``embedding``.

    ``image`` is uint8 (n, height, width, 3) RGB with n free; normalisation is inside. The levels are
    (n, c, h, w) in `precision`; ``embedding`` is the average-pooled ``layer4``, float32 (n, d).

    Parameters
    ----------
    path
        The ONNX file to write. An existing one is replaced, and only by one that passed verification.
    backbone
        One of `BACKBONES`.
    levels
        Any of `LEVELS`, at least one, finest first.
    input_size
        (height, width) in pixels, multiples of 32.
    weights
        ``"torchvision"``: ``IMAGENET1K_V1``, downloaded once and kept in torch's cache; a ``.pth``, ``.pt``
        or ``.safetensors`` file with a state dict, with or without ``fc``; ``"random"``: the same ones every
        time, for trials only.
    precision
        Of weights, arithmetic and levels. Normalisation and pooling are float32 in both.

    Raises
    ------
    InputError
        An argument that isn't one of the above.
    OutputError
        `path` can't be written.
    ExportError
        Weights can't be had or don't fit the backbone, or the exported graph disagrees with torch.
    DependencyError
        A package that an export needs is missing.

    Warns
    -----
    UserWarning
        The weights are random.
    """
    target, levels = Path(path), tuple(levels)
    check_choices(backbone, levels, input_size, precision)
    _require_packages()
    from .backbone import build, to_onnx  # noqa: PLC0415 - imports torch
    from .weights import load_weights  # noqa: PLC0415 - imports torch

    with _replacing(target) as partial:
        loaded = load_weights(backbone, weights)
        model = build(backbone, loaded, levels=levels, input_size=input_size)
        properties = {
            "backbone": backbone,
            "levels": ",".join(levels),
            "input_size": "{}x{}".format(*input_size),
            "color": "rgb",
            "weights": loaded.name,
            "weights_sha256": loaded.sha256,
            "precision": precision,
        }
        graph = to_onnx(model, precision=precision, properties=properties)
        with writing(target), partial.open("wb") as file:
            file.write(graph)
            file.flush()
            os.fsync(file.fileno())  # the bytes are on the disk before the name is
        checks = verify(model, partial, precision=precision)
    return ExportReport(
        path=target,
        backbone=backbone,
        levels=levels,
        input_size=input_size,
        precision=precision,
        weights=loaded.name,
        weights_sha256=loaded.sha256,
        checks=checks,
    )


def _require_packages() -> None:
    """Import what an export needs now: a missing package is better known before a download than after."""
    commands = dict.fromkeys(("torch", "torchvision", "onnx", "onnxscript"), "pip install 'spadeline[export]'")
    commands["onnxruntime"] = "pip install 'spadeline[cpu]' (or 'spadeline[gpu]' on a machine with an NVIDIA GPU)"
    for package, command in commands.items():
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise DependencyError(f"{package} is not installed: {command}") from error


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """Reserve a hidden file beside `target`: renamed to `target` on success, deleted on any failure.

    Reserving comes first: a folder that can't be written is known before anything is downloaded or computed.
    """
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    with writing(target):
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        partial.touch(exist_ok=False)
    try:
        yield partial
        with writing(target):
            partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
