"""Small extractors as ONNX models: good ones, and ones that take too much. This module needs onnx."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

H, W = 16, 24
node = helper.make_node
declared = helper.make_tensor_value_info


def tensor(values, name, dtype=np.int64):
    return numpy_helper.from_array(np.asarray(values, dtype), name)


def extractor(nodes=(), constants=(), *, source="planes", opset=17):
    """Return a model whose level and embedding are averages of ``source``, (n, 3, H, W), made by ``nodes`` from "planes"."""
    graph = helper.make_graph(
        [
            node("Cast", ["image"], ["numbers"], to=TensorProto.FLOAT),
            node("Transpose", ["numbers"], ["planes"], perm=[0, 3, 1, 2]),
            *nodes,
            node("AveragePool", [source], ["layer1"], kernel_shape=[2, 2], strides=[2, 2]),
            node("GlobalAveragePool", [source], ["pooled"]),
            node("Flatten", ["pooled"], ["embedding"]),
        ],
        "extractor",
        [declared("image", TensorProto.UINT8, ["n", H, W, 3])],
        [
            declared("layer1", TensorProto.FLOAT, ["n", 3, H // 2, W // 2]),
            declared("embedding", TensorProto.FLOAT, ["n", 3]),
        ],
        initializer=list(constants),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _with_number(nodes, constants, number):
    """Return a model that adds a number to every pixel, which takes some work to compute."""
    return extractor([*nodes, node("Add", ["planes", number], ["sum"])], constants, source="sum")


def loop(rounds=2**62):
    """A loop that counts up."""
    body = helper.make_graph(
        [node("Identity", ["go"], ["on"]), node("Add", ["count", "one"], ["next"])],
        "body",
        [
            declared("round", TensorProto.INT64, []),
            declared("go", TensorProto.BOOL, []),
            declared("count", TensorProto.FLOAT, []),
        ],
        [declared("on", TensorProto.BOOL, []), declared("next", TensorProto.FLOAT, [])],
        initializer=[tensor(1, "one", np.float32)],
    )
    constants = [tensor(rounds, "rounds"), tensor(True, "true", bool), tensor(0, "zero", np.float32)]
    return _with_number([node("Loop", ["rounds", "true", "zero"], ["counted"], body=body)], constants, "counted")


def large_constant(size=2**30):
    """The sum of as many zeros as the file says."""
    nodes = [node("ConstantOfShape", ["size"], ["zeros"]), node("ReduceSum", ["zeros"], ["total"], keepdims=0)]
    return _with_number(nodes, [tensor([size], "size")], "total")


def large_expansion(size=2**30):
    """The largest of many copies of a pixel, which can't be folded when the file is loaded."""
    nodes = [
        node("ReduceMax", ["planes"], ["pixel"], keepdims=0),
        node("Expand", ["pixel", "size"], ["copies"]),
        node("ReduceMax", ["copies"], ["largest"], keepdims=0),
    ]
    return _with_number(nodes, [tensor([size], "size")], "largest")


def long_product(side=12_000):
    """One operator that takes minutes: the product of two matrices with ``side`` rows and columns."""
    nodes = [
        node("ReduceMax", ["planes"], ["pixel"], keepdims=0),
        node("Expand", ["pixel", "size"], ["matrix"]),
        node("MatMul", ["matrix", "matrix"], ["product"]),
        node("ReduceMax", ["product"], ["largest"], keepdims=0),
    ]
    return _with_number(nodes, [tensor([side, side], "size")], "largest")


def folded_products(count=60, side=1024):
    """Products of constants, which ONNX Runtime folds while it loads the file."""
    nodes = [node("ConstantOfShape", ["size"], ["m0"], value=helper.make_tensor("v", TensorProto.FLOAT, [1], [1e-3]))]
    nodes += [node("MatMul", [f"m{i}", f"m{i}"], [f"m{i + 1}"]) for i in range(count)]
    nodes.append(node("ReduceSum", [f"m{count}"], ["total"], keepdims=0))
    return _with_number(nodes, [tensor([side, side], "size")], "total")


def nested_functions(depth=20):
    """2^depth operators: each function calls the one before twice."""
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("spade", 1)]
    functions = [helper.make_function("spade", "f0", ["x"], ["y"], [node("Sin", ["x"], ["y"])], imports)]
    for level in range(1, depth + 1):
        calls = [
            node(f"f{level - 1}", ["x"], ["t"], domain="spade"),
            node(f"f{level - 1}", ["t"], ["y"], domain="spade"),
        ]
        functions.append(helper.make_function("spade", f"f{level}", ["x"], ["y"], calls, imports))
    model = extractor([node(f"f{depth}", ["planes"], ["sum"], domain="spade")], source="sum")
    model.opset_import.append(helper.make_opsetid("spade", 1))
    model.functions.extend(functions)
    return model


def unknown_operator(name="Nonsense"):
    return extractor([node(name, ["planes"], ["sum"])], source="sum")


def another_type():
    """An addition of float32 and float64."""
    nodes = [node("Cast", ["planes"], ["doubles"], to=TensorProto.DOUBLE), node("Add", ["planes", "doubles"], ["sum"])]
    return extractor(nodes, source="sum")


def fixed_reshape():
    """A model that runs one image, but not two."""
    return extractor([node("Reshape", ["planes", "shape"], ["sum"])], [tensor([1, 3, H, W], "shape")], source="sum")


def short_weights():
    """A tensor that lacks its last byte."""
    weights = tensor(np.zeros((1, 3, 1, 1)), "weights", np.float32)
    weights.raw_data = weights.raw_data[:-1]
    return extractor([node("Add", ["planes", "weights"], ["sum"])], [weights], source="sum")


def external_weights():
    """A tensor whose data lies in another file."""
    weights = tensor(np.zeros((1, 3, 1, 1)), "weights", np.float32)
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    entry = weights.external_data.add()
    entry.key, entry.value = "location", "weights.bin"
    return extractor([node("Add", ["planes", "weights"], ["sum"])], [weights], source="sum")


def newer_opset():
    model = extractor()
    model.opset_import[0].version = 99
    return model


def newer_format():
    model = extractor()
    model.ir_version = 99
    return model


def save(model, path):
    path.write_bytes(model.SerializeToString())
    return path
