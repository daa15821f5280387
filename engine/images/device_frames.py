"""Frames in the GPU's memory, given by DLPack or ``__cuda_array_interface__``: where they lie, and their allowed form.

Nothing is computed here.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from .. import _native
from ..errors import InputError

_DLPACK_CUDA = 2  # DLPack's number of this kind of device
# Before version 3, __cuda_array_interface__ didn't name the stream that writes. It may then be the default stream.
_FIRST_WITH_STREAM, _DEFAULT_STREAM = 3, 1


class DeviceFrame(NamedTuple):
    """A frame in the GPU's memory.

    Attributes
    ----------
    address
        Address of its uint8 pixels.
    shape
        (h, w) or (h, w, channels).
    pitch
        Bytes from one row to the next. There are no other gaps.
    stream
        Address of the CUDA stream that writes the frame. None: there is nothing left to wait for.
    owner
        Objects that must live as long as the frame is read.
    """

    address: int
    shape: tuple[int, ...]
    pitch: int
    stream: int | None
    owner: Any

    def is_input(self, size: tuple[int, int]) -> bool:
        """Whether the frame already has the form of an extractor's input: (H, W, 3), contiguous."""
        return self.shape == (*size, 3) and self.pitch == size[1] * 3


def device_frame(frame: Any, stream: int) -> DeviceFrame | None:
    """Return where a frame lies on the GPU, by ``__cuda_array_interface__`` or DLPack. None: it isn't on a GPU.

    Parameters
    ----------
    stream
        Address of the CUDA stream that will read the frame.

    Raises
    ------
    InputError
        A frame on the GPU that isn't uint8 (h, w) or (h, w, channels) or has gaps within its rows, or a frame on
        another GPU than the first.
    """
    kind_of_device, gpu = _dlpack_device(frame)
    if kind_of_device == _DLPACK_CUDA:  # DLPack comes first, since it always says which stream waits
        if gpu != 0:
            raise InputError(f"frame: expected on the first GPU, got on GPU {gpu}")
        capsule = frame.__dlpack__(stream=stream)  # it makes our stream wait for the frame
        waits_for, owner = None, (frame, capsule)
        address, kind, shape, strides = _native.read_dlpack(capsule)
    elif (described := getattr(frame, "__cuda_array_interface__", None)) is not None:
        unnamed = _DEFAULT_STREAM if described.get("version", 0) < _FIRST_WITH_STREAM else None
        producer = described.get("stream", unnamed)
        waits_for, owner = None if producer is None else int(producer), frame
        address, kind = int(described["data"][0]), described["typestr"][1:]
        shape, strides = tuple(described["shape"]), described.get("strides")
    else:
        return None
    if kind != "u1" or len(shape) not in (2, 3) or 0 in shape:
        raise InputError(f"frame: expected u1 (h, w) or (h, w, channels) on the GPU, got {kind} {shape}")
    row_bytes = math.prod(shape[1:])
    row_strides = (shape[2], 1) if len(shape) == 3 else (1,)
    pitch, *steps = (row_bytes, *row_strides) if strides is None else strides
    if pitch < row_bytes or tuple(steps) != row_strides:
        raise InputError(f"frame: expected rows without gaps on the GPU, got u1 {shape} with strides {tuple(strides)}")
    return DeviceFrame(address, shape, pitch, waits_for, owner)


def _dlpack_device(frame: Any) -> tuple[int | None, int]:
    ask = getattr(frame, "__dlpack_device__", None)
    if ask is None:
        return None, 0
    kind, number = ask()
    return int(kind), int(number)
