"""A recipe of the good parts that a test may change, and its settings."""

import pytest
from spadeline.engine import Settings, fit

SETTINGS = Settings(k_score=2, k_gallery=4, sigma=1.0, storage="float32")


@pytest.fixture
def recipe(parts, extractor_path, tmp_path):
    folder = tmp_path / "recipe"
    return fit(parts / "train" / "good", folder, extractor=extractor_path, settings=SETTINGS, threads=1)
