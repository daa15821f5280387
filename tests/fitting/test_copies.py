import numpy as np
from spadeline.engine.fitting.copies import find_copies, pixels_digest, some, without_copies
from spadeline.engine.recipe.records import ImageRecord

A, B, C = ("a" * 64, "b" * 64, "c" * 64)


def test_a_digest_is_of_pixels_and_shape():
    rgb = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
    assert pixels_digest(rgb) == pixels_digest(np.asfortranarray(rgb)) == pixels_digest(rgb.copy())
    others = [rgb.reshape(12, 8, 3), rgb[..., ::-1], rgb[:, :-1]]
    assert len({pixels_digest(other) for other in (rgb, *others)}) == 4


def test_the_first_of_copies_stays():
    records = [ImageRecord("a", A, A), ImageRecord("b", B, B), ImageRecord("a.bmp", C, A), ImageRecord("b too", B, B)]
    assert find_copies(records) == ([0, 1], [("a.bmp", "a"), ("b too", "b")])
    assert find_copies(records[1:3], among=records[:1]) == ([0], [("a.bmp", "a")])


def test_images_of_an_older_version_are_compared_by_their_files():
    old = [ImageRecord("old", A), ImageRecord("of no file")]
    assert find_copies([ImageRecord("same file", A, B), ImageRecord("no file either")], among=old) == (
        [1],
        [("same file", "old")],
    )
    assert without_copies([*old, ImageRecord("no file either")]) == [0, 1, 2]


def test_without_copies_leaves_all_of_them_out():
    records = [ImageRecord("a", A, A), ImageRecord("b", B, B), ImageRecord("a.bmp", C, A)]
    assert without_copies(records) == [1]


def test_a_sentence_names_a_few_images():
    assert some(["a", "b"]) == "a, b"
    assert some(list("abcdef")) == "a, b, c, d, e, …"
