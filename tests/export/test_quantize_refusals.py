"""Arguments, images and sources that no int8 extractor is made of, and the cost that is too high."""

from __future__ import annotations

import shutil
import sys

import pytest
from spadeline.engine.errors import DependencyError, ExportError, ExtractorError, InputError
from spadeline.engine.folders.listing import list_images
from spadeline.export import export_extractor, quantize_extractor

from .conftest import QUANTIZING, RESNET, SMALL, frames

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("torch")

from spadeline.export.fold import fold_constants  # noqa: E402
from spadeline.export.quantize import quantize  # noqa: E402

pytestmark = QUANTIZING


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
    with pytest.raises(InputError, match=r"path: expected another file than the one it is made of, got .* for both"):
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
