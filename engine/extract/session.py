"""A session of ONNX Runtime: a graph opened with given providers, and ONNX Runtime's messages in one sentence.

Which provider runs a graph, :mod:`.providers` chooses. What the graph must be, :mod:`.extractor` checks.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _native
from ..errors import ExtractorError, InputError
from ..files import HeldFile
from ..resources import processors
from .limits import exceeded, limit_memory, within_limit

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
OPENVINO = "OpenVINOExecutionProvider"
# About the time that it takes to wake a thread. 100 us are no faster on an idle machine, and 300 us are slower beside
# other programs.
_SPIN_US = "30"
_FIRST_WITH_SPIN_DURATION = (1, 26)
_NOISE = (
    r"\[ONNXRuntimeError\] : \d+ : \w+ : ",
    r"^Load model from \S* failed:",
    # A place in the C++ source, and a function with its parameters: "/…/model.cc:256 onnx::Model(const int&, bool) ".
    r"/\S+\.\w+:\d+ [^()'\"]*\((?:[^()]|\([^()]*\))*\)(?: const)? ?",
)
_LONGEST_REASON = 600
_LOCATION = b"\x0a\x08location\x12"  # protobuf: field 1 is "location", field 2, the other file's name, follows


def create_session(file: HeldFile, threads: int | None, providers: list[Any], *, address: str | None = None) -> Any:
    """Open the graph with these providers, the preferred one first, and with options for short and even latency.

    ``address`` is the path to open; None: the held file's own. Without a GPU, time and memory are limited: see
    ``limits.py``.
    """
    import onnxruntime  # noqa: PLC0415 - optional

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = processors() if threads is None else threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 4  # fatal: everything else arrives as an exception
    # An int8 graph's products of uint8 and int8 overflow 16 bits on x86 processors without VNNI, so they are computed
    # exactly there. With VNNI the exact way is five times slower and not needed, but this option would take it, too.
    if not any("vnni" in name for name in _native.instruction_sets()):
        options.add_session_config_entry("session.x64quantprecision", "1")
    # Threads that spin while they wait for the next operator save the time to wake them: a tenth to a fifth of an int8
    # network's time. They spin about as long as waking takes. By default they spin for milliseconds, and slow down the
    # matcher, which runs next, and other programs. An older ONNX Runtime has no option for the duration.
    if _version(onnxruntime) >= _FIRST_WITH_SPIN_DURATION:
        options.add_session_config_entry("session.intra_op.spin_duration_us", _SPIN_US)
    else:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")

    def open_it() -> Any:
        # ONNX Runtime's own fallback would move the graph to the CPU and print a message.
        return onnxruntime.InferenceSession(address or file.address, options, providers=providers, enable_fallback=0)

    def cancel() -> None:
        if hasattr(options, "set_load_cancellation_flag"):  # new in 1.22
            options.set_load_cancellation_flag(True)

    try:
        if on_gpu(providers):
            return open_it()
        limit_memory(onnxruntime, options)
        return within_limit(open_it, cancel)
    except InputError:  # a limit in the environment isn't a number
        raise
    except Exception as error:
        if _has_external_data(file):
            raise ExtractorError(
                f"{file.path}: expected one file, got one with external data; merge it: "
                "onnx.save(onnx.load(path), path)"
            ) from error
        raise refusal(file.path, "a file that ONNX Runtime loads", error) from error


def on_gpu(providers: Iterable[Any]) -> bool:
    """Whether one of these providers, given by name or as (name, options), runs on a GPU."""
    names = (provider if isinstance(provider, str) else provider[0] for provider in providers)
    return not {CUDA, TENSORRT}.isdisjoint(names)


def run_within_limit(session: Any, names: list[str], images: NDArray[np.uint8]) -> list[NDArray[np.floating]]:
    """Run images through a graph for the first time; TimeoutError if it takes too long, except on a GPU."""
    import onnxruntime  # noqa: PLC0415 - optional

    options = onnxruntime.RunOptions()

    def run() -> list[NDArray[np.floating]]:
        outputs: list[NDArray[np.floating]] = session.run(names, {"image": images}, options)
        return outputs

    def cancel() -> None:
        options.terminate = True

    # On a GPU, a thread's first run prepares its later ones: it must be the caller's thread.
    return run() if on_gpu(session.get_providers()) else within_limit(run, cancel)


def _has_external_data(file: HeldFile) -> bool:
    """Whether a graph names another file, which a recipe wouldn't hold: by the "location" of a tensor."""
    with Path(file.address).open("rb") as opened:
        if os.fstat(opened.fileno()).st_size == 0:  # an empty file can't be mapped
            return False
        with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(_LOCATION) >= 0


def _version(onnxruntime: Any) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", onnxruntime.__version__)[:2])


def refusal(path: Path, expected: str, error: Exception) -> ExtractorError:
    """Return an error that says what was expected of a graph, and which limit was exceeded or what failed."""
    limit = exceeded(error)
    return ExtractorError(
        f"{path}: expected {expected}" + (f" {limit}" if limit else f", got: {runtime_reason(error)}")
    )


def runtime_reason(error: Exception) -> str:
    """Return ONNX Runtime's message as part of one sentence: without codes, the path and places in its source.

    A long message is shortened in the middle: the reason may stand at its beginning or at its end.
    """
    if isinstance(error, MemoryError):
        return "out of memory"
    text = " ".join(str(error).split())
    for noise in _NOISE:
        text = re.sub(noise, "", text)
    if len(text) > _LONGEST_REASON:
        text = f"{text[: _LONGEST_REASON // 3]} … {text[-_LONGEST_REASON * 2 // 3 :]}"
    return text.rstrip(". ") or type(error).__name__
