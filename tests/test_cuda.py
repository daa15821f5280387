"""The matcher on a GPU: the CPU's results, for all options; and what it says where there is none.

Runs wherever a GPU is, and on a build whose device is emulated (CMakeLists.txt: SPADELINE_CUDA=EMULATED).
"""

import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
from spadeline.engine import Detector, DeviceError, InputError, Matcher, Settings, _native, fit
from spadeline.engine import detector as detector_module
from spadeline.engine.extractor import Extractor
from spadeline.engine.inspector import device_frame
from spadeline.engine.recipe import Recipe
from spadeline.engine.scoring import Scorer

from .conftest import SIZE, part

SIZES = ((8, 8), (4, 4), (2, 2))
CHANNELS = (5, 17, 32)


def why_not():
    """Return why no GPU can be used here, in the matcher's own words; nothing where one can."""
    try:
        Matcher([np.zeros((1, 4, 2, 2), np.float32)], device="cuda")
    except DeviceError as error:
        return str(error)
    return ""


WHY_NOT = why_not()
needs_gpu = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)


def pyramid(seed, images, storage=np.float32, sizes=SIZES):
    """Levels of random features with near and far neighbours among them."""
    rng = np.random.default_rng(seed)
    levels = []
    for (h, w), c in zip(sizes, CHANNELS, strict=False):
        common = rng.normal(size=(1, c, h, w))
        levels.append((common + 0.3 * rng.normal(size=(images, c, h, w))).astype(storage))
    return levels


def query_of(seed, storage=np.float32, sizes=SIZES):
    return [level[0] for level in pyramid(seed, 1, storage, sizes)]


def assert_same(a, b):
    np.testing.assert_allclose(a.distances, b.distances, rtol=1e-12, atol=0)
    np.testing.assert_array_equal(a.neighbours, b.neighbours)


@needs_gpu
@pytest.mark.parametrize("path", ["pruned", "dense"])
@pytest.mark.parametrize("storage", [np.float32, np.float16])
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_it_agrees_with_the_cpu(path, storage, levels):
    gallery = pyramid(1, 5, storage, SIZES[:levels])
    weights = [2.0, 0.5, 1.0][:levels]
    on_gpu = Matcher(gallery, weights=weights, path=path, device="cuda")
    on_cpu = Matcher(gallery, weights=weights, threads=1)
    assert (on_gpu.device, on_gpu.threads, on_gpu.resident_images) == ("cuda", 0, 5)
    assert on_gpu.instruction_set.startswith("sm_")
    ignore = np.zeros(SIZES[0], bool)
    ignore[:3, 2:] = True
    for seed, options in enumerate([{}, {"kappa": 7}, {"window": 0}, {"ignore": ignore, "kappa": 2}]):
        query = query_of(seed, np.float16 if seed == 1 else np.float32, SIZES[:levels])
        match = on_gpu.match(query, [4, 0, 3], **options)
        assert_same(match, on_cpu.match(query, [4, 0, 3], **options))
        assert match.statistics.path == path
        if path == "pruned":
            assert match.statistics.pairs > 0


@needs_gpu
def test_a_gallery_larger_than_the_memory_is_swapped():
    gallery = pyramid(2, 9)
    whole = Matcher(gallery, device="cuda")
    limit = 4 * whole.native.image_bytes
    few = Matcher(gallery, device="cuda", memory_limit=limit)
    assert few.resident_images == 4
    for seed in range(6):
        ids = np.random.default_rng(seed).permutation(9)[:4]
        assert_same(few.match(query_of(seed), ids), whole.match(query_of(seed), ids))
    with pytest.raises(
        InputError, match=r"gallery: expected at most 4 images a query, which is what the device holds, got 5"
    ):
        few.match(query_of(0), range(5))
    with pytest.raises(
        DeviceError, match=r"device: cuda: expected [0-9]+ bytes of device memory for one image of the gallery"
    ):
        Matcher(gallery, device="cuda", memory_limit=1)


@needs_gpu
def test_batches_and_callers_agree():
    matcher = Matcher(pyramid(3, 4), device="cuda")
    queries = [query_of(seed) for seed in range(4)]
    alone = [matcher.match(query, range(4), kappa=2) for query in queries]
    for a, b in zip(matcher.match_batch(queries, [range(4)] * 4, kappa=2), alone, strict=True):
        assert_same(a, b)
    with ThreadPoolExecutor(4) as callers:
        for a, b in zip(callers.map(lambda q: matcher.match(q, range(4), kappa=2), queries), alone, strict=True):
            assert_same(a, b)


@needs_gpu
def test_bad_queries_are_named():
    matcher = Matcher(pyramid(4, 3), device="cuda")
    query = query_of(0)
    query[1][3, 2, 1] = np.nan
    with pytest.raises(
        InputError, match=r"query level 1: expected finite features, got NaN or infinity at .* = \(3, 2, 1\)"
    ):
        matcher.match(query, [0])
    good = query_of(0)
    with pytest.raises(InputError, match="kappa: expected 1 to 32 on a GPU, got 33"):
        matcher.match(good, [0], kappa=33)
    with pytest.raises(InputError, match="query_levels: expected one number type, got float32 and float16"):
        matcher.match([good[0], good[1].astype(np.float16), good[2]], [0])
    assert_same(matcher.match(good, [0]), Matcher(pyramid(4, 3), threads=1).match(good, [0]))  # it still works


@needs_gpu
def test_options_that_a_gpu_lacks():
    gallery = pyramid(5, 2)
    for options in ({"path": "reference"}, {"upsampling": "bilinear"}):
        with pytest.raises(InputError, match="device: expected the pruned or the dense path and nearest upsampling"):
            Matcher(gallery, device="cuda", **options)


@pytest.mark.skipif(_native.CUDA, reason="this build has CUDA")
def test_a_build_without_cuda_says_so():
    with pytest.raises(DeviceError, match=r"device: expected a spadeline that was built with CUDA for 'cuda', got one"):
        Matcher(pyramid(0, 1), device="cuda")


@pytest.mark.skipif(not _native.CUDA or not WHY_NOT, reason="there is a GPU, or this build has no CUDA")
def test_a_machine_without_a_gpu_says_so():
    with pytest.raises(
        DeviceError, match=r"^device: expected an NVIDIA GPU and a driver that is new enough, got none: "
    ):
        Matcher(pyramid(0, 1), device="cuda")


def test_the_device_is_one_of_two():
    with pytest.raises(InputError, match=r"device: expected one of cpu, cuda, got .gpu."):
        Matcher(pyramid(0, 1), device="gpu")
    with pytest.raises(InputError, match="memory_limit: expected"):
        Matcher(pyramid(0, 1), memory_limit=0)


def test_the_cpu_is_the_cpu(recipe_folder):
    info = Detector.load(recipe_folder, device="cpu").info
    assert (info["matcher_device"], info["chain"], info["resident_images"]) == ("cpu", "host", info["images"])


@pytest.mark.skipif(not WHY_NOT, reason="there is a GPU")
def test_without_a_gpu_auto_stays_on_the_cpu_and_cuda_is_an_error(recipe_folder, monkeypatch):
    monkeypatch.setattr(detector_module, "offers_cuda", lambda: True)
    info = Detector.load(recipe_folder, threads=1).info
    assert (info["matcher_device"], info["chain"]) == ("cpu", "host")
    with pytest.raises(DeviceError, match=r"^device: expected "):
        Detector.load(recipe_folder, device="cuda", threads=1)


@pytest.fixture(scope="module", params=["plain", "masked"])
def detectors(request, parts, extractor_path, recipe_folder, tmp_path_factory):
    """The same recipe on the CPU, and with features that stay where the GPU's matcher reads them."""
    folder = recipe_folder
    if request.param == "masked":
        mask = np.zeros((96, 96), bool)
        mask[:40, :50] = True
        settings = Settings(k_score=3, k_gallery=8, kappa=3, sigma=2.5, distance="root", window=2)
        folder = tmp_path_factory.mktemp("gpu") / "recipe"
        fit(parts / "train" / "good", folder, extractor=extractor_path, settings=settings, ignore=mask, threads=1)
    recipe = Recipe.load(folder)
    return Detector.load(folder, device="cpu", threads=1), on_gpu(recipe)


def on_gpu(recipe):
    """Open the chain as Detector.load(device="cuda") does; an emulated device reads what the CPU's extractor wrote."""
    scorer = Scorer(recipe, threads=1, device="cuda")
    real = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    stream = scorer.inspector.stream if real else None
    extractor = Extractor(recipe.extractor_path, device="cuda" if real else "cpu", threads=1, stream=stream)
    return Detector(recipe, extractor, scorer, on_device=True)


@needs_gpu
def test_the_chain_on_the_device_agrees_with_the_host(detectors):
    on_cpu, on_device = detectors
    assert (on_cpu.info["chain"], on_device.info["chain"], on_device.info["matcher_device"]) == (
        "host",
        "device",
        "cuda",
    )
    frames = [part(300)[0], part(301, scratched=True)[0], part(302, size=70)[0]]
    for frame, a in zip(frames, on_device.predict_batch(frames), strict=True):
        b = on_cpu.predict(frame)
        np.testing.assert_array_equal(a.neighbours, b.neighbours)
        np.testing.assert_allclose(a.anomaly_map, b.anomaly_map, rtol=2e-5, atol=1e-6 * b.map_score)
        np.testing.assert_array_equal(a.pred_mask, a.anomaly_map > np.float32(on_cpu.recipe.calibration.theta.value))
        assert a.pred_label == b.pred_label
        assert a.image_score == pytest.approx(b.image_score, rel=1e-6)
        assert [region.box for region in a.regions] == [region.box for region in b.regions]
        assert set(a.timings_s) == set(b.timings_s)


@needs_gpu
def test_streams_of_the_chain_take_turns_on_the_device(detectors):
    _, on_device = detectors
    frames = [part(300)[0], part(301, scratched=True)[0], np.zeros((9, 9), np.float32), part(302, size=70)[0]]
    with ThreadPoolExecutor(2) as callers:
        for first, second, bad, last in callers.map(lambda _: list(on_device.stream(frames)), range(2)):
            assert str(bad.error) == "frame: expected a uint8 array, got float32"
            for result, frame in zip((first, second, last), (frames[0], frames[1], frames[3]), strict=True):
                wanted = on_device.predict(frame)
                np.testing.assert_array_equal(result.anomaly_map, wanted.anomaly_map)
                np.testing.assert_array_equal(result.neighbours, wanted.neighbours)
                assert (result.pred_score, result.regions) == (wanted.pred_score, wanted.regions)
    on_device.warm_up(frames[:1])
    assert [(way["workers"], way["threads_each"]) for way in on_device.info["split"]["measured"]] == [(1, 0), (2, 0)]


class OnDevice:
    """A frame in the GPU's memory: an emulated device's is the host's."""

    def __init__(self, pixels, **changes):
        self.pixels = pixels
        self.__cuda_array_interface__ = {
            "shape": pixels.shape, "typestr": pixels.dtype.str, "data": (pixels.ctypes.data, False), "version": 3,
            "strides": None, "stream": None,
        } | changes  # fmt: skip


@needs_gpu
@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="host memory")
def test_a_frame_on_the_device_is_read_where_it_lies(detectors):
    _, on_device = detectors
    frame = part(301, scratched=True, size=SIZE)[0]
    wanted, got = (
        on_device.predict(frame),
        on_device.predict(OnDevice(frame, stream=on_device._scorer.inspector.stream)),
    )
    np.testing.assert_array_equal(got.anomaly_map, wanted.anomaly_map)
    assert got.regions == wanted.regions
    with pytest.raises(InputError, match="color: expected 'auto' or 'rgb' for a frame on the GPU, got 'bgr'"):
        on_device.predict(OnDevice(frame), color="bgr")


@pytest.mark.parametrize(
    ("pixels", "changes", "came"),
    [
        (np.zeros((4, 6, 3), np.float32), {}, r"f4 \(4, 6, 3\)"),
        (np.zeros((4, 6), np.uint8), {}, r"u1 \(4, 6\)"),
        (np.zeros((5, 6, 3), np.uint8), {}, r"u1 \(5, 6, 3\)"),
        (np.zeros((4, 6, 3), np.uint8), {"strides": (36, 6, 1)}, r"u1 \(4, 6, 3\) with gaps"),
    ],
)
def test_frames_on_the_device_are_not_converted(pixels, changes, came):
    with pytest.raises(InputError, match=r"frame: expected contiguous u1 \(4, 6, 3\) RGB on the GPU.*, got " + came):
        device_frame(OnDevice(pixels, **changes), (4, 6), 0)


def test_a_frame_on_the_host_has_no_address():
    assert device_frame(np.zeros((4, 6, 3), np.uint8), (4, 6), 0) is None
    assert device_frame(OnDevice(np.zeros((4, 6, 3), np.uint8), strides=(18, 3, 1), stream=7), (4, 6), 0).stream == 7


class ByDlpack:
    """The same by DLPack; NumPy's capsule says that it lies on the host, this one's device is what counts."""

    def __init__(self, pixels):
        self.pixels, self.stream = pixels, None

    def __dlpack_device__(self):
        return (2, 0)

    def __dlpack__(self, *, stream):
        self.stream = stream
        return self.pixels.__dlpack__()


def test_frames_by_dlpack():
    pixels = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    frame = ByDlpack(pixels)
    found = device_frame(frame, (6, 8), 77)
    assert (found.address, found.stream, frame.stream) == (pixels.ctypes.data, None, 77)
    assert device_frame(ByDlpack(pixels[2:]), (4, 8), 0).address == pixels[2:].ctypes.data
    for wrong, came in (
        (pixels[:, ::2], r"u1 \(6, 4, 3\) with gaps"),
        (pixels.view(np.int8), r"i1 \(6, 8, 3\)"),
        (pixels[..., 0], r"u1 \(6, 8\) with gaps"),
    ):
        with pytest.raises(InputError, match="frame: expected contiguous u1 .*, got " + came):
            device_frame(ByDlpack(wrong), (6, 8), 0)
    with pytest.raises(ValueError, match="PyCapsule_GetPointer called with incorrect name"):
        _native.read_dlpack(dt.datetime_CAPI)


@needs_gpu
@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="host memory")
def test_a_frame_by_dlpack_is_read_where_it_lies(detectors):
    _, on_device = detectors
    frame = part(300, size=SIZE)[0]
    np.testing.assert_array_equal(on_device.predict(ByDlpack(frame)).anomaly_map, on_device.predict(frame).anomaly_map)


@needs_gpu
def test_a_recipe_that_a_gpu_cannot_do_says_so_when_it_is_opened(recipe_folder):
    recipe = Recipe.load(recipe_folder)
    images = min(recipe.settings.k_gallery, len(recipe.images))
    image_bytes = Scorer(recipe, threads=1, device="cuda").matcher.native.image_bytes
    with pytest.raises(DeviceError, match=rf"^device: gallery: expected at most 2 images a query, .*, got {images}$"):
        Scorer(recipe, threads=1, device="cuda", memory_limit=2 * image_bytes)
    greedy = replace(recipe, settings=replace(recipe.settings, kappa=33))
    with pytest.raises(DeviceError, match=r"^device: kappa: expected 1 to 32 on a GPU, got 33$"):
        Scorer(greedy, threads=1, device="cuda")


def test_a_memory_limit_needs_a_gpu(recipe_folder):
    with pytest.raises(InputError, match=r"^memory_limit: expected device 'cuda' with it, got 'cpu'$"):
        Matcher(pyramid(0, 1), memory_limit=1 << 20)
    with pytest.raises(InputError, match=r"^memory_limit: expected device 'auto' or 'cuda' with it, got 'cpu'$"):
        Detector.load(recipe_folder, device="cpu", memory_limit=1 << 20)
