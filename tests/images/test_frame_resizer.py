"""Frames to inputs: OpenCV's bytes, on every instruction set, with any threads, whatever the frame's strides are."""

import platform
import re
import subprocess
import sys
import threading

import cv2
import numpy as np
import pytest
from spadeline.engine import InputError, _native
from spadeline.engine.images.decoding import MIN_SIDE
from spadeline.engine.images.resizing import FrameResizer, as_rgb
from spadeline.engine.resources import INSTRUCTION_SET_VARIABLE

from .drawn import pixels

# Elsewhere OpenCV may round a product and its sum at once, which moves few bytes, by one.
MOST_OFF = 0 if platform.machine() in ("x86_64", "AMD64") else 1


COLORS = {(): "gray", (3,): "rgb", (4,): "rgba"}


def native(size, name="auto", threads=1, framing="whole"):
    return _native.Preparation(size, framing=framing, threads=threads, instruction_set=name)


def resized(preparation, frame, size):
    out = np.full((*size, 3), 77, np.uint8)
    preparation.prepare(frame, color=COLORS[frame.shape[2:]], out=out)
    return out


def by_opencv(frame, size):
    """Average sides that shrink, then interpolate those that grow."""
    smaller = min(frame.shape[0], size[0]), min(frame.shape[1], size[1])
    expected = cv2.resize(frame, smaller[::-1], interpolation=cv2.INTER_AREA)
    if smaller != size:
        expected = cv2.resize(expected, size[::-1], interpolation=cv2.INTER_LINEAR)
    return np.repeat(expected[..., None], 3, axis=2) if frame.ndim == 2 else expected[..., :3]


def assert_opencvs(got, expected, name=""):
    off = np.abs(got.astype(np.int64) - expected)
    assert off.max() <= MOST_OFF, f"{name}: {(off > MOST_OFF).sum()} bytes differ, by up to {off.max()}"


SHAPES = {
    "whole": lambda rng, target: target * rng.integers(1, 9),
    "half": lambda rng, target: max(target, target * rng.integers(2, 12) // 2),
    "barely": lambda rng, target: target + rng.integers(0, 3),
    "any": lambda rng, target: target + rng.integers(0, 300),
    "smaller": lambda rng, target: rng.integers(1, target + 1),
    "twofold": lambda rng, target: -(-target // 2),
    "mixed": lambda rng, target: rng.integers(1, 3 * target),
}
CONTENTS = [
    lambda rng, shape: rng.integers(0, 256, shape, np.uint8),
    lambda rng, shape: np.full(shape, 255, np.uint8),
    lambda rng, shape: (np.indices(shape).sum(axis=0) * rng.integers(1, 9)).astype(np.uint8),
    lambda rng, shape: rng.integers(0, 2, shape, np.uint8) * np.uint8(255),
]


@pytest.mark.parametrize("channels", COLORS)
@pytest.mark.parametrize("kind", SHAPES)
def test_the_bytes_are_opencvs(kind, channels):
    rng = np.random.default_rng(len(channels))
    for case in range(40):
        size = tuple(int(side) for side in rng.integers(1, 230 if case % 4 == 0 else 50, 2))
        height, width = (max(int(SHAPES[kind](rng, side)), MIN_SIDE) for side in size)
        frame = CONTENTS[case % len(CONTENTS)](rng, (height, width, *channels))
        for name in _native.instruction_sets():
            got = resized(native(size, name), frame, size)
            assert_opencvs(got, by_opencv(frame, size), f"{name}, {frame.shape} to {size}")


@pytest.mark.parametrize("channels", COLORS)
def test_the_papers_framing_is_a_cut_out_of_opencvs_bytes(channels):
    rng = np.random.default_rng(len(channels))
    for _ in range(60):
        size, height = tuple(int(side) for side in rng.integers(20, 90, 2)), int(rng.integers(MIN_SIDE, 250))
        width = int(rng.integers(height // 2 + MIN_SIDE, 2 * height + MIN_SIDE))
        frame = pixels(height, width, *channels)
        larger = [round(side * 8 / 7) for side in size]
        whole = max(larger[0], larger[1] * height // width), max(larger[1], larger[0] * width // height)
        top, left = (round((whole[axis] - size[axis]) / 2) for axis in (0, 1))
        expected = by_opencv(frame, whole)[top : top + size[0], left : left + size[1]]
        assert_opencvs(resized(native(size, framing="paper"), frame, size), expected, f"{frame.shape} to {size}")


@pytest.mark.parametrize("name", _native.instruction_sets())
@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((3000, 100), (32, 32)),
        ((100, 3000, 3), (32, 32)),
        ((3000, 8, 3), (1, 1)),
        ((9, 3001), (9, 1)),
        ((2048, 2448, 3), (224, 224)),
        ((2048, 2448), (224, 224)),
        ((448, 448, 3), (224, 224)),
        ((448, 448), (224, 224)),
        ((448, 448, 4), (224, 224)),
        ((2048, 2000, 3), (1024, 1000)),
        ((448, 224, 3), (224, 224)),
        ((224, 225, 3), (224, 224)),
        ((600, 1200), (2, 3)),  # sums that float32 doesn't hold
        ((600, 1200, 4), (2, 3)),
        ((33, 47), (33, 47)),
        ((33, 47, 3), (33, 47)),
        ((33, 47, 4), (33, 47)),
        ((2048, 2448, 4), (224, 224)),
        ((8, 8, 3), (224, 225)),
        ((9, 300), (77, 20)),
        ((223, 224, 4), (224, 224)),
    ],
)
def test_unusual_shapes_have_opencvs_bytes(shape, size, name):
    frame = pixels(*shape)
    for threads in (1, 3):
        got = resized(native(size, name, threads), frame, size)
        assert_opencvs(got, by_opencv(frame, size), f"{threads} threads")


@pytest.mark.parametrize("channels", COLORS)
def test_strides_change_nothing(channels):
    resizer, color = FrameResizer((77, 63), framing="whole", threads=1), COLORS[channels]
    whole = pixels(300, 400, *channels)
    views = [whole[20:230, 30:350], whole[::2], whole[::-1], whole[:, ::-1], whole[:, ::2], whole.swapaxes(0, 1)]
    if channels:
        views += [whole[..., ::-1], np.moveaxis(pixels(*channels, 300, 400), 0, 2)]
    for view in views:
        copied = np.ascontiguousarray(view)
        expected = resized(resizer.native, copied, (77, 63))
        np.testing.assert_array_equal(resizer.prepare(view, color=color)[0], expected, strict=True)
        np.testing.assert_array_equal(copied, view)
    same = FrameResizer(whole.shape[:2], framing="whole", threads=1).prepare(whole, color=color)[0]
    assert not np.shares_memory(same, whole)


def test_rows_that_lie_apart_are_not_copied():
    frame = pixels(300, 400, 3)[5:-5, 7:-9]
    seen = []

    class Recorded:
        def prepare(self, given, *, color, out):
            seen.append(given)
            return 1.0, 1.0, 0.0, 0.0

    resizer = FrameResizer((20, 30), framing="whole", threads=1)
    resizer.native = Recorded()
    resizer.prepare(frame)
    assert seen[0] is frame


@pytest.mark.parametrize("name", _native.instruction_sets())
def test_threads_and_callers_beside_each_other_change_nothing(name):
    shared = native((50, 45), name, threads=3)
    assert (shared.threads, shared.instruction_set) == (3, name)
    frames = [
        pixels(1201, 1900),
        pixels(900, 900, 3),
        pixels(900, 900, 4),
        pixels(60, 50, 3),
        pixels(1201, 1900, seed=1),
    ]
    expected = [resized(native((50, 45), name), frame, (50, 45)) for frame in frames]
    got = [[] for _ in frames]

    def call(own, frame):
        own.extend(resized(shared, frame, (50, 45)) for _ in range(5))

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
        FrameResizer((32, 32), framing="whole", threads=1)
    for name in _native.instruction_sets():
        monkeypatch.setenv(INSTRUCTION_SET_VARIABLE, name)
        resizer = FrameResizer((32, 32), framing="whole", threads=2)
        assert (resizer.native.instruction_set, resizer.native.threads) == (name, 2)


def test_a_fork_resizes_on_its_callers_thread_but_has_no_team():
    program = """
import os, sys
import numpy as np
from spadeline.engine import InputError
from spadeline.engine.images.resizing import FrameResizer
alone, team = (FrameResizer((10, 10), framing="whole", threads=threads) for threads in (1, 2))
frame = np.full((1500, 1500), 7, np.uint8)
team.prepare(frame)
child = os.fork()
if child == 0:
    print(alone.prepare(frame)[0].min(), flush=True)
    try:
        team.prepare(frame)
    except InputError as error:
        print(error, flush=True)
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    command = [sys.executable, "-W", "ignore", "-c", program]  # Python warns of forks beside threads
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("7\n")
    assert "expected the process that opened it, got a fork of it" in done.stdout


FRAME, OUT = np.zeros((8, 12), np.uint8), np.zeros((4, 6, 3), np.uint8)
READ_ONLY = np.zeros((4, 6, 3), np.uint8)
READ_ONLY.flags.writeable = False
GRAYS, COLOURS = (f"frame: expected uint8 {shape}, each row without gaps, got " for shape in ("(h, w)", "(h, w, 3)"))
OUTS = "out: expected C-contiguous writeable uint8 (4, 6, 3), got "


@pytest.mark.parametrize(
    ("frame", "color", "out", "text"),
    [
        (FRAME.astype(np.int8), "gray", OUT, GRAYS + "int8 (8, 12)"),
        (FRAME[:, ::2], "gray", OUT, GRAYS + "uint8 (8, 6), not C-contiguous"),
        (FRAME[::-1], "gray", OUT, GRAYS + "uint8 (8, 12), not C-contiguous"),
        (np.broadcast_to(FRAME[0], (8, 12)), "gray", OUT, GRAYS + "uint8 (8, 12), not C-contiguous"),
        (np.zeros((8, 12, 2), np.uint8), "bgr", OUT, COLOURS + "uint8 (8, 12, 2)"),
        (np.zeros((8, 12, 4), np.uint8), "rgb", OUT, COLOURS + "uint8 (8, 12, 4)"),
        (FRAME[0], "gray", OUT, GRAYS + "uint8 (12,)"),
        (FRAME[:7], "gray", OUT, "frame: expected sides of at least 8 pixels, got 7 x 12"),
        (FRAME, "gray", OUT.astype(np.int8), OUTS + "int8 (4, 6, 3)"),
        (FRAME, "gray", READ_ONLY, OUTS + "uint8 (4, 6, 3)"),
        (FRAME, "gray", OUT[0], OUTS + "uint8 (6, 3)"),
        (FRAME, "red", OUT, "color: expected 'gray', 'rgb', 'bgr', 'rgba' or 'bgra', got 'red'"),
    ],
)
def test_wrong_arrays_are_named(frame, color, out, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        native((4, 6)).prepare(frame, color=color, out=out)


def test_wrong_options_are_named():
    with pytest.raises(InputError, match=r"^threads: expected at least 1, got 0$"):
        FrameResizer((32, 32), framing="whole", threads=0)
    with pytest.raises(ValueError, match=r"^framing: expected 'whole' or 'paper', got 'crop'$"):
        native((4, 6), framing="crop")


def test_python_and_the_core_refuse_small_frames_alike():
    frame, text = np.zeros((7, 12, 3), np.uint8), "frame: expected sides of at least 8 pixels, got 7 x 12"
    with pytest.raises(ValueError, match=f"^{text}$"):
        resized(native((4, 6)), frame, (4, 6))
    with pytest.raises(InputError, match=f"^{text}$"):
        as_rgb(frame)
