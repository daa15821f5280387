"""anomalib's PatchCore and PaDiM, fitted, exported and run by anomalib itself.

It does what a user would do: ``Engine.fit`` on a folder of normal images, ``export``, one of anomalib's two
inferencers. The defaults are anomalib's, except that backbone, normalisation and input size are spadeline's. Scores are
not normalised, since there are no labels for that. The module runs where anomalib is installed, without spadeline.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from anomalib.data import Folder
from anomalib.deploy import ExportType, OpenVINOInferencer, TorchInferencer
from anomalib.engine import Engine
from anomalib.models import Padim, Patchcore
from anomalib.pre_processing import PreProcessor
from torchvision.transforms.v2 import Compose, Normalize, Resize

from detectors_parts.process import Answer, Frame, Job
from detectors_parts.torch_backbone import TorchBackbone, load_backbone

PADIM_LEVELS = ["layer1", "layer2", "layer3"]
# Channels that PaDiM keeps, as in its paper, by the channels of the backbone (a ResNet-18, a Wide-ResNet50-2).
PADIM_FEATURES = {448: 100, 1792: 550}
SEED = 0  # PaDiM draws its channels

# By default OpenVINO computes in bfloat16 on processors that have it, whatever the file holds.
Runtime = Literal["torch", "openvino", "openvino-float32"]
PRECISIONS = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}  # OpenVINO's names: ours

# By default the export writes a PatchCore that takes exactly two frames at once.
ONE_FRAME = {"dynamic_axes": None, "dynamic_shapes": None}

TORCH_FILE, OPENVINO_FILE, REFUSED = "weights/torch/model.pt", "weights/openvino/model.xml", "openvino_refused.txt"


def fit(job: Job, folder: Path) -> None:
    """Fit, and write the model for both inferencers; if OpenVINO refuses it, write down why."""
    warnings.simplefilter("ignore")  # from one library to another
    torch.manual_seed(SEED)
    backbone = load_backbone(job.extractor)
    backbone.check(job.probe)
    model = _model(job, backbone)
    data = Folder(
        "normal",
        normal_dir=job.train.absolute(),
        train_batch_size=8,
        num_workers=0,
        test_split_mode="none",
        val_split_mode="none",
    )
    engine = Engine(
        default_root_dir=folder / "run",
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        limit_val_batches=0,  # validation needs labelled images
    )
    engine.fit(model=model, datamodule=data)
    engine.export(model, ExportType.TORCH, export_root=folder)
    sizes = {frame.shape[:2] for frame in job.read_frames()}
    size = sizes.pop() if len(sizes) == 1 else None  # of the camera's frames; None: any
    try:
        engine.export(model, ExportType.OPENVINO, export_root=folder, input_size=size, onnx_kwargs=ONE_FRAME)
    except Exception as error:  # noqa: BLE001 - whatever it is, it goes into the table
        (folder / REFUSED).write_text(f"anomalib's export to OpenVINO failed: {type(error).__name__}: {error}")


def _model(job: Job, backbone: TorchBackbone) -> Patchcore | Padim:
    normalise = Normalize(mean=backbone.mean, std=backbone.deviation)
    pre_processor = PreProcessor(Compose([Resize(job.input_size, antialias=True), normalise]))
    common: dict[str, Any] = {
        "backbone": backbone.module, "pre_trained": False, "pre_processor": pre_processor,
        "evaluator": False, "visualizer": False,
    }  # fmt: skip
    if job.method == "patchcore":
        return Patchcore(**common)
    with np.load(job.probe) as probe:
        channels = sum(probe[level].shape[1] for level in PADIM_LEVELS)
    features = PADIM_FEATURES.get(channels, round(channels * 550 / 1792))
    return Padim(layers=PADIM_LEVELS, n_features=features, **common)


def files(_: Job, folder: Path, runtime: Runtime) -> list[Path]:
    """Return the files that are deployed."""
    path = folder / (TORCH_FILE if runtime == "torch" else OPENVINO_FILE)
    return [path] if runtime == "torch" else [path, path.with_suffix(".bin")]


def open_detector(job: Job, folder: Path, runtime: Runtime) -> tuple[Callable[[Frame], Answer], str]:
    """Return the function from a frame to its answer, and the number type that it computes in."""
    torch.set_num_threads(job.threads)
    if runtime == "torch":
        return partial(_by_torch, TorchInferencer(folder / TORCH_FILE, device="cpu")), "float32"
    if (folder / REFUSED).exists():
        raise ValueError((folder / REFUSED).read_text())
    config = {"INFERENCE_NUM_THREADS": job.threads, "PERFORMANCE_HINT": "LATENCY"}
    if runtime == "openvino-float32":
        config["INFERENCE_PRECISION_HINT"] = "f32"
    inferencer = OpenVINOInferencer(folder / OPENVINO_FILE, device="CPU", config=config)
    precision = inferencer.model.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    return partial(_by_openvino, inferencer), PRECISIONS.get(precision, precision)


def _by_torch(inferencer: TorchInferencer, frame: Frame) -> Answer:
    with torch.inference_mode():
        found = inferencer.predict(frame)
    return Answer(found.anomaly_map.numpy().squeeze(), float(found.pred_score))


def _by_openvino(inferencer: OpenVINOInferencer, frame: Frame) -> Answer:
    found = inferencer.predict(frame)
    return Answer(np.asarray(found.anomaly_map).squeeze(), float(np.asarray(found.pred_score).item()))
