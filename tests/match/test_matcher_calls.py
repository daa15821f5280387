"""Calls of the matcher: what comes back and where, callers on several threads and in forks, and what is refused."""

import subprocess
import sys

import numpy as np
import pytest
from spadeline.engine import Recipe
from spadeline.engine.errors import InputError
from spadeline.engine.inspect.scoring import open_matcher
from spadeline.engine.match.matcher import Matcher
from spadeline.engine.resources import INSTRUCTION_SET_VARIABLE

from .pyramids import pyramid


def test_out_is_filled_and_returned():
    gallery = [np.ones((1, 2, 3, 3), np.float32)]
    out = np.full((3, 3), np.nan), np.full((3, 3, 2, 3), -1, np.int32)
    distances, neighbours, _ = Matcher(gallery, threads=1).match(
        [np.zeros((2, 3, 3), np.float32)], [0], kappa=2, out=out
    )
    assert distances is out[0]
    assert neighbours is out[1]
    np.testing.assert_array_equal(distances, 2.0)
    assert (neighbours >= 0).all()


def test_reference_path_gives_the_same_through_the_same_door():
    rng = np.random.default_rng(11)
    gallery, query = pyramid(rng, sizes=[(5, 7), (3, 4)], channels=[3, 4], images=3, values="normal", dtype=np.float32)
    slow = Matcher(gallery, threads=1, path="reference")
    fast = Matcher(gallery, threads=1)
    assert (slow.path, fast.path) == ("reference", "pruned")
    for a, b in zip(
        slow.match(query, [2, 0], kappa=2, window=1)[:2],
        fast.match(query, [2, 0], kappa=2, window=1)[:2],
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_a_recipe_opens_like_its_arrays(recipe_folder):
    recipe = Recipe.load(recipe_folder)
    features = [recipe.features(i) for i in range(3)]
    arrays = [np.concatenate(levels) for levels in zip(*(f.levels for f in features), strict=True)]
    query = [level[0] for level in recipe.features(5).levels]
    opened = open_matcher(recipe, threads=2).match(query, [0, 1, 2], kappa=3)
    for a, b in zip(opened[:2], Matcher(arrays, threads=2).match(query, [0, 1, 2], kappa=3)[:2], strict=True):
        np.testing.assert_array_equal(a, b)


def test_calls_from_several_threads_take_turns():
    from concurrent.futures import ThreadPoolExecutor

    rng = np.random.default_rng(13)
    gallery, _ = pyramid(rng, sizes=[(16, 16), (8, 8)], channels=[16, 32], images=3, values="normal", dtype=np.float32)
    queries = [pyramid(rng, sizes=[(16, 16), (8, 8)], channels=[16, 32], images=1, values="normal", dtype=np.float32)[1]
               for _ in range(8)]  # fmt: skip
    matcher = Matcher(gallery, threads=2)
    alone = [matcher.match(query, [0, 1, 2], kappa=2)[0] for query in queries]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda query: matcher.match(query, [0, 1, 2], kappa=2)[0], queries * 4))
    for index, distances in enumerate(together):
        np.testing.assert_array_equal(distances, alone[index % len(alone)])


def test_a_fork_is_told_to_open_its_own_matcher():
    program = """
import os
import numpy as np
from spadeline.engine.match.cells import level_shifts
from spadeline.engine import InputError, Matcher
gallery = [np.ones((1, 2, 3, 3), np.float32)]
matcher = Matcher(gallery, threads=2)
matcher.match([gallery[0][0]], [0])
child = os.fork()
if child == 0:  # only drops it
    del matcher
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
child = os.fork()
if child == 0:
    try:
        matcher.match([gallery[0][0]], [0])
    except InputError as error:
        print(error)
        del matcher
        Matcher(gallery, threads=2).match([gallery[0][0]], [0])
        print("opened anew", flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
matcher.match([gallery[0][0]], [0])
print("and the parent goes on")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == [
        "matcher: expected the process that opened it, got a fork of it: open a matcher there",
        "opened anew",
        "and the parent goes on",
    ]
    assert done.stderr == ""


def test_a_fork_amid_a_match_is_told_so():
    program = """
import os, threading
import numpy as np
from spadeline.engine import InputError, Matcher
rng = np.random.default_rng(0)
gallery = [rng.normal(size=(20, 64, 48, 48)).astype(np.float32)]
matcher = Matcher(gallery, threads=2, path="dense")
query = [gallery[0][0]]
matching = threading.Thread(target=lambda: [matcher.match(query, range(20)) for _ in range(3)])
matching.start()
child = os.fork()
if child == 0:
    try:
        matcher.match(query, [0])
    except InputError as error:
        print(error, flush=True)
    os._exit(0)
print(os.waitpid(child, 0)[1])
matching.join()
"""
    command = [sys.executable, "-W", "ignore", "-c", program]  # Python warns of forks beside threads
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == [
        "matcher: expected the process that opened it, got a fork of it: open a matcher there",
        "0",
    ]


def test_numbers_in_another_byte_order_are_refused():
    gallery = [np.ones((2, 3, 4, 4), np.float32)]
    for dtype in (">f4", ">f2"):
        with pytest.raises(InputError, match=rf"query level 0: expected .* float32 or float16 .*, got {dtype} "):
            Matcher(gallery, threads=1).match([np.ones((3, 4, 4), dtype)], [0])


def test_the_environment_forces_an_instruction_set(monkeypatch):
    gallery = [np.zeros((1, 1, 1, 1), np.float32)]
    monkeypatch.setenv(INSTRUCTION_SET_VARIABLE, "scalar")
    assert Matcher(gallery, threads=1).instruction_set == "scalar"
    monkeypatch.setenv(INSTRUCTION_SET_VARIABLE, "mmx")
    with pytest.raises(
        InputError,
        match=r"instruction_set: expected one that this machine runs \(auto, .*scalar\), got 'mmx'",
    ):
        Matcher(gallery, threads=1)


GALLERY = [np.zeros((2, 3, 4, 4), np.float32), np.zeros((2, 5, 2, 2), np.float32)]
QUERY = [level[0] for level in GALLERY]


@pytest.mark.parametrize(
    ("levels", "options", "text"),
    [
        ([], {}, "levels: expected at least one, got none"),
        ([[[0.0]]], {}, r"levels: expected arrays \(n, c, h, w\), got list at level 0"),
        ([np.zeros((2, 3, 4, 4))], {}, r"levels: expected \(n, c, h, w\) arrays, all float32 or all float16, got float64"),
        ([GALLERY[0], GALLERY[1].astype(np.float16)], {}, "all float32 or all float16, got float16"),
        ([GALLERY[0], GALLERY[1][:1]], {}, "levels: expected 2 images at every level"),
        ([GALLERY[0][:0]], {}, "levels: expected 0 images at every level, at least one"),
        ([GALLERY[0], GALLERY[0]], {}, r"level 1: expected the size of level 0 \(4 x 4\) halved once or more"),
        (GALLERY, {"threads": 0}, "threads: expected an integer from 1 to 1024, got 0"),
        (GALLERY, {"path": "fast"}, "path: expected one of auto, pruned, dense, reference, got 'fast'"),
        (GALLERY, {"upsampling": "cubic"}, "upsampling: expected one of nearest, bilinear, got 'cubic'"),
        ([np.full((1, 2, 3, 3), np.nan, np.float32)], {}, r"level 0: expected finite features, got nan at .* = \(0, 0, 0, 0\)"),
    ],
)  # fmt: skip
def test_a_bad_gallery_is_refused(levels, options, text):
    with pytest.raises(InputError, match=text):
        Matcher(levels, **({"threads": 1} | options))


@pytest.mark.parametrize(
    ("query", "ids", "options", "text"),
    [
        (QUERY[:1], [0], {}, "query_levels: expected 2 levels, got 1"),
        ([QUERY[0][:2], QUERY[1]], [0], {}, r"query level 0: expected C-contiguous float32 or float16 \(3, 4, 4\), got float32 \(2, 4, 4\)"),
        ([QUERY[0].astype(np.float64), QUERY[1]], [0], {}, "query level 0: .*got float64"),
        (QUERY, [0, 2], {}, r"image_ids: expected distinct ids from 0 to 1, at least one, got \(0, 2\)"),
        (QUERY, [1, 1], {}, "image_ids: expected distinct ids"),
        (QUERY, [-1], {}, "image_ids: expected distinct ids"),
        (QUERY, [], {}, "image_ids: expected distinct ids"),
        (QUERY, [0.5], {}, r"image_ids: expected integers \(k,\), got float64 \(1,\)"),
        (QUERY, [[0]], {}, r"image_ids: expected integers \(k,\), got int64 \(1, 1\)"),
        (QUERY, [0], {"kappa": 1.5}, "kappa: expected an integer from 1 to 1000, got 1.5"),
        (QUERY, [0], {"window": -1}, "window: expected an integer from 0 to 2147483647, got -1"),
        (QUERY, [0], {"out": (np.zeros((4, 4), np.float32), np.zeros((4, 4, 1, 3), np.int32))}, "distances: expected C-contiguous writeable float64"),
        (QUERY, [0], {"out": (np.zeros((4, 4)), np.zeros((4, 4, 2, 3), np.int32))}, r"neighbours: expected .*\(4, 4, 1, 3\)"),
    ],
)  # fmt: skip
def test_a_bad_query_is_refused(query, ids, options, text):
    with pytest.raises(InputError, match=text):
        Matcher(GALLERY, threads=1).match(query, ids, **options)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_bad_feature_is_named(bad, dtype):
    query = [level.astype(dtype) for level in QUERY]
    query[1][4, 1, 0] = bad
    with pytest.raises(InputError, match=r"query level 1: expected finite features, got NaN or infinity at \(channel, y, x\) = \(4, 1, 0\)"):  # fmt: skip
        Matcher(GALLERY, threads=2).match(query, [0])


def test_a_stored_gallery_with_nan_is_reported_not_matched():
    cells = np.full((1, 2, 2, 1, 3), np.nan, np.float32)
    matcher = Matcher.from_cells([cells], [(2, 2)], threads=1)
    with pytest.raises(InputError, match="gallery: expected finite features, got NaN or infinity"):
        matcher.match([np.zeros((3, 2, 2), np.float32)], [0])


def test_from_cells_refuses_other_layouts():
    with pytest.raises(
        InputError,
        match=r"gallery level 0: expected \(n, rows, columns, block, channels\), got float32 \(1, 2, 2\)",
    ):
        Matcher.from_cells([np.zeros((1, 2, 2), np.float32)], [(2, 2)], threads=1)
    with pytest.raises(InputError, match=r"gallery level 0: expected C-contiguous float32 \(1, 2, 2, 1, 3\)"):
        Matcher.from_cells([np.zeros((1, 3, 2, 1, 3), np.float32)], [(2, 2)], threads=1)
