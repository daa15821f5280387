"""The native map: it never falls where distances rise, and is the same on all instruction sets and threads."""

import re
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spadeline.engine import InputError, _native
from spadeline.engine.inspect.heatmap import Heatmap, ignored_distances
from spadeline.engine.resources import INSTRUCTION_SET_VARIABLE

FUSED = [name for name in _native.instruction_sets() if name != "scalar"]  # which round a multiply-add once
SIGMAS = [0, 0.1, 0.5, 1.5, 4.0, 40.0]


def opened(distances_size, size, **options):
    defaults = {"sigma": 2.0, "ignore": None, "ignored_distances": None, "threads": 1, "instruction_set": "auto"}
    return _native.Heatmap(distances_size, size, **{**defaults, **options})


def made(heatmap, size, distances, *, root=False):
    out = np.full(size, np.nan, np.float32)
    heatmap.map(distances, root=root, out=out)
    return out


@st.composite
def pairs_of_frames(draw):
    """Draw two frames' distances, none of the second's smaller, the map's size and its mask."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows, columns = draw(st.integers(1, 14)), draw(st.integers(1, 40))
    size = (rows + draw(st.integers(0, 40)), columns + draw(st.integers(0, 100)))
    ignore = None
    if draw(st.booleans()):
        ignore = rng.random(size) < draw(st.sampled_from([0.0, 0.02, 0.7]))
        top, left = (draw(st.integers(0, side - 1)) for side in size)
        ignore[top:, left:] = draw(st.booleans())
    low = rng.random((rows, columns)).astype(np.float32) * np.float32(10.0 ** draw(st.integers(-30, 30)))
    above = {
        "by the last bit": np.nextafter(low, np.float32(np.inf)),
        "by up to twice": low * (1 + rng.random(low.shape, np.float32)),
        "by far": low + np.float32(1e30) * rng.random(low.shape, np.float32),
    }[draw(st.sampled_from(["by the last bit", "by up to twice", "by far"]))]
    rises = rng.random(low.shape) < draw(st.sampled_from([0.05, 0.5, 1.0]))
    return low.astype(np.float64), np.where(rises, above, low).astype(np.float64), size, ignore


@settings(deadline=None, max_examples=150)
@given(pairs_of_frames(), st.sampled_from(SIGMAS), st.booleans())
def test_no_pixel_falls_where_distances_rise(case, sigma, root):
    low, high, size, ignore = case
    hidden = None if ignore is None else np.ascontiguousarray(ignored_distances(ignore, low.shape))
    maps = {}
    for name in _native.instruction_sets():
        heatmap = opened(low.shape, size, sigma=sigma, ignore=ignore, ignored_distances=hidden, instruction_set=name)
        maps[name], above = (made(heatmap, size, frame, root=root) for frame in (low, high))
        assert (maps[name] <= above).all(), f"{name}: {np.argwhere(maps[name] > above)[0]} fell"
        assert np.isfinite(above).all()
    for name in FUSED:
        np.testing.assert_array_equal(maps[name], maps[FUSED[0]], err_msg=name)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", _native.instruction_sets())
def test_threads_and_callers_beside_each_other_change_nothing(name, masked):
    rng = np.random.default_rng(5)
    size, distances = (301, 517), rng.random((60, 100))
    ignore = rng.random(size) < 0.3 if masked else None
    options = {"sigma": 9.0, "ignore": ignore, "instruction_set": name}
    options["ignored_distances"] = np.ascontiguousarray(ignored_distances(ignore, (60, 100))) if masked else None
    expected = made(opened((60, 100), size, **options), size, distances)
    shared = opened((60, 100), size, threads=3, **options)
    assert (shared.threads, shared.instruction_set) == (3, name)
    maps = [[] for _ in range(4)]

    def call(own):
        own.extend(made(shared, size, distances) for _ in range(5))

    callers = [threading.Thread(target=call, args=(own,)) for own in maps]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for own in maps:
        assert len(own) == 5
        for got in own:
            np.testing.assert_array_equal(got, expected)


def test_the_roots_are_those_of_numpy():
    distances = np.random.default_rng(6).random((7, 9)) * 1e30
    heatmap = Heatmap((7, 9), (21, 30), sigma=1.0)
    np.testing.assert_array_equal(
        heatmap.anomaly_map(distances, root=True), heatmap.anomaly_map(np.sqrt(distances)), strict=True
    )
    assert heatmap.anomaly_map(np.full((7, 9), 1e60), root=True).max() == pytest.approx(1e30)


def test_the_largest_distance_is_returned_as_it_was():
    distances = np.arange(12.0).reshape(3, 4)
    ignore = np.zeros((6, 8), bool)
    ignore[4:, 6:] = True
    hidden = np.ascontiguousarray(ignored_distances(ignore, (3, 4)))
    out = np.empty((6, 8), np.float32)
    assert opened((3, 4), (6, 8)).map(distances, root=False, out=out) == 11
    assert opened((3, 4), (6, 8), ignore=ignore, ignored_distances=hidden).map(distances, root=False, out=out) == 10
    distances[0, 0] = 1e300
    assert opened((3, 4), (6, 8)).map(distances, root=False, out=out) == 1e300
    assert np.isfinite(out).all()
    distances[1, 1] = np.nan
    assert np.isnan(opened((3, 4), (6, 8)).map(distances, root=False, out=out))
    assert np.isfinite(out).all()


def test_denormals_count_whatever_the_caller_does_with_them():
    torch = pytest.importorskip("torch")
    distances = np.random.default_rng(7).random((5, 6)) * 1e-40
    heatmap = opened((5, 6), (20, 24))
    expected = made(heatmap, (20, 24), distances)
    assert (expected > 0).all()
    if not torch.set_flush_denormal(True):
        pytest.skip("torch can't flush denormals on this processor")
    try:
        got = made(heatmap, (20, 24), distances)
    finally:
        torch.set_flush_denormal(False)
    np.testing.assert_array_equal(got, expected)


def test_the_environment_chooses_the_instruction_set(monkeypatch):
    monkeypatch.setenv(INSTRUCTION_SET_VARIABLE, "mmx")
    with pytest.raises(InputError, match=r"^instruction_set: expected one that this machine runs .*, got 'mmx'$"):
        Heatmap((4, 4), (8, 8), sigma=1.0)
    rng = np.random.default_rng(8)
    distances = rng.random((9, 9))
    for name in _native.instruction_sets():
        monkeypatch.setenv(INSTRUCTION_SET_VARIABLE, name)
        expected = made(opened((9, 9), (40, 40), sigma=1.5, instruction_set=name), (40, 40), distances)
        np.testing.assert_array_equal(Heatmap((9, 9), (40, 40), sigma=1.5).anomaly_map(distances), expected)


def test_a_fork_is_refused():
    program = """
import os, sys
import numpy as np
from spadeline.engine import InputError
from spadeline.engine.inspect.heatmap import Heatmap
heatmap = Heatmap((60, 60), (400, 400), sigma=9.0, threads=2)
heatmap.anomaly_map(np.zeros((60, 60)))
child = os.fork()
if child == 0:
    try:
        heatmap.anomaly_map(np.zeros((60, 60)))
    except InputError as error:
        print(error, flush=True)
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    command = [sys.executable, "-W", "ignore", "-c", program]  # Python warns of forks beside threads
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "expected the process that opened it, got a fork of it" in done.stdout


BOOLS = np.zeros((8, 12), bool)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"size": (8, 5)}, "map: expected sides from the distances' 4 x 6 to 1048576, got 8 x 5"),
        ({"sigma": -1.0}, "sigma: expected 0 to 1000, got -1.000000"),
        ({"sigma": np.nan}, "sigma: expected 0 to 1000, got nan"),
        ({"threads": 0}, "threads: expected at least 1, got 0"),
        ({"ignore": BOOLS[:4]}, "ignore: expected C-contiguous bool (8, 12), got bool (4, 12)"),
        ({"ignore": BOOLS.view(np.uint8)}, "ignore: expected C-contiguous bool (8, 12), got uint8 (8, 12)"),
        ({"ignore": BOOLS}, "ignore: expected masks of the map and of the distances, or neither, got one"),
        (
            {"ignore": BOOLS, "ignored_distances": BOOLS},
            "ignored_distances: expected C-contiguous bool (4, 6), got bool (8, 12)",
        ),
        (
            {"ignore": BOOLS, "ignored_distances": np.ones((4, 6), bool)},
            "ignored_distances: expected a scored distance at every scored pixel, got none at (0, 0)",
        ),
    ],
)
def test_wrong_options_are_named(options, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        opened((4, 6), **{"size": (8, 12), **options})


FLOATS = np.zeros((8, 12), np.float32)
READ_ONLY = np.zeros((8, 12), np.float32)
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    ("distances", "out", "text"),
    [
        (np.zeros((4, 6), np.float32), FLOATS, "distances: expected C-contiguous float64 (4, 6), got float32 (4, 6)"),
        (
            np.zeros((6, 4)).T,
            FLOATS,
            "distances: expected C-contiguous float64 (4, 6), got float64 (4, 6), not C-contiguous",
        ),
        (np.zeros((4, 6)), FLOATS[:4], "out: expected C-contiguous writeable float32 (8, 12), got float32 (4, 12)"),
        (np.zeros((4, 6)), READ_ONLY, "out: expected C-contiguous writeable float32 (8, 12), got float32 (8, 12)"),
    ],
)
def test_wrong_arrays_are_named(distances, out, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        opened((4, 6), (8, 12)).map(distances, root=False, out=out)
