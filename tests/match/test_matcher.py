"""Every path and instruction set against the float64 reference."""

import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from spadeline.engine.errors import InputError
from spadeline.engine.match import reference
from spadeline.engine.match.cells import level_shifts
from spadeline.engine.match.matcher import Matcher, instruction_sets

from .pyramids import VALUES, pyramid

SIDES = [1, 2, 3, 4, 5, 7, 8, 9, 13, 15, 16, 17, 23]
CHANNELS = [1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 64, 65]


def sizes_of(height, width, shifts):
    return [(-(-height >> s), -(-width >> s)) for s in shifts]


def check(matcher, gallery, query, ids, known=None, **options):
    """Compare with the reference, or what is known of it; on failure show the worst pixel, both values and the bound."""
    distances, neighbours, _ = matcher.match(query, ids, **options)
    options |= {"upsampling": matcher.upsampling, "weights": matcher.weights}
    expected, expected_neighbours = known or reference.match(query, gallery, ids, **options)
    bound = float64_slack(expected, gallery, query, matcher, neighbours.shape[2])
    worst = np.unravel_index(np.argmax(np.abs(distances - expected) - bound), expected.shape)
    assert (np.abs(distances - expected) <= bound).all(), (
        f"at {worst}: got {distances[worst]!r}, reference {expected[worst]!r}, bound {bound[worst]!r}"
    )
    different = np.argwhere((neighbours != expected_neighbours).any(axis=-1))
    for y, x, k in different:  # allowed only where float64 can't tell the two apart
        pair = [
            reference.match([level[:, y : y + 1, x : x + 1] for level in _upsampled(query, matcher)],
                            [level[i : i + 1, :, r : r + 1, c : c + 1] for level in _upsampled_gallery(gallery, matcher)],
                            [0], weights=matcher.weights)[0][0, 0]
            for i, r, c in (neighbours[y, x, k], expected_neighbours[y, x, k])
        ]  # fmt: skip
        assert abs(pair[0] - pair[1]) <= 2 * bound[y, x], f"neighbour {k} of {(y, x)}: {pair}"


def float64_slack(expected, gallery, query, matcher, kappa):
    """How far two float64 evaluations of the same distances may be apart: csrc/README.md, Decision."""
    unit = 2.0**-53
    interpolated = 0
    if matcher.upsampling == "bilinear":
        squares = [
            weight * ((g.astype(np.float64) ** 2).sum(axis=1).max() + (q.astype(np.float64) ** 2).sum(axis=0).max())
            for weight, g, q in zip(matcher.weights, gallery, query, strict=True)
        ]
        interpolated = 7 * unit * np.sqrt(2 * sum(squares))
    channels = sum(level.shape[1] for level in gallery)
    root = np.sqrt(expected)
    apart = (channels + kappa + 4) * unit * root + 3 * interpolated  # of roots: both sides, and what `root` is off by
    return apart * (2 * root + apart)


def _upsampled_gallery(levels, matcher):
    shifts = level_shifts(matcher.sizes)
    size = matcher.sizes[0]
    return [
        reference._upsample(level.astype(np.float64), size, shift, matcher.upsampling)
        for level, shift in zip(levels, shifts, strict=True)
    ]


def _upsampled(levels, matcher):
    return [level[0] for level in _upsampled_gallery([level[None] for level in levels], matcher)]


@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("upsampling", ["nearest", "bilinear"])
@seed(20)
@settings(deadline=None, max_examples=60, print_blob=True)
@given(data=st.data())
def test_any_pyramid_agrees_with_the_reference(instruction_set, upsampling, data):
    height, width = data.draw(st.sampled_from(SIDES)), data.draw(st.sampled_from(SIDES))
    shifts = data.draw(st.sampled_from([(0,), (0, 1), (0, 2), (0, 1, 2), (0, 1, 3), (0, 1, 2, 3), (0, 3)]))
    sizes = sizes_of(height, width, shifts)
    images = data.draw(st.integers(1, 3))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    gallery, query = pyramid(
        rng,
        sizes=sizes,
        channels=[data.draw(st.sampled_from(CHANNELS)) for _ in shifts],
        images=images,
        values=data.draw(st.sampled_from(VALUES)),
        dtype=data.draw(st.sampled_from([np.float32, np.float16])),
    )
    ids = rng.permutation(images)[: data.draw(st.integers(1, images))]
    window = data.draw(st.sampled_from([None, None, 0, 1, 2]))
    matcher = Matcher(
        gallery,
        threads=data.draw(st.sampled_from([1, 2, 5])),
        path=data.draw(st.sampled_from(["auto", "dense"])),
        upsampling=upsampling,
        weights=data.draw(st.sampled_from([None, [2.0, 1e-6, 1e6, 0.3][: len(shifts)]])),
        instruction_set=instruction_set,
    )
    ignore = data.draw(st.sampled_from([None, rng.random((height, width)) < 0.7]))
    reachable = len(ids) * matcher.reachable(window)
    kappa = min(data.draw(st.sampled_from([1, 2, 5, 32, 10**6])), reachable, 200)
    check(matcher, gallery, query, ids, kappa=kappa, window=window, ignore=ignore)


@pytest.mark.parametrize("instruction_set", instruction_sets())
def test_a_coarse_product_that_overflows_rules_nothing_out(instruction_set):
    large = np.float32(2.0**63.9)  # its square, doubled, is infinite; at [4, 4] it weighs 1 / 256
    gallery = [np.full((1, 1, 16, 16), 2.0**58, np.float32), np.zeros((1, 1, 2, 2), np.float32)]
    query = [np.zeros((1, 16, 16), np.float32), np.zeros((1, 2, 2), np.float32)]
    gallery[0][0, 0, 4, 4], gallery[1][0, 0, 1, 1], query[1][0, 1, 1] = 0, -large, large
    matcher = Matcher(gallery, threads=1, upsampling="bilinear", instruction_set=instruction_set)
    assert matcher.match(query, [0]).neighbours[4, 4, 0].tolist() == [0, 4, 4]
    check(matcher, gallery, query, [0], kappa=256)


@pytest.mark.parametrize("upsampling", ["nearest", "bilinear"])
@pytest.mark.parametrize("when", ["always", "afterwards"])
def test_denormals_count_whatever_the_caller_does_with_them(upsampling, when):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    gallery, query = pyramid(
        rng, sizes=[(9, 9), (5, 5)], channels=[16, 32], images=2, values="normal", dtype=np.float32
    )
    gallery, query = [g * np.float32(1e-40) for g in gallery], [q * np.float32(1e-40) for q in query]
    options = {"threads": 2, "upsampling": upsampling}
    expected = Matcher(gallery, **options).match(query, [0, 1], kappa=3)
    assert (expected.distances > 0).all()
    early = Matcher(gallery, **options)
    if not torch.set_flush_denormal(True):
        pytest.skip("torch can't flush denormals on this processor")
    try:
        matcher = Matcher(gallery, **options) if when == "always" else early
        match = matcher.match(query, [0, 1], kappa=3)
        batch = matcher.match_batch([query] * 3, [[0, 1]] * 3, kappa=3)
        flushed = np.float32(1e-40) * np.float32(1) == 0  # the caller's own arithmetic is as it was
    finally:
        torch.set_flush_denormal(False)
    assert flushed
    for result in (match, *batch):
        np.testing.assert_array_equal(result.distances, expected.distances)
        np.testing.assert_array_equal(result.neighbours, expected.neighbours)


def test_bilinear_under_cancellation_keeps_what_float64_keeps():
    """Taps of very different sizes, and a query that differs in its last bits: float64's own digits end near 1e-9."""
    rng = np.random.default_rng(0)
    coarse = (rng.standard_normal((1, 32, 3, 3)) * 10.0 ** rng.integers(-4, 9, (3, 3))).astype(np.float32)
    gallery = [np.zeros((1, 4, 24, 24), np.float32), coarse]
    query = [gallery[0][0], coarse[0] * np.float32(1 + 2.0**-22)]
    expected, _ = reference.match(query, gallery, [0], upsampling="bilinear")
    for instruction_set in instruction_sets():
        matcher = Matcher(gallery, threads=1, upsampling="bilinear", instruction_set=instruction_set)
        check(matcher, gallery, query, [0])
        apart = np.abs(matcher.match(query, [0]).distances - expected) / expected
        assert 1e-12 < apart.max() < 1e-8


def test_resnet_channels_across_several_chunks():
    rng = np.random.default_rng(7)
    gallery, query = pyramid(
        rng, sizes=[(24, 40), (12, 20), (6, 10)], channels=[256, 512, 1024], images=2, values="normal", dtype=np.float32
    )  # fmt: skip
    known = reference.match(query, gallery, [0, 1], kappa=3)  # once: it takes most of the time
    for instruction_set in instruction_sets():
        matcher = Matcher(gallery, threads=2, instruction_set=instruction_set)
        assert matcher.instruction_set == instruction_set
        check(matcher, gallery, query, [0, 1], known, kappa=3)


def test_every_instruction_set_and_thread_count_gives_the_same_neighbours():
    rng = np.random.default_rng(3)
    gallery, query = pyramid(rng, sizes=[(17, 9), (9, 5)], channels=[33, 65], images=3, values="ties", dtype=np.float32)
    results = [
        Matcher(gallery, threads=threads, instruction_set=name).match(query, [2, 0, 1], kappa=7)
        for name in instruction_sets()
        for threads in (1, 2, 3)
    ]
    for distances, neighbours, _ in results[1:]:
        np.testing.assert_array_equal(distances, results[0][0])
        np.testing.assert_array_equal(neighbours, results[0][1])


def test_ties_go_to_the_smaller_image_y_x():
    gallery = [np.zeros((3, 4, 5, 6), np.float32)]
    neighbours = Matcher(gallery, threads=2).match([np.zeros((4, 5, 6), np.float32)], [2, 1], kappa=8).neighbours
    assert neighbours[4, 5].tolist() == [[1, 0, x] for x in range(6)] + [[1, 1, 0], [1, 1, 1]]


def test_kappa_may_be_every_pixel_and_its_limit_is_named():
    rng = np.random.default_rng(5)
    gallery, query = pyramid(rng, sizes=[(3, 2)], channels=[4], images=2, values="normal", dtype=np.float32)
    matcher = Matcher(gallery, threads=1)
    check(matcher, gallery, query, [0, 1], kappa=12)
    for path in ("auto", "reference"):
        with pytest.raises(InputError, match=r"kappa: expected .*got 13"):
            Matcher(gallery, threads=1, path=path).match(query, [0, 1], kappa=13)
    with pytest.raises(InputError, match="kappa: expected an integer from 1 to 1000, got 0"):
        matcher.match(query, [0], kappa=0)


def test_a_window_limits_kappa_to_the_corner_cell():
    gallery = [np.zeros((2, 1, 5, 5), np.float32), np.zeros((2, 1, 3, 3), np.float32)]
    matcher = Matcher(gallery, threads=1)
    assert [matcher.reachable(window) for window in (0, 1, 2, None)] == [1, 9, 25, 25]
    query = [level[0] for level in gallery]
    with pytest.raises(InputError, match="kappa: expected 1 to 2, the pixels within reach, got 3"):
        matcher.match(query, [0, 1], kappa=3, window=0)
