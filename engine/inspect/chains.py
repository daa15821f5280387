"""The two ways from a frame to its scores: through the host's memory, or with features that stay on the GPU.

Both have the interface of :class:`Chain`. Which one runs is decided once, when a recipe is opened
(``opening.py``). Verdicts are made from the scores in ``verdict.py``.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..extract.extractor import Extractor, HostExtraction
from ..images.device_frames import DeviceFrame, device_frame
from ..images.frame_facts import FrameFacts
from ..images.resizing import Color, Placement
from ..recipe.recipe import Recipe
from .preparation import Preparation
from .scores import Asked, Scores
from .scoring import BaseScorer, DeviceScorer, Scorer


class Scored(NamedTuple):
    """A frame's scores, and what else its verdict needs.

    Attributes
    ----------
    scores
        The scores.
    frame_size
        The frame's (height, width).
    placement
        Where the extractor's input lies in the frame.
    facts
        What the frame check looks at; None: the recipe asks for no check.
    timings_s
        Seconds by stage: prepare, extract. Those of the later stages stand in the scores.
    """

    scores: Scores
    frame_size: tuple[int, int]
    placement: Placement
    facts: FrameFacts | None
    timings_s: dict[str, float]


class Chain(Protocol):
    """A recipe's way from frames to scores: prepare, extract, retrieve, match, map. May be shared by threads."""

    @property
    def place(self) -> Literal["host", "device"]:
        """Where features lie between the extractor and the matcher."""

    @property
    def recipe(self) -> Recipe:
        """The recipe."""

    @property
    def extractor(self) -> Extractor:
        """The feature extractor."""

    @property
    def scorer(self) -> BaseScorer:
        """Retrieval and matcher."""

    @property
    def most_workers(self) -> int:
        """How many frames of a stream it makes sense to have in work at once."""

    @property
    def worker_threads(self) -> int:
        """Threads of each of several workers."""

    def score(self, frames: Sequence[Any], color: Color, asked: Asked) -> Iterator[Scored]:
        """Score frames, each by itself, in their order, as far as it is asked.

        Raises
        ------
        InputError
            A frame that can't be prepared, or one that no finite score can be given.
        ExtractorError, DeviceError
            The extractor fails, or the GPU.
        """

    def receive(self, frame: Any) -> Any:
        """Return a stream's frame so that any thread may score it; the thread that made the frame calls this."""

    def one_threaded(self, count: int) -> Sequence[Chain]:
        """Return ``count`` chains for workers of one thread each; none if this chain serves all workers itself.

        The chains share all that is large, and their results equal this chain's.
        """


class HostChain:
    """Features go through the host's memory. See :class:`Chain`.

    A frame isn't searched if its label is known without its map, and no more than the label was asked for.
    """

    place: Final = "host"
    worker_threads: Final = 1

    def __init__(self, recipe: Recipe, extractor: Extractor, scorer: Scorer) -> None:
        self.recipe, self.extractor, self.scorer = recipe, extractor, scorer
        self.most_workers = scorer.matcher.threads
        self._preparation = Preparation(recipe, threads=scorer.threads)
        self._idle: list[HostExtraction] = []  # as many as callers were here at once; each has the memory of a frame

    def score(self, frames: Sequence[Any], color: Color, asked: Asked) -> Iterator[Scored]:
        """Score frames; see :class:`Chain`."""
        for frame in frames:
            yield self._score_frame(frame, color, asked)

    def _score_frame(self, frame: Any, color: Color, asked: Asked) -> Scored:
        start = time.perf_counter()
        image, placement, frame_size, facts = self._preparation.prepare(frame, color)
        ready = time.perf_counter()
        extraction = self._take_extraction()
        try:
            features = extraction.extract(image)
            extracted = time.perf_counter()
            retrieved = self.scorer.retrieve(features.embedding[0])
            if asked.need == "label" and asked.label_known(retrieved, facts):
                scores = self.scorer.unsearched(retrieved, decided=True)
            else:
                levels = [level[0] for level in features.levels]
                scores = self.scorer.search(levels, retrieved, need=asked.need, deadline=asked.deadline)
        finally:
            self._idle.append(extraction)
        return Scored(scores, frame_size, placement, facts, {"prepare": ready - start, "extract": extracted - ready})

    def _take_extraction(self) -> HostExtraction:
        try:
            return self._idle.pop()
        except IndexError:
            return self.extractor.on_host()

    def receive(self, frame: Any) -> Any:
        """Return the frame as it is."""
        return frame

    def one_threaded(self, count: int) -> Sequence[Chain]:
        """Return chains that keep to their caller's thread, and share one session, the index and the gallery."""
        extractor, chains = self.extractor.on_one_thread(), []
        for _ in range(count):
            chain = copy.copy(self)
            chain.extractor, chain.scorer = extractor, self.scorer.on_one_thread()
            chain._preparation, chain._idle = self._preparation.on_one_thread(), []  # noqa: SLF001 - our own
            chain.most_workers = 1
            chains.append(chain)
        return chains


class DeviceChain:
    """Features never leave the GPU, and frames on it are read where they lie; one frame at a time. See :class:`Chain`.

    All distances are computed, whatever is asked: the results are exact in everything, and may come after the deadline.

    Raises
    ------
    ExtractorError
        The extractor's buffers don't fit in the GPU's memory.
    """

    place: Final = "device"
    most_workers: Final = 2  # the second prepares its frame on the host while the first one's is on the GPU

    def __init__(self, recipe: Recipe, extractor: Extractor, scorer: DeviceScorer) -> None:
        self.recipe, self.extractor, self.scorer = recipe, extractor, scorer
        self.worker_threads = scorer.matcher.threads  # 0: the matcher runs on the GPU
        self._inspector = scorer.inspector
        self._extraction = extractor.on_device()
        self._turn = threading.Lock()  # one frame at a time: the next one overwrites the extraction's buffers
        self._preparation = Preparation(recipe, threads=scorer.threads)

    def score(self, frames: Sequence[Any], color: Color, asked: Asked) -> Iterator[Scored]:  # noqa: ARG002 - see above
        """Score frames; see :class:`Chain`."""
        for frame in frames:
            yield self._score_frame(frame, color)

    def receive(self, frame: Any) -> Any:
        """Return a frame on the GPU as a :class:`.DeviceFrame` that is complete on our stream; any other as it is."""
        return self._inspector.receive(frame)

    def one_threaded(self, count: int) -> Sequence[Chain]:  # noqa: ARG002 - see Chain
        """Return none: workers take turns on the GPU."""
        return []

    def _score_frame(self, frame: Any, color: Color) -> Scored:
        start = time.perf_counter()
        preparation = self._preparation
        size = preparation.input_size
        located = frame if isinstance(frame, DeviceFrame) else device_frame(frame, self._inspector.stream.address)
        image: NDArray[np.uint8] | int
        if (
            located is not None
            and located.is_input(size)
            and color in ("auto", "rgb")
            and preparation.framing == "whole"
        ):
            image, placement, frame_size = located.address, Placement(1.0, 1.0, top=0.0, left=0.0), size
            # Only the frame check needs a copy on the host. The copy is small and takes little beside the extractor.
            facts = preparation.facts(self._inspector.fetch(located)) if preparation.checks_frames else None
            writer = located.stream
        else:
            pixels = frame if located is None else self._inspector.fetch(located)
            image, placement, frame_size, facts = preparation.prepare(pixels, color)
            writer = None
        ready = time.perf_counter()
        with self._turn:
            if writer is not None:
                self._inspector.wait_for(writer)
            features = self._extraction.extract(image)
            extracted = time.perf_counter()
            scores = self.scorer.score(features)
        return Scored(scores, frame_size, placement, facts, {"prepare": ready - start, "extract": extracted - ready})
