"""CUDA, TensorRT, OpenVINO or the CPU: which of ONNX Runtime's providers runs an extractor, with which options.

There is no silent fallback: a provider that was asked for and can't run is an error. Only "auto" may take another, and
the session tells which provider it has.
"""

from __future__ import annotations

import contextlib
import io
import os
import statistics
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..checks import check_choice, check_integer
from ..errors import ExtractorError, InputError, OutputError
from ..files import HeldFile
from ..optional import RUNTIME, imported
from ..resources import MOST_THREADS, processors
from .session import CPU, CUDA, OPENVINO, TENSORRT, create_session

Device = Literal["auto", "cpu", "cuda"]

# The share of time that OpenVINO must save to be chosen. With less, the choice, and with it the numbers, could change
# from one start to the next.
_OPENVINO_GAIN = 0.1
_TRIAL_RUNS, _TRIAL_WARM_UPS = 11, 3
# TensorFloat-32 keeps 10 bits of a float32's 23, and an exhaustive search may pick another kernel at every
# load: either changes the numbers that thresholds were calibrated on.
_CUDA_OPTIONS = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}


def open_session(
    file: HeldFile,
    device: Device,
    threads: int | None,
    stream: int | None,
    tensorrt_cache: str | os.PathLike[str] | None,
) -> Any:
    """Open the graph on a device: see :class:`.extractor.Extractor` for the options and for what is raised."""
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
        with contextlib.redirect_stdout(io.StringIO()):  # it prints the names of libraries that it doesn't find
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
    # TensorRT finds its engine again by the graph's file name. A held file's address is another one at every start.
    address = str(file.path) if wanted == TENSORRT else file.address
    session = create_session(file, threads, providers, address=address)
    if wanted not in session.get_providers():
        raise ExtractorError(
            f"{file.path}: expected {wanted} to run it, got {', '.join(session.get_providers())}: the GPU, its "
            "driver or the libraries of CUDA, cuDNN or TensorRT are missing or don't fit this ONNX Runtime"
        )
    return session


def faster_on_cpu(
    session: Any, file: HeldFile, input_size: tuple[int, int], threads: int | None
) -> tuple[Any, dict[str, float]]:
    """Return the faster session, the CPU's or OpenVINO's, and the seconds of each if this ONNX Runtime has both.

    A graph that OpenVINO can't load or run stays on ONNX Runtime's own provider.
    """
    import onnxruntime  # noqa: PLC0415 - optional

    if OPENVINO not in onnxruntime.get_available_providers():
        return session, {}
    # ACCURACY keeps the graph's own precision: by default OpenVINO takes bfloat16 on processors that have it.
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
