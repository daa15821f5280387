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
# About what it takes to wake a thread. 100 us are no faster on an idle machine, 300 us slower beside other work.
_SPIN_US = "30"
_FIRST_WITH_SPIN_DURATION = (1, 26)
_NOISE = (
    r"\[ONNXRuntimeError\] : \d+ : \w+ : ",
    r"^Load model from \S* failed:",
    # A place in its source, and a function with its parameters: "/…/model.cc:256 onnx::Model(const int&, bool) ".
    r"/\S+\.\w+:\d+ [^()'\"]*\((?:[^()]|\([^()]*\))*\)(?: const)? ?",
)
_LONGEST_REASON = 600
_LOCATION = b"\x0a\x08location\x12"  # protobuf: field 1 is "location", field 2, the other file's name, follows


def create_session(file: HeldFile, threads: int | None, providers: list[Any], *, address: str | None = None) -> Any:
    """Open the graph with these providers, the best first, and with what a line needs of ONNX Runtime.

    It is opened by ``address``, if there is one, in place of the held file's own. Without a GPU its time and memory are
    limited: see :mod:`.limits`.
    """
    import onnxruntime  # noqa: PLC0415 - optional

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = processors() if threads is None else threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 4  # fatal: everything else arrives as an exception
    # An int8 graph's products of uint8 and int8 overflow 16 bits on x86 processors without VNNI: the exact way then. It
    # is five times slower where there is VNNI, and ONNX Runtime would take it there, too.
    if not any("vnni" in name for name in _native.instruction_sets()):
        options.add_session_config_entry("session.x64quantprecision", "1")
    # Threads that wait for the next operator awake save the time to wake them, a tenth to a fifth of an int8 network's.
    # No longer than that takes: left to themselves they spin on for milliseconds, in the way of the matcher, which runs
    # next, and of whatever else the machine does. An older ONNX Runtime can't be told how long.
    if _version(onnxruntime) >= _FIRST_WITH_SPIN_DURATION:
        options.add_session_config_entry("session.intra_op.spin_duration_us", _SPIN_US)
    else:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")

    def open_it() -> Any:
        # Its own fallback would move to the CPU and print that it did.
        return onnxruntime.InferenceSession(address or file.address, options, providers=providers, enable_fallback=0)

    def cancel() -> None:
        if hasattr(options, "set_load_cancellation_flag"):  # new in 1.22
            options.set_load_cancellation_flag(True)

    try:
        if on_gpu(providers):
            return open_it()
        limit_memory(onnxruntime, options)
        return within_limit(open_it, cancel)
    except InputError:  # a limit that is no number
        raise
    except Exception as error:
        if _has_external_data(file):
            raise ExtractorError(
                f"{file.path}: expected one file, got one with external data; merge it: "
                "onnx.save(onnx.load(path), path)"
            ) from error
        raise refusal(file.path, "a file that ONNX Runtime loads", error) from error


def on_gpu(providers: Iterable[Any]) -> bool:
    """Whether one of these providers, by name or as (name, options), is a GPU's."""
    names = (provider if isinstance(provider, str) else provider[0] for provider in providers)
    return not {CUDA, TENSORRT}.isdisjoint(names)


def run_within_limit(session: Any, names: list[str], images: NDArray[np.uint8]) -> list[NDArray[np.floating]]:
    """Run images through a graph that nobody has tried out; TimeoutError where it takes too long, but on a GPU."""
    import onnxruntime  # noqa: PLC0415 - optional

    options = onnxruntime.RunOptions()

    def run() -> list[NDArray[np.floating]]:
        outputs: list[NDArray[np.floating]] = session.run(names, {"image": images}, options)
        return outputs

    def cancel() -> None:
        options.terminate = True

    # A thread's first run on a GPU makes what its later ones use: it must be the caller's.
    return run() if on_gpu(session.get_providers()) else within_limit(run, cancel)


def _has_external_data(file: HeldFile) -> bool:
    """Whether a graph that doesn't load names another file, which a recipe wouldn't hold: by a tensor's "location"."""
    with Path(file.address).open("rb") as opened:
        if os.fstat(opened.fileno()).st_size == 0:  # which can't be mapped
            return False
        with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(_LOCATION) >= 0


def _version(onnxruntime: Any) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", onnxruntime.__version__)[:2])


def refusal(path: Path, expected: str, error: Exception) -> ExtractorError:
    """Return an error that says what was expected of a graph and what came instead: a limit passed, or a failure."""
    limit = exceeded(error)
    return ExtractorError(
        f"{path}: expected {expected}" + (f" {limit}" if limit else f", got: {runtime_reason(error)}")
    )


def runtime_reason(error: Exception) -> str:
    """Return ONNX Runtime's message as part of one sentence: without codes, the path and places in its source.

    What matters stands at the end as often as at the beginning: a long message is shortened in the middle.
    """
    if isinstance(error, MemoryError):
        return "out of memory"
    text = " ".join(str(error).split())
    for noise in _NOISE:
        text = re.sub(noise, "", text)
    if len(text) > _LONGEST_REASON:
        text = f"{text[: _LONGEST_REASON // 3]} … {text[-_LONGEST_REASON * 2 // 3 :]}"
    return text.rstrip(". ") or type(error).__name__
