"""Which of ONNX Runtime's providers runs an extractor, with which options, and what happens where one is missing or fails."""

import ctypes
import sys
import time
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
from spadeline.engine.errors import InputError, OutputError
from spadeline.engine.extract.extractor import Extractor
from spadeline.engine.features import Stream

from .tiny_graphs import noise, pools, refused

onnxruntime = pytest.importorskip("onnxruntime")

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
OPENVINO = "OpenVINOExecutionProvider"


@pytest.fixture
def runtime(monkeypatch):
    """Replace ONNX Runtime by one whose providers the test sets; ``asked`` records each session's providers."""
    state = SimpleNamespace(offered=[CPU], works=[CPU], asked=[], options=None, delays_s={})
    real = onnxruntime.InferenceSession

    def open_session(path, options, *, providers, enable_fallback):
        names = [name if isinstance(name, str) else name[0] for name in providers]
        state.asked.append(names)
        state.path = path
        state.options, state.provider_options, state.fallback = options, providers[0], enable_fallback
        if state.works is None and CUDA in names:
            raise RuntimeError("CUDA failure 100: no CUDA-capable device is detected")
        session = real(path, options, providers=[CPU])
        session.get_providers = lambda: [name for name in names if name in (state.works or [CPU])]
        run, delay_s = session.run, state.delays_s.get(session.get_providers()[0], 0)
        session.run = lambda *arguments: (time.sleep(delay_s), run(*arguments))[1]
        return session

    monkeypatch.setattr(onnxruntime, "InferenceSession", open_session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: state.offered)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: sys.stdout.write("Failed to load libcudnn"), raising=False)
    return state


@pytest.mark.parametrize(
    ("version", "entry", "value"),
    [
        ("1.20.1", "allow_spinning", "0"),
        ("1.26.0", "spin_duration_us", "30"),
        ("2.0.0.dev20270101", "spin_duration_us", "30"),
    ],
)
def test_the_session_has_the_options_of_a_line(tiny, runtime, monkeypatch, version, entry, value):
    monkeypatch.setattr(onnxruntime, "__version__", version)
    Extractor(tiny, threads=3)
    assert runtime.options.intra_op_num_threads == 3
    assert runtime.options.get_session_config_entry(f"session.intra_op.{entry}") == value
    assert runtime.options.get_session_config_entry("session.inter_op.allow_spinning") == "0"
    assert not runtime.fallback


def test_auto_takes_cuda_where_it_works(tiny, runtime, capfd):
    runtime.offered = runtime.works = [CUDA, CPU]
    assert Extractor(tiny).provider == CUDA
    assert runtime.provider_options == (CUDA, {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"})
    assert runtime.asked == [[CUDA, CPU]]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("works", [[CPU], None])
def test_auto_takes_the_cpu_where_cuda_is_offered_but_fails(tiny, runtime, works):
    runtime.offered, runtime.works = [CUDA, CPU], works
    assert Extractor(tiny).provider == CPU
    assert runtime.asked == [[CUDA, CPU], [CPU]]


@pytest.mark.parametrize(("openvino_s", "taken"), [(0.001, OPENVINO), (0.03, CPU)])
def test_openvino_runs_where_it_is_measured_faster(tiny, runtime, openvino_s, taken):
    runtime.offered = runtime.works = [OPENVINO, CPU]
    runtime.delays_s = {CPU: 0.01, OPENVINO: openvino_s}
    extractor = Extractor(tiny, device="cpu", threads=1)
    assert extractor.provider == taken
    assert list(extractor.provider_times_s) == [CPU, OPENVINO]
    assert extractor.provider_times_s[CPU] >= 0.01
    assert extractor.provider_times_s[OPENVINO] >= openvino_s
    assert runtime.asked == [[CPU], [OPENVINO, CPU]]
    assert runtime.provider_options[1]["precision"] == "ACCURACY"
    assert (extractor.on_one_thread().provider, extractor.on_one_thread() is extractor) == (taken, taken == OPENVINO)


def test_openvino_that_does_not_load_the_graph_is_not_taken(tiny, runtime):
    runtime.offered = [OPENVINO, CPU]
    extractor = Extractor(tiny, device="cpu")
    assert (extractor.provider, extractor.provider_times_s) == (CPU, {})


def test_cpu_never_tries_cuda(tiny, runtime):
    runtime.offered = runtime.works = [CUDA, CPU]
    assert Extractor(tiny, device="cpu").provider == CPU
    assert runtime.asked == [[CPU]]


def test_cuda_that_is_not_offered_is_an_error(tiny, runtime):
    assert refused(tiny, device="cuda") == (
        "device: expected an ONNX Runtime with CUDAExecutionProvider for 'cuda' (pip install 'spadeline[gpu]'), "
        "got one with CPUExecutionProvider"
    )
    assert runtime.asked == []


def test_cuda_that_does_not_work_is_an_error(tiny, runtime):
    runtime.offered = [CUDA, CPU]
    assert refused(tiny, device="cuda") == (
        f"{tiny}: expected CUDAExecutionProvider to run it, got CPUExecutionProvider: the GPU, its driver or the "
        "libraries of CUDA, cuDNN or TensorRT are missing or don't fit this ONNX Runtime"
    )
    runtime.works = None
    assert refused(tiny, device="cuda").endswith("got: CUDA failure 100: no CUDA-capable device is detected")
    assert runtime.asked == [[CUDA, CPU]] * 2


def test_it_runs_on_the_stream_that_it_is_given(tiny, runtime):
    runtime.offered = runtime.works = [CUDA, CPU]
    Extractor(tiny, device="cuda", stream=Stream(1234, None))
    assert runtime.provider_options[1]["user_compute_stream"] == "1234"


@pytest.mark.parametrize("through", ["extractor", "extraction"])
def test_the_stream_outlives_what_runs_on_it(tiny, through):
    gone = []
    owner = type("Owner", (), {})()
    holder = Extractor(tiny, device="cpu", stream=Stream(1234, owner))
    weakref.finalize(owner, gone.append, "stream")
    weakref.finalize(holder._session, gone.append, "session")
    if through == "extraction":
        holder = holder.on_device()
        weakref.finalize(holder._binding, gone.append, "binding")
    del owner
    assert not gone
    del holder
    assert gone[-1] == "stream"
    assert "session" in gone


def test_tensorrt_keeps_its_engine_where_it_is_told(tiny, runtime, tmp_path):
    runtime.offered = runtime.works = [TENSORRT, CUDA, CPU]
    folder = tmp_path / "engines" / "of this line"
    assert Extractor(tiny, device="cuda", stream=Stream(99, None), tensorrt_cache=folder).provider == TENSORRT
    assert runtime.asked == [[TENSORRT, CUDA, CPU]]
    assert runtime.path == str(tiny)  # by which it finds its engine again
    assert folder.is_dir()
    assert runtime.provider_options == (
        TENSORRT,
        {"trt_engine_cache_enable": "True", "trt_engine_cache_path": str(folder), "user_compute_stream": "99"},
    )


def test_tensorrt_that_cannot_run_is_an_error(tiny, runtime, tmp_path):
    runtime.offered = runtime.works = [CUDA, CPU]
    text = f"{tiny}: expected TensorrtExecutionProvider to run it, got CUDAExecutionProvider, CPUExecutionProvider: "
    assert refused(tiny, device="cuda", tensorrt_cache=tmp_path).startswith(text)
    with pytest.raises(InputError) as caught:
        Extractor(tiny, device="cpu", tensorrt_cache=tmp_path)
    assert str(caught.value) == "tensorrt_cache: expected device 'auto' or 'cuda' with it, got 'cpu'"
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"^tensorrt_cache: .*file: expected a folder, got: File exists$"):
        Extractor(tiny, device="cuda", tensorrt_cache=tmp_path / "file")


def test_features_can_stay_where_they_are_made(tiny):
    extractor, images = Extractor(tiny, device="cpu", threads=1), noise(3)
    extraction = extractor.on_device()
    for index, image in enumerate([images[0], images[1][:, ::-1], images[2].ctypes.data]):
        got = extraction.extract(image)
        expected = extractor.extract(images[index : index + 1] if index != 1 else images[1:2, :, ::-1])
        np.testing.assert_array_equal(got.embedding, expected.embedding[0])
        assert not got.half
        for address, level in zip(got.levels, expected.levels, strict=True):
            there = np.ctypeslib.as_array((ctypes.c_float * level.size).from_address(address))
            np.testing.assert_array_equal(there, level.ravel())


def test_cuda_really_runs_where_there_is_one(tiny):
    if CUDA not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has no CUDA provider")
    extractor, images = Extractor(tiny, device="cuda"), noise(3)
    assert extractor.provider == CUDA
    for got, expected in zip(extractor.extract(images).levels, pools(images), strict=False):
        np.testing.assert_allclose(got, expected, rtol=1e-5)
