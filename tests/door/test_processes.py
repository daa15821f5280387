"""Forks, dlclose, and two copies of the library in one process."""

import _ctypes
import json
import os
import shutil
import signal
import threading
from pathlib import Path

import pytest

from shared_parts.library import HANDLE, CallError, Library

from ..conftest import part

pytestmark = pytest.mark.xdist_group("door")
FRAME = part(301, scratched=True)[0]
FORK_S = 60  # longest time of a fork, on a busy machine


@pytest.fixture
def copies(library, tmp_path, runtime):
    """Return a function that loads a copy of the library under another name."""
    (tmp_path / "libonnxruntime.so.1").symlink_to(runtime)
    return lambda name: Library(shutil.copy(library.path, tmp_path / name))


def in_fork(work):
    """Return what work() returns in a fork of this process. A fork that hangs is ended by a signal."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(FORK_S)
        try:
            os.write(writing, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        said = answer.read()
    assert os.waitpid(child, 0)[1] == 0, "the fork didn't end by itself"
    return json.loads(said)


def score(library, inspector):
    return library.inspect(inspector, FRAME).pred_score


@pytest.mark.parametrize("threads", [1, 2])
def test_a_fork_is_told_to_load_the_recipe_itself(library, recipe_folder, threads):
    recipe = library.load(recipe_folder)
    inspector = library.open(recipe, threads=threads)
    expected = score(library, inspector)

    def refusal(work):
        with pytest.raises(CallError) as error:
            work()
        return error.value.code, str(error.value)

    def with_the_old_handles():
        answers = [
            refusal(lambda: library.inspect(inspector, FRAME)),
            refusal(lambda: library.expect(library.c.spadeline_set_need(inspector, 1))),
            refusal(lambda: library.open(recipe, threads=threads)),
            [library.c.spadeline_image_count(recipe), library.error()],
        ]
        library.c.spadeline_free_inspector(inspector)
        library.c.spadeline_free_recipe(recipe)
        return answers

    def with_new_ones():
        with library.inspector(recipe_folder, threads=threads) as own:
            return score(library, own)

    old = "one from before a fork; load the recipe in the fork"
    no_inspector = f"inspector: expected a handle of spadeline_open, got {old}"
    no_recipe = f"recipe: expected a handle of spadeline_load, got {old}"
    assert in_fork(with_the_old_handles) == [
        [HANDLE, no_inspector], [HANDLE, no_inspector], [HANDLE, no_recipe], [-1, no_recipe]
    ]  # fmt: skip
    assert in_fork(with_new_ones) == expected
    assert score(library, inspector) == expected
    library.c.spadeline_free_inspector(inspector)
    library.c.spadeline_free_recipe(recipe)


def test_a_fork_before_the_library_is_used(copies, recipe_folder):
    library = copies("libunused.so")

    def own():
        with library.inspector(recipe_folder, threads=2) as inspector:
            return score(library, inspector)

    assert in_fork(own) == own()


def test_dlclose_leaves_the_library_in_the_process(copies, recipe_folder):
    library = copies("libclosed.so")
    with library.inspector(recipe_folder) as inspector:
        expected = score(library, inspector)
        _ctypes.dlclose(library.c._handle)
        assert score(library, inspector) == expected
    assert "libclosed.so" in Path("/proc/self/maps").read_text()
    again = Library(library.path)
    with again.inspector(recipe_folder) as inspector:
        assert score(again, inspector) == expected
    _ctypes.dlclose(again.c._handle)
    with library.inspector(recipe_folder) as inspector:
        assert score(library, inspector) == expected


def test_two_copies_in_one_process(library, copies, recipe_folder):
    other = copies("libother.so")
    scores = {}
    with pytest.raises(CallError):
        other.load("/nowhere")
    assert "/nowhere" not in library.error()  # each copy has a text of its own

    def work(own):
        with own.inspector(recipe_folder, threads=2) as inspector:
            scores[own] = [score(own, inspector) for _ in range(5)]

    threads = [threading.Thread(target=work, args=(own,)) for own in (library, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert scores.keys() == {library, other}
    assert len({number for numbers in scores.values() for number in numbers}) == 1
