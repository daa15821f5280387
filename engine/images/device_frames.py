"""Where a frame lies in the GPU's memory, and what such a frame must be like. Nothing is computed here."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from .. import _native
from ..errors import InputError

_DLPACK_CUDA = 2  # the kind of device, in DLPack's own numbers
# Of __cuda_array_interface__: until version 3 it didn't say which stream writes, and the default one may; its number.
_FIRST_WITH_STREAM, _DEFAULT_STREAM = 3, 1


class DeviceFrame(NamedTuple):
    """A frame in the GPU's memory.

    Attributes
    ----------
    address
        Of its uint8 pixels.
    shape
        (h, w) or (h, w, channels).
    pitch
        Bytes from one row to the next; there are no other gaps.
    stream
        The CUDA stream that writes it, as an address; None: what it takes to wait was done.
    owner
        What must live as long as the frame is read.
    """

    address: int
    shape: tuple[int, ...]
    pitch: int
    stream: int | None
    owner: Any

    def is_input(self, size: tuple[int, int]) -> bool:
        """Whether these are an extractor's input as it takes it: (H, W, 3), contiguous."""
        return self.shape == (*size, 3) and self.pitch == size[1] * 3


def device_frame(frame: Any, stream: int) -> DeviceFrame | None:
    """Return where a frame lies on the GPU, by ``__cuda_array_interface__`` or DLPack; None if it doesn't.

    Parameters
    ----------
    stream
        The CUDA stream that will read it, as an address.

    Raises
    ------
    InputError
        A frame on the GPU that isn't uint8 (h, w) or (h, w, channels), or has gaps within its rows; or on another GPU.
    """
    kind_of_device, gpu = _dlpack_device(frame)
    if kind_of_device == _DLPACK_CUDA:  # before the other: it always tells who waits for whom
        if gpu != 0:
            raise InputError(f"frame: expected on the first GPU, got on GPU {gpu}")
        capsule = frame.__dlpack__(stream=stream)  # makes our stream wait
        waits_for, owner = None, (frame, capsule)
        address, kind, shape, strides = _native.read_dlpack(capsule)
    elif (described := getattr(frame, "__cuda_array_interface__", None)) is not None:
        unsaid = _DEFAULT_STREAM if described.get("version", 0) < _FIRST_WITH_STREAM else None
        producer = described.get("stream", unsaid)
        waits_for, owner = None if producer is None else int(producer), frame
        address, kind = int(described["data"][0]), described["typestr"][1:]
        shape, strides = tuple(described["shape"]), described.get("strides")
    else:
        return None
    if kind != "u1" or len(shape) not in (2, 3) or 0 in shape:
        raise InputError(f"frame: expected u1 (h, w) or (h, w, channels) on the GPU, got {kind} {shape}")
    row_bytes = math.prod(shape[1:])
    within = (shape[2], 1) if len(shape) == 3 else (1,)
    pitch, *steps = (row_bytes, *within) if strides is None else strides
    if pitch < row_bytes or tuple(steps) != within:
        raise InputError(f"frame: expected rows without gaps on the GPU, got u1 {shape} with strides {tuple(strides)}")
    return DeviceFrame(address, shape, pitch, waits_for, owner)


def _dlpack_device(frame: Any) -> tuple[int | None, int]:
    ask = getattr(frame, "__dlpack_device__", None)
    if ask is None:
        return None, 0
    kind, number = ask()
    return int(kind), int(number)
