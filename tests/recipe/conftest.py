"""A small recipe of random features, its thresholds, and a file that stands for its extractor."""

import pytest
from spadeline.engine.calibration import threshold
from spadeline.engine.recipe.records import Calibration

from ..recipes import create_small

TAU = threshold([1.0, 2.0, 3.0], false_alarm_rate=0.3)
CALIBRATION = Calibration(TAU, TAU, "leave-one-out", (1.0, 2.0, 3.0), (3.0, 2.0, 1.0))


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
