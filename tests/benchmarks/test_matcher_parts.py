"""What benchmarks/matcher.py is made of: features, the comparison of answers, growth, instructions."""

import os
import stat
import sys

import numpy as np
import pytest
from spadeline.engine.match.matcher import Match
from spadeline.engine.result import Statistics

from matcher_parts import alone, features, growth, ours
from shared_parts.again import as_if_taken_again

from .scripts import run


def test_equal_distances_are_equal_to_a_thousandth():
    case = features.make_case("equal", 32, 3, None)
    gallery = np.concatenate([level.reshape(-1, 1, level.shape[-1])[:12] for level in case.cells], -1)[:, 0]
    for query in case.queries.values():
        pixels = np.concatenate([level[:, 0, 0] for level in query])
        distances = ((gallery.astype(np.float64) - pixels) ** 2).sum(-1)
        assert np.ptp(distances) < 1e-3 * distances.mean()


def test_lifting_keeps_distances():
    a, b = np.random.default_rng(0).standard_normal((2, 24))
    lift = features._isometry(24, 256)
    assert np.linalg.norm(lift @ a - lift @ b) == pytest.approx(np.linalg.norm(a - b), rel=1e-6)
    with pytest.raises(SystemExit, match="expected at most"):
        features._isometry(300, 256)


def test_an_image_as_if_taken_again_differs_a_little_and_always_alike():
    image = np.tile(np.linspace(0, 255, 64).astype(np.uint8)[:, None, None], (1, 64, 3))
    one, same, other = (as_if_taken_again(image, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    assert 0 < np.abs(one.astype(float) - image).mean() < 30


@pytest.fixture
def answer():
    """A gallery with two equal images, a query, and a match of it."""
    case = features.make_case("random", 32, 1, None)
    twice = features.Case("random", [level.repeat(2, axis=0) for level in case.cells], case.sizes, case.queries, 0)
    stored = ours.store(twice, 2, "float32")
    query = case.queries["drawn 0"]
    match, seconds = ours.Ours(stored, "dense", "scalar", 1).search(query, 1)
    assert seconds > 0
    return stored, query, match


def changed(match, distances=None, neighbours=None):
    distances = match.distances if distances is None else distances
    neighbours = match.neighbours if neighbours is None else neighbours
    return Match(distances, neighbours, Statistics(path="dense", pairs=0, passed=(), exact=0, guarded_cells=0))


def test_other_neighbours_at_the_same_distance_are_as_good(answer):
    stored, query, match = answer
    other = match.neighbours.copy()
    other[..., 0] = 1
    ours.check_same("pruned", changed(match, neighbours=other), match, stored, query)


def test_other_neighbours_at_another_distance_end_the_run(answer):
    stored, query, match = answer
    other = match.neighbours.copy()
    other[3, 4, 0, 2] = (other[3, 4, 0, 2] + 1) % 8
    with pytest.raises(SystemExit, match=r"pruned: neighbour 0 of \(3, 4\) is \[0, .*expected \[0, "):
        ours.check_same("pruned", changed(match, neighbours=other), match, stored, query)


def test_other_distances_end_the_run(answer):
    stored, query, match = answer
    with pytest.raises(SystemExit, match=r"pruned: distances differ by 1.00e-06, allowed 1e-09"):
        ours.check_same("pruned", changed(match, distances=match.distances * (1 + 1e-6)), match, stored, query)


def test_a_distance_is_the_matchers(answer):
    stored, query, match = answer
    assert stored.distance(query, (5, 2), match.neighbours[5, 2, 0]) == pytest.approx(match.distances[5, 2], rel=1e-12)


def test_growth():
    results = [
        {"features": "real", "size": 224, "kappa": 1, "images": k, "rows": [{"name": "a", "median_s": 3 * k**0.5}]}
        for k in (200, 5, 50)
    ]
    (line,) = growth.growth(results)
    assert line["slope"] == pytest.approx(0.5)
    assert line["from_50_to_200"] == pytest.approx(2)


def test_instructions_are_those_of_a_match_alone(tmp_path, monkeypatch):
    valgrind = tmp_path / "valgrind"
    valgrind.write_text(
        f"#!{sys.executable}\n"
        "import sys\n"
        "options = dict(a.removeprefix('--').split('=', 1) for a in sys.argv if '=' in a)\n"
        "assert options['tool'] == 'callgrind' and options['path'] == 'pruned' and options['threads'] == '1'\n"
        "with open(options['callgrind-out-file'], 'w') as file:\n"
        "    file.write(f'events: Ir\\nsummary: {500_000 + 1000 * int(options[\"matches\"])}\\n')\n"
    )
    valgrind.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert alone.instructions(tmp_path, "avx2", kappa=1) == 1000


def test_without_valgrind_there_are_no_instructions(tmp_path):
    done = run("--instructions", PATH=str(tmp_path))
    assert done.returncode != 0
    assert "valgrind is not installed, and --instructions needs it" in done.stderr
