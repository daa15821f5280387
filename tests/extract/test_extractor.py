"""Each clause of the contract on tiny graphs whose outputs NumPy computes, and a real network if it is there."""

import ctypes
import sys
import threading
import time
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from spadeline.engine.errors import DependencyError, ExtractorError, InputError, OutputError
from spadeline.engine.extract.extractor import Extractor
from spadeline.engine.features import Stream

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
helper = onnx.helper
FLOAT, FLOAT16, DOUBLE, UINT8 = (onnx.TensorProto.DataType.Value(t) for t in ("FLOAT", "FLOAT16", "DOUBLE", "UINT8"))

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
THIN = SHARED / "resnet50_thin.onnx"


def node(kind, inputs, output, **attributes):
    return helper.make_node(kind, inputs.split(), [output], **attributes)


def constant(name, values):
    return onnx.numpy_helper.from_array(np.asarray(values), name)


def write(path, nodes, outputs, *, inputs=(("image", UINT8, ["n", 16, 24, 3]),), constants=(), metadata=None):
    graph = helper.make_graph(
        [node("Cast", "image", "numbers", to=FLOAT), node("Transpose", "numbers", "planes", perm=[0, 3, 1, 2]), *nodes]
        if any(name == "image" for name, *_ in inputs)
        else list(nodes),
        "extractor",
        [helper.make_tensor_value_info(*declared) for declared in inputs],
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in outputs],
        initializer=list(constants),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata or {})
    onnx.save(model, path)
    return path


def halved(source, output):
    return node("AveragePool", source, output, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)


POOL = [node("GlobalAveragePool", "planes", "pooled"), node("Flatten", "pooled", "embedding")]
LAYERS = [halved("planes", "layer1"), halved("layer1", "layer2")]
OUTPUTS = [("layer1", FLOAT, ["n", 3, 8, 12]), ("layer2", FLOAT, ["n", 3, 4, 6]), ("embedding", FLOAT, ["n", 3])]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "extractor.onnx"


@pytest.fixture
def tiny(path):
    return write(path, LAYERS + POOL, OUTPUTS, metadata={"spadeline.backbone": "pools"})


def noise(n, height=16, width=24, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), np.uint8)


def pools(images):
    """Compute the tiny graph's outputs with NumPy."""
    planes = images.transpose(0, 3, 1, 2).astype(np.float64)
    layer1 = planes.reshape(len(images), 3, 8, 2, 12, 2).mean(axis=(3, 5))
    layer2 = layer1.reshape(len(images), 3, 4, 2, 6, 2).mean(axis=(3, 5))
    return layer1, layer2, planes.mean(axis=(2, 3))


# --- what a good file gives ------------------------------------------------------------------------------------------


def test_attributes_say_what_the_file_holds(tiny):
    extractor = Extractor(tiny, device="cpu", threads=1)
    assert extractor.input_size == (16, 24)
    assert extractor.level_names == ("layer1", "layer2")
    assert extractor.level_shapes == ((3, 8, 12), (3, 4, 6))
    assert extractor.precision == "float32"
    assert extractor.embedding_size == 3
    assert extractor.metadata == {"spadeline.backbone": "pools"}
    assert extractor.provider == "CPUExecutionProvider"


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_features_are_the_graphs(tiny, n):
    images = noise(n)
    features = Extractor(tiny, device="cpu", threads=1).extract(images)
    for got, expected in zip((*features.levels, features.embedding), pools(images), strict=True):
        assert (got.dtype, got.shape) == (np.float32, expected.shape)
        np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_strided_images_are_read_correctly(tiny):
    images = noise(6, 16, 48)[::-2, :, ::2]
    features = Extractor(tiny, device="cpu", threads=1).extract(images)
    np.testing.assert_allclose(features.embedding, pools(images)[2], rtol=1e-6)


def test_returned_arrays_are_the_callers_own(tiny):
    extractor = Extractor(tiny, device="cpu", threads=1)
    first = extractor.extract(noise(1, seed=1))
    kept = [output.copy() for output in (*first.levels, first.embedding)]
    extractor.extract(noise(1, seed=2))
    for output, copy in zip((*first.levels, first.embedding), kept, strict=True):
        np.testing.assert_array_equal(output, copy)
        assert output.flags.writeable


def test_several_threads_may_extract_at_once(tiny):
    extractor, wrong = Extractor(tiny, device="cpu", threads=1), []

    def work(seed):
        images = noise(2, seed=seed)
        expected = pools(images)[2]
        wrong.extend(
            seed for _ in range(50) if not np.allclose(extractor.extract(images).embedding, expected, rtol=1e-6)
        )

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("embedding", [FLOAT, FLOAT16])
def test_half_precision_levels(path, embedding):
    nodes = [
        halved("planes", "half"),
        node("Cast", "half", "layer1", to=FLOAT16),
        node("GlobalAveragePool", "planes", "pooled"),
        node("Flatten", "pooled", "flat"),
        node("Cast", "flat", "embedding", to=embedding),
    ]
    write(path, nodes, [("layer1", FLOAT16, ["n", 3, 8, 12]), ("embedding", embedding, ["n", 3])])
    extractor, images = Extractor(path, device="cpu", threads=1), noise(3)
    features = extractor.extract(images)
    assert extractor.precision == "float16"
    assert (features.levels[0].dtype, features.embedding.dtype) == (np.float16, np.float32)
    np.testing.assert_allclose(features.levels[0], pools(images)[0], rtol=1e-3)
    np.testing.assert_allclose(features.embedding, pools(images)[2], rtol=1e-3)


def test_sizes_are_rounded_up_and_may_be_undeclared(path):
    # 15 x 21 isn't a multiple of anything: 8 x 11, 4 x 6, 2 x 3. The outputs' shapes are known by running alone.
    nodes = [*LAYERS, halved("layer2", "layer3"), *POOL]
    outputs = [(name, FLOAT, None) for name in ("layer1", "layer2", "layer3", "embedding")]
    write(path, nodes, outputs, inputs=[("image", UINT8, [None, 15, 21, 3])])
    assert Extractor(path, device="cpu").level_shapes == ((3, 8, 11), (3, 4, 6), (3, 2, 3))


def test_an_output_that_is_another_name_for_a_tensor_is_written_too(path):
    nodes = [halved("planes", "layer1"), halved("layer1", "small"), node("Identity", "small", "layer2"), *POOL]
    write(path, nodes, OUTPUTS)
    images = noise(2)
    features = Extractor(path, device="cpu", threads=1).extract(images)
    np.testing.assert_allclose(features.levels[1], pools(images)[1], rtol=1e-6)


# --- bad files -------------------------------------------------------------------------------------------------------


def refused(path, **options):
    with pytest.raises(ExtractorError) as caught:
        Extractor(path, **({"device": "cpu"} | options))
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("content", [b"", b"not a graph", bytes(range(256)) * 20])
def test_a_file_that_is_not_onnx_is_refused(path, capfd, content):
    path.write_bytes(content)
    text = refused(path)
    assert text.startswith(f"{path}: expected a file that ONNX Runtime loads, got: ")
    assert "ONNXRuntimeError" not in text
    assert capfd.readouterr() == ("", "")


def test_a_truncated_file(tiny, capfd):
    whole = tiny.read_bytes()
    for keep in (1, len(whole) // 3, len(whole) // 2, len(whole) - 1):
        tiny.write_bytes(whole[:keep])
        assert refused(tiny).startswith(f"{tiny}: expected ")
    assert capfd.readouterr() == ("", "")


def test_a_file_with_external_data_is_refused(path):
    extra = constant("one", np.ones((1, 3, 1, 1), np.float32))
    write(path, [node("Mul", "planes one", "layer1"), *POOL], [("layer1", FLOAT, None), OUTPUTS[-1]], constants=[extra])
    Extractor(path, device="cpu", threads=1)
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="x.onnx.data", size_threshold=0)
    assert (path.parent / "x.onnx.data").exists()
    merge = "merge it: onnx.save(onnx.load(path), path)"
    assert refused(path) == f"{path}: expected one file, got one with external data; {merge}"
    onnx.save(onnx.load(path), path)
    Extractor(path, device="cpu", threads=1)


def test_a_file_that_is_replaced_or_removed_is_held(tiny):
    extractor, images = Extractor(tiny, device="cpu", threads=2), noise(2)
    expected = extractor.extract(images)
    for change in (lambda: tiny.rename(tiny.with_name("old.onnx")), lambda: tiny.write_bytes(b"another")):
        change()
        got = extractor.on_one_thread().extract(images)
        np.testing.assert_array_equal(got.embedding, expected.embedding)


def test_a_missing_file_is_refused(tmp_path):
    assert refused(tmp_path / "x.onnx") == f"{tmp_path / 'x.onnx'}: expected an ONNX file, got no such file"
    assert refused(tmp_path) == f"{tmp_path}: expected an ONNX file, got a folder"


IMAGE = "input 'image': expected"


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ([4, 16, 24, 3], f"{IMAGE} n free, got n = 4"),
        (["n", "h", 24, 3], f"{IMAGE} (n, H, W, 3) with H and W fixed, got (n, h, 24, 3)"),
        (["n", 16, None, 3], f"{IMAGE} (n, H, W, 3) with H and W fixed, got (n, 16, ?, 3)"),
        (["n", 3, 16, 24], f"{IMAGE} (n, H, W, 3) with H and W fixed, got (n, 3, 16, 24)"),
        (["n", 16, 24], f"{IMAGE} (n, H, W, 3) with H and W fixed, got (n, 16, 24)"),
        (["n", 0, 24, 3], f"{IMAGE} (n, H, W, 3) with H and W fixed, got (n, 0, 24, 3)"),
        (None, f"{IMAGE} (n, H, W, 3) with H and W fixed, got ()"),
        (["n", 1 << 20, 1 << 20, 3], f"{IMAGE} at most 100000000 pixels, got 1048576 x 1048576"),
    ],
)
def test_the_inputs_shape(path, shape, reason):
    nodes = [node("Cast", "image", "layer1", to=FLOAT), node("Identity", "layer1", "embedding")]
    graph = helper.make_graph(
        nodes,
        "extractor",
        [helper.make_tensor_value_info("image", UINT8, shape)],
        [helper.make_tensor_value_info(name, FLOAT, None) for name in ("layer1", "embedding")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    assert refused(path) == f"{path}: {reason}"


def test_the_inputs_number_name_and_type(path):
    nodes = [*LAYERS, *POOL]
    image = ("image", UINT8, ["n", 16, 24, 3])
    write(path, [*nodes, node("Identity", "other", "unused")], OUTPUTS, inputs=[image, ("other", FLOAT, ["n"])])
    assert refused(path) == f"{path}: expected one input, got image, other"
    write(path, nodes, OUTPUTS, inputs=[("image", FLOAT, ["n", 16, 24, 3])])
    assert refused(path) == f"{path}: input 'image': expected tensor(uint8), got tensor(float)"
    renamed = [node("Cast", "pixels", "numbers", to=FLOAT), node("Transpose", "numbers", "planes", perm=[0, 3, 1, 2])]
    write(path, renamed + nodes, OUTPUTS, inputs=[("pixels", UINT8, ["n", 16, 24, 3])])
    assert refused(path) == f"{path}: expected an input named 'image', got 'pixels'"


def test_the_outputs_names_and_number(path):
    layer1, layer2, embedding = OUTPUTS
    write(path, LAYERS + POOL, [embedding, layer1, layer2])
    assert refused(path) == f"{path}: expected the last output to be 'embedding', got 'layer2'"
    write(path, POOL, [])
    assert refused(path) == f"{path}: expected the last output to be 'embedding', got no output"
    write(path, POOL, [embedding])
    assert refused(path) == f"{path}: expected 1 to 4 levels before 'embedding', got 0"
    many = [node("Identity", "planes", f"layer{i}") for i in range(1, 6)]
    write(path, many + POOL, [*((f"layer{i}", FLOAT, None) for i in range(1, 6)), embedding])
    assert refused(path) == f"{path}: expected 1 to 4 levels before 'embedding', got 5"
    write(path, [halved("planes", "features"), *POOL], [("features", FLOAT, None), embedding])
    assert refused(path) == f"{path}: expected levels named 'layer1', 'layer2', …, got 'features'"


def test_the_outputs_types(path):
    layer1, layer2, embedding = OUTPUTS
    double = [node("Cast", "planes", "layer1", to=DOUBLE)]
    write(path, double + POOL, [("layer1", DOUBLE, None), embedding])
    assert refused(path) == f"{path}: output 'layer1': expected float32 or float16, got tensor(double)"
    half = [halved("planes", "layer1"), halved("layer1", "small"), node("Cast", "small", "layer2", to=FLOAT16)]
    write(path, half + POOL, [layer1, ("layer2", FLOAT16, layer2[2]), embedding])
    assert refused(path) == f"{path}: expected levels of one number type, got tensor(float), tensor(float16)"
    integral = [node("GlobalAveragePool", "planes", "pooled"), node("Cast", "pooled", "embedding", to=UINT8)]
    write(path, LAYERS + integral, [layer1, layer2, ("embedding", UINT8, None)])
    assert refused(path) == f"{path}: output 'embedding': expected float32 or float16, got tensor(uint8)"


def test_the_outputs_ranks(path):
    write(path, [node("Flatten", "planes", "layer1"), *POOL], [("layer1", FLOAT, None), OUTPUTS[-1]])
    text = "output 'layer1' for n = 2: expected (n, c, h, w), got (2, 1152)"
    assert refused(path) == f"{path}: {text}"
    pooled = [*LAYERS, node("GlobalAveragePool", "planes", "embedding")]
    write(path, pooled, [*OUTPUTS[:2], ("embedding", FLOAT, None)])
    assert refused(path) == f"{path}: output 'embedding' for n = 2: expected (n, d), got (2, 3, 1, 1)"


def test_a_batch_that_is_not_free_inside(path):
    # Declared free, but the graph merges the images: only running it tells.
    nodes = [*LAYERS, node("ReduceMean", "planes", "embedding", axes=[0, 2], keepdims=0)]
    write(path, nodes, [*OUTPUTS[:2], ("embedding", FLOAT, None)])
    assert refused(path) == f"{path}: output 'embedding' for n = 2: expected (n, d), got (3, 24)"


def test_a_graph_that_does_not_run(path, capfd):
    nodes = [*LAYERS, *POOL[:1], node("Reshape", "pooled shape", "embedding")]
    write(path, nodes, OUTPUTS, constants=[constant("shape", np.array([1, 3]))])
    assert refused(path).startswith(f"{path}: expected a graph that runs 2 images, got: ")
    assert capfd.readouterr() == ("", "")


def test_levels_that_do_not_halve(path):
    shapes = [("layer1", FLOAT, None), ("layer2", FLOAT, None), OUTPUTS[-1]]
    write(path, [halved("planes", "layer1"), node("Identity", "layer1", "layer2"), *POOL], shapes)
    text = "level 1: expected the size of level 0 (8 x 12) halved once or more, rounded up, got 8 x 12"
    assert refused(path) == f"{path}: {text}"
    coarse_first = [halved("planes", "layer2"), halved("layer2", "layer1")]
    write(path, coarse_first + POOL, shapes)
    assert "expected the size of level 0 (4 x 6) halved" in refused(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite(path, value):
    nodes = [halved("planes", "layer1"), node("Add", "layer1 bad", "layer2"), *POOL]
    bad = constant("bad", np.full((1, 1, 1, 1), value, np.float32))
    write(path, nodes, [OUTPUTS[0], ("layer2", FLOAT, None), OUTPUTS[-1]], constants=[bad])
    assert refused(path) == f"{path}: output 'layer2': expected finite numbers, got NaN or infinity"


# --- arguments -------------------------------------------------------------------------------------------------------


def test_images_of_another_kind(tiny):
    extractor = Extractor(tiny, device="cpu", threads=1)
    for images, came in [
        (noise(1).astype(np.float32), "float32 (1, 16, 24, 3)"),
        (noise(1)[0], "uint8 (16, 24, 3)"),
        (noise(1, 24, 16), "uint8 (1, 24, 16, 3)"),
    ]:
        with pytest.raises(InputError) as caught:
            extractor.extract(images)
        assert str(caught.value) == f"images: expected uint8 (n, 16, 24, 3), got {came}"


def test_devices_and_threads_are_checked(tiny):
    with pytest.raises(InputError) as caught:
        Extractor(tiny, device="gpu")
    assert str(caught.value) == "device: expected one of auto, cpu, cuda, got 'gpu'"
    with pytest.raises(InputError) as caught:
        Extractor(tiny, threads=0)
    assert str(caught.value) == "threads: expected an integer from 1 to 1024, got 0"


def test_onnx_runtime_is_optional(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DependencyError) as caught:
        Extractor(tiny)
    assert str(caught.value) == (
        "onnxruntime is not installed: pip install 'spadeline[cpu]' "
        "(or 'spadeline[gpu]' on a machine with an NVIDIA GPU)"
    )


def test_a_graph_that_fails_after_the_trial_is_an_error(tiny, monkeypatch):
    extractor = Extractor(tiny, device="cpu", threads=1)

    def fail(binding):
        raise RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : out of\nmemory")

    monkeypatch.setattr(extractor._session, "run_with_iobinding", fail)
    with pytest.raises(ExtractorError) as caught:
        extractor.extract(noise(1))
    assert str(caught.value) == f"{tiny}: expected the graph to run, got: out of memory"


# --- devices ---------------------------------------------------------------------------------------------------------


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


# --- a real network --------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not THIN.is_file(), reason="no ../shared/data/resnet50_thin.onnx")
def test_a_real_network_gives_the_same_bits_at_any_batch_size_and_number_of_threads():
    images = noise(4, 224, 224)
    images[1] //= 4
    one, two = (Extractor(THIN, device="cpu", threads=threads) for threads in (1, 2))
    assert one.level_shapes == ((128, 56, 56), (256, 28, 28), (512, 14, 14))
    assert one.embedding_size == 1024
    assert one.metadata["spadeline.color"] == "rgb"
    together = one.extract(images)
    for single in range(4):
        for extractor in (one, two):
            alone = extractor.extract(images[single : single + 1])
            for name, a, b in zip((*one.level_names, "embedding"), _flat(alone), _flat(together), strict=True):
                np.testing.assert_array_equal(a[0], b[single], err_msg=f"{name} of image {single}")
    # And they are what ONNX Runtime gives when it allocates and batches by itself.
    whole = onnxruntime.InferenceSession(THIN, providers=[CPU]).run(None, {"image": images})
    for a, b in zip(_flat(together), whole, strict=True):
        assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max()


def _flat(features):
    return (*features.levels, features.embedding)
