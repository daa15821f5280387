"""A tiny extractor, and where a test writes one of its own."""

import pytest


@pytest.fixture
def path(tmp_path):
    return tmp_path / "extractor.onnx"


@pytest.fixture
def tiny(path):
    from .tiny_graphs import LAYERS, OUTPUTS, POOL, write  # skips where onnx is missing, which a conftest must not

    return write(path, LAYERS + POOL, OUTPUTS, metadata={"spadeline.backbone": "pools"})
