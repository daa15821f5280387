"""A small recipe of random features, and a file that stands for its extractor."""

import pytest

from ..recipes import create_small


@pytest.fixture
def extractor(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"onnx" * 1000)
    return path


@pytest.fixture
def create(tmp_path, extractor):
    """Create a recipe of images with the names given."""

    def create(*names, folder=tmp_path / "recipe", **options):
        return create_small(folder, *names, extractor_path=extractor, **options)

    return create
