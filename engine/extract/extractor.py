"""Run an extractor's ONNX file: uint8 RGB images to pyramid levels and an embedding.

The contract. Input ``image``: uint8 (n, H, W, 3), H and W fixed, n free. Outputs: ``layer1``, ``layer2``, …,
one to four of them, float32 or float16 (n, c, h, w), each the size of the one before halved once or more,
rounded up; then ``embedding`` (n, d). Any file that keeps the contract works, whoever made it. Loading checks every
clause and tries the graph out, within limits of time and memory (``limits.py``). Frames are resized before, in
``images/resizing.py``; pixels are normalised inside the graph.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import ExtractorError, InputError, OutputError
from ..features import LEVEL_NAME, DeviceFeatures, Features, Stream
from ..files import CHUNK, HeldFile, hold
from ..images.structure import MAX_PIXELS
from ..match.cells import level_shifts
from ..settings import MOST_LEVELS
from .providers import Device, faster_on_cpu, open_session
from .session import CPU, TENSORRT, create_session, on_gpu, refusal, run_within_limit

_DTYPES: dict[str, np.dtype[np.floating]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
}


class Extractor:
    """An ONNX file, checked against the contract and ready to run.

    Parameters
    ----------
    path
        The ONNX file. Its content is held in memory, so that the file may be replaced, removed or written over.
    device
        "auto" takes CUDA if ONNX Runtime offers it and it works, else the CPU; ``provider`` tells which. On the CPU,
        OpenVINO runs the graph if this ONNX Runtime has it and it is measured to be faster by a tenth or more.
        OpenVINO keeps float32 as float32, but may round differently.
    threads
        ONNX Runtime's threads on the CPU; by default the processors that the process may use.
    stream
        The CUDA stream on which the levels are read afterwards: the graph runs on it. None: ONNX Runtime makes a stream
        of its own.
    tensorrt_cache
        A folder for the engine that TensorRT builds at the first start; it is made if it is missing. TensorRT then runs
        the graph. It may round differently from CUDA: calibrate with the same extractor.

    Attributes
    ----------
    input_size : tuple of int
        (H, W).
    level_names : tuple of str
        As the file names them, finest first.
    level_shapes : tuple of tuple of int
        (c, h, w) of each level.
    precision : str
        "float32", "float16" or "int8": as the file's metadata says, else its levels' number type.
    neighbourhood : int
        The number of positions a side that the graph averages each level over, as the file's metadata says; else 1.
    embedding_size : int
        d.
    metadata : dict of str to str
        The file's own.
    provider : str
        ONNX Runtime's name of the provider that runs the graph.
    provider_times_s : dict of str to float
        Median seconds an image of each provider, measured in turns; empty if there was no choice.

    Raises
    ------
    ExtractorError
        The file can't be loaded, breaks the contract, doesn't run on the device asked for, or takes more time or memory
        than ``limits.py`` allows; or its metadata's neighbourhood isn't a number.
    InputError
        An unknown device, or a number of threads that isn't from 1 to ``MOST_THREADS``.
    DependencyError
        ONNX Runtime is not installed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | HeldFile,
        *,
        device: Device = "auto",
        threads: int | None = None,
        stream: Stream | None = None,
        tensorrt_cache: str | os.PathLike[str] | None = None,
    ) -> None:
        self._file = path if isinstance(path, HeldFile) else _held(Path(path))
        self._path = self._file.path
        address = None if stream is None else stream.address
        self._session = open_session(self._file, device, threads, address, tensorrt_cache)
        self._stream = stream  # Python frees attributes in the order they were set: the session goes before its stream
        self.provider_times_s: dict[str, float] = {}
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        self.input_size = _input_size(self._path, self._session.get_inputs())
        self.level_names, self._dtypes = _outputs(self._path, self._session.get_outputs())
        self.precision = self.metadata.get("spadeline.precision", self._dtypes[0].name)
        self.neighbourhood = _neighbourhood(self._path, self.metadata)
        self.provider: str = self._session.get_providers()[0]
        self.level_shapes, self.embedding_size = self._try_out()
        if self.provider == CPU:
            self._session, self.provider_times_s = faster_on_cpu(self._session, self._file, self.input_size, threads)
            self.provider = self._session.get_providers()[0]
            if self.provider != CPU:  # another implementation of the same graph
                self.level_shapes, self.embedding_size = self._try_out()

    @property
    def on_gpu(self) -> bool:
        """Whether the graph runs on a GPU."""
        return on_gpu([self.provider])

    def on_one_thread(self) -> Self:
        """Return an extractor that runs in its callers' threads, for many callers at once; its numbers are the same.

        It takes the memory of the weights once more. On another provider than ONNX Runtime's own for CPUs, this
        extractor itself is returned: many may call it, too.
        """
        if self.provider != CPU:
            return self
        other = copy.copy(self)
        other._session = create_session(self._file, 1, [CPU])  # noqa: SLF001 - our own
        return other

    def on_host(self) -> HostExtraction:
        """Return an extraction of single images into arrays that are made once."""
        return HostExtraction(self)

    def on_device(self) -> DeviceExtraction:
        """Return an extraction of single images, whose input and levels stay in the memory where the graph runs."""
        return DeviceExtraction(
            self._session,
            self._path,
            self.input_size,
            self.level_names,
            self.level_shapes,
            self._dtypes,
            self.embedding_size,
            on_gpu=self.on_gpu,
            stream=self._stream,
        )

    def extract(self, images: NDArray[np.uint8]) -> Features:
        """Run the graph.

        The images go through one by one, so that an image's numbers can't depend on how many came with it:
        kernels may sum in another order when n changes. On the CPU larger batches are no faster. The arrays
        returned are the caller's own. May be called from several threads.

        Parameters
        ----------
        images
            (n, H, W, 3) uint8 RGB.

        Raises
        ------
        InputError
            Another dtype or shape.
        ExtractorError
            ONNX Runtime fails, for lack of memory say.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (*self.input_size, 3):
            wanted = f"uint8 (n, {self.input_size[0]}, {self.input_size[1]}, 3)"
            raise InputError(f"images: expected {wanted}, got {images.dtype} {images.shape}")
        images = np.ascontiguousarray(images)
        outputs = self._empty(len(images))
        for index in range(len(images)):
            rows = [output[index : index + 1] for output in outputs]
            self._run(self._bound(images[index : index + 1], rows))
        return _features(outputs)

    def _empty(self, count: int) -> list[NDArray[Any]]:
        """Return arrays for the graph's outputs of so many images."""
        shapes = (*self.level_shapes, (self.embedding_size,))
        return [np.empty((count, *shape), dtype) for shape, dtype in zip(shapes, self._dtypes, strict=True)]

    def _bound(self, image: NDArray[np.uint8], outputs: Sequence[NDArray[Any]]) -> Any:
        """Bind one image (1, H, W, 3) and its outputs to arrays, which ONNX Runtime reads and writes in place."""
        binding = self._session.io_binding()
        binding.bind_input("image", "cpu", 0, image.dtype, image.shape, image.ctypes.data)
        for name, output in zip((*self.level_names, "embedding"), outputs, strict=True):
            binding.bind_output(name, "cpu", 0, output.dtype, output.shape, output.ctypes.data)
        return binding

    def _run(self, binding: Any) -> None:
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:
            raise refusal(self._path, "the graph to run", error) from error

    def _try_out(self) -> tuple[tuple[tuple[int, int, int], ...], int]:
        """Run noise through the graph, check what its declarations don't guarantee, and return the outputs' shapes."""
        noise = np.random.default_rng(0).integers(0, 256, (2, *self.input_size, 3), np.uint8)
        names = [*self.level_names, "embedding"]
        shapes: list[tuple[int, ...]] = []
        # TensorRT builds an engine for the batch size it has seen, and another for a larger one. Later all images come
        # one by one.
        for images in (noise[:1],) if self.provider == TENSORRT else (noise, noise[:1]):
            try:
                outputs = run_within_limit(self._session, names, images)
            except InputError:  # a limit in the environment isn't a number
                raise
            except Exception as error:
                raise refusal(self._path, f"a graph that runs {len(images)} images", error) from error
            _check_outputs(self._path, names, outputs, len(images))
            shapes = [output.shape[1:] for output in outputs]
        levels = tuple((c, h, w) for c, h, w in shapes[:-1])
        try:
            level_shifts(tuple((h, w) for _, h, w in levels))
        except InputError as error:
            raise ExtractorError(f"{self._path}: {error}") from error
        return levels, shapes[-1][0]


class HostExtraction:
    """Extracts one image at a time into arrays that are made once, in the host's memory.

    It must not be called from several threads at once: the next image overwrites the features.
    """

    def __init__(self, extractor: Extractor) -> None:
        self._extractor = extractor
        self._image = np.empty((1, *extractor.input_size, 3), np.uint8)
        self._outputs = extractor._empty(1)  # noqa: SLF001 - our own
        self._binding = extractor._bound(self._image, self._outputs)  # noqa: SLF001 - our own

    def extract(self, image: NDArray[np.uint8]) -> Features:
        """Run one image, (H, W, 3) uint8 RGB; its features, n = 1, are valid until the next one is extracted.

        Raises
        ------
        ExtractorError
            ONNX Runtime fails, for lack of memory say.
        """
        self._image[0] = image
        self._extractor._run(self._binding)  # noqa: SLF001 - our own
        return _features(self._outputs)


class DeviceExtraction:
    """Extracts one image at a time into buffers that are made once, in the memory of the device that runs the graph.

    It must not be called from several threads at once: the next image overwrites the levels.

    Raises
    ------
    ExtractorError
        The buffers don't fit in the device's memory.
    """

    def __init__(
        self,
        session: Any,
        path: Path,
        input_size: tuple[int, int],
        names: tuple[str, ...],
        shapes: tuple[tuple[int, int, int], ...],
        dtypes: tuple[np.dtype[np.floating], ...],
        embedding_size: int,
        *,
        on_gpu: bool,
        stream: Stream | None,
    ) -> None:
        import onnxruntime  # noqa: PLC0415 - optional

        self._session, self._path = session, path
        self._shape = (1, *input_size, 3)
        self._place = "cuda" if on_gpu else "cpu"
        make = onnxruntime.OrtValue.ortvalue_from_shape_and_type
        try:
            self._image = make(self._shape, np.uint8, self._place, 0)
            self._levels = [
                make((1, *shape), dtype.type, self._place, 0) for shape, dtype in zip(shapes, dtypes, strict=False)
            ]
        except Exception as error:
            raise refusal(path, "memory for its features", error) from error
        self._half = dtypes[0] == np.float16
        self._embedding = np.empty((1, embedding_size), dtypes[-1])
        self._binding = session.io_binding()
        for name, level in zip(names, self._levels, strict=True):
            self._binding.bind_ortvalue_output(name, level)
        self._binding.bind_output(
            "embedding", "cpu", 0, self._embedding.dtype, self._embedding.shape, self._embedding.ctypes.data
        )
        self._stream = stream  # set last, so that it is freed last: after all that runs on it

    def extract(self, image: NDArray[np.uint8] | int) -> DeviceFeatures:
        """Run one image: (H, W, 3) uint8 RGB on the host, or the address of such an image on the device.

        Raises
        ------
        ExtractorError
            ONNX Runtime fails, for lack of memory say.
        """
        try:
            if isinstance(image, int):
                self._binding.bind_input("image", self._place, 0, np.uint8, self._shape, image)
            else:
                self._image.update_inplace(np.ascontiguousarray(image)[None])
                self._binding.bind_ortvalue_input("image", self._image)
            self._session.run_with_iobinding(self._binding)  # returns when the stream's work is done
        except Exception as error:
            raise refusal(self._path, "the graph to run", error) from error
        embedding = self._embedding[0].astype(np.float32)
        return DeviceFeatures(tuple(level.data_ptr() for level in self._levels), self._half, embedding)


def _features(outputs: Sequence[NDArray[Any]]) -> Features:
    return Features(tuple(outputs[:-1]), outputs[-1].astype(np.float32, copy=False))


def _held(path: Path) -> HeldFile:
    if not path.is_file():
        raise ExtractorError(f"{path}: expected an ONNX file, got {'a folder' if path.is_dir() else 'no such file'}")
    try:
        with path.open("rb") as file:
            return hold(path, iter(lambda: file.read(CHUNK), b""))
    except OutputError:
        raise
    except OSError as error:
        raise ExtractorError(f"{path}: can't be read: {error.strerror}") from error


def _input_size(path: Path, inputs: list[Any]) -> tuple[int, int]:
    if len(inputs) != 1:
        raise ExtractorError(
            f"{path}: expected one input, got {', '.join(node.name for node in inputs) or 'none':.200}"
        )
    (image,) = inputs
    if image.name != "image":
        raise ExtractorError(f"{path}: expected an input named 'image', got {image.name!r:.100}")
    if image.type != "tensor(uint8)":
        raise ExtractorError(f"{path}: input 'image': expected tensor(uint8), got {image.type}")
    free, *fixed = image.shape or [None]
    if len(fixed) != 3 or fixed[2] != 3 or not all(isinstance(side, int) and side > 0 for side in fixed):
        raise ExtractorError(
            f"{path}: input 'image': expected (n, H, W, 3) with H and W fixed, got ({_sides(image.shape)})"
        )
    if isinstance(free, int):
        raise ExtractorError(f"{path}: input 'image': expected n free, got n = {free}")
    if fixed[0] * fixed[1] > MAX_PIXELS:
        raise ExtractorError(
            f"{path}: input 'image': expected at most {MAX_PIXELS} pixels, got {fixed[0]} x {fixed[1]}"
        )
    return fixed[0], fixed[1]


def _outputs(path: Path, outputs: list[Any]) -> tuple[tuple[str, ...], tuple[np.dtype[np.floating], ...]]:
    """Check the outputs' names and types; return the levels' names, and all dtypes, the embedding's last."""
    if not outputs or outputs[-1].name != "embedding":
        came = repr(outputs[-1].name) if outputs else "no output"
        raise ExtractorError(f"{path}: expected the last output to be 'embedding', got {came}")
    names = tuple(node.name for node in outputs[:-1])
    if not 1 <= len(names) <= MOST_LEVELS:
        raise ExtractorError(f"{path}: expected 1 to {MOST_LEVELS} levels before 'embedding', got {len(names)}")
    for name in names:
        if not re.fullmatch(LEVEL_NAME, name):
            raise ExtractorError(f"{path}: expected levels named 'layer1', 'layer2', …, got {name!r:.100}")
    for node in outputs:
        if node.type not in _DTYPES:
            raise ExtractorError(f"{path}: output {node.name!r:.100}: expected float32 or float16, got {node.type}")
    types = [node.type for node in outputs[:-1]]
    if len(set(types)) > 1:
        raise ExtractorError(f"{path}: expected levels of one number type, got {', '.join(types)}")
    return names, tuple(_DTYPES[node.type] for node in outputs)


def _neighbourhood(path: Path, metadata: dict[str, str]) -> int:
    text = metadata.get("spadeline.neighbourhood", "1")
    if not re.fullmatch("[1-9][0-9]{0,3}", text):
        raise ExtractorError(f"{path}: metadata spadeline.neighbourhood: expected a number from 1, got {text!r:.100}")
    return int(text)


def _check_outputs(path: Path, names: list[str], outputs: list[NDArray[np.floating]], count: int) -> None:
    for name, output in zip(names, outputs, strict=True):
        rank, wanted = (2, "(n, d)") if name == "embedding" else (4, "(n, c, h, w)")
        if output.ndim != rank or output.shape[0] != count or 0 in output.shape:
            raise ExtractorError(
                f"{path}: output {name!r:.100} for n = {count}: expected {wanted}, got ({_sides(output.shape)})"
            )
        if not np.isfinite(output).all():
            raise ExtractorError(f"{path}: output {name!r:.100}: expected finite numbers, got NaN or infinity")


def _sides(shape: Sequence[int | str | None]) -> str:
    return ", ".join("?" if side is None else str(side) for side in shape)
