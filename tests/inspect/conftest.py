"""What tests of streams share: a detector of two threads, and that no thread is left."""

import threading

import pytest
from spadeline.engine import Detector


@pytest.fixture(scope="module")
def detector(recipe_folder):
    return Detector.load(recipe_folder, device="cpu", threads=2)


@pytest.fixture
def no_thread_is_left():
    """Streams that ended or were closed leave no thread; the matchers' own threads aren't Python's."""
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("spadeline")] == []
