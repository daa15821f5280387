"""
The native matcher. spadeline.engine.matching is its typed door.
"""
from __future__ import annotations
import collections.abc
import numpy
import typing
__all__: list[str] = ['Matcher', 'instruction_sets']
class Matcher:
    def __init__(self, levels: collections.abc.Sequence[numpy.ndarray], sizes: collections.abc.Sequence[tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex]], shifts: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex], *, threads: typing.SupportsInt | typing.SupportsIndex, instruction_set: str, upsampling: str) -> None:
        ...
    def match(self, query_levels: collections.abc.Sequence[numpy.ndarray], image_ids: numpy.ndarray, *, kappa: typing.SupportsInt | typing.SupportsIndex, window: typing.SupportsInt | typing.SupportsIndex, distances: numpy.ndarray, neighbours: numpy.ndarray) -> None:
        ...
    def reachable(self, window: typing.SupportsInt | typing.SupportsIndex) -> int:
        ...
    @property
    def instruction_set(self) -> str:
        ...
    @property
    def threads(self) -> int:
        ...
def instruction_sets() -> list[str]:
    """
    The instruction sets that this machine can run, best first.
    """
