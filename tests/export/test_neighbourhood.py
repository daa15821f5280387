"""Levels averaged over neighbouring positions, by an export and of a given file; what is refused; the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from spadeline.engine.cli.main import main
from spadeline.engine.errors import ExportError, ExtractorError, InputError
from spadeline.engine.extract.extractor import Extractor
from spadeline.engine.folders.listing import list_images
from spadeline.engine.images.reading import read_placed
from spadeline.export import average_extractor, export_extractor, quantize_extractor
from spadeline.export.choices import NEIGHBOURHOOD, chosen_neighbourhood

from .conftest import QUANTIZING, RESNET, SMALL, frames

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("torch")

neighbourhood_module = pytest.importorskip("spadeline.export.neighbourhood")
helper, FLOAT = onnx.helper, onnx.TensorProto.FLOAT
pytestmark = QUANTIZING


@pytest.fixture(scope="session")
def plain(tmp_path_factory):
    path = tmp_path_factory.mktemp("plain") / "resnet.onnx"
    export_extractor(path, **RESNET, input_size=SMALL, neighbourhood=1)
    return path


@pytest.fixture(scope="session")
def plain_half(tmp_path_factory):
    path = tmp_path_factory.mktemp("plain") / "half.onnx"
    export_extractor(path, **RESNET, input_size=SMALL, neighbourhood=1, precision="float16")
    return path


@pytest.fixture(scope="session")
def plain_int8(plain, parts, tmp_path_factory):
    path = tmp_path_factory.mktemp("plain") / "int8.onnx"
    quantize_extractor(path, plain, calibration_images=parts)
    return path


def run(path, images):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"image": images}), strict=True))


def averaged(level, neighbourhood):
    """Compute each position's mean over its neighbours; those beyond the border are zero."""
    reach, level = neighbourhood // 2, level.astype(np.float64)
    means = np.empty_like(level)
    for y, x in np.ndindex(*level.shape[2:]):
        there = level[:, :, max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1]
        means[:, :, y, x] = there.sum((2, 3)) / neighbourhood**2
    return means


def check_averages(before, after, neighbourhood, images):
    """The levels are averages up to the roundings of a float32 sum; the embedding stays to the bit."""
    expected, got = run(before, images), run(after, images)
    assert list(got) == list(expected)
    np.testing.assert_array_equal(got.pop("embedding"), expected.pop("embedding"))
    for name, level in expected.items():
        assert (got[name].dtype, got[name].shape) == (level.dtype, level.shape)
        truth, size = averaged(level, neighbourhood), averaged(np.abs(level), neighbourhood)
        bound = (neighbourhood**2 + 2) * 2.0**-24 * size
        if level.dtype == np.float16:
            bound += 2.0**-11 * 1.001 * size + 2.0**-25
        excess = np.abs(got[name] - truth) - bound
        worst = np.unravel_index(excess.argmax(), excess.shape)
        assert excess[worst] <= 0, (name, worst, got[name][worst], truth[worst], bound[worst])


# --- the numbers ---


@pytest.mark.parametrize("neighbourhood", [3, 5])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_an_export_averages_its_levels_and_nothing_else(plain, plain_half, tmp_path, precision, neighbourhood):
    path = tmp_path / "e.onnx"
    report = export_extractor(path, **RESNET, input_size=SMALL, precision=precision, neighbourhood=neighbourhood)
    assert report.neighbourhood == Extractor(path, device="cpu").neighbourhood == neighbourhood
    assert all(check.largest_error <= check.tolerance for check in report.checks)
    before = plain if precision == "float32" else plain_half
    for n in (1, 2):
        check_averages(before, path, neighbourhood, frames(n))


@pytest.mark.parametrize(
    ("kind", "neighbourhood"), [("plain", 7), ("plain_half", 5), ("plain_int8", 3), ("extractor_path", 3)]
)
def test_any_extractor_can_be_averaged(request, tmp_path, kind, neighbourhood):
    source, path = request.getfixturevalue(kind), tmp_path / "e.onnx"
    report = average_extractor(path, source, neighbourhood=neighbourhood)
    before, after = (Extractor(file, device="cpu", threads=1) for file in (source, path))
    for n in (1, 3):
        check_averages(source, path, neighbourhood, frames(n, before.input_size, seed=5))
    assert after.metadata == before.metadata | {"spadeline.neighbourhood": str(neighbourhood)}
    assert (before.neighbourhood, after.neighbourhood) == (1, neighbourhood)
    assert after.precision == before.precision == report.precision
    assert (report.path, report.neighbourhood) == (path, neighbourhood)
    assert [check.name for check in report.checks] == [*before.level_names, "embedding"]
    *levels, embedding = report.checks
    assert all(0 <= check.largest_error <= check.tolerance for check in levels)
    assert (embedding.largest_error, embedding.tolerance) == (0, 0)
    assert [file.name for file in tmp_path.iterdir()] == ["e.onnx"]


def test_a_real_network_and_a_real_image(hazelnut, tmp_path):
    images, network = hazelnut
    average_extractor(tmp_path / "e.onnx", network, neighbourhood=3)
    size = Extractor(network, device="cpu").input_size
    frame = read_placed(list_images(images / "train" / "good")[0], size, framing="whole")
    check_averages(network, tmp_path / "e.onnx", 3, frame[None])


def write_small(path, nodes, level_type=FLOAT):
    """Write an extractor of 4 x 6 pixels, whose nodes make "layer1" of "planes", and of "layer1" the embedding."""
    image = helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, ["n", 4, 6, 3])
    outputs = [helper.make_tensor_value_info("layer1", level_type, ["n", 3, 4, 6])]
    outputs.append(helper.make_tensor_value_info("embedding", level_type, ["n", 3]))
    before = [
        helper.make_node("Cast", ["image"], ["numbers"], to=FLOAT),
        helper.make_node("Transpose", ["numbers"], ["planes"], perm=[0, 3, 1, 2]),
    ]
    after = [helper.make_node("Flatten", ["pooled"], ["embedding"])]
    graph = helper.make_graph([*before, *nodes, *after], "extractor", [image], outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def test_a_branch_inside_of_the_graph_takes_the_level_as_it_was(tmp_path):
    """The branch is a graph of its own, and takes the level by its name."""
    value = helper.make_tensor_value_info("value", FLOAT, None)
    branch = helper.make_graph([helper.make_node("GlobalAveragePool", ["layer1"], ["value"])], "branch", [], [value])
    nodes = [
        helper.make_node("Identity", ["planes"], ["layer1"]),
        helper.make_node("ReduceMax", ["layer1"], ["largest"], keepdims=0),
        helper.make_node("Cast", ["largest"], ["bright"], to=onnx.TensorProto.BOOL),
        helper.make_node("If", ["bright"], ["pooled"], then_branch=branch, else_branch=branch),
    ]
    write_small(tmp_path / "in.onnx", nodes)
    average_extractor(tmp_path / "out.onnx", tmp_path / "in.onnx", neighbourhood=3)
    check_averages(tmp_path / "in.onnx", tmp_path / "out.onnx", 3, frames(2, (4, 6)))


def test_sums_beyond_float16_do_not_overflow(tmp_path):
    """Nine numbers of up to 65025, where float16 ends at 65504."""
    nodes = [
        helper.make_node("Mul", ["planes", "planes"], ["squares"]),
        helper.make_node("Cast", ["squares"], ["layer1"], to=onnx.TensorProto.FLOAT16),
        helper.make_node("ReduceMax", ["layer1"], ["pooled"], axes=[2, 3]),
    ]
    write_small(tmp_path / "in.onnx", nodes, onnx.TensorProto.FLOAT16)
    average_extractor(tmp_path / "out.onnx", tmp_path / "in.onnx", neighbourhood=3)
    images = np.full((1, 4, 6, 3), 255, np.uint8)
    check_averages(tmp_path / "in.onnx", tmp_path / "out.onnx", 3, images)
    assert run(tmp_path / "out.onnx", images)["layer1"][:, :, 1:-1, 1:-1].min() == np.float16(255**2)


def test_integers_are_calibrated_as_without_averaging(plain, plain_int8, parts, tmp_path):
    path = tmp_path / "e.onnx"
    report = quantize_extractor(path, plain, calibration_images=parts, neighbourhood=3)
    assert report.neighbourhood == Extractor(path, device="cpu").neighbourhood == 3
    assert Extractor(path, device="cpu").precision == "int8"
    check_averages(plain_int8, path, 3, frames(2))
    assert [file.name for file in tmp_path.iterdir()] == ["e.onnx"]


def test_an_averaged_file_stays_so_in_integers(float32, plain_int8, parts, tmp_path):
    """The session's float32 extractor has the default neighbourhood."""
    assert Extractor(float32, device="cpu").neighbourhood == NEIGHBOURHOOD
    report = quantize_extractor(tmp_path / "e.onnx", float32, calibration_images=parts)
    assert report.neighbourhood == NEIGHBOURHOOD
    check_averages(plain_int8, tmp_path / "e.onnx", NEIGHBOURHOOD, frames(2))


def test_1_leaves_the_graph_and_its_metadata_as_they_are(plain, plain_half):
    for path in (plain, plain_half):
        assert "spadeline.neighbourhood" not in Extractor(path, device="cpu").metadata
        assert "AveragePool" not in {node.op_type for node in onnx.load(path).graph.node}


@pytest.mark.parametrize(
    ("levels", "size", "expected"),
    [
        (("layer1", "layer2", "layer3"), (224, 224), NEIGHBOURHOOD),
        (("layer1", "layer2", "layer3"), (64, 64), NEIGHBOURHOOD),
        (("layer1", "layer4"), (96, 96), NEIGHBOURHOOD),
        (("layer1", "layer4"), (64, 96), 1),
        (("layer3",), (32, 256), 1),
    ],
)
def test_the_default_fits_into_the_coarsest_level(levels, size, expected):
    assert chosen_neighbourhood(None, levels, size) == expected


# --- what is refused ---


@pytest.mark.parametrize("neighbourhood", [0, -3, 4, 11, 3.0, "3"])
def test_what_is_no_neighbourhood(plain, parts, tmp_path, neighbourhood):
    target = tmp_path / "e.onnx"
    text = r"neighbourhood: expected an odd number from 1 to (\d), with a coarsest level of \d+ x \d+ positions, got "
    for make in (
        lambda: export_extractor(target, backbone="resnet18", weights="random", neighbourhood=neighbourhood),
        lambda: average_extractor(target, plain, neighbourhood=neighbourhood),
        lambda: quantize_extractor(target, plain, calibration_images=parts, neighbourhood=neighbourhood),
    ):
        with pytest.raises(InputError, match=text + repr(neighbourhood)):
            make()
    assert not list(tmp_path.iterdir())


def test_the_coarsest_level_is_the_limit(extractor_path, tmp_path):
    with pytest.raises(InputError, match="from 1 to 3, with a coarsest level of 4 x 4 positions, got 5"):
        average_extractor(tmp_path / "e.onnx", extractor_path, neighbourhood=5)
    options = {"backbone": "resnet18", "weights": "random", "levels": ("layer3", "layer4"), "input_size": (96, 160)}
    with pytest.raises(InputError, match="from 1 to 3, with a coarsest level of 3 x 5 positions, got 5"):
        export_extractor(tmp_path / "e.onnx", **options, neighbourhood=5)


def test_nothing_to_do(plain, tmp_path):
    with pytest.raises(
        InputError, match="neighbourhood: expected 3 or more to average the levels, got 1, which leaves"
    ):
        average_extractor(tmp_path / "e.onnx", plain, neighbourhood=1)


def test_levels_are_not_averaged_twice(plain, parts, tmp_path):
    once, target = tmp_path / "once.onnx", tmp_path / "e.onnx"
    average_extractor(once, plain, neighbourhood=5)
    text = r"once\.onnx: expected an extractor whose levels aren't averaged yet, got one that averages them over 5 x 5"
    for make in (
        lambda: average_extractor(target, once, neighbourhood=3),
        lambda: quantize_extractor(target, once, calibration_images=parts, neighbourhood=3),
    ):
        with pytest.raises(ExportError, match=text):
            make()
    assert not target.exists()


def test_sources_that_are_refused(plain, plain_int8, parts, tmp_path):
    target, before = tmp_path / "e.onnx", plain.read_bytes()
    with pytest.raises(InputError, match=r"path: expected another file than the one it is made of, got .* for both"):
        average_extractor(plain.parent / ".." / plain.parent.name / plain.name, plain, neighbourhood=3)
    assert plain.read_bytes() == before
    with pytest.raises(ExtractorError, match=r"absent\.onnx: expected an ONNX file, got no such file"):
        average_extractor(target, tmp_path / "absent.onnx", neighbourhood=3)
    with pytest.raises(ExportError, match=r"int8\.onnx: expected a float32 extractor to quantize, got a graph that is"):
        quantize_extractor(target, plain_int8, calibration_images=parts, neighbourhood=3)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("before", [None, b"the old one"])
def test_other_borders_are_found(plain, tmp_path, monkeypatch, before):
    append = neighbourhood_module._append_averages

    def with_those_that_are_there(model, levels, neighbourhood):
        append(model, levels, neighbourhood)
        for node in model.graph.node:
            if node.op_type == "AveragePool":
                node.attribute.remove(next(each for each in node.attribute if each.name == "count_include_pad"))
                node.attribute.append(helper.make_attribute("count_include_pad", 0))

    monkeypatch.setattr(neighbourhood_module, "_append_averages", with_those_that_are_there)
    target = tmp_path / "e.onnx"
    if before is not None:
        target.write_bytes(before)
    text = r"layer1: the exported graph differs from .*resnet\.onnx at \(\d, \d+, (0|\d+, 0|15|\d+, 23)"
    with pytest.raises(ExportError, match=text):
        average_extractor(target, plain, neighbourhood=3)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == ([] if before is None else [before])


def test_an_embedding_of_averages_is_found(extractor_path, tmp_path, monkeypatch):
    append = neighbourhood_module._append_averages

    def pooled_afterwards(model, levels, neighbourhood):
        append(model, levels, neighbourhood)
        pool = next(node for node in model.graph.node if node.op_type == "GlobalAveragePool")
        pool.input[0] = levels[-1]
        model.graph.node.remove(pool)
        model.graph.node.append(pool)
        flatten = next(node for node in model.graph.node if node.op_type == "Flatten")
        model.graph.node.append(flatten)
        model.graph.node.remove(flatten)

    monkeypatch.setattr(neighbourhood_module, "_append_averages", pooled_afterwards)
    with pytest.raises(ExportError, match=r"embedding: the exported graph differs from .* allowed difference 0$"):
        average_extractor(tmp_path / "e.onnx", extractor_path, neighbourhood=3)
    assert not list(tmp_path.iterdir())


# --- the command line ---


def test_command_line(plain, parts, tmp_path, capsys):
    target = tmp_path / "e.onnx"
    arguments = ["export", str(target), "--from", str(plain), "--neighbourhood", "3"]
    assert main(arguments) == 0
    first, second, *checks = capsys.readouterr().out.splitlines()
    assert (first, second) == (f"{target}: float32", "  levels averaged over 3 x 3 positions")
    assert checks[0].startswith("  layer1: largest error against the given file ")
    assert main([*arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["path"], document["neighbourhood"], len(document["checks"])) == (str(target), 3, 3)
    assert main([*arguments, "--precision", "int8", "--calibrate", str(parts), "--framing", "whole"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"{target}: int8, calibrated on 9 normal images"
    assert printed[-1] == "  levels averaged over 3 x 3 positions"
    assert main(["export", str(tmp_path / "f.onnx"), "--from", str(target), "--neighbourhood", "3"]) == 2
    assert "e.onnx: expected an extractor whose levels aren't averaged yet" in capsys.readouterr().err


def test_command_line_of_an_export(tmp_path, capsys):
    arguments = ["export", str(tmp_path / "e.onnx"), "--backbone", "resnet18", "--weights", "random"]
    arguments += ["--levels", "layer1", "--embedding", "layer1", "--input-size", "32x32"]
    assert main(arguments) == 0
    line = f"  levels averaged over {NEIGHBOURHOOD} x {NEIGHBOURHOOD} positions"
    assert (line in capsys.readouterr().out.splitlines()) == (NEIGHBOURHOOD > 1)
    assert main([*arguments, "--neighbourhood", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["neighbourhood"] == 1
