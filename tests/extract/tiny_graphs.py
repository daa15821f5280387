"""Tiny graphs whose outputs NumPy computes, and the error of one that is refused."""

import numpy as np
import pytest
from spadeline.engine.errors import ExtractorError
from spadeline.engine.extract.extractor import Extractor

onnx = pytest.importorskip("onnx")

helper = onnx.helper
FLOAT, FLOAT16, DOUBLE, UINT8 = (onnx.TensorProto.DataType.Value(t) for t in ("FLOAT", "FLOAT16", "DOUBLE", "UINT8"))


def node(kind, inputs, output, **attributes):
    return helper.make_node(kind, inputs.split(), [output], **attributes)


def constant(name, values):
    return onnx.numpy_helper.from_array(np.asarray(values), name)


def write(path, nodes, outputs, *, inputs=(("image", UINT8, ["n", 16, 24, 3]),), constants=(), metadata=None):
    graph = helper.make_graph(
        [node("Cast", "image", "numbers", to=FLOAT), node("Transpose", "numbers", "planes", perm=[0, 3, 1, 2]), *nodes]
        if any(name == "image" for name, *_ in inputs)
        else list(nodes),
        "extractor",
        [helper.make_tensor_value_info(*declared) for declared in inputs],
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in outputs],
        initializer=list(constants),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata or {})
    onnx.save(model, path)
    return path


def halved(source, output):
    return node("AveragePool", source, output, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)


POOL = [node("GlobalAveragePool", "planes", "pooled"), node("Flatten", "pooled", "embedding")]
LAYERS = [halved("planes", "layer1"), halved("layer1", "layer2")]
OUTPUTS = [("layer1", FLOAT, ["n", 3, 8, 12]), ("layer2", FLOAT, ["n", 3, 4, 6]), ("embedding", FLOAT, ["n", 3])]


def noise(n, height=16, width=24, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), np.uint8)


def pools(images):
    """Compute the tiny graph's outputs with NumPy."""
    planes = images.transpose(0, 3, 1, 2).astype(np.float64)
    layer1 = planes.reshape(len(images), 3, 8, 2, 12, 2).mean(axis=(3, 5))
    layer2 = layer1.reshape(len(images), 3, 4, 2, 6, 2).mean(axis=(3, 5))
    return layer1, layer2, planes.mean(axis=(2, 3))


def refused(path, **options):
    with pytest.raises(ExtractorError) as caught:
        Extractor(path, **({"device": "cpu"} | options))
    text = str(caught.value)
    assert "\n" not in text
    return text
