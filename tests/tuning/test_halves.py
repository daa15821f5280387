"""The two halves of labelled images: balanced, the same in every run, and hardly moved by another image."""

import pytest
from spadeline.engine.errors import InputError
from spadeline.engine.tuning.halves import Named, split


def images(**kinds):
    return [Named(f"{kind}/{i}.png", kind, kind != "good") for kind, count in kinds.items() for i in range(count)]


def names(given, half):
    return {given[index].name for index in half}


@pytest.mark.parametrize(
    "kinds", [{"good": 2, "a": 8}, {"good": 7, "a": 3, "b": 3, "c": 3}, {"good": 9, "a": 1, "b": 1, "c": 7, "d": 12}]
)
def test_each_kind_is_halved_and_all_kinds_together(kinds):
    given = images(**kinds)
    halves = split(given)
    assert sorted(halves.choosing + halves.final) == list(range(len(given)))
    for kind in kinds:
        counts = [sum(given[index].kind == kind for index in half) for half in halves]
        assert abs(counts[0] - counts[1]) <= 1
    for label in (False, True):
        counts = [sum(given[index].label == label for index in half) for half in halves]
        assert abs(counts[0] - counts[1]) <= 1


def test_the_order_of_the_images_does_not_matter():
    given = images(good=9, a=8, b=5)
    backwards = given[::-1]
    assert names(given, split(given).final) == names(backwards, split(backwards).final)
    assert split(given).final != tuple(range(len(given) // 2, len(given)))


def test_another_image_moves_at_most_one_of_its_kind():
    for more in range(20):
        given = images(good=10, a=20)
        added = [*given, Named(f"a/new{more}.png", "a", label=True)]
        moved = names(given, split(given).final) - names(added, split(added).final)
        moved |= names(given, split(given).choosing) - names(added, split(added).choosing)
        assert len(moved) <= 1


@pytest.mark.parametrize(
    ("kinds", "text"),
    [
        ({"good": 2, "a": 4, "b": 3}, "labelled: expected at least 8 abnormal images, 4 for each half, got 7"),
        ({"good": 1, "a": 8}, "labelled: expected at least 2 good images, 1 for each half, got 1"),
    ],
)
def test_too_few_images(kinds, text):
    with pytest.raises(InputError, match=text):
        split(images(**kinds))
