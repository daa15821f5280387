"""The typed door to frames that stay on the GPU: matching and anomaly map of features where the extractor left them.

Also what a frame on the GPU must be like. Nothing is computed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _native
from .errors import DeviceError, InputError
from .matching import Matcher
from .result import Statistics

_DLPACK_CUDA = 2  # the kind of device, in DLPack's own numbers


class DeviceFrame(NamedTuple):
    """A frame in the GPU's memory.

    Attributes
    ----------
    address
        Of (H, W, 3) uint8 RGB, the extractor's input size, contiguous.
    stream
        The CUDA stream that writes it, as an address; None: what it takes to wait was done.
    owner
        What must live as long as the frame is read.
    """

    address: int
    stream: int | None
    owner: Any


def device_frame(frame: Any, input_size: tuple[int, int], stream: int) -> DeviceFrame | None:
    """Return where a frame lies on the GPU, by ``__cuda_array_interface__`` or DLPack; None if it doesn't.

    Parameters
    ----------
    stream
        The CUDA stream that will read it, as an address.

    Raises
    ------
    InputError
        A frame on the GPU of another dtype, shape or layout: none is resized, converted or copied there.
    """
    described = getattr(frame, "__cuda_array_interface__", None)
    if described is not None:
        producer = described.get("stream")
        found = DeviceFrame(int(described["data"][0]), None if producer is None else int(producer), frame)
        kind, shape, strides = described["typestr"][1:], tuple(described["shape"]), described.get("strides")
    elif _dlpack_device(frame) == _DLPACK_CUDA:
        capsule = frame.__dlpack__(stream=stream)  # makes our stream wait
        address, kind, shape, strides = _native.read_dlpack(capsule)
        found = DeviceFrame(address, None, (frame, capsule))
    else:
        return None
    height, width = input_size
    gaps = strides is not None and tuple(strides) != (width * 3, 3, 1)
    if kind != "u1" or shape != (height, width, 3) or gaps:
        raise InputError(
            f"frame: expected contiguous u1 {(height, width, 3)} RGB on the GPU, the extractor's input size, got "
            f"{kind} {shape}{' with gaps' if gaps else ''}"
        )
    return found


def _dlpack_device(frame: Any) -> int | None:
    ask = getattr(frame, "__dlpack_device__", None)
    return None if ask is None else int(ask()[0])


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
                window=-1 if window is None else window,
                size=size,
                sigma=sigma,
                root=root,
                theta=theta,
                ignore=None if ignore is None else np.ascontiguousarray(ignore),
                ignored_distances=None if ignored_distances is None else np.ascontiguousarray(ignored_distances),
                guard_share=_native.GUARD_SHARE,
            )
        except (ValueError, RuntimeError) as error:  # what a recipe may ask for, and this GPU can't do
            raise DeviceError(f"device: {error}") from None

    @property
    def stream(self) -> int:
        """The address of the CUDA stream that the levels are read on: the extractor's to run on."""
        return self._native.stream

    def wait_for(self, stream: int) -> None:
        """Let the stream wait for what another one, by its address, was given before."""
        self._native.wait_for(stream)

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
