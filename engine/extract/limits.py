"""Limits of the time and the memory that an extractor's graph may take before it is refused.

A file of 3 kB can hold a loop of 2^62 rounds or ask for a constant of a terabyte. Time is limited while the graph is
loaded and tried out. It isn't limited while frames are inspected, since that would slow down each frame. Memory is
always limited, which costs nothing.

What can't be limited:

- One operator is never interrupted. The call ends with an error all the same, but the operator goes on in its thread
  until it is done or the process ends. It may then end the process by SIGABRT, except that of the command line.
- Memory that ONNX Runtime takes outside of its arena: text, sparse tensors, constants that it folds while it loads a
  file. In versions before about 1.24 only a process's first session can have an arena of its own.
- GPUs. TensorRT may build an engine for minutes.
- A graph whose work depends on the pixels may keep to the limits in the trial and not later.

So take ONNX files only from people you trust. The limits are made for mistakes, and stop most malicious files.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Thread
from typing import Any, TypeVar

from ..errors import InputError

SECONDS, BYTES = "SPADELINE_EXTRACTOR_SECONDS", "SPADELINE_EXTRACTOR_BYTES"  # environment variables
# Wide-ResNet-101 on one slow core takes some seconds; OpenVINO compiles a large network for half a minute.
DEFAULT_SECONDS = 120.0
# In addition to its weights. A Wide-ResNet50-2 takes 24 MB at 224 x 224, 460 MB at 1024 x 1024.
DEFAULT_BYTES = 2 << 30
GRACE_S = 5.0  # to wait for a call that was told to stop; most stop within milliseconds
_REFUSED = "is smaller than requested bytes"  # ONNX Runtime's words where its arena may not grow

T = TypeVar("T")


def within_limit(call: Callable[[], T], cancel: Callable[[], None]) -> T:
    """Return what ``call`` returns. If it takes too long, call ``cancel`` and raise TimeoutError.

    The call runs in a thread of its own, so that Ctrl-C works and a call that can't be stopped blocks nothing.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            outcome.set_exception(error)

    limit = _given(SECONDS, DEFAULT_SECONDS)
    Thread(target=run, name="spadeline-extractor", daemon=True).start()
    try:
        wait([outcome], limit)
    except BaseException:
        cancel()
        raise
    if not outcome.done():
        cancel()
        wait([outcome], GRACE_S)  # a call that stops releases its memory first
        raise TimeoutError
    return outcome.result()


def limit_memory(onnxruntime: Any, options: Any) -> None:
    """Give the session that is made next with these options an arena of its own, of limited size."""
    arena, place = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, onnxruntime.OrtMemType.DEFAULT
    limit = onnxruntime.OrtArenaCfg({"max_mem": int(_given(BYTES, DEFAULT_BYTES))})
    try:
        onnxruntime.create_and_register_allocator(onnxruntime.OrtMemoryInfo("Cpu", arena, 0, place), limit)
    except Exception:  # noqa: BLE001 - an older version, with one arena for all sessions of a process or none
        return
    options.add_session_config_entry("session.use_env_allocators", "1")


def exceeded(error: Exception) -> str | None:
    """Return the limit that a failure has exceeded and what raises that limit; None if it exceeded none."""
    if isinstance(error, TimeoutError):
        return f"within {_given(SECONDS, DEFAULT_SECONDS):g} s, got one that takes longer: {SECONDS} allows more"
    if _REFUSED in str(error):
        return f"in {_given(BYTES, DEFAULT_BYTES):.0f} bytes of memory, got one that asks for more: {BYTES} allows more"
    return None


def _given(variable: str, default: float) -> float:
    text = os.environ.get(variable)
    if text is None:
        return default
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 1 <= number <= 2**62:
        raise InputError(f"{variable}: expected a number of 1 or more, got {text!r:.100}")
    return number
