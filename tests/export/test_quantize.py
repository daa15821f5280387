"""An int8 extractor compared with its float32 one: graph, contract, report, command line."""

from __future__ import annotations

import inspect
import json

import numpy as np
import pytest
from spadeline.engine.cli.arguments import command_parser
from spadeline.engine.cli.main import main
from spadeline.engine.extract.extractor import Extractor
from spadeline.engine.folders.listing import list_images
from spadeline.engine.images.reading import read_image
from spadeline.engine.images.resizing import place
from spadeline.engine.match.matcher import instruction_sets
from spadeline.export import export_extractor, quantize_extractor
from spadeline.export.choices import NEIGHBOURHOOD

from .conftest import QUANTIZING, RESNET, SMALL, frames

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("torch")

from spadeline.export.fold import fold_constants, fold_normalisation  # noqa: E402

pytestmark = QUANTIZING


def run(model, images):
    source = str(model) if not isinstance(model, onnx.ModelProto) else model.SerializeToString()
    return onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"]).run(None, {"image": images})


# --- the graph ---


@pytest.mark.parametrize("size", [SMALL, (224, 160)])
def test_folding_the_normalisation_is_exact_up_to_the_border(float32, tmp_path, size):
    path = float32
    if size != SMALL:
        path = tmp_path / "resnet.onnx"
        export_extractor(path, **RESNET, input_size=size)
    model = fold_constants(path, tmp_path)
    zero = fold_normalisation(model)
    assert zero == round(255 * (0.485 + 0.456 + 0.406) / 3)
    assert [node.op_type for node in model.graph.node].count("Mul") == 0
    images = np.concatenate([frames(2, size), np.full((1, *size, 3), 255, np.uint8)])
    for expected, got in zip(run(path, images), run(model, images), strict=True):
        # Both are float32 with sums in another order: each is off by some roundings of its largest value.
        np.testing.assert_allclose(got, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


def test_a_graph_that_is_not_affine_before_its_convolution_stays(extractor_path, tmp_path):
    model = fold_constants(extractor_path, tmp_path)
    before = model.SerializeToString()
    assert fold_normalisation(model) is None
    assert model.SerializeToString() == before


def test_every_convolution_takes_integers_and_the_first_one_the_pixels(int8):
    graph = onnx.load(int8[0]).graph
    maker = {name: node for node in graph.node for name in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 15  # 3 stages of 4, two with a shortcut, and the first
    for node in convolutions:
        assert {maker[name].op_type for name in node.input} == {"DequantizeLinear"}
    first = maker[maker[convolutions[0].input[0]].input[0]]
    kinds = []
    while first.input[0] != "image":
        kinds.append(first.op_type)
        first = maker[first.input[0]]
    assert set(kinds) == {"Transpose", "Reshape", "Pad"}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for node in convolutions:
        quantized = weights[maker[node.input[1]].input[0]]
        scales = weights[maker[node.input[1]].input[1]]
        assert quantized.data_type == onnx.TensorProto.INT8
        assert list(scales.dims) == [quantized.dims[0]]  # one a channel


# --- what users get ---


def test_the_contract_stays(float32, int8, parts):
    before, after = (Extractor(path, device="cpu", threads=1) for path in (float32, int8[0]))
    assert (after.level_names, after.level_shapes) == (before.level_names, before.level_shapes)
    assert (after.input_size, after.embedding_size, after.precision) == (SMALL, 256, "int8")
    images = np.stack(
        [place(read_image(path), SMALL, framing="whole")[0] for path in list_images(parts / "test" / "good")]
    )
    one, other = before.extract(images), after.extract(images)
    for expected, got in zip((*one.levels, one.embedding), (*other.levels, other.embedding), strict=True):
        assert (got.dtype, got.shape) == (np.float32, expected.shape)
        assert np.corrcoef(expected.ravel(), got.ravel())[0, 1] > 0.98
        assert not np.array_equal(expected, got)


def test_metadata(int8, float32):
    before, after = (Extractor(path, device="cpu").metadata for path in (float32, int8[0]))
    digest = after.pop("spadeline.calibration_sha256")
    assert len(digest) == 64
    assert after == before | {"spadeline.precision": "int8", "spadeline.calibration_images": "9"}


def test_report(int8, float32, parts):
    path, report = int8
    assert (report.path, report.calibrated, report.cost.held_out) == (path, 9, 3)
    assert (report.float32_bytes, report.int8_bytes) == (float32.stat().st_size, path.stat().st_size)
    assert report.int8_bytes < 0.3 * report.float32_bytes
    assert 0.95 <= report.cost.map_correlation < 1
    assert report.cost.worst_image in list_images(parts / "train" / "good")[3::4]
    assert report.cost.score_shift is None  # of three images
    assert report.float32_per_int8 > 0
    assert set(report.cost.rocauc) == {"image_rocauc_by_map_score", "image_rocauc_by_image_score", "pixel_rocauc"}


def test_the_same_bytes_from_the_same_inputs(float32, parts, int8, tmp_path):
    quantize_extractor(tmp_path / "again.onnx", float32, calibration_images=parts)
    assert (tmp_path / "again.onnx").read_bytes() == int8[0].read_bytes()


def test_an_export_is_the_quantized_float32_export(float32, parts, int8, tmp_path):
    report = export_extractor(
        tmp_path / "e.onnx", **RESNET, input_size=SMALL, precision="int8", calibration_images=parts / "train" / "good"
    )
    assert report.path.read_bytes() == int8[0].read_bytes()
    assert (report.precision, report.quantization.calibrated) == ("int8", 9)
    assert [path.name for path in tmp_path.iterdir()] == ["e.onnx"]


def test_a_foreign_graph_whose_pixels_can_not_be_folded(extractor_path, parts, tmp_path):
    path = tmp_path / "e.onnx"
    report = quantize_extractor(path, extractor_path, calibration_images=parts, framing="paper", least_correlation=0.5)
    assert Extractor(path, device="cpu").metadata["spadeline.backbone"] == "averages"
    assert report.cost.rocauc == {}
    assert any(node.op_type == "QuantizeLinear" for node in onnx.load(path).graph.node)


def test_hazelnut(hazelnut, tmp_path):
    images, network = hazelnut
    report = quantize_extractor(
        tmp_path / "e.onnx", network, calibration_images=images, evaluation_images=images, most_rocauc_loss=1
    )
    assert report.cost.map_correlation > 0.99
    before, after = report.cost.rocauc["pixel_rocauc"]
    assert abs(before - after) < 0.005


# --- the command line ---


def test_command_line(float32, parts, tmp_path, capsys):
    arguments = ["export", str(tmp_path / "e.onnx"), "--from", str(float32), "--precision", "int8"]
    arguments += ["--calibrate", str(parts), "--most-rocauc-loss", "1"]
    assert main([*arguments, "--evaluate", str(parts)]) == 0
    printed = capsys.readouterr().out
    assert "int8, calibrated on 9 normal images" in printed
    vnni = any("vnni" in name for name in instruction_sets())
    assert ("x the speed of float32 on this machine (it has no VNNI: exact 16-bit sums)\n" in printed) != vnni
    assert " x the speed of float32 on this machine" in printed
    assert "their maxima" not in printed
    assert "3 other normal images: maps correlate with float32's by 0.9" in printed
    assert "pixel rocauc: " in printed
    assert main([*arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["path"] == str(tmp_path / "e.onnx")
    assert document["cost"]["held_out"] == 3
    assert document["float32_per_int8"] > 0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            ["--precision", "int8"],
            "--calibrate: expected normal images with int8, and none without, got --precision int8",
        ),
        (
            ["--calibrate", "x"],
            "--calibrate: expected normal images with int8, and none without, got --precision float32",
        ),
        (["--from", "x.onnx"], "--from: expected --neighbourhood N, --precision int8 or both with it, got neither"),
        (
            ["--from", "x.onnx", "--neighbourhood", "3", "--precision", "float16"],
            "--precision: expected int8 or none with --from, got float16",
        ),
        (
            ["--from", "x.onnx", "--neighbourhood", "3", "--weights", "random"],
            "--weights: expected none with --from, which has its own",
        ),
        *(
            (
                ["--from", "x.onnx", "--neighbourhood", "3", option, value],
                f"{option}: expected it with --precision int8 alone",
            )
            for option, value in (
                ("--framing", "whole"),
                ("--evaluate", "x"),
                ("--least-correlation", "0.5"),
                ("--most-rocauc-loss", "0.5"),
            )
        ),
        *(
            (
                ["--from", "x.onnx", "--precision", "int8", "--calibrate", "x", option, value],
                f"{option}: expected none with --from, which has its own",
            )
            for option, value in (
                ("--backbone", "resnet18"),
                ("--levels", "layer1"),
                ("--input-size", "64x64"),
                ("--weights", "random"),
                ("--embedding", "layer3"),
            )
        ),
    ],
)
def test_options_that_do_not_go_together(tmp_path, capsys, options, text):
    assert main(["export", str(tmp_path / "e.onnx"), *options]) == 2
    assert capsys.readouterr().err == f"spadeline: {text}\n"


def test_the_command_lines_defaults_are_the_functions():
    (commands,) = (each for each in command_parser(version="1")._actions if isinstance(each.choices, dict))
    texts = {action.dest: action.help for action in commands.choices["export"]._actions}
    for function in (export_extractor, quantize_extractor):
        defaults = inspect.signature(function).parameters
        for name in ("framing", "least_correlation", "most_rocauc_loss"):
            assert texts[name].endswith(f" ({defaults[name].default})")
    assert texts["precision"].endswith(f" ({inspect.signature(export_extractor).parameters['precision'].default})")
    unaveraged = inspect.signature(quantize_extractor).parameters["neighbourhood"].default
    assert texts["neighbourhood"].endswith(f" ({NEIGHBOURHOOD}; with --from, {unaveraged})")
