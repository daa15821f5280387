"""
The native matcher. Python code calls it through the Matcher class of spadeline.engine.
"""
from __future__ import annotations
import collections.abc
import numpy
import typing
import typing_extensions
__all__: list[str] = ['AreaResizer', 'CUDA', 'CudaInspector', 'CudaMatcher', 'DeviceError', 'Heatmap', 'Matcher', 'encode', 'instruction_sets', 'read_dlpack']
class AreaResizer:
    def __init__(self, *, threads: typing.SupportsInt | typing.SupportsIndex, instruction_set: str) -> None:
        ...
    def shrink(self, frame: numpy.ndarray, *, out: numpy.ndarray) -> None:
        ...
    @property
    def instruction_set(self) -> str:
        ...
    @property
    def threads(self) -> int:
        ...
class DeviceError(RuntimeError):
    pass
class Heatmap:
    def __init__(self, distances: tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex], size: tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex], *, sigma: typing.SupportsFloat | typing.SupportsIndex, ignore: numpy.ndarray | None, ignored_distances: numpy.ndarray | None, threads: typing.SupportsInt | typing.SupportsIndex, instruction_set: str) -> None:
        ...
    def map(self, distances: numpy.ndarray, *, root: bool, out: numpy.ndarray) -> float:
        ...
    @property
    def instruction_set(self) -> str:
        ...
    @property
    def threads(self) -> int:
        ...
class Matcher:
    def __init__(self, levels: collections.abc.Sequence[numpy.ndarray], size: tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex], shifts: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex], *, threads: typing.SupportsInt | typing.SupportsIndex, instruction_set: str, upsampling: str, weights: collections.abc.Sequence[typing.SupportsFloat | typing.SupportsIndex], codes: collections.abc.Sequence[tuple[numpy.ndarray, numpy.ndarray | None, numpy.ndarray | None]] | None) -> None:
        ...
    def inspect(self, query: tuple[collections.abc.Sequence[numpy.ndarray], numpy.ndarray, numpy.ndarray, numpy.ndarray], heatmap: Heatmap, upper: numpy.ndarray, lower: numpy.ndarray, *, need: str, root: bool, thresholds: tuple[typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex], remaining_s: typing.SupportsFloat | typing.SupportsIndex | None, kappa: typing.SupportsInt | typing.SupportsIndex, window: typing.SupportsInt | typing.SupportsIndex | None, ignore: numpy.ndarray | None) -> dict:
        ...
    def match(self, requests: collections.abc.Sequence[tuple[collections.abc.Sequence[numpy.ndarray], numpy.ndarray, numpy.ndarray, numpy.ndarray]], *, kappa: typing.SupportsInt | typing.SupportsIndex, window: typing.SupportsInt | typing.SupportsIndex | None, ignore: numpy.ndarray | None) -> list[dict]:
        ...
    def reachable(self, window: typing.SupportsInt | typing.SupportsIndex | None) -> int:
        ...
    @property
    def instruction_set(self) -> str:
        ...
    @property
    def threads(self) -> int:
        ...
class CudaMatcher:  # only where CUDA is True
    def __init__(self, levels: collections.abc.Sequence[numpy.ndarray], size: tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex], shifts: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex], *, memory_limit: typing.SupportsInt | typing.SupportsIndex | None, upsampling: str, weights: collections.abc.Sequence[typing.SupportsFloat | typing.SupportsIndex], codes: collections.abc.Sequence[tuple[numpy.ndarray, numpy.ndarray | None, numpy.ndarray | None]] | None) -> None:
        ...
    def match(self, requests: collections.abc.Sequence[tuple[collections.abc.Sequence[numpy.ndarray], numpy.ndarray, numpy.ndarray, numpy.ndarray]], *, kappa: typing.SupportsInt | typing.SupportsIndex, window: typing.SupportsInt | typing.SupportsIndex | None, ignore: numpy.ndarray | None) -> list[dict]:
        ...
    def reachable(self, window: typing.SupportsInt | typing.SupportsIndex | None) -> int:
        ...
    @property
    def architecture(self) -> str:
        ...
    @property
    def emulated(self) -> bool:
        ...
    @property
    def image_bytes(self) -> int:
        ...
    @property
    def resident(self) -> int:
        ...
class CudaInspector:  # only where CUDA is True
    def __init__(self, matcher: CudaMatcher, *, images: typing.SupportsInt | typing.SupportsIndex, kappa: typing.SupportsInt | typing.SupportsIndex, window: typing.SupportsInt | typing.SupportsIndex | None, size: tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex], sigma: typing.SupportsFloat | typing.SupportsIndex, root: bool, theta: typing.SupportsFloat | typing.SupportsIndex, ignore: numpy.ndarray | None, ignored_distances: numpy.ndarray | None) -> None:
        ...
    def fetch(self, frame: typing.SupportsInt | typing.SupportsIndex, *, pitch: typing.SupportsInt | typing.SupportsIndex, out: numpy.ndarray) -> None:
        ...
    def inspect(self, levels: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex], *, half: bool, image_ids: numpy.ndarray, map: numpy.ndarray, mask: numpy.ndarray, neighbours: numpy.ndarray) -> dict:
        ...
    def wait_for(self, stream: typing.SupportsInt | typing.SupportsIndex) -> None:
        ...
    @property
    def stream(self) -> int:
        ...
def encode(cells: numpy.ndarray, basis: numpy.ndarray, *, coarsest: bool) -> numpy.ndarray:
    """
    Records of the codes of a level's cells.
    """
def instruction_sets() -> list[str]:
    """
    The instruction sets that this machine can run, best first.
    """
def read_dlpack(capsule: typing_extensions.CapsuleType) -> tuple:
    """
    (address, type, shape, strides in bytes or None) of a DLPack capsule.
    """
CUDA: bool = ...
