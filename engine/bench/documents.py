"""What ``spadeline bench`` measured, as plain data: its JSON document, from which page and terminal report are made.

:func:`.json_data.to_json` and :func:`.json_data.from_json` lead to the JSON and back. Times are in seconds, memory is
in bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..environment import Environment
from ..json_data import keyed
from ..result import Statistics
from ..settings import Settings
from ..units import Latency


@dataclass(frozen=True, kw_only=True)
class RecipeFacts:
    """What of a recipe decides how long a frame takes.

    Attributes
    ----------
    images
        How many normal images it holds.
    input_size
        Height and width of the extractor's input.
    codes, can_have_codes
        Whether it has codes for the matcher, and whether its levels allow any.
    extractor
        Path of the extractor's file.
    """

    name: str
    images: int
    input_size: tuple[int, ...]
    backbone: str
    precision: str
    codes: bool
    can_have_codes: bool
    settings: Settings
    extractor: str


@dataclass(frozen=True, kw_only=True)
class SplitRate:
    """How fast a stream was with one division of the processors."""

    workers: int
    threads_each: int
    frames_per_s: float


@dataclass(frozen=True, kw_only=True)
class StreamSplit:
    """How a stream divides the processors among its workers, how that was chosen, and what was measured for it."""

    workers: int
    threads_each: int
    chosen: str
    measured: tuple[SplitRate, ...]


@dataclass(frozen=True, kw_only=True)
class DetectorFacts:
    """What runs where: :attr:`.Detector.info`."""

    recipe: str
    generation: int
    images: int
    gallery: str
    extractor: str
    provider_times_s: Mapping[str, float]
    precision: str
    backbone: str
    weights: str
    input_size: tuple[int, ...]
    levels: Mapping[str, tuple[int, ...]]
    ignored_share: float | None
    frame_check: Mapping[str, Any] | None
    need: str = "map"
    rounds: bool = False
    neighbourhood: int = 1
    chain: str
    retrieval: str
    matcher: str
    matcher_device: str
    resident_images: int
    instruction_set: str
    threads: int
    split: StreamSplit


@dataclass(frozen=True, kw_only=True)
class Frames:
    """The frames that were inspected.

    Attributes
    ----------
    drawn
        Whether they were drawn, since none were given.
    source
        Name of the folder or the file that they come from, or "drawn".
    sizes
        Heights and widths, each once, in ascending order.
    """

    count: int
    drawn: bool
    source: str
    names: tuple[str, ...]
    sizes: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True)
class StageTimes:
    """One stage's median and mean."""

    p50_s: float
    mean_s: float


@dataclass(frozen=True, kw_only=True)
class SlowestFrame:
    """The frame with the largest median: its index, the median, and what its last match had to compute."""

    frame: int
    p50_s: float
    match_statistics: Statistics


@dataclass(frozen=True, kw_only=True)
class FrameLatency(Latency):
    """The times of frames.

    Attributes
    ----------
    begins_at
        What the time is counted from: "camera frame", or "prepared frame" (one of the extractor's size).
    stages_s
        Each stage's share of the time, by name.
    undecided
        How many of the runs a deadline left undecided.
    """

    begins_at: str = keyed("from")
    stages_s: Mapping[str, StageTimes]
    slowest_frame: SlowestFrame
    undecided: int = 0


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """Frames a second by one way to feed frames.

    Attributes
    ----------
    batch
        Frames of a batch; None for other modes.
    depth
        Frames that a stream may read ahead; None: its own choice, or another mode.
    split
        A stream's; None for other modes.
    undecided_share
        The share of the frames that a deadline left undecided.
    """

    mode: Literal["predict", "predict_batch", "stream"]
    batch: int | None
    depth: int | None = None
    split: StreamSplit | None
    frames_per_s: float
    threads: int
    undecided_share: float = 0.0

    @property
    def name(self) -> str:
        """The mode, with what was set for it."""
        options = [f"{name} {value}" for name, value in (("batch", self.batch), ("depth", self.depth)) if value]
        return ", ".join([self.mode, *options])


@dataclass(frozen=True, kw_only=True)
class Knob:
    """The matcher's median time with another value of one setting, beside that with the recipe's own."""

    setting: str
    value: int
    now: int | None
    match_p50_s: float
    match_now_p50_s: float


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a line waits for after a restart.

    Attributes
    ----------
    import_s
        From the process's start until spadeline is imported.
    load_s
        :meth:`.Detector.load`.
    first_result_s
        The first :meth:`.Detector.predict`.
    process_to_first_result_s
        All of these.
    resident_bytes
        After the first result: with the gallery, or with those pages of a mapped one that were read.
    peak_bytes
        The most until then.
    """

    import_s: float
    load_s: float
    first_result_s: float
    process_to_first_result_s: float
    resident_bytes: int
    peak_bytes: int


@dataclass(frozen=True, kw_only=True)
class TaktVerdict:
    """Whether frames are inspected within the takt, the seconds between two parts.

    Attributes
    ----------
    percentile
        The percentile of the frames' times that was compared: 99, or 100 (the slowest run) after too few runs.
    seconds
        Its value.
    met
        Whether it is within the takt; None without a takt.
    met_by_stream
        Whether a stream inspects as many frames as come, even if each takes longer; None without a takt or a stream.
    """

    percentile: int
    seconds: float
    met: bool | None
    met_by_stream: bool | None


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What to do about a stage ("tail": about the slowest frames), and its share of a frame's median time."""

    stage: str
    share: float | None
    text: str


@dataclass(frozen=True, kw_only=True)
class Measured:
    """All that was measured, and on what.

    Attributes
    ----------
    command
        The command that was typed; empty: there was none.
    takt_s
        Seconds between two parts, if they were given.
    need, deadline_s
        What the results had to be exact in, and the seconds after which a frame's search ended; None: no deadline.
    latency
        First from the camera's frame, then from a prepared one, unless the recipe's framing rules that out.
    """

    benchmark: str = "bench"
    command: str = ""
    environment: Environment
    recipe: RecipeFacts
    detector: DetectorFacts
    frames: Frames
    takt_s: float | None
    need: str = "map"
    deadline_s: float | None = None
    latency: tuple[FrameLatency, ...]
    throughput: tuple[Throughput, ...]
    knobs: tuple[Knob, ...]
    start: Start


@dataclass(frozen=True, kw_only=True)
class BenchDocument(Measured):
    """All that was measured, what it means for the takt, and what to do next."""

    verdict: TaktVerdict
    advice: tuple[Advice, ...]
