"""The whole chain on the GPU, frame by frame: extractor, retrieval, matcher, map, verdict.

A frame starts in the host's memory, as from a camera, and its result ends there. All copies are timed, but not the
reading of files. Where ONNX Runtime has no CUDA provider, a Wide-ResNet50-2 in torch takes the extractor's place.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Literal, cast

import numpy as np
from numpy.typing import NDArray
from spadeline.engine import Detector, Settings, calibrate, fit
from spadeline.engine.errors import DependencyError, ExtractorError, SpadelineError
from spadeline.engine.extract.extractor import Extractor
from spadeline.engine.features import DeviceFeatures, Features
from spadeline.engine.folders.listing import list_images
from spadeline.engine.images.reading import read_image
from spadeline.engine.images.resizing import as_rgb, place
from spadeline.engine.inspect.chains import DeviceChain
from spadeline.engine.inspect.scoring import DeviceScorer, Scorer
from spadeline.engine.recipe.changes import create_recipe
from spadeline.engine.recipe.records import ImageRecord

from gpu_parts.contest import percentiles
from matcher_parts.features import Source
from matcher_parts.ours import BATCH

STAND_IN = "wide_resnet50_2"
WARM_UP = 50  # frames at most, in which kernels are loaded and clocks rise
K_GALLERY, K_SCORE = 50, 5  # at most
FALSE_ALARMS = 0.1  # a detector needs thresholds
SAME_MAP = 1e-3  # of the map's maximum: an extractor in float16 may give other bits each time


class TorchExtractor:
    """An extractor for :class:`Detector` by torch: a backbone with untrained weights, the same ones every time.

    On a GPU it is one CUDA graph, as an engine made for one size would be.
    """

    level_names = ("layer1", "layer2", "layer3")
    metadata: ClassVar = {"spadeline.backbone": STAND_IN, "spadeline.weights": "random"}

    def __init__(self, torch: ModuleType, device: str, size: int) -> None:
        from spadeline.export.backbone import build
        from spadeline.export.choices import NEIGHBOURHOOD
        from spadeline.export.weights import load_weights

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the report says that the weights are random
            weights = load_weights(STAND_IN, "random")
        self.precision: Literal["float16", "float32"] = (
            "float16" if device == "cuda" else "float32"
        )  # float16 is slow on a processor
        self.provider = f"torch on {device}"
        self.provider_times_s: dict[str, float] = {}
        self.input_size = (size, size)
        self.neighbourhood = NEIGHBOURHOOD
        model = build(
            STAND_IN,
            weights,
            levels=self.level_names,
            input_size=self.input_size,
            neighbourhood=self.neighbourhood,
        ).at(self.precision)
        self._torch, self._model = torch, model.to(memory_format=torch.channels_last).to(device)
        self._image = torch.zeros((1, size, size, 3), dtype=torch.uint8, device=device)
        self._graph = self._stream = None
        with torch.inference_mode():
            for _ in range(3):  # cuDNN chooses its kernels in the first runs
                self._outputs = self._run()
            if device == "cuda":
                self._graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(self._graph):
                    self._outputs = self._run()
        *levels, embedding = self._outputs
        self.level_shapes = tuple(tuple(level.shape[1:]) for level in levels)
        self.embedding_size = embedding.shape[1]

    def extract(self, images: NDArray[np.uint8]) -> Features:
        """(n, H, W, 3) uint8 to features on the host."""
        found = [[output.cpu().numpy().copy() for output in self._outputs_of(image)] for image in images]
        *levels, embedding = (np.concatenate(outputs) for outputs in zip(*found, strict=True))
        return Features(tuple(levels), embedding)

    def features_of(self, path: Path) -> Features:
        """Return the features of an image file."""
        return self.extract(place(as_rgb(read_image(path)), self.input_size, framing="whole")[0][None])

    def run_on(self, stream: int) -> None:
        """From now on run on the CUDA stream of this address."""
        if self._graph is not None:
            self._torch.cuda.synchronize()
            self._stream = self._torch.cuda.ExternalStream(stream)

    def on_device(self) -> OnDevice:
        """Return an extraction that leaves the levels on the device."""
        return OnDevice(self)

    def addresses_of(self, image: NDArray[np.uint8]) -> DeviceFeatures:
        """(H, W, 3) uint8 to levels on the device, which the next image overwrites."""
        *levels, embedding = self._outputs_of(image)
        places = tuple(level.data_ptr() for level in levels)
        return DeviceFeatures(places, self.precision == "float16", embedding[0].cpu().numpy())

    def _outputs_of(self, image: NDArray[np.uint8]) -> Any:
        with self._torch.inference_mode(), self._torch.cuda.stream(self._stream):  # None stands for the present one
            self._image.copy_(self._torch.from_numpy(image)[None])
            if self._graph is None:
                self._outputs = self._run()
            else:
                self._graph.replay()
                self._torch.cuda.current_stream().synchronize()
        return self._outputs

    def _run(self) -> Any:
        return [output.contiguous() for output in self._model(self._image)]


class OnDevice:
    """A stand-in for :class:`spadeline.engine.extract.extractor.DeviceExtraction`."""

    def __init__(self, extractor: TorchExtractor) -> None:
        self._extractor = extractor

    def extract(self, image: NDArray[np.uint8]) -> DeviceFeatures:
        """Extract from one image in the host's memory."""
        return self._extractor.addresses_of(image)


def measure_chain(
    source: Source | None, torch: ModuleType | None, torch_device: str, *, images: int, size: int, runs: int
) -> dict[str, Any]:
    """Time a detector on the source's queries, or return ``not_measured``: why not."""
    if source is None:
        return {"not_measured": "real images are needed: --extractor, --images and --queries"}
    with tempfile.TemporaryDirectory(prefix="spadeline-chain-") as folder:
        try:
            detector = _open(source, torch, torch_device, Path(folder), images=images, size=size)
        except (SpadelineError, ImportError) as error:
            return {"not_measured": str(error)}
        paths = list_images(source.queries)
        frames = [as_rgb(read_image(path)) for path in paths[:: -(-len(paths) // (source.most_queries or len(paths)))]]
        difference = _difference_to_cpu(detector, frames[0])
        facts = {name: value for name, value in detector.info.items() if name != "recipe"}
        return {"detector": facts, "difference_to_cpu": difference, **_timed(detector, frames, runs)}


def _open(
    source: Source, torch: ModuleType | None, torch_device: str, folder: Path, *, images: int, size: int
) -> Detector:
    """Fit a recipe on so many images and open it on the GPU, by ONNX Runtime if that can, else by torch."""
    paths = list_images(source.images)[:images]
    settings = Settings(k_gallery=min(K_GALLERY, len(paths)), k_score=min(K_SCORE, len(paths)))
    recipe = folder / "recipe"
    try:
        Extractor(source.extractor, device="cuda")
    except (ExtractorError, DependencyError):
        if torch is None:
            raise
    else:
        fit(paths, recipe, extractor=source.extractor, settings=settings, false_alarm_rate=FALSE_ALARMS)
        return Detector.load(recipe, device="cuda")
    extractor = TorchExtractor(torch, torch_device, size)
    graph = folder / "none.onnx"  # a recipe needs an extractor's file, but this one is never opened
    graph.write_text("torch")
    create_recipe(
        recipe,
        extractor_path=graph,
        features=((ImageRecord(path.name), extractor.features_of(path)) for path in paths),
        count=len(paths),
        settings=settings,
        level_names=extractor.level_names,
        level_shapes=extractor.level_shapes,
        input_size=extractor.input_size,
        embedding_size=extractor.embedding_size,
    )
    fitted = calibrate(recipe, false_alarm_rate=FALSE_ALARMS)
    scorer = DeviceScorer(fitted)
    extractor.run_on(scorer.inspector.stream.address)
    return Detector(DeviceChain(fitted, cast("Extractor", extractor), scorer))


def _difference_to_cpu(detector: Detector, frame: NDArray[np.uint8]) -> float:
    """Return the anomaly map's difference from the CPU's, as a share of its maximum; end the run if it is too large."""
    recipe = detector.recipe
    image, _ = place(frame, recipe.input_size, framing=recipe.settings.framing)
    features = detector.extractor.extract(image[None])
    expected = Scorer(recipe).score([level[0] for level in features.levels], features.embedding[0]).anomaly_map
    difference = float(np.abs(detector.predict(frame).anomaly_map - expected).max() / expected.max())
    if not difference <= SAME_MAP:
        raise SystemExit(f"chain: the map differs from the CPU's by {difference:.2e}; no time is worth reporting")
    return difference


def _timed(detector: Detector, frames: list[NDArray[np.uint8]], runs: int) -> dict[str, Any]:
    """Time frame by frame, and the throughput of batches."""
    for index in range(min(WARM_UP, runs)):
        detector.predict(frames[index % len(frames)])
    seconds: list[float] = []
    stages: dict[str, list[float]] = {}
    for index in range(runs):
        start = time.perf_counter()
        result = detector.predict(frames[index % len(frames)])
        seconds.append(time.perf_counter() - start)
        for stage, taken in result.timings_s.items():
            stages.setdefault(stage, []).append(taken)
    batch = [frames[index % len(frames)] for index in range(BATCH)]
    batches = -(-runs // BATCH)
    detector.predict_batch(batch)
    start = time.perf_counter()
    for _ in range(batches):
        detector.predict_batch(batch)
    return {
        "runs": runs, "wall_s": percentiles(seconds) | {"max": max(seconds)},
        "stages_s": {stage: float(np.median(taken)) for stage, taken in stages.items()},
        "batch": BATCH, "frames_per_s": batches * BATCH / (time.perf_counter() - start),
    }  # fmt: skip
