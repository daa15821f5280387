"""Verification finds graphs that differ from torch: in one weight, in all numbers, in names, types or shapes."""

from __future__ import annotations

import copy
import importlib
import re

import numpy as np
import pytest
from spadeline.engine.errors import ExportError

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

pytestmark = pytest.mark.xdist_group("verify")  # one process makes what they share
backbone = importlib.import_module("spadeline.export.backbone")
verify_module = importlib.import_module("spadeline.export.verify")
load_weights = importlib.import_module("spadeline.export.weights").load_weights
probe_frames, verify = verify_module.probe_frames, verify_module.verify

SIZE = (64, 64)
LEVELS = ("layer1", "layer2", "layer3")


@pytest.fixture(scope="module")
def original():
    with pytest.warns(UserWarning, match="random weights"):
        loaded = load_weights("resnet18", "random")
    return backbone.build("resnet18", loaded, levels=LEVELS, input_size=SIZE)


@pytest.fixture
def model(original):
    return copy.deepcopy(original)


@pytest.fixture(scope="module")
def graph(original, tmp_path_factory):
    path = tmp_path_factory.mktemp("graph") / "extractor.onnx"
    path.write_bytes(backbone.to_onnx(original, precision="float32", properties={}))
    return path


def test_faithful_graph_is_well_within_the_tolerance(model, graph):
    checks = verify(model, graph, precision="float32")
    assert [check.name for check in checks] == [*LEVELS, "embedding"]
    assert all(check.largest_error <= check.tolerance < 1e-4 for check in checks)


@pytest.mark.parametrize("level", LEVELS)
def test_one_filter_off_by_a_thousandth_is_found_and_located(model, graph, level):
    getattr(model.resnet, level)[0].conv2.weight[5] *= 1.001
    with pytest.raises(ExportError) as caught:
        verify(model, graph, precision="float32")
    number = r"-?\d+\.?\d*(?:e[-+]\d+)?"
    found = re.fullmatch(
        rf"{level}: the exported graph differs from torch at \((\d+), (\d+), (\d+), (\d+)\): "
        rf"expected ({number}), got ({number}), allowed difference ({number})",
        str(caught.value),
    )
    assert found is not None, str(caught.value)
    *index, expected, got, tolerance = (float(group) for group in found.groups())
    assert abs(expected - got) > tolerance > 0
    with torch.no_grad():
        truth = model(torch.from_numpy(probe_frames(SIZE)))[LEVELS.index(level)].numpy()
    assert truth[tuple(int(i) for i in index)] == pytest.approx(expected, rel=1e-8)


def test_swapped_colours_are_found(model, graph):
    model.resnet.conv1.weight.copy_(model.resnet.conv1.weight.flip(1))
    with pytest.raises(ExportError, match="layer1: the exported graph differs"):
        verify(model, graph, precision="float32")


def test_other_outputs_are_found(model, graph):
    model.output_names = ("layer1", "layer2", "layer4", "embedding")
    with pytest.raises(ExportError, match=r"outputs: expected \('layer1', 'layer2', 'layer4', 'embedding'\), got"):
        verify(model, graph, precision="float32")


def test_other_type_is_found(model, graph):
    with pytest.raises(ExportError, match=r"layer1: expected float16 \(2, 64, 16, 16\) .*, got float32"):
        verify(model, graph, precision="float16")


def test_other_size_is_found(model, graph):
    model.input_size = (96, 64)
    with pytest.raises(ExportError, match="ONNX Runtime can't run the exported graph at batch 2: "):
        verify(model, graph, precision="float32")


def test_file_that_is_no_graph_is_found(model, tmp_path):
    path = tmp_path / "extractor.onnx"
    path.write_bytes(b"not a graph")
    with pytest.raises(ExportError, match="ONNX Runtime can't load the exported graph: "):
        verify(model, path, precision="float32")


def test_result_that_is_not_a_number_is_found(model, graph, monkeypatch):
    run = verify_module.Graph.run

    def spoiled(self, images):
        outputs = run(self, images)
        outputs[1][0, 2, 3, 4] = np.nan
        return outputs

    monkeypatch.setattr(verify_module.Graph, "run", spoiled)
    with pytest.raises(ExportError, match=r"layer2: .* at \(0, 2, 3, 4\): expected .*, got nan"):
        verify(model, graph, precision="float32")


def test_weights_beyond_half_precision_are_named(model, tmp_path):
    model.resnet.layer2[0].bn2.bias += 1e5
    model.output_names = ("layer2", "embedding")
    path = tmp_path / "extractor.onnx"
    path.write_bytes(backbone.to_onnx(model, precision="float16", properties={}))
    with pytest.raises(ExportError, match="layer2: with these weights torch itself leaves the range of float16"):
        verify(model, path, precision="float16")


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (224, 160)])
def test_probe_frames_are_fixed_noise_and_a_natural_spectrum(size):
    images = probe_frames(size)
    assert images.dtype == np.uint8
    assert images.shape == (2, *size, 3)
    np.testing.assert_array_equal(images, probe_frames(size))
    neighbours = [np.corrcoef(image[:, :-1].ravel(), image[:, 1:].ravel())[0, 1] for image in images.astype(float)]
    # Independent pixels, within five standard errors; and pixels that resemble their neighbours.
    assert abs(neighbours[0]) < 5 / np.sqrt(images[0].size)
    assert neighbours[1] > 0.6
