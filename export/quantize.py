"""A float32 extractor's graph in 8-bit integers: static quantization, calibrated on normal images.

Weights are int8, symmetric, one scale a channel. Activations are uint8 with a zero point of their own: a rectified
tensor then has all 256 values above zero, and ONNX Runtime fuses nothing of a ResNet with int8 ones on x86. Ranges are
the smallest and largest values seen in calibration. Outputs stay float: levels are the dequantized tensors, and
pooling for the embedding is float arithmetic. The pixels enter as bytes if `fold.py` can fold the normalisation.

The graph is written with QuantizeLinear and DequantizeLinear; ONNX Runtime and OpenVINO fuse them into integer
convolutions when they load it. `cost.py` measures the accuracy that quantization costs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from ..engine.errors import ExportError
from ..engine.extract.session import runtime_reason
from .fold import INPUT, PIXELS, fold_constants, fold_normalisation, prune

QUANTIZED_OPERATORS = ("Conv", "Relu", "Add", "MaxPool")  # all that a ResNet has between pixels and levels


def quantize(source: Path, images: Sequence[NDArray[np.uint8]], *, properties: dict[str, str]) -> bytes:
    """Return the graph of `source` in integers: the same bytes from the same file, images and packages.

    Parameters
    ----------
    source
        A float32 extractor.
    images
        (H, W, 3) uint8 RGB each, of the extractor's input size.
    properties
        Metadata, added to the file's own under ``spadeline.<key>``.

    Raises
    ------
    ExportError
        The graph holds integers or half precision already, or ONNX Runtime can't quantize it.
    """
    original = onnx.load(source)
    check_float32(source, original)
    with tempfile.TemporaryDirectory(prefix="spadeline-quantize-") as folder:
        model = fold_constants(source, Path(folder))
        zero = fold_normalisation(model)
        model = _quantized(source, model, images, zero, Path(folder) / "quantized.onnx")
    if zero is not None:
        _take_pixels(model)
    del model.metadata_props[:]
    kept = {item.key: item.value for item in original.metadata_props}
    onnx.helper.set_model_props(model, kept | {f"spadeline.{key}": value for key, value in properties.items()})
    serialised: bytes = model.SerializeToString(deterministic=True)
    return serialised


class _Images(CalibrationDataReader):  # type: ignore[misc]  # the base has no types
    """The images one by one, as ONNX Runtime's calibration wants them."""

    def __init__(self, images: Sequence[NDArray[np.uint8]]) -> None:
        self._rest = iter(images)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        image = next(self._rest, None)
        return None if image is None else {"image": image[None]}


def _quantized(
    source: Path, model: onnx.ModelProto, images: Sequence[NDArray[np.uint8]], zero: int | None, target: Path
) -> onnx.ModelProto:
    options: dict[str, Any] = {"ActivationSymmetric": False, "WeightSymmetric": True}
    if zero is not None:
        exact = {"scale": np.array(1, np.float32), "zero_point": np.array(zero, np.uint8)}
        options["TensorQuantOverrides"] = {INPUT: [exact]}
    # Without this, ONNX Runtime prints the advice to fold constants first.
    onnx.helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})
    try:
        quantize_static(
            model,
            target,
            _Images(images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED_OPERATORS),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            calibration_providers=["CPUExecutionProvider"],
            extra_options=options,
        )
    except Exception as error:  # neither its exceptions nor ONNX Runtime's have a base of their own
        raise ExportError(f"{source}: ONNX Runtime can't quantize it: {runtime_reason(error)}") from error
    return onnx.load(target)


def _take_pixels(model: onnx.ModelProto) -> None:
    """Connect the first convolution with the bytes: quantizing `INPUT` would give the same bytes."""
    rounded = next(node for node in model.graph.node if node.op_type == "QuantizeLinear" and node.input[0] == INPUT)
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name == rounded.output[0]:
                node.input[index] = PIXELS
    prune(model)


def check_float32(source: Path, model: onnx.ModelProto) -> None:
    """Raise ExportError for a graph that can't be quantized; ``source`` is its file."""
    graph = model.graph
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear", "QLinearConv") for node in graph.node):
        raise ExportError(f"{source}: expected a float32 extractor to quantize, got a graph that is quantized already")
    if any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in graph.initializer):
        raise ExportError(f"{source}: expected a float32 extractor to quantize, got one with float16 weights")
