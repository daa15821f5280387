"""
The native matcher. Python code calls it through the Matcher class of spadeline.engine.
"""
from __future__ import annotations
import collections.abc
import numpy
import numpy.typing
import typing
import typing_extensions
__all__: list[str] = ['CUDA', 'CudaInspector', 'CudaMatcher', 'DeviceError', 'FrameShapes', 'Heatmap', 'Judge', 'Matcher', 'Preparation', 'any_under', 'check_embeddings', 'compared_images', 'encode', 'find_regions', 'frame_box', 'frame_excess', 'frame_facts', 'frame_limits', 'ignored_distances', 'image_score', 'instruction_sets', 'largest_embedding', 'nearest_of', 'read_dlpack', 'same_proportions']
class DeviceError(RuntimeError):
    pass
class Preparation:
    def __init__(self, size: tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex], *, framing: str, threads: typing.SupportsInt | typing.SupportsIndex, instruction_set: str) -> None:
        ...
    def prepare(self, frame: numpy.ndarray, *, color: str, out: numpy.ndarray) -> tuple:
        ...
    @property
    def instruction_set(self) -> str:
        ...
    @property
    def threads(self) -> int:
        ...
class FrameShapes:
    def __init__(self, known: collections.abc.Sequence[tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex]], *, prepared: tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex] | None) -> None:
        ...
    def complaint(self, frame: tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex]) -> str | None:
        ...
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
class Judge:
    def __init__(self, rule: str, *, tau: typing.SupportsFloat | typing.SupportsIndex, theta: typing.SupportsFloat | typing.SupportsIndex, limits: tuple[typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex | None] | None) -> None:
        ...
    def label_known(self, image_score: typing.SupportsFloat | typing.SupportsIndex, nearest_distance: typing.SupportsFloat | typing.SupportsIndex, facts: tuple[typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex] | None) -> bool:
        ...
    def verdict(self, image_score: typing.SupportsFloat | typing.SupportsIndex, nearest_distance: typing.SupportsFloat | typing.SupportsIndex, map_score: typing.SupportsFloat | typing.SupportsIndex, facts: tuple[typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex] | None) -> tuple:
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
def any_under(mask: numpy.ndarray, size: tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex], placement: tuple[typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex]) -> numpy.typing.NDArray[numpy.bool]:
    """
    A frame's mask in the input's geometry.
    """
def check_embeddings(name: str, values: numpy.ndarray, *, size: typing.SupportsInt | typing.SupportsIndex) -> None:
    """
    Raises ValueError unless all values lie within the largest magnitude.
    """
def compared_images(count: typing.SupportsInt | typing.SupportsIndex) -> list[int]:
    """
    Which of so many images the frame check compares with the others.
    """
def encode(cells: numpy.ndarray, basis: numpy.ndarray, *, coarsest: bool) -> numpy.ndarray:
    """
    Records of the codes of a level's cells.
    """
def find_regions(anomaly_map: numpy.ndarray, theta: typing.SupportsFloat | typing.SupportsIndex | None, *, mask: numpy.ndarray, placement: tuple[typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex], frame_size: tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex]) -> list:
    """
    (area, box, peak, score) of a map's regions; makes the mask above theta.
    """
def frame_box(box: tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex], *, placement: tuple[typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex], frame_size: tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex]) -> tuple:
    """
    A box (top, left, bottom, right) of the map as one of the frame.
    """
def frame_excess(limits: tuple[typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex | None], facts: tuple[typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex], distance: typing.SupportsFloat | typing.SupportsIndex) -> tuple:
    """
    (exposure, contrast, sharpness, unlike): how far a frame is beyond limits.
    """
def frame_facts(image: numpy.ndarray, ignore: numpy.ndarray | None, *, instruction_set: str) -> tuple:
    """
    (brightness, contrast, sharpness) of an image.
    """
def frame_limits(facts: collections.abc.Sequence[tuple[typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex]], nearest: typing.SupportsFloat | typing.SupportsIndex | None) -> tuple[float, float, float, float, float | None]:
    """
    The limits that the facts of normal images set.
    """
def ignored_distances(ignore: numpy.ndarray, size: tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex]) -> numpy.typing.NDArray[numpy.bool]:
    """
    Which distances cover ignored pixels alone.
    """
def image_score(squared: numpy.ndarray, *, root: bool) -> float:
    """
    The mean of squared distances, or its root.
    """
def instruction_sets() -> list[str]:
    """
    The instruction sets that this machine can run, best first.
    """
def largest_embedding(size: typing.SupportsInt | typing.SupportsIndex) -> float:
    """
    The largest magnitude that an embedding's numbers may have.
    """
def nearest_of(embeddings: numpy.ndarray, embedding: numpy.ndarray, ids: numpy.ndarray, *, k: typing.SupportsInt | typing.SupportsIndex) -> tuple:
    """
    (ids, squared distances) of the k nearest of some rows of the embeddings.
    """
def read_dlpack(capsule: typing_extensions.CapsuleType) -> tuple:
    """
    (address, type, shape, strides in bytes or None) of a DLPack capsule.
    """
def same_proportions(a: tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex], b: tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex]) -> bool:
    """
    Whether one size may be the other one scaled.
    """
CUDA: bool = ...
