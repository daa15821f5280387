"""The GPU's matcher and anomaly map, called with features that the extractor left in the GPU's memory.

This is the typed interface to the native module; nothing is computed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _native
from ..errors import DeviceError, InputError
from ..features import Stream
from ..images.device_frames import DeviceFrame, device_frame
from ..result import Statistics
from .matcher import Matcher


class Inspection(NamedTuple):
    """One frame's anomaly map, and how it came about.

    Attributes
    ----------
    anomaly_map
        (H, W) float32; 0 where ignored.
    mask
        (H, W) bool: the map above theta.
    neighbours
        (h, w, kappa, 3) int32, as in :class:`.matcher.Match`.
    statistics
        What the matcher had to compute.
    """

    anomaly_map: NDArray[np.float32]
    mask: NDArray[np.bool_]
    neighbours: NDArray[np.int32]
    statistics: Statistics


class Inspector:
    """Matches frames whose levels lie on a matcher's GPU, and makes their anomaly maps; one frame at a time.

    Parameters
    ----------
    matcher
        A matcher on the GPU.
    images
        The most images that a frame is matched with.
    kappa, window
        As in :meth:`.matcher.Matcher.match`.
    size
        (H, W) of the anomaly map.
    sigma
        Standard deviation of the map's Gaussian, in pixels.
    root
        Whether the map is made of the distances' square roots.
    theta
        The mask is set where the map is above theta.
    ignore, ignored_distances
        (H, W) bool, and (h, w) bool at the finest level: what isn't scored; both None: all is scored.

    Raises
    ------
    DeviceError
        A kappa that a GPU doesn't offer, too little memory on the GPU, resident images too few for ``images``, or a GPU
        that fails.
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
        except (ValueError, RuntimeError) as error:  # the recipe asks for what this GPU can't do
            raise DeviceError(f"device: {error}") from None

    @property
    def stream(self) -> Stream:
        """The CUDA stream on which the levels are read: the extractor should run on it."""
        return Stream(self._native.stream, self)

    def receive(self, frame: Any) -> Any:
        """Return a frame on the GPU as a :class:`.DeviceFrame` that is complete on this stream; any other as it is.

        The thread that made the frame calls this, because the frame may still be written on that thread's current CUDA
        stream.

        Raises
        ------
        InputError
            As :func:`.device_frame`.
        DeviceError
            The GPU fails.
        """
        located = device_frame(frame, self.stream.address)
        if located is None:
            return frame
        if located.stream is not None:
            self.wait_for(located.stream)
        return located._replace(stream=None)

    def wait_for(self, stream: int) -> None:
        """Let this stream wait for the work that another stream, given by its address, holds now.

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
        """Copy a frame to the host, (h, w) or (h, w, channels), once it is written.

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
            Features that aren't finite, or an id that is out of range or given twice.
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
