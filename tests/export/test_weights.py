"""Weights from torchvision, from files and from a random generator; and all wrong weights that are refused."""

from __future__ import annotations

import hashlib
import importlib
import os
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import pytest
from spadeline.engine.errors import DependencyError, DownloadError, ExportError

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")
pytest.importorskip("onnx")

from safetensors.torch import save_file  # noqa: E402

backbone = importlib.import_module("spadeline.export.backbone")
weights = importlib.import_module("spadeline.export.weights")
load_weights = weights.load_weights

LEVELS = ("layer1", "layer2", "layer3", "layer4")


def build(loaded):
    return backbone.build("resnet18", loaded, levels=("layer1",), input_size=(32, 32))


@pytest.fixture(scope="module")
def random_weights():
    with pytest.warns(UserWarning, match="random weights"):
        return load_weights("resnet18", "random")


@pytest.fixture
def state(random_weights) -> dict:
    return dict(random_weights.tensors)


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """Return the path of torch's cache folder for downloads, which doesn't exist yet."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "hub" / "checkpoints"


def save(tensors, path: Path) -> Path:
    torch.save(tensors, path)
    return path


def serve(monkeypatch, path: Path) -> None:
    """Set the address of torchvision's V1 weights."""
    entry = {"IMAGENET1K_V1": SimpleNamespace(url=path.as_uri())}
    monkeypatch.setattr(torchvision.models, "get_model_weights", lambda name: entry)


def test_random_weights_are_the_same_every_time(random_weights):
    digest = hashlib.sha256()
    for key in sorted(random_weights.tensors):
        digest.update(random_weights.tensors[key].numpy().tobytes())
    with pytest.warns(UserWarning, match="random weights"):
        again = load_weights("resnet18", "random")
    assert (again.name, again.sha256) == ("random", digest.hexdigest()) == ("random", random_weights.sha256)


def test_classifier_and_counters_may_be_missing_or_present(state):
    build(weights.Weights(state, "all", ""))
    without = {k: v for k, v in state.items() if not k.startswith("fc.") and "num_batches" not in k}
    build(weights.Weights(without, "fewer", ""))
    build(weights.Weights({**state, "fc.weight": torch.zeros(2, 512)}, "other classes", ""))


def test_random_features_keep_their_scale_at_any_depth():
    with pytest.warns(UserWarning, match="random weights"):
        loaded = load_weights("resnet101", "random")
    model = backbone.build("resnet101", loaded, levels=LEVELS, input_size=(64, 64))
    noise = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        scales = [float(level.std()) for level in model(noise)[:4]]
    # Left as initialised, layer3 comes out thousands of times layer1, and float16 doesn't hold layer4.
    assert max(scales) < 10 * min(scales)


# --- torchvision's own ---


def test_download_is_checked_and_kept(tmp_path, monkeypatch, cache, state):
    file = save(state, tmp_path / "weights.pth")
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    served = file.rename(tmp_path / f"resnet18-{sha256[:8]}.pth")
    serve(monkeypatch, served)
    first = load_weights("resnet18", "torchvision")
    served.unlink()
    second = load_weights("resnet18", "torchvision")
    assert first.name == "torchvision IMAGENET1K_V1"
    assert first.sha256 == second.sha256 == sha256
    assert [path.name for path in cache.iterdir()] == [served.name]
    build(second)


def test_download_with_another_hash_is_not_kept(tmp_path, monkeypatch, cache, state):
    serve(monkeypatch, save(state, tmp_path / "resnet18-00000000.pth"))
    with pytest.raises(DownloadError, match=r"could not be downloaded from .*invalid hash value"):
        load_weights("resnet18", "torchvision")
    assert not list(cache.iterdir())


def test_damaged_file_in_the_cache(cache):
    cache.mkdir(parents=True)
    (cache / "resnet18-f37072fd.pth").write_bytes(b"cut off")
    with pytest.raises(ExportError, match=r"expected a SHA-256 that begins with f37072fd, got .{8}: delete the"):
        load_weights("resnet18", "torchvision")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("resnet18", "resnet18-f37072fd.pth"),
        ("resnet34", "resnet34-b627a593.pth"),
        ("resnet50", "resnet50-0676ba61.pth"),
        ("resnet101", "resnet101-63fe2227.pth"),
        ("wide_resnet50_2", "wide_resnet50_2-95faca4d.pth"),
        ("wide_resnet101_2", "wide_resnet101_2-32ee1156.pth"),
    ],
)
def test_without_network_the_error_says_what_to_do(monkeypatch, cache, name, file):
    """The names are those of the V1 files: V2 would change all scores without notice."""

    def refuse(*_, **__):
        raise URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(DownloadError) as caught:
        load_weights(name, "torchvision")
    assert str(caught.value) == (
        f"the weights of {name} could not be downloaded from https://download.pytorch.org/models/{file} "
        f"(Name or service not known): pass a weights file (--weights FILE), put {file} into {cache}, or take "
        "--weights random for a trial"
    )


def test_refused_connection(monkeypatch, cache):
    # Port 9 of this machine: "discard", which nothing listens on.
    entry = {"IMAGENET1K_V1": SimpleNamespace(url="http://127.0.0.1:9/resnet18-f37072fd.pth")}
    monkeypatch.setattr(torchvision.models, "get_model_weights", lambda name: entry)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(DownloadError, match=r"could not be downloaded from http://127.*refused.*--weights random"):
        load_weights("resnet18", "torchvision")
    assert not list(cache.iterdir())


# --- files ---


def test_missing_file(tmp_path):
    with pytest.raises(ExportError, match=r"absent\.pth: the weights can't be read \(No such file"):
        load_weights("resnet18", tmp_path / "absent.pth")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kept", [0, 1, 7, 100, 4096, -1])
def test_truncated_file(tmp_path, state, suffix, kept):
    path = tmp_path / f"cut{suffix}"
    small = {"conv1.weight": state["conv1.weight"]}
    (save_file if suffix == ".safetensors" else torch.save)(small, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ExportError, match=f"cut{suffix}: .*damaged"):
        load_weights("resnet18", path)


def test_pickled_code_is_refused_and_not_run(tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    path = save({"conv1.weight": Hostile()}, tmp_path / "hostile.pth")
    plain = tmp_path / "plain.pth"
    plain.write_bytes(pickle.dumps(Hostile()))
    for file in (path, plain):
        with pytest.raises(ExportError, match="pickled code is never run"):
            load_weights("resnet18", file)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([torch.zeros(3)], r"names to tensors\), got list"),
        (torch.zeros(3), "got Tensor"),
        ({"epoch": 3, "state_dict": {}}, "got int at 'epoch'"),
        ({0: torch.zeros(3)}, "got Tensor at 0"),
    ],
)
def test_not_a_state_dict(tmp_path, content, text):
    path = save(content, tmp_path / "odd.pth")
    with pytest.raises(ExportError, match=f"odd.pth: expected a state dict .*{text}"):
        load_weights("resnet18", path)


def test_safetensors_is_optional(tmp_path, monkeypatch, state):
    save_file(state, tmp_path / "w.safetensors")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.delitem(sys.modules, "safetensors.torch")
    with pytest.raises(DependencyError, match=r"safetensors is not installed: pip install 'spadeline\[export\]'"):
        load_weights("resnet18", tmp_path / "w.safetensors")


# --- weights that don't fit ---


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"layer2.0.conv1.weight": None, "layer3.0.conv1.weight": None}, "layer2.0.conv1.weight is missing"),
        (
            {"conv1.weight": torch.zeros(64, 1, 7, 7)},
            r"expected conv1.weight as floats \(64, 3, 7, 7\), got .* \(64, 1, 7",
        ),
        ({"bn1.bias": torch.zeros(64, dtype=torch.int8)}, "expected bn1.bias as floats .* got torch.int8"),
        ({"layer1.2.conv1.weight": torch.zeros(1)}, "it has no layer1.2.conv1.weight"),
    ],
)
def test_weights_of_another_backbone(state, change, text):
    changed = {k: v for k, v in {**state, **change}.items() if v is not None}
    with pytest.raises(ExportError, match=f"^odd.pth: not weights of resnet18: {text}"):
        build(weights.Weights(changed, "odd.pth", ""))


def test_empty_state_dict(tmp_path):
    with pytest.raises(ExportError, match=r"empty\.pth: not weights of resnet18: conv1.weight is missing"):
        build(load_weights("resnet18", save({}, tmp_path / "empty.pth")))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_numbers(state, value):
    state["layer1.0.bn1.bias"] = torch.full((64,), value)
    with pytest.raises(ExportError, match=r"odd\.pth: layer1\.0\.bn1\.bias holds NaN or infinity"):
        build(weights.Weights(state, "odd.pth", ""))
