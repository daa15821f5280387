"""Some seconds of what ``python -m tests.fuzz door`` does for hours: both doors accept and refuse the same."""

import pytest

from ..fuzz import harness

pytestmark = pytest.mark.xdist_group("door")
SEED, MUTATIONS = 17, 40


def test_changed_recipes_and_calls(library, tmp_path, monkeypatch):
    monkeypatch.setenv("SPADELINE_LIBRARY_FILE", str(library.path))
    tally = harness.fuzz("tests.fuzz.door", tmp_path, seed=SEED, mutations=MUTATIONS)
    said = [f"seed {SEED}; {tally}", *(f"{failure}\n{failure.outcome.detail}" for failure in tally.failures)]
    assert not tally.failures, "\n".join(said)
