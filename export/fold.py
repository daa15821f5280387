"""Prepare an extractor's graph for integers: fold constants, and let the first convolution read the pixels' bytes.

ONNX Runtime folds all that doesn't depend on the machine, above all batch normalisation. The operators before the first
convolution are folded into its weights, if they are an affine map of each pixel's three channels, as normalisation and
a change of channel order are:

    conv(A x + b) = conv'(x - z, 255 - z),   weights W A   and   W (b + A z) / (255 - z)

A fourth channel of 255 carries the offset b. It is padded like the others, with z, the input's zero point: at the
border x - z and 255 - z are both zero, as the normalised image is there. A bias instead would be wrong under the
padding. So the bytes enter the first convolution without rounding and without normalisation.

A convolution of stride 2 over 4 channels is one of stride 1 over the 16 values of each 2 x 2 block, which ONNX
Runtime's integer convolution reads in 16 pieces an output instead of 49; it then takes 0.7 times the time. Both steps
are exact except for the rounding of the folded weights, and the caller compares the graphs. A graph that stays in float
isn't folded: normalisation takes 2 % of a ResNet-18's time there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ..engine.errors import ExportError
from ..engine.extract.session import runtime_reason

AFFINE_TOLERANCE = 1e-5  # as a share of the largest value: several roundings of float32
PIXELS, INPUT = "pixel_blocks", "first_input"  # the first convolution's input as bytes and as float32 numbers
MOST_MEAN = 250  # the largest z: weights are divided by 255 - z, and no normalisation has its zero near white


def fold_constants(source: Path, folder: Path) -> ModelProto:
    """Return the graph with constants and batch normalisation folded; a copy is written into `folder`.

    Raises
    ------
    ExportError
        ONNX Runtime can't load it.
    """
    options = session_options()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folder / "folded.onnx")
    try:
        onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no base of their own
        raise ExportError(f"{source}: ONNX Runtime can't optimise it: {runtime_reason(error)}") from error
    return onnx.load(folder / "folded.onnx")


def session_options() -> Any:
    """Return options of a session that writes nothing to the terminal."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return options


def fold_normalisation(model: ModelProto) -> int | None:
    """Let the first convolution read blocks of bytes, in place; return their zero point z.

    The blocks are `PIXELS`, uint8. `INPUT` is ``PIXELS - z`` in float32; it is needed to calibrate, and is later
    replaced by the quantised tensor. If the operators before the convolution aren't affine, or the convolution isn't
    one of stride 2 over an image of even sides, such as a ResNet's, the graph stays as it is and None is returned.
    """
    graph = model.graph
    conv = next((node for node in graph.node if node.op_type == "Conv"), None)
    height, width = (side.dim_value for side in graph.input[0].type.tensor_type.shape.dim[1:3])
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    if conv is None or conv.input[1] not in initializers or height % 2 or width % 2:
        return None
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in conv.attribute}
    weights = numpy_helper.to_array(initializers[conv.input[1]]).astype(np.float64)
    usual = {"strides": [2, 2], "dilations": [1, 1], "group": 1, "auto_pad": b"NOTSET"}
    if weights.ndim != 4 or any(attributes.get(name, value) != value for name, value in usual.items()):
        return None
    if attributes.get("strides") is None or (affine := _affine(model, conv.input[0], (height, width))) is None:
        return None
    matrix, offset = affine
    zero = round(float(-np.linalg.lstsq(matrix, offset, rcond=None)[0].mean()))
    if not 0 <= zero <= MOST_MEAN or weights.shape[1] != len(matrix):
        return None
    image = np.einsum("ockl,cd->odkl", weights, matrix)
    constant = np.einsum("ockl,c->okl", weights, offset + matrix.sum(1) * zero)[:, None] / (255 - zero)
    weights, pads = _blocked(np.concatenate([image, constant], 1), attributes.get("pads", [0] * 4), (height, width))
    nodes, tensors = _block_nodes(height, width, zero)
    tensors.append(numpy_helper.from_array(weights.astype(np.float32), "first_weights"))
    folded = helper.make_node(
        "Conv", [INPUT, "first_weights", *conv.input[2:]], conv.output, name=conv.name or "first",
        kernel_shape=weights.shape[2:], strides=[1, 1], pads=pads,
    )  # fmt: skip
    rest = [folded if node is conv else node for node in graph.node]
    del graph.node[:]
    graph.node.extend([*nodes, *rest])
    graph.initializer.extend(tensors)
    prune(model)
    return zero


def prune(model: ModelProto) -> None:
    """Remove, in place, every node and constant that no output needs."""
    graph = model.graph
    needed = {output.name for output in graph.output}
    kept: list[NodeProto] = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.insert(0, node)
            needed.update(node.input)
    constants = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(kept)
    graph.initializer.extend(constants)


def _affine(
    model: ModelProto, name: str, size: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return A and b if the tensor `name` is ``A x + b`` of each pixel x, tested with noise; else None."""
    before = ModelProto()
    before.CopyFrom(model)
    del before.graph.output[:]
    before.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    prune(before)
    session = onnxruntime.InferenceSession(
        before.SerializeToString(), session_options(), providers=["CPUExecutionProvider"]
    )
    probes = np.zeros((5, *size, 3), np.uint8)
    for channel in range(3):
        probes[1 + channel, ..., channel] = 255
    probes[4] = np.random.default_rng(0).integers(0, 256, probes[4].shape, np.uint8)
    values: NDArray[np.float64] = session.run(None, {"image": probes})[0].astype(np.float64)
    if values.ndim != 4 or values.shape[2:] != size:
        return None
    offset = values[0, :, 0, 0]
    matrix = (values[1:4, :, 0, 0] - offset).T / 255
    expected = np.einsum("oc,nhwc->nohw", matrix, probes) + offset[:, None, None]
    fits = np.abs(values - expected).max() <= AFFINE_TOLERANCE * np.abs(values).max()
    return (matrix, offset) if fits else None


def _blocked(
    weights: NDArray[np.float64], pads: list[int], size: tuple[int, int]
) -> tuple[NDArray[np.float64], list[int]]:
    """Return weights and pads of the same convolution over 2 x 2 blocks: channels (row, column pair, channel)."""
    begin, end, first = [], [], []
    for axis in (0, 1):
        kernel, before, after = weights.shape[2 + axis], pads[axis], pads[2 + axis]
        outputs = (size[axis] + before + after - kernel) // 2 + 1
        first.append(before % 2)  # zeros put before the kernel, so that it starts on a block
        blocks = (kernel + before % 2 + 1) // 2
        begin.append((before + before % 2) // 2)
        end.append(outputs - 1 + blocks - size[axis] // 2 - begin[axis])
    rows, columns = ((weights.shape[2 + axis] + first[axis] + 1) // 2 for axis in (0, 1))
    whole = np.zeros((*weights.shape[:2], 2 * rows, 2 * columns))
    whole[:, :, first[0] : first[0] + weights.shape[2], first[1] : first[1] + weights.shape[3]] = weights
    # (filter, channel, row of blocks, row, column of blocks, column) → (filter, row, column, channel, …)
    parts = whole.reshape(*weights.shape[:2], rows, 2, columns, 2).transpose(0, 3, 5, 1, 2, 4)
    image = parts[:, :, :, :3].reshape(len(weights), 2, 6, rows, columns)
    return np.concatenate([image, parts[:, :, :, 3]], 2).reshape(len(weights), 16, rows, columns), [*begin, *end]


def _block_nodes(height: int, width: int, zero: int) -> tuple[list[NodeProto], list[TensorProto]]:
    """Return the nodes from ``image`` to `PIXELS` and `INPUT`, and their constants.

    Two neighbouring pixels, six bytes, get their two constants together. That halves the time of padding, and ONNX
    Runtime moves pieces of eight bytes much faster than pieces of six.
    """
    shapes = {
        "pairs_shape": [-1, height * width // 2, 6],
        "rows_shape": [-1, height // 2, 2, width // 2, 8],
        "blocks_shape": [-1, height // 2, width // 2, 16],
        "pair_pads": [0, 0, 0, 0, 0, 2],
    }
    tensors = [numpy_helper.from_array(np.array(shape, np.int64), name) for name, shape in shapes.items()]
    tensors.append(numpy_helper.from_array(np.array(255, np.uint8), "white"))
    tensors.append(numpy_helper.from_array(np.array(zero, np.float32), "zero"))
    nodes = [
        helper.make_node("Reshape", ["image", "pairs_shape"], ["pairs"]),
        helper.make_node("Pad", ["pairs", "pair_pads", "white"], ["padded_pairs"]),
        helper.make_node("Reshape", ["padded_pairs", "rows_shape"], ["pair_rows"]),
        helper.make_node("Transpose", ["pair_rows"], ["pair_blocks"], perm=[0, 1, 3, 2, 4]),
        helper.make_node("Reshape", ["pair_blocks", "blocks_shape"], ["blocks"]),
        helper.make_node("Transpose", ["blocks"], [PIXELS], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", [PIXELS], ["numbers_of_pixels"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["numbers_of_pixels", "zero"], [INPUT]),
    ]
    return nodes, tensors
