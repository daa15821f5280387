import numpy as np
import pytest
from spadeline.engine.errors import InputError, RecipeError
from spadeline.engine.recipe.arrays import write_array
from spadeline.engine.recipe.ignore import check_ignore, open_ignore

SIZE = (6, 8)


def mask(*, ignored=5):
    return np.arange(48).reshape(SIZE) < ignored


@pytest.mark.parametrize("ignored", [0, 5, 47])
def test_round_trip(tmp_path, ignored):
    check_ignore(mask(ignored=ignored), SIZE)
    stored = write_array(tmp_path, 1, "ignore", mask(ignored=ignored))
    read = open_ignore(tmp_path, stored, SIZE)
    np.testing.assert_array_equal(read, mask(ignored=ignored), strict=True)
    assert not read.flags.writeable


@pytest.mark.parametrize(
    ("ignore", "text"),
    [
        (mask().T, "ignore: expected bool (6, 8), the extractor's input size, got bool (8, 6)"),
        (mask()[0], "got bool (8,)"),
        (mask().astype(np.uint8), "got uint8 (6, 8)"),
        (mask().tolist(), "got list"),
        (mask(ignored=48), "ignore: expected a pixel or more that is scored, got a mask that ignores all"),
    ],
)
def test_refuses(ignore, text):
    with pytest.raises(InputError) as error:
        check_ignore(ignore, SIZE)
    assert text in str(error.value)


@pytest.mark.parametrize(
    ("stored", "text"),
    [
        (mask().T, "expected bool (6, 8) in C order, got the header"),
        (mask().astype(np.uint8), "expected bool (6, 8) in C order, got the header"),
        ((mask() * np.uint8(255)).view(np.bool_), "expected bytes of 0 and 1, got 255"),
        (mask(ignored=48), "ignore: expected a pixel or more that is scored, got a mask that ignores all"),
    ],
)
def test_refuses_a_file(tmp_path, stored, text):
    """With a mask that hides everything, every part would pass."""
    file = write_array(tmp_path, 1, "ignore", stored)
    with pytest.raises(RecipeError) as error:
        open_ignore(tmp_path, file, SIZE)
    assert str(error.value).startswith(f"{tmp_path / 'ignore-1.npy'}: ")
    assert text in str(error.value)
