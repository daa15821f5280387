"""Whether a GPU can be used here, and what is matched on it.

A build whose device is emulated (CMakeLists.txt: SPADELINE_CUDA=EMULATED) counts as one.
"""

import numpy as np
import pytest
from spadeline.engine import DeviceError, Matcher

SIZES = ((8, 8), (4, 4), (2, 2))
CHANNELS = (5, 17, 32)


def _find():
    """Return the GPU's matcher, or why there is none, in its own words."""
    try:
        return Matcher([np.zeros((1, 4, 2, 2), np.float32)], device="cuda").native, ""
    except DeviceError as error:
        return None, str(error)


def _onnxruntime_uses_it():
    try:
        import onnxruntime
    except ImportError:
        return False
    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


_native_matcher, WHY_NOT = _find()
# An emulated device reads what ONNX Runtime writes on the CPU; a GPU that is told to dies of it, and all later tests, too.
EMULATED = not WHY_NOT and _native_matcher.emulated
ON_GPU = not WHY_NOT and not EMULATED and _onnxruntime_uses_it()
FOUND = WHY_NOT or _native_matcher.architecture + (" (emulated)" if EMULATED else "")
del _native_matcher

needs_gpu = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
needs_emulation = pytest.mark.skipif(not EMULATED, reason=WHY_NOT or "frames of these tests lie in the host's memory")
needs_chain = pytest.mark.skipif(
    not (EMULATED or ON_GPU), reason=WHY_NOT or "this ONNX Runtime leaves features on the host, where the GPU isn't"
)


def torch_on_gpu():
    """Import torch, which writes to the GPU as a user's program would; skip where it can't."""
    if WHY_NOT or EMULATED:
        pytest.skip(WHY_NOT or "torch writes to no emulated device")
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch finds no GPU")
    return torch


def pyramid(seed, images, storage=np.float32, sizes=SIZES):
    """Levels of random features with near and far neighbours among them."""
    rng = np.random.default_rng(seed)
    levels = []
    for (h, w), c in zip(sizes, CHANNELS, strict=False):
        common = rng.normal(size=(1, c, h, w))
        levels.append((common + 0.3 * rng.normal(size=(images, c, h, w))).astype(storage))
    return levels


def query_of(seed, storage=np.float32, sizes=SIZES):
    """One image's levels."""
    return [level[0] for level in pyramid(seed, 1, storage, sizes)]
