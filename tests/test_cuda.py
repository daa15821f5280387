"""The matcher on a GPU: results equal the CPU's for all options; and its errors without a GPU.

Runs wherever a GPU is, and on a build whose device is emulated.
"""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from spadeline.engine import DeviceError, InputError, Matcher, _native

from .gpu import SIZES, WHY_NOT, needs_gpu, pyramid, query_of, torch_on_gpu

pytestmark = pytest.mark.xdist_group("gpu")  # no other process takes its memory meanwhile


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
        InputError, match=r"gallery: expected at most 4 images for a query, as many as fit the device, got 5"
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


def test_an_unknown_device_and_a_bad_memory_limit_are_refused():
    with pytest.raises(InputError, match=r"device: expected one of cpu, cuda, got .gpu."):
        Matcher(pyramid(0, 1), device="gpu")
    with pytest.raises(InputError, match="memory_limit: expected"):
        Matcher(pyramid(0, 1), memory_limit=0)


@needs_gpu
@pytest.mark.parametrize("swapped", [False, True])
def test_several_matchers_at_once_agree_with_the_cpu(swapped):
    galleries = [pyramid(20 + m, 6) for m in range(3)]
    limit = 3 * Matcher(galleries[0], device="cuda").native.image_bytes if swapped else None
    on_gpu = [Matcher(gallery, device="cuda", memory_limit=limit) for gallery in galleries]
    on_cpu = [Matcher(gallery, threads=1) for gallery in galleries]

    def matched(turn):
        which, ids = turn % 3, np.random.default_rng(turn).permutation(6)[:3]
        return on_gpu[which].match(query_of(turn), ids, kappa=2), which, ids

    with ThreadPoolExecutor(6) as callers:
        for turn, (match, which, ids) in enumerate(callers.map(matched, range(24))):
            assert_same(match, on_cpu[which].match(query_of(turn), ids, kappa=2))


def test_memory_that_another_program_holds_is_an_error_and_no_loss():
    torch = torch_on_gpu()
    gallery, query = pyramid(6, 3), query_of(1)
    before = Matcher(gallery, device="cuda")
    held = []
    size = torch.cuda.mem_get_info()[0]
    while size > 1 << 20:  # all that there is, in pieces
        try:
            held.append(torch.empty(size, dtype=torch.uint8, device="cuda"))
        except torch.OutOfMemoryError:
            size //= 2
    with pytest.raises(DeviceError, match=r"^device: cuda: "):
        held.extend(Matcher(pyramid(6, 64), device="cuda") for _ in range(64))  # each takes some of what is left
    wanted = Matcher(gallery, threads=1).match(query, range(3))
    assert_same(before.match(query, range(3)), wanted)
    held.clear()
    torch.cuda.empty_cache()
    assert_same(Matcher(gallery, device="cuda").match(query, range(3)), wanted)


def test_a_lost_device_is_an_error_and_the_process_ends_by_itself():
    torch_on_gpu()
    code = """
import numpy as np, torch
from spadeline.engine import DeviceError, Matcher
matcher = Matcher([np.zeros((2, 4, 2, 2), np.float32)], device="cuda")
torch._assert_async(torch.zeros(1, device="cuda"))  # every later call of this process fails
try:
    matcher.match([np.zeros((4, 2, 2), np.float32)], [0])
except DeviceError:
    print("lost")
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "lost\n"), done.stderr
