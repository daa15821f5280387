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

# An emulated device reads what ONNX Runtime writes on the CPU; a GPU that is told to dies of it, and all later tests, too.
EMULATED = not WHY_NOT and Matcher([np.zeros((1, 4, 2, 2), np.float32)], device="cuda").native.emulated
ON_GPU = not WHY_NOT and not EMULATED and "CUDAExecutionProvider" in onnxruntime.get_available_providers()
needs_chain = pytest.mark.skipif(
    not (EMULATED or ON_GPU), reason=WHY_NOT or "this ONNX Runtime leaves features on the host, where the GPU isn't"
)
needs_emulation = pytest.mark.skipif(not EMULATED, reason=WHY_NOT or "frames of these tests lie in the host's memory")


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
@pytest.mark.parametrize("storage", [np.float32, np.float16])
@pytest.mark.parametrize("levels", [1, 3])
def test_bilinear_upsampling_agrees_with_the_cpu(storage, levels):
    gallery = pyramid(11, 4, storage, SIZES[:levels])
    options = {"weights": [2.0, 0.5, 1.0][:levels], "upsampling": "bilinear"}
    on_gpu = Matcher(gallery, device="cuda", **options)
    on_cpu = Matcher(gallery, threads=1, **options)
    ignore = np.zeros(SIZES[0], bool)
    ignore[:3, 2:] = True
    for seed, each in enumerate([{}, {"kappa": 7}, {"window": 0}, {"ignore": ignore, "kappa": 2}]):
        query = query_of(seed, np.float16 if seed == 1 else np.float32, SIZES[:levels])
        match = on_gpu.match(query, [3, 0, 2], **each)
        assert_same(match, on_cpu.match(query, [3, 0, 2], **each))
        assert match.statistics.path == "dense"


@needs_gpu
def test_options_that_a_gpu_lacks():
    with pytest.raises(InputError, match="device: expected the pruned or the dense path for 'cuda', got 'reference'"):
        Matcher(pyramid(5, 2), path="reference", device="cuda")


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
    inspector = scorer.inspector if ON_GPU else None
    extractor = Extractor(recipe.extractor_path, device="cuda" if ON_GPU else "cpu", threads=1, inspector=inspector)
    return Detector(recipe, extractor, scorer, on_device=True)


@needs_chain
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


@needs_chain
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


@needs_chain
@pytest.mark.skipif(EMULATED, reason="no torch writes to an emulated device")
def test_a_frame_of_torch_is_read_once_it_is_written(detectors):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch finds no GPU")
    _, on_device = detectors
    frame = part(301, scratched=True, size=SIZE)[0]
    wanted = on_device.predict(frame)
    written = torch.from_numpy(frame).cuda()
    with torch.cuda.stream(torch.cuda.Stream()):
        late = torch.zeros_like(written)
        torch.cuda._sleep(10**8)  # cycles
        late.copy_(written)
        got = on_device.predict(late)
    np.testing.assert_allclose(got.anomaly_map, wanted.anomaly_map, rtol=1e-5, atol=1e-6 * wanted.map_score)


class OnDevice:
    """A frame in the GPU's memory: an emulated device's is the host's."""

    def __init__(self, pixels, **changes):
        self.pixels = pixels
        self.__cuda_array_interface__ = {
            "shape": pixels.shape, "typestr": pixels.dtype.str, "data": (pixels.ctypes.data, False), "version": 3,
            "strides": None, "stream": None,
        } | changes  # fmt: skip


@needs_emulation
def test_a_frame_on_the_device_is_read_where_it_lies(detectors):
    _, on_device = detectors
    frame = part(301, scratched=True, size=SIZE)[0]
    wanted, got = (
        on_device.predict(frame),
        on_device.predict(OnDevice(frame, stream=on_device._scorer.inspector.stream)),
    )
    np.testing.assert_array_equal(got.anomaly_map, wanted.anomaly_map)
    assert got.regions == wanted.regions


@needs_emulation
@pytest.mark.parametrize(
    ("pixels", "color"),
    [
        (part(301, scratched=True, size=150)[0], "auto"),
        (part(301, scratched=True, size=150)[0], "bgr"),
        (part(301, scratched=True, size=SIZE)[0], "bgr"),
        (part(301, scratched=True, size=150)[0][..., 1], "auto"),
    ],
)
def test_any_other_frame_on_the_device_is_prepared_on_the_host(detectors, pixels, color):
    _, on_device = detectors
    padded = np.full((len(pixels), pixels.shape[1] + 7, *pixels.shape[2:]), 99, np.uint8)  # as decoders leave it
    padded[:, : pixels.shape[1]] = pixels
    wanted = on_device.predict(pixels, color=color)
    strides = (padded.strides[0], *pixels.strides[1:]) if pixels.ndim == 3 else (padded.strides[0], 1)
    frame = OnDevice(padded, shape=pixels.shape, strides=strides, stream=on_device._scorer.inspector.stream)
    got = on_device.predict(frame, color=color)
    np.testing.assert_array_equal(got.anomaly_map, wanted.anomaly_map)
    assert got.regions == wanted.regions


@needs_emulation
def test_a_framing_is_kept_wherever_the_frame_lies(recipe_folder):
    recipe = Recipe.load(recipe_folder)
    detector = on_gpu(replace(recipe, settings=replace(recipe.settings, framing="paper")))
    frame = part(301, scratched=True, size=SIZE)[0]
    np.testing.assert_array_equal(detector.predict(OnDevice(frame)).anomaly_map, detector.predict(frame).anomaly_map)


@pytest.mark.parametrize(
    ("pixels", "changes", "text"),
    [
        (np.zeros((4, 6, 3), np.float32), {}, r"u1 \(h, w\) or \(h, w, channels\) on the GPU, got f4 \(4, 6, 3\)"),
        (np.zeros((2, 4, 6, 3), np.uint8), {}, r"u1 \(h, w\) or .* on the GPU, got u1 \(2, 4, 6, 3\)"),
        (np.zeros((0, 6), np.uint8), {}, r"u1 \(h, w\) or .* on the GPU, got u1 \(0, 6\)"),
        (
            np.zeros((4, 6, 3), np.uint8),
            {"strides": (36, 6, 1)},
            r"rows without gaps on the GPU, got u1 \(4, 6, 3\) with strides \(36, 6, 1\)",
        ),
        (np.zeros((4, 6), np.uint8), {"strides": (-6, 1)}, r"rows without gaps .* with strides \(-6, 1\)"),
    ],
)
def test_frames_on_the_device_that_none_can_read(pixels, changes, text):
    with pytest.raises(InputError, match="^frame: expected " + text):
        device_frame(OnDevice(pixels, **changes), 0)


def test_where_a_frame_lies():
    assert device_frame(np.zeros((4, 6, 3), np.uint8), 0) is None
    pixels = np.zeros((4, 6, 3), np.uint8)
    found = device_frame(OnDevice(pixels, strides=(18, 3, 1), stream=7), 0)
    assert (found.shape, found.pitch, found.stream, found.is_input((4, 6))) == ((4, 6, 3), 18, 7, True)
    for other in ({"strides": (32, 3, 1)}, {"shape": (4, 5, 3)}, {"shape": (4, 6)}):
        assert not device_frame(OnDevice(pixels, **other), 0).is_input((4, 6))


def test_a_frame_that_names_no_stream_may_be_the_default_ones():
    frame = OnDevice(np.zeros((4, 6, 3), np.uint8))
    assert device_frame(frame, 0).stream is None
    del frame.__cuda_array_interface__["stream"]
    assert device_frame(frame, 0).stream is None
    frame.__cuda_array_interface__["version"] = 2  # which knew of no streams
    assert device_frame(frame, 0).stream == 1


class ByDlpack:
    """The same by DLPack; NumPy's capsule says that it lies on the host, this one's device is what counts."""

    def __init__(self, pixels, gpu=0):
        self.pixels, self.gpu, self.stream = pixels, gpu, None

    def __dlpack_device__(self):
        return (2, self.gpu)

    def __dlpack__(self, *, stream):
        self.stream = stream
        return self.pixels.__dlpack__()


def test_frames_by_dlpack():
    pixels = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    frame = ByDlpack(pixels)
    found = device_frame(frame, 77)
    assert (found.address, found.stream, frame.stream, found.is_input((6, 8))) == (pixels.ctypes.data, None, 77, True)
    assert device_frame(ByDlpack(pixels[2:]), 0).address == pixels[2:].ctypes.data
    assert device_frame(ByDlpack(pixels[:, 2:]), 0).pitch == 24
    frame.__cuda_array_interface__ = OnDevice(pixels, stream=5).__cuda_array_interface__  # has both, as torch's
    assert device_frame(frame, 78).stream is None
    assert frame.stream == 78
    with pytest.raises(InputError, match=r"^frame: expected on the first GPU, got on GPU 1$"):
        device_frame(ByDlpack(pixels, gpu=1), 0)
    for wrong, came in (
        (pixels[:, ::2], r"u1 \(6, 4, 3\) with strides"),
        (pixels.view(np.int8), r"i1 \(6, 8, 3\)"),
        (pixels[..., 0], r"u1 \(6, 8\) with strides"),
    ):
        with pytest.raises(InputError, match="frame: expected .*, got " + came):
            device_frame(ByDlpack(wrong), 0)
    with pytest.raises(ValueError, match="PyCapsule_GetPointer called with incorrect name"):
        _native.read_dlpack(dt.datetime_CAPI)


@needs_emulation
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
