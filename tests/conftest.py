"""A small inspection task that needs no network and no torch: images, an extractor, a recipe."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
SIZE = 64


def part(seed, *, scratched=False, size=96):
    """A grey part with a fixed grid and its own noise; a scratch is a bright bar."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    picture = 120 + 30 * np.sin(y / 5) + 20 * np.sin(x / 7) + rng.normal(0, 6, (size, size))
    mask = np.zeros((size, size), np.uint8)
    if scratched:
        top, left = rng.integers(15, 60, 2)
        mask[top : top + 8, left : left + 24] = 255
        picture[mask > 0] += 90
    tint = np.array([1.0, 0.9, 0.8])
    return np.clip(picture[..., None] * tint, 0, 255).astype(np.uint8), mask


def pytest_report_header():
    from .gpu import FOUND

    return f"GPU: {FOUND}"


@pytest.fixture(scope="session")
def parts(tmp_path_factory):
    """A folder in MVTec AD's layout: 12 good parts to fit on, 4 good and 4 scratched ones to test."""
    root = tmp_path_factory.mktemp("parts")
    for folder, seeds, scratched in (
        ("train/good", range(12), False),
        ("test/good", range(100, 104), False),
        ("test/scratch", range(200, 204), True),
    ):
        (root / folder).mkdir(parents=True)
        for seed in seeds:
            picture, mask = part(seed, scratched=scratched)
            Image.fromarray(picture).save(root / folder / f"{seed:03}.png")
            if scratched:
                (root / "ground_truth" / "scratch").mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(root / "ground_truth" / "scratch" / f"{seed:03}_mask.png")
    return root


@pytest.fixture(scope="session")
def extractor_path(tmp_path_factory):
    """An ONNX file that keeps the contract: three levels of random 1 x 1 convolutions over averaged pixels."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.DataType.Value
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Cast", ["image"], ["numbers"], to=kind("FLOAT")),
        helper.make_node("Transpose", ["numbers"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["planes", "scale"], ["scaled"]),
    ]
    constants = [onnx.numpy_helper.from_array(np.float32(1 / 32), "scale")]
    below, channels = "scaled", 3
    outputs = []
    for index, (stride, wider) in enumerate(((4, 8), (2, 16), (2, 24)), start=1):
        weights = rng.standard_normal((wider, channels, 1, 1)).astype(np.float32) / np.float32(channels) ** 0.5
        constants.append(onnx.numpy_helper.from_array(weights, f"weights{index}"))
        kernel = {"kernel_shape": [stride, stride], "strides": [stride, stride]}
        nodes += [
            helper.make_node("AveragePool", [below], [f"pooled{index}"], **kernel),
            helper.make_node("Conv", [f"pooled{index}", f"weights{index}"], [f"mixed{index}"]),
            helper.make_node("Relu", [f"mixed{index}"], [f"layer{index}"]),
        ]
        below, channels = f"layer{index}", wider
        side = SIZE // (4 * 2 ** (index - 1))
        outputs.append(helper.make_tensor_value_info(below, kind("FLOAT"), ["n", wider, side, side]))
    nodes += [
        helper.make_node("GlobalAveragePool", [below], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["embedding"]),
    ]
    outputs.append(helper.make_tensor_value_info("embedding", kind("FLOAT"), ["n", channels]))
    image = helper.make_tensor_value_info("image", kind("UINT8"), ["n", SIZE, SIZE, 3])
    graph = helper.make_graph(nodes, "extractor", [image], outputs, initializer=constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"spadeline.backbone": "averages", "spadeline.weights": "random"})
    path = tmp_path_factory.mktemp("extractor") / "averages.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture(scope="session")
def recipe_folder(tmp_path_factory, parts, extractor_path):
    """A recipe fitted on the good parts; tests that change one make their own."""
    pytest.importorskip("faiss")
    from spadeline.engine import Settings, fit

    folder = tmp_path_factory.mktemp("recipe") / "parts"
    settings = Settings(k_score=3, k_gallery=8, kappa=2, sigma=1.5)
    fit(parts / "train" / "good", folder, extractor=extractor_path, settings=settings, false_alarm_rate=0.1, threads=2)
    return folder


@pytest.fixture(scope="session")
def hazelnut():
    """The real images and the real network, where they lie beside the project."""
    if not (SHARED / "hazelnut_reduced").is_dir() or not (SHARED / "resnet50_thin.onnx").is_file():
        pytest.skip("no hazelnut images and pretrained ResNet beside the project")
    return SHARED / "hazelnut_reduced", SHARED / "resnet50_thin.onnx"
