"""An int8 extractor compared with its float32 one: contract, cost and bounds, refused arguments, command line."""

from __future__ import annotations

import inspect
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from spadeline.engine.cli.arguments import parse
from spadeline.engine.cli.main import main
from spadeline.engine.errors import DependencyError, ExportError, ExtractorError, InputError
from spadeline.engine.extract.extractor import Extractor
from spadeline.engine.folders.listing import list_images
from spadeline.engine.images.reading import read_image
from spadeline.engine.images.resizing import place
from spadeline.engine.match.matcher import instruction_sets
from spadeline.export import export_extractor, quantize_extractor

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("torch")

from spadeline.export.cost import Cost, _score_shift, measure_cost  # noqa: E402
from spadeline.export.fold import fold_constants, fold_normalisation  # noqa: E402
from spadeline.export.quantize import quantize  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:resnet18 gets random weights:UserWarning"),
    pytest.mark.xdist_group("quantize"),  # one process makes what they share
]

SMALL = (64, 96)
RESNET = {"backbone": "resnet18", "levels": ("layer1", "layer2"), "embedding": "layer3", "weights": "random"}


@pytest.fixture(scope="module")
def float32(tmp_path_factory):
    path = tmp_path_factory.mktemp("float32") / "resnet.onnx"
    export_extractor(path, **RESNET, input_size=SMALL)
    return path


@pytest.fixture(scope="module")
def int8(float32, parts, tmp_path_factory):
    path = tmp_path_factory.mktemp("int8") / "resnet.onnx"
    return path, quantize_extractor(path, float32, calibration_images=parts, evaluation_images=parts)


def frames(n, size=SMALL, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *size, 3), np.uint8)


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


# --- what is refused ---


@pytest.mark.parametrize("before", [None, b"the old one"])
def test_a_cost_beyond_its_bound_leaves_what_was_there(float32, parts, tmp_path, before):
    target = tmp_path / "e.onnx"
    if before is not None:
        target.write_bytes(before)
    with pytest.raises(
        ExportError,
        match=r"int8: expected anomaly maps that correlate with float32's by 1 or more, got 0\.9\d* on the worst of 3 ",
    ):
        quantize_extractor(target, float32, calibration_images=parts, least_correlation=1)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == ([] if before is None else [before])


def test_a_loss_of_rocauc_beyond_its_bound():
    cost = Cost(
        3, map_correlation=0.99, worst_image=Path("7.png"), score_shift=0.1, rocauc={"pixel_rocauc": (0.98, 0.95)}
    )
    cost.check(least_correlation=0.99, most_rocauc_loss=0.031)
    text = r"int8: expected a loss of pixel_rocauc of at most 0.02, got 0.0300: 0.9800 at float32, 0.9500 at int8"
    with pytest.raises(ExportError, match=text):
        cost.check(least_correlation=0.9, most_rocauc_loss=0.02)
    undefined = Cost(3, map_correlation=float("nan"), worst_image=Path("7.png"), score_shift=0.1, rocauc={})
    with pytest.raises(ExportError, match=r"got nan on the worst of 3 normal images, 7\.png"):
        undefined.check(least_correlation=-1, most_rocauc_loss=0)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"framing": "crop"}, "framing: expected one of whole, paper, got 'crop'"),
        ({"least_correlation": 2}, "least_correlation: expected .* got 2"),
        ({"most_rocauc_loss": "much"}, "most_rocauc_loss: expected .* got 'much'"),
    ],
)
def test_arguments_that_make_no_sense(float32, parts, tmp_path, options, text):
    with pytest.raises(InputError, match=text):
        quantize_extractor(tmp_path / "e.onnx", float32, calibration_images=parts, **options)
    assert not list(tmp_path.iterdir())


def test_images_that_are_not_there_are_known_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # what an export would ask for next
    with pytest.raises(InputError, match=r"gone: expected a folder of images, got no such path"):
        export_extractor(tmp_path / "e.onnx", **RESNET, precision="int8", calibration_images=tmp_path / "gone")


def test_images_that_are_the_same_move_no_score(float32, parts):
    """Their maxima have a standard deviation of 0; a figure that isn't finite couldn't be written as JSON."""
    paths = list_images(parts / "train" / "good")
    cost = measure_cost(float32, float32, gallery=paths[:6], held_out=[paths[8]] * 4, framing="whole", labelled=None)
    assert (cost.score_shift, cost.map_correlation) == (0, pytest.approx(1))


def test_a_shift_is_in_standard_deviations_and_of_four_images_or_more():
    scores = np.array([[0.0, 2, 0, 2], [0, 4, 4, 0]])  # both standardise to -1 and 1
    assert _score_shift(scores) == 2
    assert _score_shift(scores[:, :3]) is None


def test_a_map_without_deviation_is_the_worst(float32, parts, monkeypatch):
    """Its correlation is NaN, which min() finds only if it comes first."""
    paths = list_images(parts / "train" / "good")
    correlations = iter([0.99, float("nan"), 0.98])
    monkeypatch.setattr("numpy.corrcoef", lambda *_: np.full((2, 2), next(correlations)))
    cost = measure_cost(float32, float32, gallery=paths[:2], held_out=paths[2:5], framing="whole", labelled=None)
    assert np.isnan(cost.map_correlation)
    assert cost.worst_image == paths[3]


@pytest.mark.parametrize(("precision", "given"), [("int8", None), ("float32", "folder"), ("float16", "folder")])
def test_calibration_images_belong_to_int8(tmp_path, precision, given):
    text = (
        f"calibration_images: expected a folder .* for precision 'int8' and none for others, got .* for '{precision}'"
    )
    with pytest.raises(InputError, match=text):
        export_extractor(tmp_path / "e.onnx", **RESNET, precision=precision, calibration_images=given)


def test_too_few_images(float32, parts, tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    for path in list_images(parts / "train" / "good")[:7]:
        shutil.copy(path, few)
    with pytest.raises(InputError, match=r"calibration_images: expected 8 or more normal images in .*few, got 7"):
        quantize_extractor(tmp_path / "e.onnx", float32, calibration_images=few)


@pytest.mark.parametrize("folder", ["abnormal", "test", "ground_truth"])
def test_defects_and_masks_do_not_calibrate(float32, parts, tmp_path, folder):
    shutil.copytree(parts / "train" / "good", tmp_path / "set")
    shutil.copytree(parts / "test" / "scratch", tmp_path / "set" / folder)
    with pytest.raises(InputError, match=f"set: expected normal images only, got a folder with {folder}"):
        quantize_extractor(tmp_path / "e.onnx", float32, calibration_images=tmp_path / "set")
    assert not (tmp_path / "e.onnx").exists()


def test_calibrating_images_are_refused_as_test_images(float32, parts, tmp_path):
    shutil.copytree(parts / "train" / "good", tmp_path / "set" / "normal")
    shutil.copytree(parts / "test" / "scratch", tmp_path / "set" / "abnormal")
    text = r"evaluation_images: expected test images that don't calibrate, or .*, got .*000\.png and 8 more"
    options = {"calibration_images": tmp_path / "set" / "normal", "evaluation_images": tmp_path / "set"}
    with pytest.raises(InputError, match=text):
        quantize_extractor(tmp_path / "e.onnx", float32, **options)
    assert not (tmp_path / "e.onnx").exists()


def test_the_source_is_not_replaced(float32, parts):
    before = float32.read_bytes()
    other = float32.parent / ".." / float32.parent.name / float32.name
    with pytest.raises(InputError, match=r"path: expected another file than the float32 one, got .* for both"):
        quantize_extractor(other, float32, calibration_images=parts)
    assert float32.read_bytes() == before


def test_a_source_whose_weights_lie_beside_it(float32, parts, tmp_path):
    onnx.save(onnx.load(float32), tmp_path / "source.onnx", save_as_external_data=True, location="source.data")
    with pytest.raises(ExtractorError, match=r"source\.onnx: expected one file, got one with external data; merge it"):
        quantize_extractor(tmp_path / "e.onnx", tmp_path / "source.onnx", calibration_images=parts)
    assert not (tmp_path / "e.onnx").exists()


def test_an_image_that_can_not_be_read_is_named_once(float32, parts, tmp_path):
    shutil.copytree(parts / "train" / "good", tmp_path / "set")
    (tmp_path / "set" / "000.png").write_bytes(b"no image")
    with pytest.raises(InputError) as caught:
        quantize_extractor(tmp_path / "e.onnx", float32, calibration_images=tmp_path / "set")
    assert str(caught.value).count("000.png") == 1


@pytest.mark.parametrize(
    "given",
    [{"framing": "paper"}, {"evaluation_images": "x"}, {"least_correlation": 0.5}, {"most_rocauc_loss": 0.5}],
)
def test_options_of_int8_are_refused_at_other_precisions(tmp_path, given):
    ((name, value),) = given.items()
    with pytest.raises(
        InputError, match=f"{name}: expected it with precision 'int8' alone, got {value!r} for 'float16'"
    ):
        export_extractor(tmp_path / "e.onnx", **RESNET, precision="float16", **given)


def test_a_data_set_without_test_images(float32, parts, tmp_path):
    shutil.copytree(parts / "train", tmp_path / "set" / "train")
    with pytest.raises(InputError, match=r"evaluation_images: expected test images in .*set, got none"):
        quantize_extractor(tmp_path / "e.onnx", float32, calibration_images=parts, evaluation_images=tmp_path / "set")


def test_sources_that_are_no_float32_extractor(int8, parts, tmp_path):
    target, half = tmp_path / "e.onnx", tmp_path / "half.onnx"
    with pytest.raises(ExportError, match="expected a float32 extractor to quantize, got a graph that is quantized"):
        quantize_extractor(target, int8[0], calibration_images=parts)
    export_extractor(half, **RESNET, input_size=SMALL, precision="float16")
    with pytest.raises(ExportError, match="expected a float32 extractor to quantize, got one with float16 weights"):
        quantize_extractor(target, half, calibration_images=parts)
    with pytest.raises(ExtractorError, match=r"absent\.onnx: expected an ONNX file, got no such file"):
        quantize_extractor(target, tmp_path / "absent.onnx", calibration_images=parts)
    assert [path.name for path in tmp_path.iterdir()] == ["half.onnx"]


def test_a_cost_that_can_not_be_measured(float32, parts, tmp_path, monkeypatch):
    def fails(*_, **__):
        raise InputError("frame: broken")

    monkeypatch.setattr("spadeline.export.quantized.measure_cost", fails)
    with pytest.raises(ExportError, match="int8: its cost can't be measured: frame: broken"):
        quantize_extractor(tmp_path / "e.onnx", float32, calibration_images=parts)
    assert not list(tmp_path.iterdir())


def test_images_of_another_size_are_no_calibration(float32):
    with pytest.raises(ExportError, match="ONNX Runtime can't quantize it: "):
        quantize(float32, [frames(1, (32, 32))[0]], properties={})


def test_a_file_that_is_no_graph(tmp_path):
    (tmp_path / "e.onnx").write_bytes(b"no graph")
    with pytest.raises(ExportError, match="ONNX Runtime can't optimise it: "):
        fold_constants(tmp_path / "e.onnx", tmp_path)


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_missing_package(tmp_path, monkeypatch, float32, parts, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DependencyError, match=f"{package} is not installed: pip install"):
        quantize_extractor(tmp_path / "e.onnx", float32, calibration_images=parts)
    assert not list(tmp_path.iterdir())


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
        (["--from", "x.onnx"], "--from: expected --precision int8 with it, got float32"),
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


def test_the_command_lines_bounds_are_the_functions():
    options = parse(["export", "e.onnx"], version="1")
    for function in (export_extractor, quantize_extractor):
        defaults = inspect.signature(function).parameters
        for name in ("framing", "least_correlation", "most_rocauc_loss"):
            assert getattr(options, name) == defaults[name].default
