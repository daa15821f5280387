"""The exported file is compared with torchvision; refused arguments; files after an export that failed."""

from __future__ import annotations

import errno
import hashlib
import importlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spadeline.engine.cli.main import main
from spadeline.engine.errors import DependencyError, ExportError, InputError, OutputError
from spadeline.export import BACKBONES, LEVELS, ExportReport, export_extractor
from spadeline.export.choices import check_choices

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")
pytest.importorskip("onnxscript")

from safetensors.torch import save_file  # noqa: E402
from torchvision.models.feature_extraction import create_feature_extractor  # noqa: E402
from torchvision.transforms.functional import normalize  # noqa: E402

pytestmark = pytest.mark.xdist_group("export")  # one process makes what they share
backbone_module = importlib.import_module("spadeline.export.backbone")

SMALL = (64, 96)
CHANNELS = {
    "resnet18": {"layer1": 64, "layer2": 128, "layer3": 256, "layer4": 512, "embedding": 512},
    "wide_resnet50_2": {"layer1": 256, "layer2": 512, "layer3": 1024, "layer4": 2048, "embedding": 2048},
}


@dataclass(frozen=True)
class Exported:
    report: ExportReport
    session: onnxruntime.InferenceSession

    def run(self, frames) -> dict[str, np.ndarray]:
        names = [output.name for output in self.session.get_outputs()]
        return dict(zip(names, self.session.run(None, {"image": frames}), strict=True))


def export(path: Path, **options) -> Exported:
    report = export_extractor(path, **options)
    return Exported(report, onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]))


def trained_like_model():
    """Return a ResNet-18 whose batch normalisations change their input, as after training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = torchvision.models.resnet18()
        for norm in (m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)):
            torch.nn.init.uniform_(norm.weight, 0.3, 1.0)
            torch.nn.init.normal_(norm.bias, std=0.2)
            norm.running_mean.normal_(std=0.2)
            norm.running_var.uniform_(0.5, 2.0)
    return model.eval()


def frames(n: int, size: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, *size, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model():
    return trained_like_model()


@pytest.fixture(scope="module")
def weights_file(model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "plant.pth"
    torch.save(model.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def exported(weights_file, tmp_path_factory) -> Exported:
    path = tmp_path_factory.mktemp("small") / "extractor.onnx"
    return export(path, backbone="resnet18", levels=LEVELS, input_size=SMALL, weights=weights_file)


@pytest.fixture(scope="module")
def exported_half(weights_file, tmp_path_factory) -> Exported:
    path = tmp_path_factory.mktemp("half") / "extractor.onnx"
    return export(path, backbone="resnet18", levels=LEVELS, input_size=SMALL, weights=weights_file, precision="float16")


def torchvision_outputs(model, images) -> dict[str, np.ndarray]:
    """Compute the outputs with torchvision's normalisation and feature extraction alone."""
    x = normalize(torch.from_numpy(images).permute(0, 3, 1, 2) / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    nodes = {**{level: level for level in LEVELS}, "flatten": "embedding"}
    with torch.no_grad():
        return {name: value.numpy() for name, value in create_feature_extractor(model, nodes)(x).items()}


def test_outputs_are_torchvisions_own(exported, model):
    images = frames(3, SMALL)
    expected, got = torchvision_outputs(model, images), exported.run(images)
    assert list(got) == [*LEVELS, "embedding"] == list(expected)
    for check in exported.report.checks:
        assert got[check.name].dtype == np.float32
        # Twice the tolerance: torchvision's float32 is not the float64 truth either.
        np.testing.assert_allclose(got[check.name], expected[check.name], rtol=0, atol=2 * check.tolerance)


def test_half_precision_has_half_levels_and_a_float_embedding(exported_half, model):
    images = frames(2, SMALL)
    expected, got = torchvision_outputs(model, images), exported_half.run(images)
    assert {name: str(value.dtype) for name, value in got.items()} == {
        **dict.fromkeys(LEVELS, "float16"),
        "embedding": "float32",
    }
    for check in exported_half.report.checks:
        np.testing.assert_allclose(got[check.name], expected[check.name], rtol=0, atol=2 * check.tolerance)
        assert check.tolerance < 0.02 * np.abs(expected[check.name]).max()


def test_a_frame_gives_the_same_at_any_batch_size_and_place(exported):
    images = frames(5, SMALL)
    together = exported.run(images)
    for check in exported.report.checks:
        for place in range(5):
            alone = exported.run(images[place : place + 1])[check.name]
            np.testing.assert_allclose(alone[0], together[check.name][place], rtol=0, atol=2 * check.tolerance)


def test_report(exported, weights_file):
    report = exported.report
    assert report.path.is_file()
    assert (report.backbone, report.levels, report.input_size) == ("resnet18", LEVELS, SMALL)
    assert (report.precision, report.neighbourhood, report.weights) == ("float32", 1, "plant.pth")
    assert report.weights_sha256 == hashlib.sha256(weights_file.read_bytes()).hexdigest()
    assert [check.name for check in report.checks] == [*LEVELS, "embedding"]
    assert all(0 < check.largest_error <= check.tolerance for check in report.checks)


def test_metadata_says_what_was_exported(exported, weights_file):
    assert exported.session.get_modelmeta().custom_metadata_map == {
        "spadeline.backbone": "resnet18",
        "spadeline.levels": "layer1,layer2,layer3,layer4",
        "spadeline.embedding": "layer4",
        "spadeline.input_size": "64x96",
        "spadeline.color": "rgb",
        "spadeline.weights": "plant.pth",
        "spadeline.weights_sha256": hashlib.sha256(weights_file.read_bytes()).hexdigest(),
        "spadeline.precision": "float32",
        "spadeline.torch": torch.__version__,
        "spadeline.torchvision": torchvision.__version__,
    }


def test_graph_is_lean_and_names_no_path_of_this_machine(exported):
    import onnx

    graph = onnx.load(exported.report.path).graph
    assert {node.op_type for node in graph.node} == {
        *("Transpose", "Cast", "Mul", "Add"),  # normalisation; Add also joins the residual branches
        *("Conv", "Relu", "MaxPool", "ReduceMean"),
    }
    counts = [node.op_type for node in graph.node]
    assert (counts.count("Mul"), counts.count("Cast"), counts.count("Conv")) == (1, 1, 20)
    del graph.initializer[:]
    assert str(Path(__file__).parents[2]).encode() not in graph.SerializeToString()
    assert b".py" not in graph.SerializeToString()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_any_kind_of_weights_file_gives_the_same_extractor(exported, model, tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("fc.")}
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({f"module.{k}": v for k, v in state.items()}, path, _use_new_zipfile_serialization=False)
    again = export(tmp_path / "e.onnx", backbone="resnet18", levels=LEVELS, input_size=SMALL, weights=path)
    assert again.report.weights_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    images = frames(2, SMALL)
    for name, value in exported.run(images).items():
        np.testing.assert_array_equal(value, again.run(images)[name])


def test_subset_of_levels_and_identical_bytes_from_random_weights(tmp_path):
    options = {
        "backbone": "resnet18",
        "levels": ("layer2", "layer4"),
        "input_size": (32, 64),
        "weights": "random",
    }
    state = torch.random.get_rng_state()
    with pytest.warns(UserWarning, match="resnet18 gets random weights: for trials only") as caught:
        first, second = (export(tmp_path / name, **options) for name in ("a.onnx", "b.onnx"))
    assert {Path(warning.filename) for warning in caught} == {Path(__file__)}
    assert torch.equal(state, torch.random.get_rng_state())
    assert first.report.path.read_bytes() == second.report.path.read_bytes()
    assert first.report.weights == "random"
    shapes = {name: value.shape for name, value in first.run(frames(3, (32, 64))).items()}
    assert shapes == {"layer2": (3, 128, 4, 8), "layer4": (3, 512, 1, 2), "embedding": (3, 512)}


def test_an_embedding_of_a_lower_level_leaves_out_what_follows(exported, weights_file, tmp_path):
    options = {"backbone": "resnet18", "levels": ("layer1", "layer2"), "input_size": SMALL, "weights": weights_file}
    lower = export(tmp_path / "e.onnx", **options, embedding="layer3", neighbourhood=1)
    images = frames(2, SMALL)
    whole, got = exported.run(images), lower.run(images)
    np.testing.assert_array_equal(got["layer2"], whole["layer2"])
    np.testing.assert_allclose(got["embedding"], whole["layer3"].mean((2, 3)), rtol=1e-5)
    assert (
        lower.report.embedding == lower.session.get_modelmeta().custom_metadata_map["spadeline.embedding"] == "layer3"
    )
    assert lower.report.path.stat().st_size < 0.3 * exported.report.path.stat().st_size  # layer4 has most weights


@pytest.mark.parametrize(("backbone", "size"), [("resnet18", (256, 320)), ("wide_resnet50_2", (224, 224))])
def test_real_sizes(tmp_path, backbone, size):
    with pytest.warns(UserWarning, match="random weights"):
        exported = export(tmp_path / "e.onnx", backbone=backbone, input_size=size, weights="random")
    outputs = exported.run(frames(1, size))
    strides = {"layer1": 4, "layer2": 8, "layer3": 16}
    expected = {k: (1, CHANNELS[backbone][k], size[0] // s, size[1] // s) for k, s in strides.items()}
    assert {name: value.shape for name, value in outputs.items()} == {
        **expected,
        "embedding": (1, CHANNELS[backbone]["embedding"]),
    }
    assert exported.report.levels == ("layer1", "layer2", "layer3")


# --- what is refused, and what is left behind ---


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"backbone": "resnet152"}, "backbone: expected one of resnet18, .*, got 'resnet152'"),
        ({"levels": ()}, r"levels: expected one or more of layer1, .*, got \(\)"),
        ({"levels": "layer1"}, "levels: expected one or more of layer1"),
        ({"levels": ("layer2", "layer1")}, "each once, in this order, got"),
        ({"input_size": (224, 225)}, r"input_size: expected .* multiples of 32, got \(224, 225\)"),
        ({"input_size": (0, 32)}, r"input_size: .* positive .*, got \(0, 32\)"),
        ({"input_size": (-32, 32)}, r"got \(-32, 32\)"),
        ({"input_size": (64.0, 64)}, r"got \(64.0, 64\)"),
        ({"input_size": 224}, "input_size: .* got 224"),
        ({"input_size": (224,)}, r"input_size: .* got \(224,\)"),
        ({"precision": "bfloat16"}, "precision: expected one of float32, float16, int8, got 'bfloat16'"),
        (
            {"levels": ("layer1", "layer3"), "embedding": "layer2"},
            "embedding: expected the coarsest of levels or a coarser one, layer3, layer4, got 'layer2'",
        ),
        ({"embedding": "fc"}, "embedding: expected .*, got 'fc'"),
        ({"weights": "imagenet"}, "weights: expected 'torchvision', 'random' or a .*file, got 'imagenet'"),
    ],
)
def test_arguments_that_no_export_can_have(tmp_path, options, text):
    with pytest.raises(InputError, match=text):
        export_extractor(tmp_path / "e.onnx", **options)
    assert not list(tmp_path.iterdir())


@given(st.lists(st.sampled_from([*LEVELS, "layer5"]), max_size=5))
def test_levels_are_accepted_exactly_when_known_unique_and_in_order(levels):
    fits = bool(levels) and "layer5" not in levels and levels == sorted(set(levels))
    try:
        check_choices(BACKBONES[0], tuple(levels), (32, 32), "float32")
    except InputError:
        assert not fits
    else:
        assert fits


@pytest.mark.parametrize(
    ("name", "reason"),
    [("missing/e.onnx", "No such file"), ("file/e.onnx", "Not a directory"), ("folder", "it is a folder")],
)
def test_unwritable_target_is_known_before_the_weights_are_looked_at(tmp_path, name, reason):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match=f"{name}: can't be written: {reason}"):
        export_extractor(tmp_path / name, backbone="resnet18", weights=tmp_path / "absent.pth")
    assert {path.name for path in tmp_path.rglob("*")} == {"file", "folder"}


@pytest.mark.parametrize("path", [".", ""])
def test_a_target_without_a_name(path):
    with pytest.raises(OutputError, match=r"^\.: can't be written: it is a folder$"):
        export_extractor(path, backbone="resnet18", weights="absent.pth")


def test_a_terminated_export_leaves_nothing_behind(tmp_path, monkeypatch, capsys):
    def killed(*_, **__):
        assert [path.suffix for path in tmp_path.iterdir()] == [".partial"]
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(importlib.import_module("spadeline.export.weights"), "load_weights", killed)
    before = signal.getsignal(signal.SIGTERM)
    assert main(["export", str(tmp_path / "e.onnx"), "--backbone", "resnet18"]) == 130
    assert capsys.readouterr().err == "spadeline: interrupted\n"
    assert not list(tmp_path.iterdir())
    assert signal.getsignal(signal.SIGTERM) is before


def test_full_disk_leaves_the_old_file(tmp_path, monkeypatch, weights_file):
    target = tmp_path / "e.onnx"
    target.write_bytes(b"the old one")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(backbone_module, "to_onnx", lambda *_, **__: b"graph")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"e\.onnx: can't be written: No space left on device"):
        export_extractor(target, backbone="resnet18", input_size=(32, 32), weights=weights_file)
    assert [path.name for path in tmp_path.iterdir()] == ["e.onnx"]
    assert target.read_bytes() == b"the old one"


@pytest.mark.parametrize("before", [None, b"the old one"])
def test_graph_that_disagrees_with_torch_is_not_kept(tmp_path, monkeypatch, exported, before):
    """Export other weights: names, types and shapes are right, the numbers are wrong."""
    graph = exported.report.path.read_bytes()
    monkeypatch.setattr(backbone_module, "to_onnx", lambda *_, **__: graph)
    target = tmp_path / "e.onnx"
    if before is not None:
        target.write_bytes(before)
    options = {"backbone": "resnet18", "levels": LEVELS, "input_size": SMALL, "weights": "random"}
    with (
        pytest.warns(UserWarning, match="random weights"),
        pytest.raises(ExportError, match=r"layer1: the exported graph differs from torch at \(\d"),
    ):
        export_extractor(target, **options)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == ([] if before is None else [before])


@pytest.mark.parametrize(
    ("package", "command"),
    [
        *((p, r"pip install 'spadeline\[export\]'") for p in ("torch", "torchvision", "onnx", "onnxscript")),
        ("onnxruntime", r"pip install 'spadeline\[cpu\]' \(or 'spadeline\[gpu\]'"),
    ],
)
def test_missing_package(tmp_path, monkeypatch, package, command):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DependencyError, match=f"{package} is not installed: {command}"):
        export_extractor(tmp_path / "e.onnx", weights="random")
    assert not list(tmp_path.iterdir())


def test_import_is_light():
    code = "import sys, spadeline.export; print({'torch', 'onnx', 'onnxruntime'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"


def test_export_is_quiet_where_warnings_are_errors(tmp_path, weights_file):
    code = (
        "import sys; from spadeline.export import export_extractor; "
        "export_extractor(sys.argv[1], backbone='resnet18', input_size=(32, 32), weights=sys.argv[2])"
    )
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, tmp_path / "e.onnx", weights_file],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
