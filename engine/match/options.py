"""How a gallery is matched: the options that the matcher's constructors share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict, get_args

from ..checks import check_choice, check_instance, check_integer
from ..errors import InputError
from ..resources import MOST_THREADS
from ..settings import Upsampling
from .validation import Path

MatcherDevice = Literal["cpu", "cuda"]


@dataclass(frozen=True, kw_only=True)
class MatcherOptions:
    """How a gallery is matched: the options that all constructors of :class:`.Matcher` take as keywords.

    Attributes
    ----------
    weights
        A factor for each level's squared distance, finest first, 1e-6 to 1e6; all 1 by default.
    threads
        Size of the matcher's own team of threads; by default the processors that this process may use, as its affinity
        and its container's quota allow.
    path
        ``"pruned"``: native, branch and bound over the levels, by codes of the gallery, which are made here.
        ``"dense"``: native, every pair, each level's products at its own resolution.
        ``"reference"``: NumPy float64, slow, the definition.
        ``"auto"``: pruned where it can be: nearest upsampling, and a gallery that has codes or can have them.
    upsampling
        ``"nearest"``, or ``"bilinear"`` with half-pixel centres and clamped edges, on the dense path only.
    instruction_set
        ``"auto"``: the best that the machine runs, or what ``SPADELINE_INSTRUCTION_SET`` names; or one of
        :func:`.instruction_sets`. The CPU's alone.
    device
        ``"cpu"``, or ``"cuda"``: the first NVIDIA GPU that CUDA shows (``CUDA_VISIBLE_DEVICES`` chooses), to whose
        memory the gallery is copied. There: kappa up to 32, no reference path, and a query's levels all of one number
        type.
    memory_limit
        Bytes of the GPU's memory that the gallery may take; None: what is free but for a tenth, and for 1.6 GB that an
        extractor may need, where that leaves the gallery half. Images that don't fit
        are copied when a query needs them, and replace those that were needed least recently.

    Raises
    ------
    InputError
        An option of the wrong type, or out of range.
    """

    weights: Sequence[float] | None = None
    threads: int | None = None
    path: Path = "auto"
    upsampling: Upsampling = "nearest"
    instruction_set: str = "auto"
    device: MatcherDevice = "cpu"
    memory_limit: int | None = None

    def __post_init__(self) -> None:
        check_choice("path", self.path, get_args(Path))
        check_choice("upsampling", self.upsampling, get_args(Upsampling))
        check_choice("device", self.device, get_args(MatcherDevice))
        check_instance("instruction_set", self.instruction_set, str)
        if self.threads is not None:
            check_integer("threads", self.threads, low=1, high=MOST_THREADS)
        if self.memory_limit is not None:
            check_integer("memory_limit", self.memory_limit, low=1, high=2**62)
            if self.device != "cuda":
                raise InputError(f"memory_limit: expected device 'cuda' with it, got {self.device!r:.100}")


class MatcherKeywords(TypedDict, total=False):
    """The fields of :class:`MatcherOptions`, for type checkers."""

    weights: Sequence[float] | None
    threads: int | None
    path: Path
    upsampling: Upsampling
    instruction_set: str
    device: MatcherDevice
    memory_limit: int | None
