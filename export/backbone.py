"""The backbone as a torch module, and that module as an ONNX graph.

The module is kept in float64: the exported graph is compared with it, and every lower precision is made of it. Batch
normalisation is folded into the convolutions in float64 and rounded once. All other optimisation is left to ONNX
Runtime, which does it for the machine that it runs on.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, cast

import onnx
import torch
import torchvision
from torch import nn

from ..engine.errors import ExportError
from .choices import LEVELS, Precision
from .weights import Weights

# ImageNet's channel statistics, for RGB in 0 ... 1: what torchvision's weights were trained with.
MEAN = (0.485, 0.456, 0.406)
STANDARD_DEVIATION = (0.229, 0.224, 0.225)
# The oldest operator set with all operators of a ResNet: inference engines older than the exporter can read it.
OPSET = 18


class Backbone(nn.Module):
    """uint8 frames (n, height, width, 3) RGB → the wanted levels, finest first, and the embedding.

    ``input_size`` is (height, width); ``output_names`` are those of the tensors that a call returns. The embedding is
    the pooled level of that name, at or after the coarsest of the levels. The levels that a call returns are averaged
    over ``neighbourhood`` x ``neighbourhood`` positions, where those beyond a border are zero. The stages that follow
    and the embedding take a level as it was before.
    """

    scale: torch.Tensor
    offset: torch.Tensor

    def __init__(
        self,
        resnet: nn.Module,
        *,
        levels: tuple[str, ...],
        input_size: tuple[int, int],
        embedding: str = LEVELS[-1],
        neighbourhood: int = 1,
    ) -> None:
        super().__init__()
        self.resnet = resnet
        self.stages = LEVELS[: LEVELS.index(embedding) + 1]  # later stages are not run
        self.input_size = input_size
        self.output_names = (*levels, "embedding")
        self.neighbourhood = neighbourhood
        # (x / 255 - mean) / deviation as one multiply-add.
        mean, deviation = (torch.tensor(v, dtype=torch.float64) for v in (MEAN, STANDARD_DEVIATION))
        self.register_buffer("scale", (1 / (255 * deviation)).reshape(3, 1, 1))
        self.register_buffer("offset", (-mean / deviation).reshape(3, 1, 1))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return one tensor per output name."""
        resnet = cast("Any", self.resnet)
        x = image.permute(0, 3, 1, 2).to(self.scale.dtype) * self.scale + self.offset
        x = x.to(resnet.conv1.weight.dtype)
        x = resnet.maxpool(resnet.relu(resnet.bn1(resnet.conv1(x))))
        outputs = []
        for level in self.stages:
            x = getattr(resnet, level)(x)
            if level in self.output_names:
                outputs.append(self._averaged(x))
        return (*outputs, x.to(self.scale.dtype).mean((2, 3)))

    def _averaged(self, level: torch.Tensor) -> torch.Tensor:
        """Return a level's averages, in its own number type. A sum of float16 numbers may exceed their range."""
        if self.neighbourhood == 1:
            return level
        averages = nn.functional.avg_pool2d(
            level.to(self.scale.dtype),
            self.neighbourhood,
            stride=1,
            padding=self.neighbourhood // 2,
        )
        return averages.to(level.dtype)

    def at(self, precision: Precision) -> Backbone:
        """Return a copy in `precision`; its normalisation, pooling and averaging are never below float32."""
        lower = copy.deepcopy(self).float()
        if precision == "float16":
            lower.resnet.half()
        return lower


def build(
    backbone: str,
    weights: Weights,
    *,
    levels: tuple[str, ...],
    input_size: tuple[int, int],
    embedding: str = LEVELS[-1],
    neighbourhood: int = 1,
) -> Backbone:
    """Return the backbone in float64, in evaluation mode.

    Raises
    ------
    ExportError
        The weights are of another backbone; the text names the first tensor that shows it.
    """
    with torch.device("meta"):  # shapes alone: no initialisation, which would also draw from the global generator
        resnet = torchvision.models.get_model(backbone, weights=None)
    resnet.fc = nn.Identity()  # the classifier: levels and embedding lie before it
    _check_fit(weights, resnet.state_dict(), backbone)
    resnet.double().to_empty(device="cpu")
    resnet.load_state_dict(weights.tensors, strict=False)  # fc may be left over, and counters of batches may be missing
    return (
        Backbone(resnet, levels=levels, input_size=input_size, embedding=embedding, neighbourhood=neighbourhood)
        .eval()
        .requires_grad_(requires_grad=False)
    )


def to_onnx(model: Backbone, *, precision: Precision, properties: Mapping[str, str]) -> bytes:
    """Return `model` as a serialised ONNX model: one file, the same bytes from the same weights and packages.

    Parameters
    ----------
    properties
        Metadata, stored under ``spadeline.<key>`` beside the versions of torch and torchvision.
    """
    folded = _fold_batch_norms(copy.deepcopy(model)).at(precision)
    # Two frames: torch would treat a batch size of one as a constant.
    example = torch.zeros((2, *model.input_size, 3), dtype=torch.uint8)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter's warnings about its internals, which a caller can't act on
        exported = torch.onnx.export(
            folded,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("n")},),
            input_names=["image"],
            output_names=list(model.output_names),
            opset_version=OPSET,
            verbose=False,
        )
    proto = cast("torch.onnx.ONNXProgram", exported).model_proto  # None only with the older exporter
    _strip_traces(proto)
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__}
    onnx.helper.set_model_props(proto, {f"spadeline.{k}": v for k, v in {**properties, **versions}.items()})
    serialised: bytes = proto.SerializeToString(deterministic=True)
    return serialised


def _check_fit(weights: Weights, expected: Mapping[str, torch.Tensor], backbone: str) -> None:
    tensors, name = weights.tensors, weights.name
    for key, tensor in expected.items():
        if key.endswith("num_batches_tracked"):  # files from before torch 0.4.1 lack it, and only training reads it
            continue
        if key not in tensors:
            raise ExportError(f"{name}: not weights of {backbone}: {key} is missing")
        got = tensors[key]
        if got.shape != tensor.shape or not got.is_floating_point():
            raise ExportError(
                f"{name}: not weights of {backbone}: expected {key} as floats {tuple(tensor.shape)}, got "
                f"{got.dtype} {tuple(got.shape)}"
            )
        if not got.isfinite().all():
            raise ExportError(f"{name}: {key} holds NaN or infinity")
    surplus = next((key for key in tensors if key not in expected and not key.startswith("fc.")), None)
    if surplus is not None:
        raise ExportError(f"{name}: not weights of {backbone}: it has no {surplus}")


def _fold_batch_norms(model: Backbone) -> Backbone:
    """Fold every batch normalisation into the convolution before it, in place.

    In torchvision's ResNets such a pair stands side by side among its parent's children, in the order of use.
    """
    for parent in list(model.modules()):
        for (conv_name, conv), (norm_name, norm) in pairwise(list(parent.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, conv_name, torch.nn.utils.fuse_conv_bn_eval(conv, norm))
                setattr(parent, norm_name, nn.Identity())
    return model


def _strip_traces(proto: onnx.ModelProto) -> None:
    """Remove the exporter's notes: they contain source paths of the exporting machine."""
    graph = proto.graph
    for item in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
