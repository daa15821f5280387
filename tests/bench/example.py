"""A bench's document: as a run stored it, and with round figures that tests can name."""

import json
from dataclasses import replace
from pathlib import Path

from spadeline.engine import Settings
from spadeline.engine.bench.documents import (
    Advice,
    BenchDocument,
    FrameLatency,
    Frames,
    SlowestFrame,
    SplitRate,
    StageTimes,
    Start,
    StreamSplit,
    Throughput,
)
from spadeline.engine.bench.takt import judge_takt
from spadeline.engine.json_data import from_json
from spadeline.engine.result import Statistics

STORED = json.loads(Path(__file__).with_name("document.json").read_text())
SPLIT = StreamSplit(
    workers=2,
    threads_each=1,
    chosen="measured",
    measured=(
        SplitRate(workers=1, threads_each=2, frames_per_s=60.0),
        SplitRate(workers=2, threads_each=1, frames_per_s=69.0),
    ),
)
STATISTICS = Statistics(path="pruned", pairs=4, passed=(1, 2, 3), exact=1, guarded_cells=0)


def frame_latency(p50=0.02, p99: float | None = 0.04, longest=0.05, begins_at="camera frame"):
    stages = {"prepare": 0.001, "extract": 0.01, "retrieve": 0.001, "match": 0.007, "map": 0.001}
    return FrameLatency(
        runs=1000, mean_s=p50, std_s=0.001, min_s=p50 / 2, p50_s=p50, p95_s=p50 * 1.5, p99_s=p99, p99_9_s=None, max_s=longest,
        begins_at=begins_at,
        stages_s={stage: StageTimes(p50_s=seconds, mean_s=seconds) for stage, seconds in stages.items()},
        slowest_frame=SlowestFrame(frame=1, p50_s=p50, match_statistics=STATISTICS),
    )  # fmt: skip


def way(mode, rate, batch=None, split=None):
    return Throughput(mode=mode, batch=batch, split=split, frames_per_s=rate, threads=2)


def a_bench(takt_s=None, **changes):
    """Return a document of a recipe named nuts, with the verdict that follows from its figures."""
    stored = from_json(BenchDocument, STORED)
    settings = Settings(k_gallery=50)
    figures = {
        "command": "spadeline bench nuts frames",
        "recipe": replace(
            stored.recipe, name="nuts", images=50, input_size=(224, 224), backbone="resnet18", precision="int8", settings=settings
        ),
        "frames": Frames(count=3, drawn=False, source="frames", names=("a", "b", "c"), sizes=((256, 320),)),
        "takt_s": takt_s,
        "latency": (frame_latency(), frame_latency(begins_at="prepared frame")),
        "throughput": (way("predict", 50.0), way("predict_batch", 60.0, batch=8), way("stream", 70.0, split=SPLIT)),
        "start": Start(
            import_s=0.3, load_s=0.2, first_result_s=0.1, process_to_first_result_s=0.6, resident_bytes=3 * 10**8, peak_bytes=4 * 10**8
        ),
        "advice": (Advice(stage="extract", share=0.5, text="Take int8."), Advice(stage="tail", share=None, text="Frames differ.")),
    }  # fmt: skip
    document = replace(stored, **figures | changes)
    return replace(document, verdict=judge_takt(document))
