"""ONNX files given as extractors: loaded and tried out within limits, or refused in one sentence.

The limits are set low here, so that a case which passes them is refused within seconds. Memory that ONNX Runtime takes
outside of its arena isn't limited (text, sparse tensors): none of the seeds has any.
"""

import contextlib
import os
from pathlib import Path

from .mutations import mutate_file

LIMIT_S, LIMIT_BYTES = 3, 256 << 20
SECONDS = 25.0  # for loading and two runs, with a margin for each
MEMORY_BYTES = 1 << 30

NUMBERS = (-(2**63), -(2**31), -1, 0, 1, 2, 3, 5, 1 << 16, 1 << 31, 1 << 40, (1 << 62), (1 << 63) - 1)
OPERATORS = ("Relu", "Shape", "Size", "NonZero", "Tile", "Expand", "Range", "Resize", "Pad", "ConstantOfShape", "MatMul",
             "Loop", "If", "Scan", "Conv", "Gather", "Reshape", "Concat", "Split", "OneHot", "TopK", "Upsample")  # fmt: skip


def corpus(folder):
    from tests import graphs

    seeds = {
        "good": graphs.extractor(),
        "one-loop": graphs.loop(rounds=5),
        "loop-of-2^62-rounds": graphs.loop(),
        "constant-of-2^30-numbers": graphs.large_constant(),
        "constant-of-2^50-numbers": graphs.large_constant(2**50),
        "negative-constant": graphs.large_constant(-1),
        "expanded-to-2^30-numbers": graphs.large_expansion(),
        "products-while-loading": graphs.folded_products(),
        "a-million-operators-by-functions": graphs.nested_functions(),
        "unknown-operator": graphs.unknown_operator(),
        "operator-of-a-long-name": graphs.unknown_operator("x" * 100_000),
        "another-type": graphs.another_type(),
        "one-image-only": graphs.fixed_reshape(),
        "weights-too-short": graphs.short_weights(),
        "weights-elsewhere": graphs.external_weights(),
        "newer-opset": graphs.newer_opset(),
        "newer-format": graphs.newer_format(),
    }
    for name, model in seeds.items():
        graphs.save(model, folder / f"{name}.onnx")
    (folder / "empty.onnx").write_bytes(b"")
    (folder / "text.onnx").write_bytes(b"not a graph")


def mutate(rng, case, target):
    """Change bytes, after which most files are no graph; in three of four cases, change the graph itself if there is one."""
    import onnx
    from google.protobuf.message import DecodeError

    others = sorted(path for path in Path(case).parent.iterdir() if path.is_file())
    if rng.integers(4):
        model = onnx.ModelProto()
        with contextlib.suppress(DecodeError):
            model.ParseFromString(Path(case).read_bytes())
            for _ in range(rng.integers(1, 3)):
                _change(rng, model.graph)
            target.write_bytes(model.SerializeToString())
            return
    mutate_file(rng, case, target, others[rng.integers(len(others))])


def _change(rng, graph):
    """Change a number of a tensor, attribute or output, change a node's operator or input, or remove a node."""
    if not graph.node:
        return
    node = graph.node[rng.integers(len(graph.node))]
    number = int(rng.choice(NUMBERS))
    kind = rng.integers(6)
    if kind == 0 and graph.initializer:
        tensor = graph.initializer[rng.integers(len(graph.initializer))]
        if tensor.dims and rng.integers(2):
            tensor.dims[0] = number
        else:
            size = max(len(tensor.raw_data) // 8, 1)
            tensor.raw_data = number.to_bytes(8, "little", signed=True) * size
    elif kind == 1 and node.attribute:
        attribute = node.attribute[rng.integers(len(node.attribute))]
        if attribute.ints:
            attribute.ints[rng.integers(len(attribute.ints))] = number
        attribute.i = number
    elif kind == 2:
        node.op_type = str(rng.choice(OPERATORS))
    elif kind == 3 and node.input:
        names = [name for other in graph.node for name in other.output] + ["image"]
        node.input[rng.integers(len(node.input))] = str(rng.choice(names))
    elif kind == 4:
        shape = graph.output[rng.integers(len(graph.output))].type.tensor_type.shape
        if shape.dim:
            shape.dim[rng.integers(len(shape.dim))].dim_value = number
    else:
        graph.node.remove(node)


def attempt(case):
    from spadeline.engine.extract.extractor import Extractor

    os.environ.update(SPADELINE_EXTRACTOR_SECONDS=str(LIMIT_S), SPADELINE_EXTRACTOR_BYTES=str(LIMIT_BYTES))
    Extractor(case, device="cpu", threads=1)
