"""What a good file gives, on tiny graphs whose outputs NumPy computes, and on a real network if it is there."""

import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from spadeline.engine.errors import DependencyError, ExtractorError, InputError
from spadeline.engine.extract.extractor import Extractor

from .tiny_graphs import FLOAT, FLOAT16, LAYERS, OUTPUTS, POOL, UINT8, halved, node, noise, pools, refused, write

onnxruntime = pytest.importorskip("onnxruntime")

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
THIN = SHARED / "resnet50_thin.onnx"
CPU = "CPUExecutionProvider"


def test_attributes_say_what_the_file_holds(tiny):
    extractor = Extractor(tiny, device="cpu", threads=1)
    assert extractor.input_size == (16, 24)
    assert extractor.level_names == ("layer1", "layer2")
    assert extractor.level_shapes == ((3, 8, 12), (3, 4, 6))
    assert (extractor.precision, extractor.neighbourhood) == ("float32", 1)
    assert extractor.embedding_size == 3
    assert extractor.metadata == {"spadeline.backbone": "pools"}
    assert extractor.provider == "CPUExecutionProvider"


@pytest.mark.parametrize("text", ["", "0", "-3", "3.0", "three", "3 ", "1" * 5000])
def test_metadata_whose_neighbourhood_is_no_number(path, text):
    write(path, LAYERS + POOL, OUTPUTS, metadata={"spadeline.neighbourhood": "5"})
    assert Extractor(path, device="cpu", threads=1).neighbourhood == 5
    write(path, LAYERS + POOL, OUTPUTS, metadata={"spadeline.neighbourhood": text})
    assert refused(path).startswith(
        f"{path}: metadata spadeline.neighbourhood: expected a number from 1, got '{text:.99}"
    )


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


def test_single_images_are_extracted_into_the_same_arrays(tiny):
    extraction = Extractor(tiny, device="cpu", threads=1).on_host()
    first = extraction.extract(noise(1, seed=1)[0])
    for seed in (2, 1):
        image = noise(1, seed=seed)
        features = extraction.extract(image[0][::-1, ::-1])
        for got, before, expected in zip(
            (*features.levels, features.embedding),
            (*first.levels, first.embedding),
            pools(image[:, ::-1, ::-1]),
            strict=True,
        ):
            np.testing.assert_allclose(got, expected, rtol=1e-6)
            assert np.shares_memory(got, before)


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
