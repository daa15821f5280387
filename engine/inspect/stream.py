"""A stream: frames from a camera to results in their order, with several frames in work at once.

A separate thread asks the camera for frames, so that no result waits for the next part to arrive. Workers inspect
frames side by side; ``workers.py`` sets how many there are.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

from ..checks import check_integer
from ..errors import InputError
from ..result import Result

DEEPEST = 1024  # the largest depth: so many frames lie in memory
LONGEST_PULL_S = 5.0  # the longest that closing waits for a frame of the camera

Inspect = Callable[[Any], Result]
Outcome = TypeVar("Outcome")  # of a frame: a Result, or several of them


@dataclass(frozen=True, eq=False)
class FrameError:
    """Stands in a stream for the result of a frame that couldn't be inspected.

    Attributes
    ----------
    index
        The frame's place in the stream, from 0.
    error
        The exception of :meth:`.Detector.predict`, without its traceback, which would keep the frame in memory.
    """

    index: int
    error: Exception


def run_stream(
    inspect: Callable[[Any], Outcome],
    frames: Iterable[Any],
    *,
    workers: int,
    depth: int | None = None,
    receive: Callable[[Any], Any] | None = None,
) -> Iterator[Outcome | FrameError]:
    """Inspect frames as they come and yield the results in their order: see :meth:`.Detector.stream`.

    Parameters
    ----------
    inspect
        Returns one frame's result; called from ``workers`` threads.
    frames
        Asked for the next frame from one thread, not the caller's.
    workers
        Frames in work at once.
    depth
        Frames asked for and without a result yet; None: two for each worker, so that no worker is idle while the caller
        handles a result.
    receive
        Called with each frame in the thread that asked for it; what it returns is inspected. None: the frame itself is.

    Raises
    ------
    InputError
        At the call: a depth that isn't from 1 to ``DEEPEST``; frames that can't be iterated over, or a single frame.
    """
    depth = 2 * workers if depth is None else depth
    check_integer("depth", depth, low=1, high=DEEPEST)
    check_not_single(frames)
    try:
        source = iter(frames)
    except TypeError:
        raise InputError(f"frames: expected something to iterate over, got {type(frames).__name__}") from None
    if receive is not None:
        source = map(partial(_received, receive), source)
    return _run(inspect, source, workers, depth)


def check_not_single(frames: object) -> None:
    """Raise InputError for a single frame in place of several: its rows would be taken for frames."""
    shape = getattr(frames, "shape", None)
    if shape is not None and len(shape) != 4:
        raise InputError(f"frames: expected frames one after the other, got a single array {tuple(shape)}")


class Arrived(NamedTuple):
    """A frame that was received, and when its search must end, by ``time.perf_counter()``; None: when it is done."""

    frame: Any
    deadline: float | None


class _Refused(NamedTuple):
    """Stands for a frame that couldn't be received."""

    error: Exception


def _received(receive: Callable[[Any], Any], frame: Any) -> Any:
    try:
        return receive(frame)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with a frame, the next one is another part
        return _Refused(error)


def _without_traceback(error: Exception) -> Exception:
    """Remove the tracebacks of an error and of those that led to it: they would keep the frame in memory."""
    link: BaseException | None = error
    while link is not None:
        link = link.with_traceback(None).__context__
    return error


def _run(
    inspect: Callable[[Any], Outcome], source: Iterator[Any], workers: int, depth: int
) -> Iterator[Outcome | FrameError]:
    def inspected(index: int, frame: Any) -> Outcome | FrameError:
        if isinstance(frame, _Refused):
            return FrameError(index, _without_traceback(frame.error))
        try:
            return inspect(frame)
        except Exception as error:  # noqa: BLE001 - as in _received
            return FrameError(index, _without_traceback(error))

    def pull() -> None:
        """Hand frames to the workers, and to the caller a future for each result, and at the end None or an error."""
        try:
            for index in itertools.count():
                room.acquire()
                if closing.is_set():
                    return
                results.put(pool.submit(inspected, index, next(source)))
        except StopIteration:
            results.put(None)
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread, after the results before it
            failure: Future[Outcome | FrameError] = Future()
            failure.set_exception(error)
            results.put(failure)

    results: SimpleQueue[Future[Outcome | FrameError] | None] = SimpleQueue()
    room, closing = threading.Semaphore(depth), threading.Event()
    pool = ThreadPoolExecutor(workers, "spadeline-inspect")
    puller = threading.Thread(target=pull, name="spadeline-pull", daemon=True)
    puller.start()
    try:
        while (promise := results.get()) is not None:
            result = promise.result()
            room.release()
            yield result
    finally:
        closing.set()
        room.release()
        pool.shutdown(wait=False, cancel_futures=True)  # frames that no worker has begun are dropped
        puller.join(LONGEST_PULL_S)  # a camera that delivers no more frames must not block Ctrl-C for ever
        pool.shutdown()
