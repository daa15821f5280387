"""Streams give predict's results in order and ask for few frames ahead, whatever camera, frames and caller do."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pytest
from spadeline.engine import Detector, FrameError, InputError, SpadelineError
from spadeline.engine.inspect import stream as stream_module
from spadeline.engine.inspect.stream import DEEPEST, run_stream

from .streams import BAD, FRAMES, SOON_S, Inspection
from .test_detector import assert_same

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


def until(condition):
    end = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < end, "it never came about"
        time.sleep(0.001)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("depth", [None, 1, 2, 7])
def test_it_yields_predicts_results_in_order(recipe_folder, workers, depth):
    detector = Detector.load(recipe_folder, device="cpu", threads=2, workers=workers)
    alone = [detector.predict(frame) for frame in FRAMES]
    results = list(detector.stream(iter(FRAMES * 5), depth=depth))
    assert len(results) == 20
    for result, expected in zip(results, alone * 5, strict=True):
        assert_same(result, expected)
        assert set(result.timings_s) == {"prepare", "extract", "retrieve", "match", "map"}
    assert list(detector.stream([])) == []


def test_a_stream_takes_a_stack_of_frames_and_a_color(detector):
    stack = np.stack([FRAMES[0], FRAMES[1]])
    for result, frame in zip(detector.stream(stack[..., ::-1], color="bgr"), stack, strict=True):
        assert_same(result, detector.predict(frame))


def test_a_slow_frame_is_not_overtaken():
    inspection = Inspection()
    inspection.gates[0] = threading.Event()
    stream = run_stream(inspection, iter(range(4)), workers=2, depth=4)
    with ThreadPoolExecutor(1) as caller:
        first = caller.submit(next, stream)
        until(lambda: len(inspection.started) == 4)
        assert not first.done()
        inspection.gates[0].set()
        assert first.result(SOON_S) == 0
    assert list(stream) == [1, 2, 3]
    assert inspection.most_at_once == 2


@pytest.mark.parametrize("depth", [1, 3])
def test_no_more_than_depth_are_pulled_ahead(depth):
    pulled = []

    def camera():
        for index in itertools.count():
            pulled.append(index)
            yield index

    with closing(run_stream(lambda frame: frame, camera(), workers=2, depth=depth)) as stream:
        assert pulled == []  # nothing before it is asked
        for index in range(5):
            assert next(stream) == index
            ahead = index + 1 + depth
            until(lambda: len(pulled) == ahead)  # noqa: B023 - called at once
            time.sleep(0.02)
            assert len(pulled) == ahead


def test_results_do_not_wait_for_the_next_part():
    arrived = threading.Semaphore(0)

    def camera():
        for index in range(3):
            arrived.acquire()
            yield index

    stream = run_stream(lambda frame: frame, camera(), workers=2, depth=4)
    for index in range(3):
        arrived.release()
        assert next(stream) == index  # it would hang here if the next one had to be there first
    assert list(stream) == []


def test_a_bad_frame_is_an_error_in_its_place(detector):
    alone = [detector.predict(frame) for frame in FRAMES]
    frames = [BAD, FRAMES[0], None, *FRAMES[1:], "frame", np.zeros((2, 2, 3), np.uint8)]
    results = list(detector.stream(frames))
    errors = {result.index: result.error for result in results if isinstance(result, FrameError)}
    assert [str(errors[index]) for index in (0, 2, 6)] == [
        "frame: expected a uint8 array, got float32",
        "frame: expected a uint8 array, got NoneType",
        "frame: expected a uint8 array, got str",
    ]
    assert str(errors.pop(7)) == "frame: expected sides of at least 8 pixels, got 2 x 2"
    assert all(isinstance(error, InputError) for error in errors.values())
    good = [result for result in results if not isinstance(result, FrameError)]
    for result, expected in zip(good, alone, strict=True):
        assert_same(result, expected)


def test_any_error_of_a_frame_is_that_frames_result():
    first, bad, last = run_stream(lambda frame: 12 // frame, [3, 0, 4], workers=2)
    assert (first, bad.index, last) == (4, 1, 3)
    assert isinstance(bad.error, ZeroDivisionError)


def _fail_with_a_cause(_frame):
    try:
        int("a cause")
    except ValueError as error:
        raise SpadelineError("effect") from error


@pytest.mark.parametrize("where", ["predict", "receive", "detector"])
def test_an_error_keeps_no_reference_to_its_frame(detector, where):
    frame = np.zeros((100, 100, 2), np.uint8)
    gone = weakref.ref(frame)
    frames = iter([frame])
    del frame
    if where == "detector":
        (failed,) = detector.stream(frames)
    else:
        receive = _fail_with_a_cause if where == "receive" else None
        (failed,) = run_stream(_fail_with_a_cause, frames, workers=1, receive=receive)
        assert isinstance(failed.error.__cause__, ValueError)
    assert failed.error.__traceback__ is None
    until(lambda: gone() is None)


@pytest.mark.parametrize("error", [OSError("cable"), KeyboardInterrupt(), SystemExit(3)])
def test_what_the_camera_raises_comes_after_the_results(error):
    def camera():
        yield from range(3)
        raise error

    stream = run_stream(lambda frame: frame, camera(), workers=2, depth=8)
    assert [next(stream) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(type(error)) as caught:
        next(stream)
    assert caught.value is error
    assert list(stream) == []


def test_closing_early_finishes_what_is_in_work_and_begins_no_more():
    inspection = Inspection()
    inspection.gates = {index: threading.Event() for index in range(2, 8)}
    pulled = []
    stream = run_stream(inspection, (pulled.append(index) or index for index in range(100)), workers=2, depth=6)
    assert [next(stream), next(stream)] == [0, 1]
    until(lambda: len(inspection.started) == 4 and len(pulled) == 8)
    with ThreadPoolExecutor(1) as caller:
        closed = caller.submit(stream.close)
        time.sleep(0.05)
        assert not closed.done()  # frames 2 and 3 are in work
        for gate in inspection.gates.values():
            gate.set()
        closed.result(SOON_S)
    assert sorted(inspection.started) == [0, 1, 2, 3]
    assert len(pulled) == 8  # 2 were yielded, 6 pulled ahead: no others are gone
    assert list(stream) == []


def test_a_stream_that_is_dropped_or_never_begun_leaves_nothing(detector):
    frames = iter(FRAMES)
    detector.stream(frames)
    assert next(frames) is FRAMES[0]
    for _ in detector.stream(itertools.cycle(FRAMES)):
        break
    stream = detector.stream(itertools.cycle(FRAMES))
    next(stream)
    del stream


def test_closing_waits_for_the_frame_that_was_asked_for():
    asked, arrived = threading.Event(), threading.Event()

    def camera():
        yield 0
        asked.set()
        assert arrived.wait(SOON_S)
        yield 1

    inspection = Inspection()
    stream = run_stream(inspection, camera(), workers=1)
    assert next(stream) == 0
    assert asked.wait(SOON_S)
    threading.Timer(0.1, arrived.set).start()
    stream.close()
    assert arrived.is_set()
    assert inspection.started == [0]


def test_closing_does_not_wait_for_a_silent_camera(monkeypatch):
    monkeypatch.setattr(stream_module, "LONGEST_PULL_S", 0.05)
    inspection = Inspection()
    inspection.gates[1] = threading.Event()
    silent, woken = threading.Event(), threading.Event()

    def camera():
        yield from range(3)
        silent.set()
        woken.wait(SOON_S)
        yield 3

    stream = run_stream(inspection, camera(), workers=1, depth=4)
    assert next(stream) == 0
    assert silent.wait(SOON_S)
    until(lambda: inspection.started == [0, 1])
    threading.Timer(0.2, inspection.gates[1].set).start()
    start = time.monotonic()
    stream.close()
    assert time.monotonic() - start < SOON_S / 2
    assert inspection.started == [0, 1]  # frame 2 was pulled, but not begun when the stream was closed
    woken.set()  # the camera's next frame ends the thread that waited for it
    until(lambda: not any(thread.name == "spadeline-pull" for thread in threading.enumerate()))


def test_ctrl_c_ends_it(recipe_folder):
    program = f"""
import itertools, signal, threading
import numpy as np
from spadeline.engine import Detector
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in a shell's background begins without
detector = Detector.load({str(recipe_folder)!r}, device="cpu", threads=2)
frame = np.zeros((64, 64, 3), np.uint8)
try:
    for index, result in enumerate(detector.stream(itertools.repeat(frame))):
        if index == 3:
            print("running", flush=True)
except KeyboardInterrupt:
    print("interrupted", [thread.name for thread in threading.enumerate() if thread.name.startswith("spadeline")])
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "running\n"
            os.kill(process.pid, signal.SIGINT)
            assert process.communicate(timeout=60)[0] == "interrupted []\n"
            assert process.returncode == 0
        finally:
            process.kill()  # one that ran on would hold up the tests for good


@pytest.mark.parametrize(
    ("frames", "options", "text"),
    [
        (FRAMES, {"depth": 0}, f"depth: expected an integer from 1 to {DEEPEST}, got 0"),
        (FRAMES, {"depth": DEEPEST + 1}, f"depth: expected an integer from 1 to {DEEPEST}, got {DEEPEST + 1}"),
        (FRAMES, {"depth": True}, f"depth: expected an integer from 1 to {DEEPEST}, got True"),
        (FRAMES, {"depth": 2.0}, f"depth: expected an integer from 1 to {DEEPEST}, got 2.0"),
        (FRAMES, {"color": "hsv"}, "color: expected one of auto, gray, rgb, bgr, rgba, bgra, got 'hsv'"),
        (7, {}, "frames: expected something to iterate over, got int"),
        (FRAMES[0], {}, r"frames: expected frames one after the other, got a single array \(96, 96, 3\)"),
        (FRAMES[0][..., 0], {}, r"frames: expected frames one after the other, got a single array \(96, 96\)"),
    ],
)
def test_hostile_arguments_are_refused_at_the_call(detector, frames, options, text):
    with pytest.raises(InputError, match=text):
        detector.stream(frames, **options)
