"""A small inspection task that needs no files: pictures of parts, and an untrained extractor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

INPUT_SIDE = 64


def part(seed: int, *, scratched: bool = False, size: int = 96) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a grey part with a fixed grid and its own noise, and a mask of its scratch, which is a bright bar."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    picture = 120 + 30 * np.sin(y / 5) + 20 * np.sin(x / 7) + rng.normal(0, 6, (size, size))
    mask = np.zeros((size, size), np.uint8)
    if scratched:
        top, left = rng.integers(15, 60, 2)
        mask[top : top + 8, left : left + 24] = 255
        picture[mask > 0] += 90
    tint = np.array([1.0, 0.9, 0.8])
    return np.clip(picture[..., None] * tint, 0, 255).astype(np.uint8), mask


def write_small_extractor(path: Path) -> None:
    """Write an ONNX file that keeps the contract: three levels of random 1 x 1 convolutions over averaged pixels."""
    import onnx

    helper, kind = onnx.helper, onnx.TensorProto.DataType.Value
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Cast", ["image"], ["numbers"], to=kind("FLOAT")),
        helper.make_node("Transpose", ["numbers"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["planes", "scale"], ["scaled"]),
    ]
    constants = [onnx.numpy_helper.from_array(np.float32(1 / 32), "scale")]
    below, channels = "scaled", 3
    outputs = []
    for index, (stride, wider) in enumerate(((4, 8), (2, 16), (2, 24)), start=1):
        weights = rng.standard_normal((wider, channels, 1, 1)).astype(np.float32) / np.float32(channels) ** 0.5
        constants.append(onnx.numpy_helper.from_array(weights, f"weights{index}"))
        kernel = {"kernel_shape": [stride, stride], "strides": [stride, stride]}
        nodes += [
            helper.make_node("AveragePool", [below], [f"pooled{index}"], **kernel),
            helper.make_node("Conv", [f"pooled{index}", f"weights{index}"], [f"mixed{index}"]),
            helper.make_node("Relu", [f"mixed{index}"], [f"layer{index}"]),
        ]
        below, channels = f"layer{index}", wider
        side = INPUT_SIDE // (4 * 2 ** (index - 1))
        outputs.append(helper.make_tensor_value_info(below, kind("FLOAT"), ["n", wider, side, side]))
    nodes += [
        helper.make_node("GlobalAveragePool", [below], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["embedding"]),
    ]
    outputs.append(helper.make_tensor_value_info("embedding", kind("FLOAT"), ["n", channels]))
    image = helper.make_tensor_value_info("image", kind("UINT8"), ["n", INPUT_SIDE, INPUT_SIDE, 3])
    graph = helper.make_graph(nodes, "extractor", [image], outputs, initializer=constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"spadeline.backbone": "averages", "spadeline.weights": "random"})
    onnx.save(model, path)
