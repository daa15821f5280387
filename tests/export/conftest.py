"""An extractor with random weights, the int8 one made of it, and frames for both."""

import numpy as np
import pytest
from spadeline.export import export_extractor, quantize_extractor

SMALL = (64, 96)
RESNET = {"backbone": "resnet18", "levels": ("layer1", "layer2"), "embedding": "layer3", "weights": "random"}
# The marks of each module whose tests take these fixtures.
QUANTIZING = [
    pytest.mark.filterwarnings("ignore:resnet18 gets random weights:UserWarning"),
    pytest.mark.xdist_group("quantize"),  # one process makes what they share
]


@pytest.fixture(scope="session")
def float32(tmp_path_factory):
    path = tmp_path_factory.mktemp("float32") / "resnet.onnx"
    export_extractor(path, **RESNET, input_size=SMALL)
    return path


@pytest.fixture(scope="session")
def int8(float32, parts, tmp_path_factory):
    path = tmp_path_factory.mktemp("int8") / "resnet.onnx"
    return path, quantize_extractor(path, float32, calibration_images=parts, evaluation_images=parts)


def frames(n, size=SMALL, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *size, 3), np.uint8)
