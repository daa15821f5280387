"""Labelled parts, some with a spot that the recipe's settings miss, and that recipe."""

import pytest
from spadeline.engine import fit

from .spots import SETTINGS, write_labelled


@pytest.fixture
def labelled(tmp_path):
    return write_labelled(tmp_path / "labelled")


@pytest.fixture
def recipe(parts, extractor_path, tmp_path):
    return fit(
        parts / "train" / "good", tmp_path / "recipe", extractor=extractor_path, settings=SETTINGS, threads=1,
        false_alarm_rate=0.1,
    )  # fmt: skip
