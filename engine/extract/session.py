"""Sessions of ONNX Runtime: which provider runs a graph, with which options. What the graph must be isn't asked here.

Nothing falls back in silence: what can't be had is an error, or "auto" was asked for; a session tells its provider.
"""

from __future__ import annotations

import contextlib
import io
import mmap
import os
import re
import statistics
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .. import _native
from ..checks import check_choice, check_integer
from ..errors import ExtractorError, InputError, OutputError
from ..files import HeldFile
from ..optional import RUNTIME, imported
from ..resources import MOST_THREADS, processors
from .limits import exceeded, limit_memory, within_limit

Device = Literal["auto", "cpu", "cuda"]


CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
OPENVINO = "OpenVINOExecutionProvider"
# What OpenVINO must save to be taken: with less, the choice and so the numbers could change from start to start.
_OPENVINO_GAIN = 0.1
_TRIAL_RUNS, _TRIAL_WARM_UPS = 11, 3
# About what it takes to wake a thread. 100 us are no faster on an idle machine, 300 us slower beside other work.
_SPIN_US = "30"
_FIRST_WITH_SPIN_DURATION = (1, 26)
# TensorFloat-32 keeps 10 bits of a float32's 23, and an exhaustive search may pick another kernel at every
# load: either moves the numbers that thresholds were calibrated on.
_CUDA_OPTIONS = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
_NOISE = (
    r"\[ONNXRuntimeError\] : \d+ : \w+ : ",
    r"^Load model from \S* failed:",
    # A place in its source, and a function with its parameters: "/…/model.cc:256 onnx::Model(const int&, bool) ".
    r"/\S+\.\w+:\d+ [^()'\"]*\((?:[^()]|\([^()]*\))*\)(?: const)? ?",
)
_LONGEST_REASON = 600
_LOCATION = b"\x0a\x08location\x12"  # protobuf: field 1 is "location", field 2, the other file's name, follows


def open_session(
    file: HeldFile,
    device: Device,
    threads: int | None,
    stream: int | None,
    tensorrt_cache: str | os.PathLike[str] | None,
) -> Any:
    """Open the graph where ``device`` says: see :class:`.extractor.Extractor`, also for what is raised."""
    onnxruntime = imported("onnxruntime", RUNTIME)
    check_choice("device", device, ("auto", "cpu", "cuda"))
    if threads is not None:
        check_integer("threads", threads, low=1, high=MOST_THREADS)
    if tensorrt_cache is not None and device == "cpu":
        raise InputError("tensorrt_cache: expected device 'auto' or 'cuda' with it, got 'cpu'")
    offered = onnxruntime.get_available_providers()
    if device == "cpu" or (device == "auto" and CUDA not in offered):
        return create_session(file, threads, [CPU])
    if CUDA not in offered:
        raise ExtractorError(
            f"device: expected an ONNX Runtime with {CUDA} for 'cuda' (pip install 'spadeline[gpu]'), "
            f"got one with {', '.join(offered)}"
        )
    try:
        return _create_cuda_session(file, threads, stream, tensorrt_cache)
    except ExtractorError:
        if device == "cuda":
            raise
    return create_session(file, threads, [CPU])


def offers_cuda() -> bool:
    """Whether ONNX Runtime is installed and was built with CUDA; not whether there is a GPU."""
    try:
        import onnxruntime  # noqa: PLC0415 - optional
    except ImportError:
        return False
    return CUDA in onnxruntime.get_available_providers()


def _create_cuda_session(
    file: HeldFile, threads: int | None, stream: int | None, tensorrt_cache: str | os.PathLike[str] | None
) -> Any:
    import onnxruntime  # noqa: PLC0415 - optional

    if hasattr(onnxruntime, "preload_dlls"):  # finds the CUDA libraries that pip installs; new in 1.21
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it doesn't find
            onnxruntime.preload_dlls()
    shared = {} if stream is None else {"user_compute_stream": str(stream)}
    providers: list[Any] = [(CUDA, _CUDA_OPTIONS | shared), CPU]
    wanted = CUDA
    if tensorrt_cache is not None:
        folder = Path(tensorrt_cache)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"tensorrt_cache: {folder}: expected a folder, got: {error.strerror}") from error
        cached = {"trt_engine_cache_enable": "True", "trt_engine_cache_path": str(folder)}
        providers.insert(0, (TENSORRT, cached | shared))
        wanted = TENSORRT
    # TensorRT finds its engine again by the graph's file name: an address would be another one at every start.
    address = str(file.path) if wanted == TENSORRT else file.address
    session = create_session(file, threads, providers, address=address)
    if wanted not in session.get_providers():
        raise ExtractorError(
            f"{file.path}: expected {wanted} to run it, got {', '.join(session.get_providers())}: the GPU, its "
            "driver or the libraries of CUDA, cuDNN or TensorRT are missing or don't fit this ONNX Runtime"
        )
    return session


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


def faster_on_cpu(
    session: Any, file: HeldFile, input_size: tuple[int, int], threads: int | None
) -> tuple[Any, dict[str, float]]:
    """Return the CPU's session or OpenVINO's, and what each took if this ONNX Runtime has both.

    A graph that OpenVINO can't load or run stays where it is.
    """
    import onnxruntime  # noqa: PLC0415 - optional

    if OPENVINO not in onnxruntime.get_available_providers():
        return session, {}
    # ACCURACY: the graph's own precision, where OpenVINO would take bfloat16 on processors that have it.
    options = {"device_type": "CPU", "precision": "ACCURACY", "num_of_threads": str(threads or processors())}
    image = np.random.default_rng(0).integers(0, 256, (1, *input_size, 3), np.uint8)
    seconds: dict[str, list[float]] = {CPU: [], OPENVINO: []}
    try:
        other = create_session(file, threads, [(OPENVINO, options), CPU])
        if other.get_providers()[0] != OPENVINO:
            return session, {}
        for _ in range(_TRIAL_WARM_UPS + _TRIAL_RUNS):
            for name, contestant in ((CPU, session), (OPENVINO, other)):
                start = time.perf_counter()
                contestant.run(None, {"image": image})
                seconds[name].append(time.perf_counter() - start)
    except Exception:  # noqa: BLE001 - neither has a base of its own; what fails on the CPU, too, is reported by _try_out
        return session, {}
    times = {name: statistics.median(runs[_TRIAL_WARM_UPS:]) for name, runs in seconds.items()}
    return (other if times[OPENVINO] <= (1 - _OPENVINO_GAIN) * times[CPU] else session), times


def refusal(path: Path, expected: str, error: Exception) -> ExtractorError:
    """Return an error that says what was expected of a graph and what came instead: a limit passed, or a failure."""
    limit = exceeded(error)
    return ExtractorError(f"{path}: expected {expected}" + (f" {limit}" if limit else f", got: {reason(error)}"))


def reason(error: Exception) -> str:
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
