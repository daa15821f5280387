"""Shrinking: to OpenCV's bytes, on every instruction set, with any threads, and whatever the frame's strides are."""

import platform
import re
import subprocess
import sys
import threading

import cv2
import numpy as np
import pytest
from spadeline.engine import InputError, _native
from spadeline.engine.images.area import AreaResizer, callers_thread
from spadeline.engine.resources import INSTRUCTION_SET_VARIABLE

from .drawn import pixels

# Elsewhere OpenCV may round a product and its sum at once, which moves few bytes, by one.
MOST_OFF = 0 if platform.machine() in ("x86_64", "AMD64") else 1


def native(name="auto", threads=1):
    return _native.AreaResizer(threads=threads, instruction_set=name)


def shrunk(resizer, frame, size):
    out = np.full((*size, *[3] * (frame.ndim - 2)), 77, np.uint8)
    resizer.shrink(frame, out=out)
    return out


def by_opencv(frame, size):
    resized = cv2.resize(frame, size[::-1], interpolation=cv2.INTER_AREA)
    return resized if frame.ndim == 2 else resized[..., :3]


def assert_opencvs(got, expected, name=""):
    off = np.abs(got.astype(np.int64) - expected)
    assert off.max() <= MOST_OFF, f"{name}: {(off > MOST_OFF).sum()} bytes differ, by up to {off.max()}"


SHAPES = {
    "whole": lambda rng, target: target * rng.integers(1, 9),
    "half": lambda rng, target: max(target, target * rng.integers(2, 12) // 2),
    "barely": lambda rng, target: target + rng.integers(0, 3),
    "any": lambda rng, target: target + rng.integers(0, 300),
}
CONTENTS = [
    lambda rng, shape: rng.integers(0, 256, shape, np.uint8),
    lambda rng, shape: np.full(shape, 255, np.uint8),
    lambda rng, shape: (np.indices(shape).sum(axis=0) * rng.integers(1, 9)).astype(np.uint8),
    lambda rng, shape: rng.integers(0, 2, shape, np.uint8) * np.uint8(255),
]


@pytest.mark.parametrize("channels", [(), (3,), (4,)])
@pytest.mark.parametrize("kind", SHAPES)
def test_the_bytes_are_opencvs(kind, channels):
    rng = np.random.default_rng(len(channels))
    resizers = {name: native(name) for name in _native.instruction_sets()}
    for case in range(40):
        size = tuple(int(side) for side in rng.integers(1, 230 if case % 4 == 0 else 50, 2))
        height, width = (int(SHAPES[kind](rng, side)) for side in size)
        frame = CONTENTS[case % len(CONTENTS)](rng, (height, width, *channels))
        for name, resizer in resizers.items():
            assert_opencvs(shrunk(resizer, frame, size), by_opencv(frame, size), f"{name}, {frame.shape} to {size}")


@pytest.mark.parametrize("name", _native.instruction_sets())
@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((3000, 100), (32, 32)),
        ((100, 3000, 3), (32, 32)),
        ((3000, 8, 3), (1, 1)),
        ((9, 3001), (9, 1)),
        ((700, 1), (13, 1)),
        ((1, 700, 3), (1, 13)),
        ((2048, 2448, 3), (224, 224)),
        ((2048, 2448), (224, 224)),
        ((448, 448, 3), (224, 224)),
        ((448, 448), (224, 224)),
        ((448, 448, 4), (224, 224)),
        ((2048, 2000, 3), (1024, 1000)),
        ((448, 224, 3), (224, 224)),
        ((2, 2, 3), (1, 1)),
        ((6, 10), (3, 5)),
        ((224, 225, 3), (224, 224)),
        ((600, 1200), (2, 3)),  # sums that float32 doesn't hold
        ((600, 1200, 4), (2, 3)),
        ((33, 47), (33, 47)),
        ((33, 47, 3), (33, 47)),
        ((33, 47, 4), (33, 47)),
        ((2048, 2448, 4), (224, 224)),
    ],
)
def test_unusual_shapes_have_opencvs_bytes(shape, size, name):
    frame = pixels(*shape)
    for threads in (1, 3):
        assert_opencvs(shrunk(native(name, threads), frame, size), by_opencv(frame, size), f"{threads} threads")


@pytest.mark.parametrize("channels", [(), (3,), (4,)])
def test_strides_change_nothing(channels):
    resizer = AreaResizer(threads=1)
    whole = pixels(300, 400, *channels)
    views = [whole[20:230, 30:350], whole[::2], whole[::-1], whole[:, ::-1], whole[:, ::2], whole.swapaxes(0, 1)]
    if channels:
        views += [whole[..., ::-1], np.moveaxis(pixels(*channels, 300, 400), 0, 2)]
    for view in views:
        copied = np.ascontiguousarray(view)
        expected = shrunk(resizer.native, copied, (77, 63))
        np.testing.assert_array_equal(resizer.shrink(view, (77, 63)), expected, strict=True)
        np.testing.assert_array_equal(copied, view)
    assert not np.shares_memory(resizer.shrink(whole, whole.shape[:2]), whole)


def test_rows_that_lie_apart_are_not_copied():
    frame = pixels(300, 400, 3)[5:-5, 7:-9]
    seen = []

    class Recorded:
        def shrink(self, given, *, out):
            seen.append(given)

    resizer = AreaResizer(threads=1)
    resizer.native = Recorded()
    resizer.shrink(frame, (20, 30))
    assert seen[0] is frame


@pytest.mark.parametrize("name", _native.instruction_sets())
def test_threads_and_callers_beside_each_other_change_nothing(name):
    shared = native(name, threads=3)
    assert (shared.threads, shared.instruction_set) == (3, name)
    frames = [
        pixels(1201, 1900),
        pixels(900, 900, 3),
        pixels(900, 900, 4),
        pixels(60, 50, 3),
        pixels(1201, 1900, seed=1),
    ]
    expected = [shrunk(native(name), frame, (50, 45)) for frame in frames]
    got = [[] for _ in frames]

    def call(own, frame):
        own.extend(shrunk(shared, frame, (50, 45)) for _ in range(5))

    callers = [threading.Thread(target=call, args=pair) for pair in zip(got, frames, strict=True)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for own, wanted in zip(got, expected, strict=True):
        assert len(own) == 5
        for image in own:
            np.testing.assert_array_equal(image, wanted)


def test_the_environment_chooses_the_instruction_set(monkeypatch):
    monkeypatch.setenv(INSTRUCTION_SET_VARIABLE, "mmx")
    with pytest.raises(InputError, match=r"^instruction_set: expected one that this machine runs .*, got 'mmx'$"):
        AreaResizer(threads=1)
    for name in _native.instruction_sets():
        monkeypatch.setenv(INSTRUCTION_SET_VARIABLE, name)
        assert AreaResizer(threads=2).native.instruction_set == name
    assert callers_thread() is callers_thread()
    assert callers_thread().native.threads == 1


def test_a_fork_shrinks_on_its_callers_thread_but_has_no_team():
    program = """
import os, sys
import numpy as np
from spadeline.engine import InputError
from spadeline.engine.images.area import AreaResizer
alone, team, frame = AreaResizer(threads=1), AreaResizer(threads=2), np.full((1500, 1500), 7, np.uint8)
team.shrink(frame, (10, 10))
child = os.fork()
if child == 0:
    print(alone.shrink(frame, (10, 10)).min(), flush=True)
    try:
        team.shrink(frame, (10, 10))
    except InputError as error:
        print(error, flush=True)
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    command = [sys.executable, "-W", "ignore", "-c", program]  # Python warns of forks beside threads
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("7\n")
    assert "expected the process that opened it, got a fork of it" in done.stdout


FRAME, OUT = np.zeros((8, 12), np.uint8), np.zeros((4, 6), np.uint8)
READ_ONLY = np.zeros((4, 6), np.uint8)
READ_ONLY.flags.writeable = False
FRAMES = "frame: expected uint8 (h, w), (h, w, 3) or (h, w, 4), each row without gaps, got "


@pytest.mark.parametrize(
    ("frame", "out", "text"),
    [
        (FRAME.astype(np.int8), OUT, FRAMES + "int8 (8, 12)"),
        (FRAME[:, ::2], OUT, FRAMES + "uint8 (8, 6), not C-contiguous"),
        (FRAME[::-1], OUT, FRAMES + "uint8 (8, 12), not C-contiguous"),
        (np.broadcast_to(FRAME[0], (8, 12)), OUT, FRAMES + "uint8 (8, 12), not C-contiguous"),
        (np.zeros((8, 12, 2), np.uint8), OUT, FRAMES + "uint8 (8, 12, 2)"),
        (FRAME[0], OUT, FRAMES + "uint8 (12,)"),
        (FRAME[:0], OUT, FRAMES + "uint8 (0, 12)"),
        (FRAME, OUT.astype(np.int8), "out: expected C-contiguous writeable uint8 (H, W), got int8 (4, 6)"),
        (FRAME, READ_ONLY, "out: expected C-contiguous writeable uint8 (H, W), got uint8 (4, 6)"),
        (FRAME, OUT[0], "out: expected C-contiguous writeable uint8 (H, W), got uint8 (6,)"),
        (FRAME[..., None].repeat(3, 2), OUT, "out: expected C-contiguous writeable uint8 (H, W, 3), got uint8 (4, 6)"),
        (FRAME, np.zeros((9, 6), np.uint8), "out: expected sides from 1 to the frame's 8 x 12, got 9 x 6"),
        (FRAME, np.zeros((4, 0), np.uint8), "out: expected sides from 1 to the frame's 8 x 12, got 4 x 0"),
    ],
)
def test_wrong_arrays_are_named(frame, out, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        native().shrink(frame, out=out)


def test_wrong_options_are_named():
    with pytest.raises(InputError, match=r"^threads: expected at least 1, got 0$"):
        AreaResizer(threads=0)
    with pytest.raises(InputError, match=r"^out: expected sides from 1 to the frame's 8 x 12, got 8 x 13$"):
        AreaResizer(threads=1).shrink(FRAME, (8, 13))
