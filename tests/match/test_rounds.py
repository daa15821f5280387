"""Verdicts before distances: label and mask must be those of the whole map, whatever is searched."""

import time

import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from spadeline.engine.errors import InputError
from spadeline.engine.inspect.heatmap import Heatmap
from spadeline.engine.match.matcher import Matcher, instruction_sets
from spadeline.engine.match.rounds import bound_map, decisive, has_rounds

CASES = [  # finest level's size, halvings, channels
    ((14, 15), (0, 1, 2), (5, 9, 16)),
    ((8, 8), (0, 1), (16, 8)),
    ((9, 4), (0,), (7,)),
    ((16, 12), (0, 1, 2, 3), (4, 4, 8, 8)),
]


def parts(rng, case, images, dtype=np.float32):
    """Normal images that are shifts of one texture plus noise, and a query of the same kind with a defect."""
    (height, width), shifts, channels = case
    sizes = [(-(-height >> s), -(-width >> s)) for s in shifts]
    textures = [rng.standard_normal((c, *size)) for c, size in zip(channels, sizes, strict=True)]

    def image(noise):
        return [np.roll(t, rng.integers(0, 3), axis=2) + noise * rng.standard_normal(t.shape) for t in textures]

    normal = [np.stack(levels) for levels in zip(*(image(rng.uniform(0.05, 0.6)) for _ in range(images)), strict=True)]
    query = image(rng.uniform(0.05, 0.6))
    if rng.random() < 0.7:
        for level, size in zip(query, sizes, strict=True):
            y, x = rng.integers(size[0]), rng.integers(size[1])
            level[:, y : y + 2, x : x + 2] += rng.uniform(0, 3)
    return [level.astype(dtype) for level in normal], [level.astype(np.float32) for level in query]


def whole_map(matcher, heatmap, query, ids, *, root, **options):
    return heatmap.anomaly_map(matcher.match(query, ids, **options).distances, root=root)


def thetas(rng, whole):
    """Thresholds all through a map's range: at its values, just below and just above them, and in between."""
    values = rng.choice(whole.ravel(), 3)
    for value in (*values, whole.max(), np.median(whole)):
        yield float(value)
        yield float(np.nextafter(value, np.float32(np.inf)))
        yield float(np.nextafter(value, np.float32(-np.inf)))
        yield float(value) * (1 + 2.0**-40)  # float32 can't hold it
        yield float(value) * (1 - 2.0**-26)
    yield float(rng.uniform(whole.min(), whole.max()))


def check(bounds, whole, theta, need):
    assert bounds.decided
    assert (bounds.lower_map <= whole).all()
    assert (whole <= bounds.anomaly_map).all()
    assert (float(bounds.anomaly_map.max()) > theta) == (float(whole.max()) > theta)
    if need == "mask":
        np.testing.assert_array_equal(bounds.anomaly_map > theta, whole > theta)


@pytest.mark.parametrize("instruction_set", instruction_sets())
@seed(19)
@settings(deadline=None, max_examples=25, print_blob=True)
@given(data=st.data())
def test_verdicts_equal_those_of_the_whole_map(instruction_set, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    case = data.draw(st.sampled_from(CASES))
    images = data.draw(st.sampled_from([1, 3, 4, 9]))
    normal, query = parts(rng, case, images, data.draw(st.sampled_from([np.float32, np.float16])))
    matcher = Matcher(normal, threads=data.draw(st.sampled_from([1, 2])), instruction_set=instruction_set)
    assert has_rounds(matcher)
    (height, width), scale = case[0], data.draw(st.sampled_from([1, 2, 3.5]))
    size = int(height * scale), int(width * scale)
    ignore = rng.random(size) < 0.3 if data.draw(st.booleans()) else None
    heatmap = Heatmap(case[0], size, sigma=data.draw(st.sampled_from([0, 0.8, 3])), ignore=ignore)
    options = {
        "kappa": data.draw(st.sampled_from([1, 2, 5])),
        "window": data.draw(st.sampled_from([None, None, 1])),
        "ignore": heatmap.ignored_distances,
    }
    if options["kappa"] > images * matcher.reachable(options["window"]):
        options["kappa"] = 1
    root, ids = data.draw(st.booleans()), rng.permutation(images)
    whole = whole_map(matcher, heatmap, query, ids, root=root, **options)
    for theta in thetas(rng, whole):
        for need in ("mask", "label"):
            bounds = bound_map(
                matcher, query, ids, heatmap.native, size=size, theta=theta, need=need, root=root, **options
            )
            check(bounds, whole, theta, need)


def drawn(rng, *, threads=2, upsampling="nearest", path="auto", images=9):
    case = CASES[0]
    normal, query = parts(rng, case, images)
    matcher = Matcher(normal, threads=threads, upsampling=upsampling, path=path)
    return matcher, Heatmap(case[0], (28, 30), sigma=1), query, np.arange(images)


@pytest.mark.parametrize("need", ["mask", "label"])
def test_fewer_distances_are_found_than_there_are(need):
    """What a frame like its normal images costs is a part of what all its distances do."""
    rng = np.random.default_rng(5)
    matcher, heatmap, query, ids = drawn(rng)
    match = matcher.match(query, ids)
    theta = 3 * float(heatmap.anomaly_map(match.distances).max())
    bounds = bound_map(matcher, query, ids, heatmap.native, size=(28, 30), theta=theta, need=need)
    assert bounds.decided
    assert bounds.statistics.passes == 1
    assert bounds.statistics.pairs * 2 < match.statistics.pairs
    assert (bounds.neighbours[..., 0] >= 0).all()


@pytest.mark.parametrize(("upsampling", "path"), [("nearest", "auto"), ("nearest", "dense"), ("bilinear", "auto")])
def test_the_whole_map_can_be_asked_for(upsampling, path):
    rng = np.random.default_rng(6)
    matcher, heatmap, query, ids = drawn(rng, upsampling=upsampling, path=path)
    match = matcher.match(query, ids)
    bounds = bound_map(matcher, query, ids, heatmap.native, size=(28, 30), theta=1.0, need="map")
    assert bounds.decided
    np.testing.assert_array_equal(bounds.anomaly_map, heatmap.anomaly_map(match.distances))
    np.testing.assert_array_equal(bounds.lower_map, bounds.anomaly_map)
    np.testing.assert_array_equal(bounds.neighbours, match.neighbours)
    assert bounds.statistics == match.statistics


@pytest.mark.parametrize(("upsampling", "path"), [("nearest", "dense"), ("bilinear", "auto")])
@pytest.mark.parametrize("need", ["mask", "label"])
def test_paths_without_bounds_find_all_distances(upsampling, path, need):
    rng = np.random.default_rng(7)
    matcher, heatmap, query, ids = drawn(rng, upsampling=upsampling, path=path)
    assert not has_rounds(matcher)
    whole = heatmap.anomaly_map(matcher.match(query, ids).distances)
    bounds = bound_map(matcher, query, ids, heatmap.native, size=(28, 30), theta=1.0, need=need)
    assert bounds.decided
    np.testing.assert_array_equal(bounds.anomaly_map, whole)
    np.testing.assert_array_equal(bounds.lower_map, whole)


@pytest.mark.parametrize("path", ["auto", "dense"])
@pytest.mark.parametrize("need", ["map", "mask", "label"])
def test_a_deadline_never_hides_a_defect(need, path):
    rng = np.random.default_rng(8)
    matcher, heatmap, query, ids = drawn(rng, path=path, images=40)
    whole = heatmap.anomaly_map(matcher.match(query, ids).distances)
    decided = set()
    for theta in (0.5 * float(whole.max()), 0.99 * float(whole.max()), 1.5 * float(whole.max())):
        for seconds in (0, *np.geomspace(1e-6, 0.02, 25), 1e6, 1e300):
            deadline = time.perf_counter() + seconds
            bounds = bound_map(
                matcher, query, ids, heatmap.native, size=(28, 30), theta=theta, need=need, deadline=deadline
            )
            decided.add(bounds.decided)
            assert (bounds.lower_map <= whole).all()
            assert (whole <= bounds.anomaly_map).all()
            if bounds.decided:
                check(bounds, whole, theta, need)
            elif need == "label":
                assert bounds.anomaly_map.max() > theta, "an undecided frame must not be normal"
    assert decided == {False, True}


def test_time_that_was_up_before_it_began_finds_nothing():
    rng = np.random.default_rng(9)
    matcher, heatmap, query, ids = drawn(rng)
    bounds = bound_map(matcher, query, ids, heatmap.native, size=(28, 30), theta=1.0, need="label", deadline=0.0)
    assert not bounds.decided
    assert bounds.statistics.passes == 0
    assert (bounds.neighbours == -1).all()
    assert np.isfinite(bounds.anomaly_map).all()
    assert (bounds.lower_map == 0).all()
    again = bound_map(matcher, query, ids, heatmap.native, size=(28, 30), theta=1.0, need="label")
    assert again.decided


def test_numbers_of_threads_give_equal_verdicts():
    """What isn't needed may differ: a position stops at the first distance that suffices, and threads share the work."""
    for threads in (1, 2, 3):
        matcher, heatmap, query, ids = drawn(np.random.default_rng(10), threads=threads)
        exact = heatmap.anomaly_map(matcher.match(query, ids).distances)
        theta = 0.8 * float(exact.max())
        for need in ("mask", "label"):
            bounds = bound_map(matcher, query, ids, heatmap.native, size=(28, 30), theta=theta, need=need)
            assert bounds.decided
            assert (bounds.lower_map <= exact).all()
            assert (bounds.anomaly_map >= exact).all()
            assert bounds.lower_map.max() > theta
            if need == "mask":
                np.testing.assert_array_equal(bounds.anomaly_map > theta, exact > theta, err_msg=f"{threads}")


def test_a_theta_that_float32_cannot_hold_leaves_a_number_undecided():
    above = 1 + 2.0**-24 + 2.0**-40  # rounded up to 1 + 2^-23
    assert decisive(above) == (1.0, 1 + 2.0**-23)
    assert decisive(1.0) == (1.0, 1.0)
    assert decisive(1 + 2.0**-30) == (1.0, 1.0)
    largest = float(np.finfo(np.float32).max)
    assert decisive(1e300) == (largest, largest)
    assert decisive(0.0) == (0.0, 0.0)


def test_what_does_not_fit_is_refused():
    matcher, heatmap, query, ids = drawn(np.random.default_rng(11))
    other = Heatmap((7, 8), (28, 30), sigma=1)
    with pytest.raises(InputError, match=r"heatmap: expected one of \(14, 15\) distances, got one of \(7, 8\)"):
        bound_map(matcher, query, ids, other.native, size=(28, 30), theta=1.0, need="label")
    with pytest.raises(InputError, match="upper: expected C-contiguous writeable float32"):
        bound_map(matcher, query, ids, heatmap.native, size=(28, 31), theta=1.0, need="label")
    with pytest.raises(InputError, match="need: expected 'map', 'mask' or 'label', got 'all'"):
        bound_map(matcher, query, ids, heatmap.native, size=(28, 30), theta=1.0, need="all")
    with pytest.raises(InputError, match="kappa"):
        bound_map(matcher, query, ids, heatmap.native, size=(28, 30), theta=1.0, need="mask", kappa=0)
    query[1][0, 0, 0] = np.nan
    with pytest.raises(InputError, match="level 1: expected finite features"):
        bound_map(matcher, query, ids, heatmap.native, size=(28, 30), theta=1.0, need="mask")
