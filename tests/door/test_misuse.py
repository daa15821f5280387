"""Wrong arguments and handles are errors with a code and a text, and calls from several threads don't meet."""

import ctypes
import json
import threading
from pathlib import Path

import numpy as np
import pytest

from shared_parts.library import ARGUMENT, BUSY, DEVICE, HANDLE, OK, RECIPE, CallError, RawResult

from ..conftest import part

pytestmark = pytest.mark.xdist_group("door")
FRAME = part(301, scratched=True)[0]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def recipe(library, recipe_folder):
    handle = library.load(recipe_folder)
    yield handle
    library.c.spadeline_free_recipe(handle)


@pytest.fixture(scope="module")
def inspector(library, recipe):
    handle = library.open(recipe, threads=1)
    yield handle
    library.c.spadeline_free_inspector(handle)


def inspect(library, inspector, pixels=FRAME, height=96, width=96, pitch=0, color=1):
    """Call with plain numbers; return the code and the text."""
    result = ctypes.pointer(RawResult())
    address = pixels if pixels is None else pixels.ctypes.data
    code = library.c.spadeline_inspect(inspector, address, height, width, pitch, color, ctypes.byref(result))
    assert bool(result) == (code == OK)
    return code, library.error() if code else ""


def test_versions(library):
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    assert f'version = "{library.c.spadeline_version().decode()}"' in text
    header = (ROOT / "csrc" / "include" / "spadeline" / "spadeline.h").read_text("utf-8")
    assert f"#define SPADELINE_ABI {library.c.spadeline_abi()}\n" in header


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"pixels": None}, "pixels: expected a frame's, got null"),
        ({"height": 7}, "at least 8 pixels, got 7 x 96"),
        ({"height": -1}, "at least 8 pixels, got -1 x 96"),
        ({"height": 2**31}, "at most 1048576 pixels"),
        ({"height": 2**63 - 1}, "at most 1048576 pixels"),
        ({"width": 0}, "width: expected 1 to 2147483648, got 0"),
        ({"width": 2**31}, "at most 1048576 pixels"),
        ({"width": -(2**63)}, "width: expected 1 to"),
        ({"width": 2**63 - 1, "height": 2**63 - 1}, "width: expected 1 to"),
        ({"pitch": 287}, "pitch: expected at least the 288 bytes of a row"),
        ({"pitch": -288}, "pitch: expected at least"),
        ({"pitch": 2**63 - 1}, "pitch: expected at least"),
        ({"color": 5}, "color: expected a number from 0 to 4, got 5"),
        ({"color": -1}, "color: expected a number from 0 to 4, got -1"),
    ],
)
def test_frames_that_are_none(library, inspector, arguments, text):
    code, came = inspect(library, inspector, **arguments)
    assert code == ARGUMENT
    assert text in came
    assert library.c.spadeline_inspector_error(inspector).decode() == came
    assert inspect(library, inspector)[0] == OK


def test_handles_that_are_none(library, recipe, inspector):
    assert inspect(library, None) == (HANDLE, "inspector: expected a handle of spadeline_open, got null")
    assert inspect(library, recipe) == (HANDLE, "inspector: expected a handle of spadeline_open, got something else")
    assert library.c.spadeline_inspect(inspector, FRAME.ctypes.data, 96, 96, 0, 1, None) == ARGUMENT
    place = ctypes.c_void_p(1)
    for handle in (None, inspector):
        assert library.c.spadeline_open(handle, 1, 0, -1, ctypes.byref(place)) == HANDLE
        assert place.value is None
        assert library.c.spadeline_describe(handle, ctypes.byref(place)) == HANDLE
        assert library.c.spadeline_image_count(handle) == -1
        assert library.c.spadeline_image_name(handle, 0) is None
        library.c.spadeline_free_recipe(handle)
    for handle in (None, recipe):
        assert library.c.spadeline_set_need(handle, 1) == HANDLE
        assert library.c.spadeline_set_deadline(handle, 1) == HANDLE
        assert library.c.spadeline_inspector_error(handle) == b""
        library.c.spadeline_free_inspector(handle)
    assert inspect(library, inspector)[0] == OK  # nothing was freed


def test_options_that_are_none(library, recipe, inspector, recipe_folder):
    c, place = library.c, ctypes.c_void_p()
    folder = str(recipe_folder).encode()

    def refused(code, expected, text):
        assert code == expected
        assert text in library.error()

    refused(c.spadeline_load(None, 0, 0, 0, ctypes.byref(place)), ARGUMENT, "folder: expected a recipe's, got null")
    refused(c.spadeline_load(folder, 3, 0, 0, ctypes.byref(place)), ARGUMENT, "device: expected a number from 0 to 2")
    refused(c.spadeline_load(folder, 2, 0, 0, ctypes.byref(place)), DEVICE, "inspects on the CPU alone")
    refused(c.spadeline_load(folder, 0, -1, 0, ctypes.byref(place)), ARGUMENT, "gallery: expected a number from 0")
    refused(c.spadeline_load(folder, 0, 0, 0, None), ARGUMENT, "recipe: expected a place to write to, got null")
    refused(c.spadeline_load(b"/nowhere", 0, 0, 0, ctypes.byref(place)), RECIPE, "/nowhere/recipe.json: is missing")
    refused(c.spadeline_open(recipe, -1, 0, -1, ctypes.byref(place)), ARGUMENT, "threads: expected a number from 0")
    refused(c.spadeline_open(recipe, 1025, 0, -1, ctypes.byref(place)), ARGUMENT, "to 1024, got 1025")
    refused(c.spadeline_open(recipe, 1, 4, -1, ctypes.byref(place)), ARGUMENT, "need: expected a number from 0 to 3")
    refused(c.spadeline_open(recipe, 1, 0, np.nan, ctypes.byref(place)), ARGUMENT, "deadline_s: expected a number")
    refused(c.spadeline_set_need(inspector, 9), ARGUMENT, "need: expected a number from 0 to 3, got 9")
    refused(c.spadeline_set_deadline(inspector, np.nan), ARGUMENT, "deadline_s: expected a number, got NaN")
    assert not place


def test_descriptions_and_names(library, recipe, inspector, recipe_folder):
    text = ctypes.c_char_p()
    library.expect(library.c.spadeline_describe(recipe, ctypes.byref(text)))
    described, stored = json.loads(text.value), json.loads((recipe_folder / "recipe.json").read_text())
    assert described["settings"] == stored["settings"]
    assert described["theta"] == stored["calibration"]["theta"]["value"]
    names = [image["name"].encode() for image in stored["images"]]
    assert [library.c.spadeline_image_name(recipe, i) for i in range(len(names))] == names
    assert library.c.spadeline_image_count(recipe) == len(names)
    assert library.c.spadeline_image_name(recipe, len(names)) is None
    assert library.error() == f"index: expected 0 to {len(names) - 1}, got {len(names)}"
    library.expect(library.c.spadeline_describe_inspector(inspector, ctypes.byref(text)))
    assert json.loads(text.value) | {"threads": 1, "matcher": "pruned", "backbone": "averages"} == json.loads(
        text.value
    )


def test_inspectors_in_two_threads_share_a_recipe(library, recipe):
    frames = [part(seed, scratched=seed % 2 == 0)[0] for seed in range(400, 406)]
    inspectors = [library.open(recipe, threads=threads) for threads in (1, 1, 2)]
    expected = [library.inspect(inspectors[0], frame).pred_score for frame in frames]
    scores = [None, None, None]

    def work(index):
        scores[index] = [library.inspect(inspectors[index], frame).pred_score for frame in frames * 3]

    threads = [threading.Thread(target=work, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for inspector in inspectors:
        library.c.spadeline_free_inspector(inspector)
    assert scores == [expected * 3] * 3


def test_calls_during_another_one_are_refused(library, recipe):
    inspector, stop = library.open(recipe, threads=1), threading.Event()
    expected, failures = library.inspect(inspector, FRAME).pred_score, []

    def work():
        while not stop.is_set():
            try:
                if library.inspect(inspector, FRAME).pred_score != expected:
                    failures.append("another score")
            except CallError as error:
                if error.code != BUSY:
                    failures.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    refused = any(library.c.spadeline_set_need(inspector, 1) == BUSY for _ in range(100_000))
    assert refused
    assert "expected one call at a time" in library.error()
    stop.set()
    thread.join()
    library.c.spadeline_free_inspector(inspector)
    assert not failures
