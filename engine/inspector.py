"""The typed door to frames that stay on the GPU: matching and anomaly map of features where the extractor left them.

Also what a frame on the GPU must be like. Nothing is computed here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _native
from .errors import DeviceError, InputError
from .matching import Matcher
from .result import Statistics

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


def receive(frame: Any, inspector: Inspector) -> Any:
    """Return a frame on the GPU as a :class:`DeviceFrame` that nobody has to wait for any more; any other as it is.

    For the thread that made the frame: what the GPU has yet to do for it is known by that thread's current stream.

    Raises
    ------
    InputError
        As :func:`device_frame`.
    DeviceError
        The GPU fails.
    """
    here = device_frame(frame, inspector.stream)
    if here is None:
        return frame
    if here.stream is not None:
        inspector.wait_for(here.stream)
    return here._replace(stream=None)


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


class Inspection(NamedTuple):
    """One frame's map.

    Attributes
    ----------
    anomaly_map
        (H, W) float32; 0 where ignored.
    mask
        (H, W) bool: the map above theta.
    neighbours
        (h, w, kappa, 3) int32, as in :class:`.matching.Match`.
    statistics
        The matcher's.
    """

    anomaly_map: NDArray[np.float32]
    mask: NDArray[np.bool_]
    neighbours: NDArray[np.int32]
    statistics: Statistics


class Inspector:
    """Frames whose levels lie on the GPU of a matcher, to anomaly maps on the host; one frame at a time.

    Parameters
    ----------
    matcher
        One on the GPU.
    images, kappa, window
        How many images a frame is matched with at most, and as in :meth:`.matching.Matcher.match`.
    size
        (H, W) of the anomaly map.
    sigma
        Of its Gaussian, in pixels.
    root
        Whether the map is of the distances' square roots.
    theta
        Above it the mask is set.
    ignore, ignored_distances
        (H, W) bool and (h, w) bool at the finest level: what isn't scored; both None: all is.

    Raises
    ------
    DeviceError
        A kappa that a GPU doesn't offer, not enough memory, too little for so many images together, or a GPU that
        fails.
    """

    def __init__(
        self,
        matcher: Matcher,
        *,
        images: int,
        kappa: int,
        window: int | None,
        size: tuple[int, int],
        sigma: float,
        root: bool,
        theta: float,
        ignore: NDArray[np.bool_] | None,
        ignored_distances: NDArray[np.bool_] | None,
    ) -> None:
        self._size, self._kappa = size, kappa
        self._matcher = matcher
        try:
            self._native = _native.CudaInspector(
                matcher.native,
                images=images,
                kappa=kappa,
                window=window,
                size=size,
                sigma=sigma,
                root=root,
                theta=theta,
                ignore=None if ignore is None else np.ascontiguousarray(ignore),
                ignored_distances=None if ignored_distances is None else np.ascontiguousarray(ignored_distances),
            )
        except (ValueError, RuntimeError) as error:  # what a recipe may ask for, and this GPU can't do
            raise DeviceError(f"device: {error}") from None

    @property
    def stream(self) -> int:
        """The address of the CUDA stream that the levels are read on: the extractor's to run on."""
        return self._native.stream

    def wait_for(self, stream: int) -> None:
        """Let the stream wait for what another one, by its address, was given before.

        Raises
        ------
        DeviceError
            The GPU fails.
        """
        try:
            self._native.wait_for(stream)
        except _native.DeviceError as error:
            raise DeviceError(f"device: {error}") from None

    def fetch(self, frame: DeviceFrame) -> NDArray[np.uint8]:
        """Copy a frame to the host, (h, w) or (h, w, channels); what writes it is waited for.

        Raises
        ------
        DeviceError
            The GPU fails.
        """
        pixels = np.empty(frame.shape, np.uint8)
        if frame.stream is not None:
            self.wait_for(frame.stream)
        try:
            self._native.fetch(frame.address, pitch=frame.pitch, out=pixels)
        except _native.DeviceError as error:
            raise DeviceError(f"device: {error}") from None
        return pixels

    def inspect(self, levels: Sequence[int], image_ids: NDArray[np.int64], *, half: bool) -> Inspection:
        """Match one frame and make its map.

        Parameters
        ----------
        levels
            The address of each level, (c, h, w), finest first.
        image_ids
            The gallery images to search.
        half
            Whether the levels are float16.

        Raises
        ------
        InputError
            Features that aren't finite, ids out of range or twice.
        DeviceError
            The GPU fails.
        """
        smooth, mask = np.empty(self._size, np.float32), np.empty(self._size, np.bool_)
        neighbours = np.empty((*self._matcher.sizes[0], self._kappa, 3), np.int32)
        try:
            counts = self._native.inspect(
                levels,
                half=half,
                image_ids=np.ascontiguousarray(image_ids, np.int64),
                map=smooth,
                mask=mask,
                neighbours=neighbours,
            )
        except _native.DeviceError as error:
            raise DeviceError(f"device: {error}") from None
        except (ValueError, RuntimeError) as error:
            raise InputError(str(error)) from None
        return Inspection(smooth, mask, neighbours, Statistics(path=self._matcher.path, **counts))
