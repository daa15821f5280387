"""The chain on a GPU: results equal the CPU's, wherever a frame lies; and refused frames.

Runs wherever a GPU is, and on a build whose device is emulated.
"""

import datetime as dt
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pytest
from spadeline.engine import Detector, DeviceError, FrameError, InputError, Matcher, Settings, _native, fit
from spadeline.engine.extract.extractor import Extractor
from spadeline.engine.images.device_frames import device_frame
from spadeline.engine.images.resizing import place
from spadeline.engine.inspect.chains import DeviceChain
from spadeline.engine.inspect.heatmap import Heatmap
from spadeline.engine.inspect.scoring import DeviceScorer, Scorer
from spadeline.engine.match.gpu import Inspector
from spadeline.engine.recipe.recipe import Recipe

from .conftest import SIZE, part
from .gpu import EMULATED, ON_GPU, WHY_NOT, needs_chain, needs_emulation, needs_gpu, pyramid, query_of, torch_on_gpu

pytestmark = pytest.mark.xdist_group("gpu")  # so that no other process takes its memory


def test_device_cpu_stays_on_the_cpu(recipe_folder):
    info = Detector.load(recipe_folder, device="cpu").info
    assert (info["matcher_device"], info["chain"], info["resident_images"]) == ("cpu", "host", info["images"])


@pytest.mark.skipif(not WHY_NOT, reason="there is a GPU")
def test_without_a_gpu_auto_stays_on_the_cpu_and_cuda_is_an_error(recipe_folder, monkeypatch):
    monkeypatch.setattr("spadeline.engine.inspect.opening.offers_cuda", lambda: True)
    info = Detector.load(recipe_folder, threads=1).info
    assert (info["matcher_device"], info["chain"]) == ("cpu", "host")
    with pytest.raises(DeviceError, match=r"^device: expected "):
        Detector.load(recipe_folder, device="cuda", threads=1)


@pytest.fixture(scope="module", params=["plain", "masked"])
def detectors(request, parts, extractor_path, recipe_folder, tmp_path_factory):
    """The same recipe's detector on the CPU, and one whose features stay where the GPU's matcher reads them."""
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
    """Open the chain as Detector.load(device="cuda") does; an emulated device reads the CPU extractor's features."""
    scorer = DeviceScorer(recipe, threads=1)
    extractor = Extractor(
        recipe.extractor_path,
        device="cuda" if ON_GPU else "cpu",
        threads=1,
        stream=scorer.inspector.stream if ON_GPU else None,
    )
    return Detector(DeviceChain(recipe, extractor, scorer))


@needs_chain
def test_the_chain_on_the_device_agrees_with_the_host(detectors):
    on_cpu, on_device = detectors
    assert (on_cpu.info["chain"], on_device.info["chain"], on_device.info["matcher_device"]) == (
        "host",
        "device",
        "cuda",
    )
    scorer = Scorer(on_cpu.recipe, threads=1)
    frames = [part(300)[0], part(301, scratched=True)[0], part(302, size=70)[0]]
    for frame, a in zip(frames, on_device.predict_batch(frames), strict=True):
        # Of the device's own features: another library's convolutions differ in their last bits.
        image, _ = place(frame, on_cpu.recipe.input_size, framing="whole")
        features = on_device.extractor.extract(image[None])
        b = scorer.score([level[0] for level in features.levels], features.embedding[0])
        np.testing.assert_array_equal(a.nearest_images, b.retrieved.nearest_images)
        np.testing.assert_array_equal(a.neighbours, b.neighbours)
        np.testing.assert_allclose(a.anomaly_map, b.anomaly_map, rtol=2e-5, atol=1e-6 * b.map_score)
        assert a.image_score == pytest.approx(b.image_score, rel=1e-6)
        np.testing.assert_array_equal(a.pred_mask, a.anomaly_map > np.float32(on_cpu.recipe.calibration.theta.value))
        c = on_cpu.predict(frame)
        assert a.map_score == pytest.approx(c.map_score, rel=1e-3)
        assert set(a.timings_s) == set(c.timings_s)
        if EMULATED:  # the same features
            assert a.pred_label == c.pred_label
            assert [region.box for region in a.regions] == [region.box for region in c.regions]


@needs_chain
@pytest.mark.parametrize("need", ["map", "mask", "label"])
def test_the_device_computes_all_distances_whatever_is_needed(detectors, need):
    _, on_device = detectors
    assert on_device.info["rounds"] is False
    frame = part(301, scratched=True)[0]
    whole, result = on_device.predict(frame), on_device.predict(frame, need=need, deadline_s=0)
    assert (result.need, result.decided) == (need, True)
    np.testing.assert_array_equal(result.anomaly_map, whole.anomaly_map)
    np.testing.assert_array_equal(result.lower_map, whole.anomaly_map)
    np.testing.assert_array_equal(result.pred_mask, whole.pred_mask)
    assert (result.pred_score, result.reasons, result.regions) == (whole.pred_score, whole.reasons, whole.regions)


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
def test_a_frame_of_torch_is_read_once_it_is_written(detectors):
    torch = torch_on_gpu()
    _, on_device = detectors
    frame = part(301, scratched=True, size=SIZE)[0]
    wanted = on_device.predict(frame)
    written = torch.from_numpy(frame).cuda()

    def late():
        copy = torch.zeros_like(written)
        torch.cuda._sleep(10**8)  # cycles
        return copy.copy_(written)

    def camera():
        for _ in range(2):
            with torch.cuda.stream(torch.cuda.Stream()):
                yield late()

    with torch.cuda.stream(torch.cuda.Stream()):
        alone = on_device.predict(late())
    for got in (alone, *on_device.stream(camera())):
        np.testing.assert_allclose(got.anomaly_map, wanted.anomaly_map, rtol=1e-5, atol=1e-6 * wanted.map_score)


def inspector_of(matcher):
    return Inspector(
        matcher,
        images=3,
        kappa=2,
        window=None,
        size=(32, 32),
        sigma=1.5,
        root=False,
        theta=np.inf,
        ignore=None,
        ignored_distances=None,
    )


@pytest.mark.parametrize("resident", [9, 4])  # 4: images are replaced while other streams' kernels read theirs
def test_inspectors_of_one_matcher_side_by_side_agree_with_the_cpu(resident):
    torch = torch_on_gpu()
    gallery = pyramid(22, 9)
    image_bytes = Matcher(gallery, device="cuda").native.image_bytes
    matcher = Matcher(gallery, device="cuda", memory_limit=resident * image_bytes)
    assert matcher.resident_images == resident
    on_cpu, heatmap = Matcher(gallery, threads=1), Heatmap((8, 8), (32, 32), sigma=1.5)

    def inspect(first):
        inspector = inspector_of(matcher)
        for seed in range(first, 40, 4):
            ids, query = np.random.default_rng(seed).permutation(9)[:3], query_of(seed)
            with torch.cuda.stream(torch.cuda.ExternalStream(inspector.stream.address)):
                levels = [torch.from_numpy(level).cuda() for level in query]
                torch.cuda._sleep(10**6)
            got = inspector.inspect([level.data_ptr() for level in levels], ids, half=False)
            wanted = on_cpu.match(query, ids, kappa=2)
            np.testing.assert_array_equal(got.neighbours, wanted.neighbours)
            np.testing.assert_allclose(got.anomaly_map, heatmap.anomaly_map(wanted.distances), rtol=2e-5)

    with ThreadPoolExecutor(4) as callers:
        list(callers.map(inspect, range(4)))


def test_a_frame_of_torch_comes_to_the_host_once_it_is_written():
    torch = torch_on_gpu()
    inspector = inspector_of(Matcher(pyramid(1, 3), device="cuda"))
    wanted = torch.randint(0, 256, (40, 50, 3), dtype=torch.uint8)
    written = wanted.cuda()
    padded = torch.zeros((40, 64, 3), dtype=torch.uint8, device="cuda")[:, :50]
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(10**8)
        padded.copy_(written)
        frame = inspector.receive(padded)
    np.testing.assert_array_equal(inspector.fetch(frame), wanted.numpy())


class OnDevice:
    """A frame in the GPU's memory, which is the host's for an emulated device."""

    def __init__(self, pixels, **changes):
        self.pixels = pixels
        self.__cuda_array_interface__ = {
            "shape": pixels.shape, "typestr": pixels.dtype.str, "data": (pixels.ctypes.data, False), "version": 3,
            "strides": None, "stream": None,
        } | changes  # fmt: skip


@needs_emulation
def test_spoiled_frames_on_the_device_are_flagged_as_on_the_host(detectors):
    on_host, on_device = detectors
    good = part(300, size=SIZE)[0]
    for frame in (good * 0, good // 10, np.full_like(good, 128), cv2.GaussianBlur(good, (0, 0), 4)):
        wanted = on_host.predict(frame)
        assert set(wanted.reasons) & {"exposure", "contrast", "sharpness", "unlike"}
        for got in (on_device.predict(OnDevice(frame)), on_device.predict(frame)):
            assert (got.pred_label, got.reasons) == (True, wanted.reasons)
            assert got.pred_score == pytest.approx(wanted.pred_score, rel=1e-4)
    assert on_device.predict(OnDevice(good)).reasons == on_host.predict(good).reasons


@needs_emulation
def test_a_frame_on_the_device_is_read_where_it_lies(detectors):
    _, on_device = detectors
    frame = part(301, scratched=True, size=SIZE)[0]
    wanted, got = (
        on_device.predict(frame),
        on_device.predict(OnDevice(frame, stream=on_device._chain.scorer.inspector.stream.address)),
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
    frame = OnDevice(
        padded, shape=pixels.shape, strides=strides, stream=on_device._chain.scorer.inspector.stream.address
    )
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
def test_frames_on_the_device_of_another_kind_are_refused(pixels, changes, text):
    with pytest.raises(InputError, match="^frame: expected " + text):
        device_frame(OnDevice(pixels, **changes), 0)


def test_device_frame_finds_address_shape_and_pitch():
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
    """The same by DLPack. NumPy's capsule says that the frame lies on the host; only the device given here counts."""

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
    image_bytes = DeviceScorer(recipe, threads=1).matcher.native.image_bytes
    with pytest.raises(
        DeviceError, match=rf"^device: gallery: expected at most 2 images for a query, .*, got {images}$"
    ):
        DeviceScorer(recipe, threads=1, memory_limit=2 * image_bytes)
    greedy = replace(recipe, settings=replace(recipe.settings, kappa=33))
    with pytest.raises(DeviceError, match=r"^device: kappa: expected 1 to 32 on a GPU, got 33$"):
        DeviceScorer(greedy, threads=1)


def test_a_memory_limit_needs_a_gpu(recipe_folder):
    with pytest.raises(InputError, match=r"^memory_limit: expected device 'cuda' with it, got 'cpu'$"):
        Matcher(pyramid(0, 1), memory_limit=1 << 20)
    with pytest.raises(InputError, match=r"^memory_limit: expected device 'auto' or 'cuda' with it, got 'cpu'$"):
        Detector.load(recipe_folder, device="cpu", memory_limit=1 << 20)


@needs_emulation
def test_a_streams_frame_is_received_by_the_thread_that_made_it(detectors):
    _, on_device = detectors
    frame, makers, readers = part(301, scratched=True, size=SIZE)[0], [], []

    class Noted(ByDlpack):
        def __dlpack__(self, *, stream):
            readers.append(threading.get_ident())
            return super().__dlpack__(stream=stream)

    def camera():
        for other_gpu in (0, 1, 0):
            makers.append(threading.get_ident())
            yield Noted(frame, gpu=other_gpu)

    first, refused, last = on_device.stream(camera())
    assert isinstance(refused, FrameError)
    assert str(refused.error) == "frame: expected on the first GPU, got on GPU 1"
    assert readers == makers[:2]
    wanted = on_device.predict(frame)
    for got in (first, last):
        np.testing.assert_array_equal(got.anomaly_map, wanted.anomaly_map)
