"""Recipes with other indexes than "Flat": where the library is built with libfaiss, and where it isn't."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from spadeline.engine import Detector, Settings, fit

from shared_parts.drawn import part
from shared_parts.library import ARGUMENT, CallError

from ..recipes import edit_manifest
from .comparing import assert_same
from .test_processes import in_fork

pytestmark = [pytest.mark.xdist_group("door"), pytest.mark.filterwarnings("ignore::UserWarning")]
FRAMES = [part(seed, scratched=seed % 2 == 0)[0] for seed in range(300, 308)]
IMAGES = 12  # of the recipe
REFUSAL = (
    "index_factory: expected 'Flat', the index that this library searches, got '{}'; change it with: spadeline "
    "calibrate; or build the library with libfaiss (docs/how-to/c-and-cpp.md)"
)
# faiss's versions make other lists of the same embeddings, so with lists all images are asked for, or the order is
# compared alone. All other indexes are made alike by all versions that were tried.
FACTORIES = ["HNSW8", "SQ8", "SQfp16", "LSH", "PCA4,Flat", "PCA3,HNSW4"]
LISTS = ["IVF4,Flat", "IVF2,SQ8", "PCA8,IVF4,SQ8"]


@pytest.fixture
def fitted(parts, extractor_path, tmp_path):
    """Return a function that makes a recipe with an index."""

    def fit_with(factory, k_gallery=3):
        folder = tmp_path / f"recipe-{factory}-{k_gallery}"
        if not folder.exists():
            settings = Settings(index_factory=factory, k_score=2, k_gallery=k_gallery, kappa=2)
            fit(parts / "train" / "good", folder, extractor=extractor_path, settings=settings, threads=2)
        return folder

    return fit_with


@pytest.fixture
def other(library, fitted):
    """Return a recipe with another index; skip the test where the library wasn't built with libfaiss."""
    folder = fitted("IVF2,SQ8")
    try:
        library.c.spadeline_free_recipe(library.load(folder))
    except CallError as error:
        refused = error
    else:
        return folder
    assert (refused.code, str(refused)) == (ARGUMENT, REFUSAL.format("IVF2,SQ8"))
    return pytest.skip("the library was built without libfaiss")


@pytest.mark.usefixtures("other")
@pytest.mark.parametrize(("factory", "k_gallery"), [(f, 3) for f in FACTORIES] + [(f, IMAGES) for f in LISTS])
def test_the_same_verdict(library, fitted, factory, k_gallery):
    folder = fitted(factory, k_gallery)
    detector = Detector.load(folder, device="cpu", threads=2)
    with library.inspector(folder) as inspector:
        for frame in FRAMES:
            assert_same(library.inspect(inspector, frame), detector.predict(frame))


@pytest.mark.usefixtures("other")
@pytest.mark.parametrize("factory", LISTS)
def test_whatever_is_found_is_in_the_exact_order(library, fitted, factory):
    exact = Detector.load(fitted("Flat", IMAGES), device="cpu", threads=2)
    folder = fitted(factory)
    detector = Detector.load(folder, device="cpu", threads=2)
    with library.inspector(folder) as inspector:
        for frame in FRAMES:
            got, expected = library.inspect(inspector, frame), detector.predict(frame)
            order = exact.predict(frame).nearest_images.tolist()
            places = [order.index(image) for image in got.nearest_images]
            assert len(places) == 3
            assert places == sorted(places)
            if np.array_equal(got.nearest_images, expected.nearest_images):
                assert_same(got, expected)


def test_inspectors_share_an_index(library, other):
    def all_of(inspector):
        return [library.inspect(inspector, frame) for frame in FRAMES]

    recipe = library.load(other)
    inspectors = [library.open(recipe, threads=1) for _ in range(2)]
    alone = all_of(inspectors[0])
    with ThreadPoolExecutor(2) as pool:
        for together in pool.map(all_of, inspectors):
            for got, expected in zip(together, alone, strict=True):
                assert got.nearest_images.tolist() == expected.nearest_images.tolist()
                np.testing.assert_array_equal(got.anomaly_map, expected.anomaly_map)
    for inspector in inspectors:
        library.c.spadeline_free_inspector(inspector)
    library.c.spadeline_free_recipe(recipe)


def test_a_fork_makes_an_index_of_its_own(library, other):
    def score():
        with library.inspector(other, threads=1) as inspector:
            return library.inspect(inspector, FRAMES[0]).pred_score

    assert in_fork(score) == score() == in_fork(score)


def test_nothing_is_printed(library, other, capfd):
    with library.inspector(other) as inspector:
        library.inspect(inspector, FRAMES[0])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("factory", "text"),
    [
        ("IVF13,Flat", "factory: expected at most 12 lists for as many embeddings, got 'IVF13,Flat'"),
        ("PCA9999,SQ8", "factory: expected a faiss index for 12 embeddings of 24 numbers, got 'PCA9999,SQ8': PCA "),
    ],
)
def test_indexes_that_cannot_be_made(library, other, factory, text):
    edit_manifest(other, lambda content: content["settings"].update(index_factory=factory))
    with pytest.raises(CallError) as error:
        library.load(other)
    assert error.value.code == ARGUMENT
    assert text in str(error.value)
    assert ".cpp" not in str(error.value)
