"""Whatever comes in place of an argument: InputError, which names it; never an error of the binding's or of NumPy's."""

import re

import numpy as np
import pytest
from spadeline.engine import InputError, Matcher, SpadelineError
from spadeline.engine.match.cells import to_cells
from spadeline.engine.match.codes import LevelCodes, encode_gallery

SIZES = ((4, 6), (2, 3))
GALLERY = [np.zeros((2, 3, *SIZES[0]), np.float32), np.zeros((2, 5, *SIZES[1]), np.float32)]
QUERY = [level[0] for level in GALLERY]
CELLS = [to_cells(GALLERY[0], 1), to_cells(GALLERY[1], 0)]
CODES = encode_gallery(CELLS)
KAPPA = 2


def unaligned(array):
    room = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    room[...] = array
    return room


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


# In place of anything. Text, bytes and mappings can be iterated over, too; arrays have no truth.
NOTHING_LIKE_IT = {
    "object": object(),
    "text": "abc",
    "bytes": b"ab",
    "mapping": {0: 1},
    "set": {0},
    "complex": 1j,
    "function": len,
    "class": Matcher,
    "nested lists": [[[0.0]], [1]],
    "objects": np.array([None, "x", 2], object),
    "truths": np.zeros((4, 6), bool)[0],
    "dates": np.zeros(3, "M8[s]"),
    "record": np.zeros(2, [("a", "f4")]),
    "of arrays": [np.zeros((2, 2)), np.zeros((3, 3))],
}
NONE = {"none": None}
NUMBERS = {"half": 0.5, "nan": np.nan, "negative": -3, "huge": 2**80, "true": True, "array": np.zeros((4, 7))}
LISTS = {"list of none": [None, None], "list of text": ["a", "b"], "empty": [], "long": [1] * 9}


def wrong_arrays(right):
    """What isn't this array, but has something of it."""
    return {
        "float64": right.astype(np.float64) if right.dtype != np.float64 else right.astype(np.float32),
        "complex64": right.astype(np.complex64),
        "int32": right.astype(np.int32) if right.dtype != np.int32 else right.astype(np.int64),
        "byte order": right.astype(right.dtype.newbyteorder()),
        "another axis": right[None],
        "an axis less": right[0],
        "another shape": right[..., :1],
        "no numbers": right[:0],
        "one number": np.array(1, right.dtype),
        "masked": np.ma.masked_array(right, mask=np.zeros(right.shape, bool)),
    }


def in_place(values, index, value):
    return [value if i == index else v for i, v in enumerate(values)]


def matching(name, value):
    options = {"query_levels": QUERY, "image_ids": [0, 1], "kappa": KAPPA, name: value}
    return lambda matcher: matcher.match(**options)


def results():
    return np.zeros(SIZES[0]), np.zeros((*SIZES[0], KAPPA, 3), np.int32)


def cases():
    """(name, argument as the text names it, call) of every wrong value of every argument."""
    arrays = NOTHING_LIKE_IT | NUMBERS
    for argument, values, text in (
        ("query_levels", NONE | arrays | LISTS, "query"),
        ("image_ids", NONE | NOTHING_LIKE_IT | NUMBERS | LISTS, "image_ids"),
        ("kappa", NONE | NOTHING_LIKE_IT | NUMBERS | LISTS, "kappa"),
        ("window", NOTHING_LIKE_IT | NUMBERS | LISTS, "window"),
        ("ignore", NOTHING_LIKE_IT | NUMBERS | LISTS | wrong_arrays(np.zeros(SIZES[0], bool)), "ignore"),
        ("out", NOTHING_LIKE_IT | NUMBERS | LISTS, "out"),
    ):
        for kind, value in values.items():
            yield f"{argument}: {kind}", text, matching(argument, value)
    for level in range(2):
        for kind, value in (NONE | arrays | wrong_arrays(QUERY[level])).items():
            yield f"query {level}: {kind}", "query", matching("query_levels", in_place(QUERY, level, value))
    for part in range(2):
        right = results()[part]
        bad = {
            "read-only": read_only(right),
            "not contiguous": np.repeat(right, 2, axis=1)[:, ::2],
            "unaligned": unaligned(right),
            "fortran": np.asfortranarray(right),
        }
        for kind, value in (NONE | arrays | wrong_arrays(right) | bad).items():
            yield f"out {part}: {kind}", "out", matching("out", tuple(in_place(results(), part, value)))
    for count in (1, 3):
        yield f"out of {count}", "out", matching("out", (results()[0],) * count)
    for kind, value in (NOTHING_LIKE_IT | NUMBERS).items():
        yield f"reachable: {kind}", "window", lambda matcher, value=value: matcher.reachable(value)
    yield from batches()
    yield from openings()


def batches():
    for kind, value in (NONE | NOTHING_LIKE_IT | NUMBERS | LISTS).items():
        if kind != "empty":
            yield (
                f"queries: {kind}",
                "quer|image_ids",
                lambda matcher, value=value: matcher.match_batch(value, [[0], [1]]),
            )
        yield f"ids: {kind}", "image_ids", lambda matcher, value=value: matcher.match_batch([QUERY] * 2, value)
        yield f"ids 1: {kind}", "image_ids", lambda m, value=value: m.match_batch([QUERY] * 2, [[0], value])
        yield f"query 1: {kind}", "quer", lambda m, value=value: m.match_batch([QUERY, value], [[0], [1]])


def opening(argument, value):
    return lambda _: Matcher(**({"levels": GALLERY, "threads": 1} | {argument: value}))


def from_cells(argument, value):
    options = {"cells": CELLS, "sizes": SIZES, "codes": CODES, "threads": 1}
    return lambda _: Matcher.from_cells(**(options | {argument: value}))


def openings():
    lists = NOTHING_LIKE_IT | NUMBERS | LISTS
    options = {
        "weights": (lists, "weights"),
        "threads": (lists, "threads"),
        "path": (NONE | lists, "path"),
        "upsampling": (NONE | lists, "upsampling"),
        "instruction_set": (NONE | lists, "instruction_set"),
        "device": (NONE | lists, "device"),
        "memory_limit": (lists, "memory_limit"),
    }
    for argument, (values, text) in options.items():
        for kind, value in values.items():
            yield f"{argument}: {kind}", text, opening(argument, value)
            yield f"cells, {argument}: {kind}", text, from_cells(argument, value)
    for kind, value in (NONE | lists).items():
        yield f"levels: {kind}", "level", opening("levels", value)
        yield f"cells: {kind}", "cells|gallery|levels", from_cells("cells", value)
        yield f"sizes: {kind}", "sizes|level", from_cells("sizes", value)
        yield f"size: {kind}", "sizes|level", from_cells("sizes", [SIZES[0], value])
        if kind != "none":
            yield f"codes: {kind}", "codes", from_cells("codes", value)
        yield f"codes 1: {kind}", "codes", from_cells("codes", [CODES[0], value])
        for part in ("basis", "projected", "rotated"):
            broken = LevelCodes(**(vars(CODES[1]) | {part: value}))
            if (part, kind) != ("rotated", "none"):  # the coarsest level has none
                yield f"{part}: {kind}", "codes", from_cells("codes", [CODES[0], broken])
    yield from openings_with_a_wrong_level()


def openings_with_a_wrong_level():
    for level in range(2):
        for kind, value in (NONE | NOTHING_LIKE_IT | NUMBERS | wrong_arrays(GALLERY[level])).items():
            yield f"level {level}: {kind}", "level", opening("levels", in_place(GALLERY, level, value))
        for kind, value in (NONE | NOTHING_LIKE_IT | NUMBERS | wrong_arrays(CELLS[level])).items():
            yield f"cells {level}: {kind}", "cells|gallery|level", from_cells("cells", in_place(CELLS, level, value))
        bad = {"unaligned": unaligned(CELLS[level]), "not contiguous": np.repeat(CELLS[level], 2, axis=2)[:, :, ::2]}
        for kind, value in bad.items():
            yield f"cells {level}: {kind}", "gallery", from_cells("cells", in_place(CELLS, level, value))


@pytest.mark.filterwarnings("ignore:Casting complex values")
@pytest.mark.parametrize("path", ["auto", "dense", "reference"])
def test_every_wrong_argument_is_an_input_error_that_names_it(path):
    matcher = Matcher(GALLERY, threads=1, path=path)
    wrong = []
    for name, text, call in cases():
        try:
            call(matcher)
            wrong.append(f"{name}: accepted")
        except InputError as error:
            if not re.match(text, str(error)):
                wrong.append(f"{name}: {error}")
            if len(str(error)) > 400:
                wrong.append(f"{name}: {len(str(error))} characters")
        except Exception as error:  # noqa: BLE001 - what this test is about
            wrong.append(f"{name}: {type(error).__name__}: {error}")
    assert not wrong, "\n".join([f"{len(wrong)} of {sum(1 for _ in cases())}", *wrong])
    assert np.isfinite(matcher.match(QUERY, [0, 1]).distances).all()
    assert issubclass(InputError, SpadelineError)


@pytest.mark.parametrize("path", ["auto", "reference"])
def test_results_need_memory_of_their_own(path):
    matcher = Matcher.from_cells([cells.copy() for cells in CELLS], SIZES, codes=CODES, threads=1, path=path)
    distances, neighbours = results()
    room = np.zeros(4096, np.uint8)

    def inside(array, at=0):
        return room[at : at + array.nbytes].view(array.dtype).reshape(array.shape)

    for query, ignore, out, text in (
        (QUERY, None, (inside(distances), inside(neighbours, 64)), "both have"),
        ([inside(QUERY[0]), QUERY[1]], None, (inside(distances), neighbours), "the query's"),
        (QUERY, inside(np.zeros(SIZES[0], bool)), (distances, inside(neighbours, 16)), "the mask's"),
        (QUERY, None, (matcher._cells[0].ravel()[:48].view(np.float64).reshape(SIZES[0]), neighbours), "the gallery's"),
    ):
        with pytest.raises(InputError, match=f"out: expected memory of .*{text}"):
            matcher.match(query, [0], kappa=KAPPA, ignore=ignore, out=out)
    apart = inside(distances), inside(neighbours, distances.nbytes)
    assert matcher.match(QUERY, [0], kappa=KAPPA, out=apart).distances is apart[0]


def test_queries_are_taken_from_wherever_they_lie():
    rng = np.random.default_rng(0)
    query = [rng.standard_normal(level.shape).astype(np.float32) for level in QUERY]
    matcher = Matcher(GALLERY, threads=1)
    expected = matcher.match(query, [0, 1]).distances
    for change in (unaligned, read_only, np.asfortranarray, lambda level: np.repeat(level, 2, axis=1)[:, ::2]):
        np.testing.assert_array_equal(matcher.match([change(level) for level in query], [0, 1]).distances, expected)
