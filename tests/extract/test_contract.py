"""Each clause of the contract: what a file must not be, with the error that names it."""

import numpy as np
import pytest
from spadeline.engine.extract.extractor import Extractor

from .tiny_graphs import (
    DOUBLE,
    FLOAT,
    FLOAT16,
    LAYERS,
    OUTPUTS,
    POOL,
    UINT8,
    constant,
    halved,
    node,
    noise,
    refused,
    write,
)

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
helper = onnx.helper


@pytest.mark.parametrize("content", [b"", b"not a graph", bytes(range(256)) * 20])
def test_a_file_that_is_not_onnx_is_refused(path, capfd, content):
    path.write_bytes(content)
    text = refused(path)
    assert text.startswith(f"{path}: expected a file that ONNX Runtime loads, got: ")
    assert "ONNXRuntimeError" not in text
    assert capfd.readouterr() == ("", "")


def test_a_truncated_file(tiny, capfd):
    whole = tiny.read_bytes()
    for keep in (1, len(whole) // 3, len(whole) // 2, len(whole) - 1):
        tiny.write_bytes(whole[:keep])
        assert refused(tiny).startswith(f"{tiny}: expected ")
    assert capfd.readouterr() == ("", "")


def test_a_file_with_external_data_is_refused(path):
    extra = constant("one", np.ones((1, 3, 1, 1), np.float32))
    write(path, [node("Mul", "planes one", "layer1"), *POOL], [("layer1", FLOAT, None), OUTPUTS[-1]], constants=[extra])
    Extractor(path, device="cpu", threads=1)
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="x.onnx.data", size_threshold=0)
    assert (path.parent / "x.onnx.data").exists()
    merge = "merge it: onnx.save(onnx.load(path), path)"
    assert refused(path) == f"{path}: expected one file, got one with external data; {merge}"
    onnx.save(onnx.load(path), path)
    Extractor(path, device="cpu", threads=1)


def test_a_file_that_is_replaced_or_removed_is_held(tiny):
    extractor, images = Extractor(tiny, device="cpu", threads=2), noise(2)
    expected = extractor.extract(images)
    for change in (lambda: tiny.rename(tiny.with_name("old.onnx")), lambda: tiny.write_bytes(b"another")):
        change()
        got = extractor.on_one_thread().extract(images)
        np.testing.assert_array_equal(got.embedding, expected.embedding)


def test_a_missing_file_is_refused(tmp_path):
    assert refused(tmp_path / "x.onnx") == f"{tmp_path / 'x.onnx'}: expected an ONNX file, got no such file"
    assert refused(tmp_path) == f"{tmp_path}: expected an ONNX file, got a folder"


IMAGE = "input 'image': expected"


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ([4, 16, 24, 3], f"{IMAGE} n free, got n = 4"),
        (["n", "h", 24, 3], f"{IMAGE} (n, H, W, 3) with H and W fixed, got (n, h, 24, 3)"),
        (["n", 16, None, 3], f"{IMAGE} (n, H, W, 3) with H and W fixed, got (n, 16, ?, 3)"),
        (["n", 3, 16, 24], f"{IMAGE} (n, H, W, 3) with H and W fixed, got (n, 3, 16, 24)"),
        (["n", 16, 24], f"{IMAGE} (n, H, W, 3) with H and W fixed, got (n, 16, 24)"),
        (["n", 0, 24, 3], f"{IMAGE} (n, H, W, 3) with H and W fixed, got (n, 0, 24, 3)"),
        (None, f"{IMAGE} (n, H, W, 3) with H and W fixed, got ()"),
        (["n", 1 << 20, 1 << 20, 3], f"{IMAGE} at most 100000000 pixels, got 1048576 x 1048576"),
    ],
)
def test_the_inputs_shape(path, shape, reason):
    nodes = [node("Cast", "image", "layer1", to=FLOAT), node("Identity", "layer1", "embedding")]
    graph = helper.make_graph(
        nodes,
        "extractor",
        [helper.make_tensor_value_info("image", UINT8, shape)],
        [helper.make_tensor_value_info(name, FLOAT, None) for name in ("layer1", "embedding")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    assert refused(path) == f"{path}: {reason}"


def test_the_inputs_number_name_and_type(path):
    nodes = [*LAYERS, *POOL]
    image = ("image", UINT8, ["n", 16, 24, 3])
    write(path, [*nodes, node("Identity", "other", "unused")], OUTPUTS, inputs=[image, ("other", FLOAT, ["n"])])
    assert refused(path) == f"{path}: expected one input, got image, other"
    write(path, nodes, OUTPUTS, inputs=[("image", FLOAT, ["n", 16, 24, 3])])
    assert refused(path) == f"{path}: input 'image': expected tensor(uint8), got tensor(float)"
    renamed = [node("Cast", "pixels", "numbers", to=FLOAT), node("Transpose", "numbers", "planes", perm=[0, 3, 1, 2])]
    write(path, renamed + nodes, OUTPUTS, inputs=[("pixels", UINT8, ["n", 16, 24, 3])])
    assert refused(path) == f"{path}: expected an input named 'image', got 'pixels'"


def test_the_outputs_names_and_number(path):
    layer1, layer2, embedding = OUTPUTS
    write(path, LAYERS + POOL, [embedding, layer1, layer2])
    assert refused(path) == f"{path}: expected the last output to be 'embedding', got 'layer2'"
    write(path, POOL, [])
    assert refused(path) == f"{path}: expected the last output to be 'embedding', got no output"
    write(path, POOL, [embedding])
    assert refused(path) == f"{path}: expected 1 to 4 levels before 'embedding', got 0"
    many = [node("Identity", "planes", f"layer{i}") for i in range(1, 6)]
    write(path, many + POOL, [*((f"layer{i}", FLOAT, None) for i in range(1, 6)), embedding])
    assert refused(path) == f"{path}: expected 1 to 4 levels before 'embedding', got 5"
    write(path, [halved("planes", "features"), *POOL], [("features", FLOAT, None), embedding])
    assert refused(path) == f"{path}: expected levels named 'layer1', 'layer2', …, got 'features'"


def test_the_outputs_types(path):
    layer1, layer2, embedding = OUTPUTS
    double = [node("Cast", "planes", "layer1", to=DOUBLE)]
    write(path, double + POOL, [("layer1", DOUBLE, None), embedding])
    assert refused(path) == f"{path}: output 'layer1': expected float32 or float16, got tensor(double)"
    half = [halved("planes", "layer1"), halved("layer1", "small"), node("Cast", "small", "layer2", to=FLOAT16)]
    write(path, half + POOL, [layer1, ("layer2", FLOAT16, layer2[2]), embedding])
    assert refused(path) == f"{path}: expected levels of one number type, got tensor(float), tensor(float16)"
    integral = [node("GlobalAveragePool", "planes", "pooled"), node("Cast", "pooled", "embedding", to=UINT8)]
    write(path, LAYERS + integral, [layer1, layer2, ("embedding", UINT8, None)])
    assert refused(path) == f"{path}: output 'embedding': expected float32 or float16, got tensor(uint8)"


def test_the_outputs_ranks(path):
    write(path, [node("Flatten", "planes", "layer1"), *POOL], [("layer1", FLOAT, None), OUTPUTS[-1]])
    text = "output 'layer1' for n = 2: expected (n, c, h, w), got (2, 1152)"
    assert refused(path) == f"{path}: {text}"
    pooled = [*LAYERS, node("GlobalAveragePool", "planes", "embedding")]
    write(path, pooled, [*OUTPUTS[:2], ("embedding", FLOAT, None)])
    assert refused(path) == f"{path}: output 'embedding' for n = 2: expected (n, d), got (2, 3, 1, 1)"


def test_a_batch_that_is_not_free_inside(path):
    # Declared free, but the graph merges the images: only running it tells.
    nodes = [*LAYERS, node("ReduceMean", "planes", "embedding", axes=[0, 2], keepdims=0)]
    write(path, nodes, [*OUTPUTS[:2], ("embedding", FLOAT, None)])
    assert refused(path) == f"{path}: output 'embedding' for n = 2: expected (n, d), got (3, 24)"


def test_a_graph_that_does_not_run(path, capfd):
    nodes = [*LAYERS, *POOL[:1], node("Reshape", "pooled shape", "embedding")]
    write(path, nodes, OUTPUTS, constants=[constant("shape", np.array([1, 3]))])
    assert refused(path).startswith(f"{path}: expected a graph that runs 2 images, got: ")
    assert capfd.readouterr() == ("", "")


def test_levels_that_do_not_halve(path):
    shapes = [("layer1", FLOAT, None), ("layer2", FLOAT, None), OUTPUTS[-1]]
    write(path, [halved("planes", "layer1"), node("Identity", "layer1", "layer2"), *POOL], shapes)
    text = "level 1: expected the size of level 0 (8 x 12) halved once or more, rounded up, got 8 x 12"
    assert refused(path) == f"{path}: {text}"
    coarse_first = [halved("planes", "layer2"), halved("layer2", "layer1")]
    write(path, coarse_first + POOL, shapes)
    assert "expected the size of level 0 (4 x 6) halved" in refused(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite(path, value):
    nodes = [halved("planes", "layer1"), node("Add", "layer1 bad", "layer2"), *POOL]
    bad = constant("bad", np.full((1, 1, 1, 1), value, np.float32))
    write(path, nodes, [OUTPUTS[0], ("layer2", FLOAT, None), OUTPUTS[-1]], constants=[bad])
    assert refused(path) == f"{path}: output 'layer2': expected finite numbers, got NaN or infinity"
