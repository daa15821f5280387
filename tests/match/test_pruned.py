"""The pruned path's own options and duties, at the typed door; that it is exact, test_matcher.py and tests/cpp ask."""

import numpy as np
import pytest
from spadeline.engine import InputError, Matcher, instruction_sets
from spadeline.engine.match import reference
from spadeline.engine.match.cells import to_cells
from spadeline.engine.match.codes import LevelCodes, can_encode, code_layout, encode, encode_gallery, make_basis

SIZES = ((14, 10), (7, 5), (4, 3))
CHANNELS = (20, 40, 70)


def pyramid(images, *, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((images, c, *size)).astype(dtype) for c, size in zip(CHANNELS, SIZES, strict=True)]


def queries(count, seed=1):
    levels = pyramid(count, seed=seed)
    return [[level[i] for level in levels] for i in range(count)]


GALLERY = pyramid(4)
CELLS = [to_cells(level, depth) for level, depth in zip(GALLERY, (2, 1, 0), strict=True)]
QUERY = queries(1)[0]


def same(match, expected):
    np.testing.assert_allclose(match.distances, expected[0], rtol=1e-12)
    np.testing.assert_array_equal(match.neighbours, expected[1])


@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("path", ["pruned", "dense", "reference"])
def test_weights_and_a_mask_on_every_path(path, instruction_set):
    weights = (0.5, 3, 1e-3)
    ignore = np.zeros(SIZES[0], bool)
    ignore[2:9, 1:] = True
    matcher = Matcher(GALLERY, weights=weights, path=path, threads=2, instruction_set=instruction_set)
    match = matcher.match(QUERY, [3, 0, 1], kappa=5, window=1, ignore=ignore)
    same(match, reference.match(QUERY, GALLERY, [3, 0, 1], kappa=5, window=1, weights=weights, ignore=ignore))
    assert (match.distances[ignore] == 0).all()
    assert (match.neighbours[ignore] == -1).all()
    assert match.statistics.path == path


@pytest.mark.parametrize("instruction_set", instruction_sets())
def test_statistics_say_what_happened(instruction_set):
    matcher = Matcher(GALLERY, threads=2, instruction_set=instruction_set)
    statistics = matcher.match(QUERY, range(4), kappa=3).statistics
    cells = 4 * 3
    assert statistics.pairs == cells * cells * 4
    assert statistics == matcher.match(QUERY, range(4), kappa=3).statistics
    assert 0 < statistics.passed[2] <= statistics.pairs
    assert statistics.exact <= statistics.passed[0]
    assert 0 <= statistics.guarded_cells <= cells
    narrow = matcher.match(QUERY, range(4), window=0).statistics
    assert narrow.pairs == cells * 4


def test_near_copies_are_found_with_little_work():
    gallery = [level.repeat(3, axis=0) for level in pyramid(8, seed=5)]
    matcher = Matcher(gallery, threads=1)
    rng = np.random.default_rng(0)
    query = [level[11] + rng.normal(0, 0.01, level.shape[1:]).astype(np.float32) for level in gallery]
    match = matcher.match(query, range(24))
    assert (match.neighbours[..., 0, 0] == 9).all()  # images 9 to 11 are equal: the first wins
    assert match.statistics.exact < 0.01 * (14 * 10) ** 2 * 24
    assert match.statistics.passed[2] < 0.5 * match.statistics.pairs


@pytest.mark.parametrize("path", ["pruned", "dense", "reference"])
def test_a_batch_is_a_loop(path):
    matcher = Matcher(GALLERY, threads=3, path=path)
    asked = queries(5)
    ids = [[0, 1], [2], [3, 1, 0], [0, 1, 2, 3], [1]]
    ignore = np.zeros(SIZES[0], bool)
    ignore[0] = True
    together = matcher.match_batch(asked, ids, kappa=2, window=2, ignore=ignore)
    for query, image_ids, match in zip(asked, ids, together, strict=True):
        alone = matcher.match(query, image_ids, kappa=2, window=2, ignore=ignore)
        np.testing.assert_array_equal(match.distances, alone.distances)
        np.testing.assert_array_equal(match.neighbours, alone.neighbours)
        assert match.statistics == alone.statistics
    assert matcher.match_batch([], []) == []


def test_any_basis_gives_the_same():
    other = encode_gallery(
        [to_cells(level + 3, depth) for level, depth in zip(pyramid(2, seed=9), (2, 1, 0), strict=True)]
    )
    layouts = [code_layout(c, 12, 4 ** (2 - i), finest=i == 0, coarsest=i == 2) for i, c in enumerate(CHANNELS)]
    codes = [
        encode(cells, level.basis, layout, coarsest=i == 2)
        for i, (cells, level, layout) in enumerate(zip(CELLS, other, layouts, strict=True))
    ]
    matcher = Matcher.from_cells(CELLS, SIZES, codes=codes, threads=2)
    assert matcher.path == "pruned"
    same(matcher.match(QUERY, [2, 1], kappa=4), reference.match(QUERY, GALLERY, [2, 1], kappa=4))


@pytest.mark.parametrize(("count", "kept"), [(1, 0), (15, 0), (16, 16), (17, 16), (127, 16), (128, 32), (1024, 256)])
def test_layouts_follow_from_channels(count, kept):
    padded = -(-count // 16) * 16
    middle = code_layout(count, 12, 4, finest=False, coarsest=False)
    assert middle.basis == (1 + kept, count)
    assert middle.projected == (12, 4 * ((kept or padded) + 16))
    assert middle.rotated == (12, 4 * (padded + 16))
    coarsest = code_layout(count, 17, 1, finest=False, coarsest=True)
    assert (coarsest.projected, coarsest.rotated) == ((2, 16 * ((kept or padded) + 16)), None)
    only = code_layout(count, 17, 1, finest=True, coarsest=True)
    assert (only.basis, only.projected, only.rotated) == ((1, count), None, (2, 16 * (padded + 16)))


def test_codes_are_each_images_own_and_the_basis_is_orthonormal():
    layout = code_layout(70, 12, 1, finest=False, coarsest=True)
    basis = make_basis(CELLS[2], layout)
    np.testing.assert_allclose(basis[1:] @ basis[1:].T, np.eye(16), atol=1e-6)
    np.testing.assert_allclose(basis[0], CELLS[2].reshape(-1, 70).mean(axis=0), atol=1e-6)
    whole = encode(CELLS[2], basis, layout, coarsest=True).projected
    for image in range(4):
        alone = encode(CELLS[2][image : image + 1], basis, layout, coarsest=True).projected
        np.testing.assert_array_equal(alone[0], whole[image])
    assert (can_encode((64, 1 << 15)), can_encode((64, (1 << 15) + 1))) == (True, False)


def test_auto_goes_by_facts():
    assert Matcher(GALLERY, threads=1).path == "pruned"
    assert Matcher(GALLERY, threads=1, upsampling="bilinear").path == "dense"
    assert Matcher.from_cells(CELLS, SIZES, threads=1).path == "dense"
    with pytest.raises(InputError, match="expected codes of the gallery and nearest upsampling for 'pruned', got"):
        Matcher.from_cells(CELLS, SIZES, threads=1, path="pruned")
    with pytest.raises(InputError, match="got upsampling 'bilinear'"):
        Matcher(GALLERY, threads=1, path="pruned", upsampling="bilinear")


CODES = encode_gallery(CELLS)


def changed(level, **parts):
    codes = [LevelCodes(c.basis, c.projected, c.rotated) for c in CODES]
    codes[level] = LevelCodes(**(vars(codes[level]) | parts))
    return codes


@pytest.mark.parametrize(
    ("codes", "text"),
    [
        (CODES[:2], "codes: expected one for each of 3 levels, got 2"),
        (changed(1, projected=None), "codes of level 1: expected projected codes, got none"),
        (changed(2, rotated=CODES[1].rotated), "codes of level 2: expected no rotated codes, got some"),
        (
            changed(0, rotated=CODES[0].rotated[:2]),
            "codes of level 0, rotated: expected C-contiguous uint8 (4, 48, 192)",
        ),
        (changed(0, rotated=CODES[0].rotated.view(np.int8)), "codes of level 0, rotated: expected C-contiguous uint8"),
        (
            changed(1, basis=CODES[1].basis[:, :8]),
            "codes of level 1, basis: expected C-contiguous float32 (1 + directions, 40)",
        ),
        (
            changed(1, basis=CODES[1].basis * 2),
            "codes: expected a multiple of 16 orthonormal directions, got 16, off by",
        ),
    ],
)
def test_wrong_codes_are_refused(codes, text):
    with pytest.raises(InputError) as error:
        Matcher.from_cells(CELLS, SIZES, codes=codes, threads=1)
    assert text in str(error.value)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"weights": [1, 2]}, "weights: expected one for each of 3 levels, got 2"),
        ({"weights": [1, 2, 0]}, "weights[2]: expected"),
        ({"weights": [1, np.nan, 1]}, "weights[1]: expected"),
    ],
)
def test_wrong_weights_are_refused(options, text):
    with pytest.raises(InputError) as error:
        Matcher(GALLERY, threads=1, **options)
    assert text in str(error.value)


def test_wrong_requests_are_refused():
    matcher = Matcher(GALLERY, threads=1)
    with pytest.raises(InputError, match=r"ignore: expected bool \(14, 10\), got uint8 \(14, 10\)"):
        matcher.match(QUERY, [0], ignore=np.zeros((14, 10), np.uint8))
    with pytest.raises(InputError, match=r"ignore: expected bool \(14, 10\), got list"):
        matcher.match(QUERY, [0], ignore=[True])
    with pytest.raises(InputError, match="image_ids: expected ids for each of 1 queries, got 2"):
        matcher.match_batch([QUERY], [[0], [1]])
    broken = [level.copy() for level in QUERY]
    broken[1][3, 2, 1] = np.inf
    text = r"query 1, level 1: expected finite features, got NaN or infinity at \(channel, y, x\) = \(3, 2, 1\)"
    with pytest.raises(InputError, match=text):
        matcher.match_batch([QUERY, broken], [[0], [0]])
