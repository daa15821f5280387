"""An extractor's ONNX file as a torch module: so all detectors have the same backbone with the same weights.

It knows the operators of convolutional backbones; another operator is an error. The normalisation, which stands before
the first convolution or pooling, becomes a mean and a deviation for each channel, since users of torch normalise
outside their backbones. Nothing is rounded. The module runs where the peers are installed: it needs torch and onnx, not
spadeline.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnx.utils import Extractor
from torch import fx, nn

Attributes = dict[str, Any]
Tensors = dict[str, torch.Tensor]

# A share of an output's largest value: two runtimes in float32 may differ by so much after a hundred layers.
SAME_FEATURES = 1e-4


@dataclass(frozen=True)
class TorchBackbone:
    """A backbone for normalised images (n, 3, h, w), float32 RGB.

    Attributes
    ----------
    module
        Returns its outputs by name. In the graph each has its own name, by which anomalib finds it.
    mean, deviation
        Of each channel, for RGB from 0 to 1.
    """

    module: fx.GraphModule
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def normalise(self, image: NDArray[np.uint8]) -> torch.Tensor:
        """(h, w, 3) uint8 RGB to (1, 3, h, w) float32."""
        planes = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        mean, deviation = (torch.tensor(values).reshape(3, 1, 1) for values in (self.mean, self.deviation))
        return (planes - mean) / deviation

    def check(self, probe: Path) -> None:
        """Compare with ONNX Runtime's outputs for an image, from an .npz with ``image`` and these outputs.

        Raises
        ------
        ValueError
            An output differs.
        """
        expected = dict(np.load(probe))
        with torch.inference_mode():
            outputs = self.module(self.normalise(expected.pop("image")))
        for name, truth in expected.items():
            error = float(np.abs(outputs[name].numpy() - truth).max() / np.abs(truth).max())
            if not error <= SAME_FEATURES:
                raise ValueError(f"{name} of the backbone in torch differs from ONNX Runtime's by {error:.1e}")


def load_backbone(path: Path) -> TorchBackbone:
    """Read a file that keeps the extractor's contract.

    Raises
    ------
    ValueError
        An operator is unknown, or the normalisation isn't one factor and one offset for each channel.
    """
    model = onnx.shape_inference.infer_shapes(onnx.load(path))  # extracting a part of the graph needs the shapes
    constants = {item.name: torch.tensor(onnx.numpy_helper.to_array(item)) for item in model.graph.initializer}
    nodes = list(model.graph.node)
    first = next(index for index, node in enumerate(nodes) if node.op_type in ("AveragePool", "Conv", "MaxPool"))
    order, mean, deviation = _normalisation(model, nodes[first].input[0])
    weights = next(node for node in nodes if node.op_type == "Conv").input[1]
    constants[weights] = constants[weights][:, order]  # now for channels in the image's order
    outputs = [output.name for output in model.graph.output]
    module = _build(nodes[first:], constants, nodes[first].input[0], outputs)
    return TorchBackbone(module.eval().requires_grad_(requires_grad=False), mean, deviation)


def _normalisation(model: onnx.ModelProto, end: str) -> tuple[list[int], tuple[float, ...], tuple[float, ...]]:
    """Return which plane each image channel becomes, and the channels' mean and deviation."""
    front = ReferenceEvaluator(Extractor(model).extract_model(["image"], [end]))

    def planes(image: NDArray[np.uint8]) -> NDArray[np.float64]:
        return np.asarray(front.run(None, {"image": image[None]})[0][0], np.float64)

    size = [dimension.dim_value for dimension in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    offset = planes(np.zeros(size, np.uint8))[:, 0, 0]
    full = np.zeros((3, 3))
    for channel in range(3):
        image = np.zeros(size, np.uint8)
        image[..., channel] = 255
        full[:, channel] = planes(image)[:, 0, 0] - offset
    order = [int(plane) for plane in np.abs(full).argmax(axis=0)]
    scale = full[order, range(3)]
    noise = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    expected = np.moveaxis(noise / 255 * scale + offset[order], 2, 0)
    if not np.allclose(planes(noise)[order], expected, rtol=1e-5, atol=1e-5 * np.abs(scale).max()):
        raise ValueError("the backbone's normalisation isn't one factor and one offset a channel")
    return order, tuple((-offset[order] / scale).tolist()), tuple((1 / scale).tolist())


def _build(nodes: list[onnx.NodeProto], constants: Tensors, start: str, outputs: list[str]) -> fx.GraphModule:
    root, graph = nn.Module(), fx.Graph()
    values = {start: graph.placeholder("image")}
    for index, node in enumerate(nodes):
        attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        if node.op_type == "Add":
            found = graph.call_function(operator.add, tuple(values[name] for name in node.input))
        elif node.op_type in _LAYERS:
            tensors = [constants[name] for name in node.input[1:]]
            name = f"{node.op_type.lower()}_{index}"
            root.add_module(name, _LAYERS[node.op_type](attributes, tensors))
            found = graph.call_module(name, (values[node.input[0]],))
        else:
            raise ValueError(f"the backbone has an operator that isn't known here, {node.op_type}")
        if node.output[0] in outputs:
            root.add_module(node.output[0], nn.Identity())
            found = graph.call_module(node.output[0], (found,))
        values[node.output[0]] = found
    graph.output({name: values[name] for name in outputs})
    return fx.GraphModule(root, graph)


def _conv(attributes: Attributes, tensors: list[torch.Tensor]) -> nn.Module:
    weights, bias = tensors[0], tensors[1] if len(tensors) > 1 else None
    layer = nn.Conv2d(
        weights.shape[1] * attributes.get("group", 1),
        weights.shape[0],
        tuple(weights.shape[2:]),
        stride=tuple(attributes.get("strides", (1, 1))),
        padding=_padding(attributes),
        dilation=tuple(attributes.get("dilations", (1, 1))),
        groups=attributes.get("group", 1),
        bias=bias is not None,
    )
    layer.weight.data = weights
    if bias is not None:
        layer.bias.data = bias
    return layer


def _batch_norm(attributes: Attributes, tensors: list[torch.Tensor]) -> nn.Module:
    layer = nn.BatchNorm2d(len(tensors[0]), eps=attributes.get("epsilon", 1e-5))
    layer.weight.data, layer.bias.data, layer.running_mean, layer.running_var = tensors
    return layer


def _max_pool(attributes: Attributes, _: list[torch.Tensor]) -> nn.Module:
    kernel, strides = (tuple(attributes[name]) for name in ("kernel_shape", "strides"))
    return nn.MaxPool2d(kernel, strides, _padding(attributes), ceil_mode=bool(attributes.get("ceil_mode")))


def _padding(attributes: Attributes) -> tuple[int, ...]:
    pads = attributes.get("pads", [0, 0, 0, 0])
    if attributes.get("auto_pad", b"NOTSET") != b"NOTSET" or pads[:2] != pads[2:]:
        raise ValueError(f"the backbone pads its sides differently, by {pads}")
    return tuple(pads[:2])


class _Mean(nn.Module):
    """The mean over a map."""

    def __init__(self, *, keep: bool) -> None:
        super().__init__()
        self.keep = keep

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values.mean((2, 3), keepdim=self.keep)


def _reduce_mean(attributes: Attributes, tensors: list[torch.Tensor]) -> nn.Module:
    axes = tensors[0].tolist() if tensors else attributes["axes"]
    if sorted(axis % 4 for axis in axes) != [2, 3]:
        raise ValueError(f"the backbone averages over axes {axes}")
    return _Mean(keep=bool(attributes.get("keepdims", 1)))


_LAYERS: dict[str, Callable[[Attributes, list[torch.Tensor]], nn.Module]] = {
    "AveragePool": lambda attributes, _: nn.AvgPool2d(
        tuple(attributes["kernel_shape"]),
        tuple(attributes["strides"]),
        _padding(attributes),
        count_include_pad=bool(attributes.get("count_include_pad")),
    ),
    "BatchNormalization": _batch_norm,
    "Conv": _conv,
    "Flatten": lambda *_: nn.Flatten(),
    "GlobalAveragePool": lambda *_: _Mean(keep=True),
    "Identity": lambda *_: nn.Identity(),
    "MaxPool": _max_pool,
    "ReduceMean": _reduce_mean,
    "Relu": lambda *_: nn.ReLU(inplace=False),
}
