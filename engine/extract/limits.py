"""How long and how much memory an extractor's graph may take before it is refused.

A file of 3 kB can hold a loop of 2^62 rounds or ask for a constant of a terabyte. Time is limited while the graph is
loaded and tried out, never while frames are inspected, which would cost each of them; memory always, at no cost.

What can't be limited:

- One operator is never interrupted. The call ends with an error all the same, but the operator goes on in its thread
  until it is done or the process ends, which it may end by SIGABRT then, but for the command's.
- Memory that ONNX Runtime takes outside of its arena: text, sparse tensors, constants that it folds while it loads a
  file. In versions before about 1.24 only a process's first session can have an arena of its own.
- GPUs. TensorRT may build an engine for minutes.
- A graph whose work depends on the pixels may behave in the trial and not later.

So take ONNX files from people you trust; the limits are for mistakes, and keep most of the rest away.
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
# Beside its weights. A Wide-ResNet50-2 takes 24 MB at 224 x 224, 460 MB at 1024 x 1024.
DEFAULT_BYTES = 2 << 30
GRACE_S = 5.0  # for a call that has been told to stop; most do within milliseconds
_REFUSED = "is smaller than requested bytes"  # ONNX Runtime's words where its arena may not grow

T = TypeVar("T")


def within_limit(call: Callable[[], T], cancel: Callable[[], None]) -> T:
    """Return what ``call`` returns, or raise TimeoutError once it has taken too long and ``cancel`` was called.

    It runs in a thread of its own, so that Ctrl-C works, and that a call which can't be stopped holds nobody up.
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
        wait([outcome], GRACE_S)  # one that stops gives its memory back first
        raise TimeoutError
    return outcome.result()


def limit_memory(onnxruntime: Any, options: Any) -> None:
    """Give the session that is made next with these options an arena of its own, of limited size."""
    arena, place = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, onnxruntime.OrtMemType.DEFAULT
    limit = onnxruntime.OrtArenaCfg({"max_mem": int(_given(BYTES, DEFAULT_BYTES))})
    try:
        onnxruntime.create_and_register_allocator(onnxruntime.OrtMemoryInfo("Cpu", arena, 0, place), limit)
    except Exception:  # noqa: BLE001 - an older version: one arena for all of a process's sessions, or none
        return
    options.add_session_config_entry("session.use_env_allocators", "1")


def exceeded(error: Exception) -> str | None:
    """Return which limit a failure is about, what the limit is, and what raises it; None where it is about none."""
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
