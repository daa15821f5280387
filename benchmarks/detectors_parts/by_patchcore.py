"""PatchCore's answers and its scores of normal images, by anomalib's own model, without its training loop and export.

``by_anomalib.py`` runs what a user deploys, once. Here the memory bank is filled anew for each fold of the normal
images, so that thresholds can be made of normal images that it doesn't hold. With all features each image is a fold of
its own; a coreset takes minutes to select, so there are five folds. The frames have the extractor's input
size already: all detectors get the same pixels. Nothing is timed. The module runs where anomalib is installed, without
spadeline.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from anomalib.models.components import KCenterGreedy
from anomalib.models.image.patchcore.torch_model import PatchcoreModel

from detectors_parts.process import Frame, Job
from detectors_parts.torch_backbone import load_backbone

ANSWERS = "answers.npz"
FOLDS = {"coreset": 5, "all": 2**31}  # at most one an image
# anomalib's defaults.
LAYERS = ("layer2", "layer3")
CORESET = 0.1  # of all positions
SEED = 0  # the coreset's first position and projection are drawn

Answers = tuple[list[np.ndarray], list[float]]


def fit(job: Job, folder: Path) -> None:
    """Write maps and scores of the frames, and scores of each normal image by a model without its fold.

    ``job.method`` is "coreset" or "all": what the memory bank keeps of the normal images' positions.
    """
    torch.set_num_threads(job.threads)
    backbone = load_backbone(job.extractor)
    backbone.check(job.probe)
    images = [backbone.normalise(_read(path)) for path in sorted(job.train.iterdir())]
    frames = [backbone.normalise(frame) for frame in job.read_frames()]
    model = PatchcoreModel(LAYERS, backbone=backbone.module, pre_trained=False)
    with torch.inference_mode():
        model.train()
        features = [model(image) for image in images]
        model.eval()
        maps, scores = _answers(model, features, frames, job.method)
        normal_maxima, normal_scores = np.empty(len(images)), np.empty(len(images))
        folds = min(FOLDS[job.method], len(images))
        for fold in range(folds):
            held_out = range(fold, len(images), folds)
            kept = [features[index] for index in range(len(images)) if index % folds != fold]
            if kept:
                fold_maps, fold_scores = _answers(model, kept, [images[index] for index in held_out], job.method)
                normal_maxima[held_out] = [values.max() for values in fold_maps]
                normal_scores[held_out] = fold_scores
    has_folds = slice(None) if folds > 1 else slice(0)
    np.savez(
        folder / ANSWERS,
        maps=np.stack(maps),
        image_scores=scores,
        normal_map_scores=normal_maxima[has_folds],
        normal_image_scores=normal_scores[has_folds],
    )


def _answers(
    model: PatchcoreModel, features: Sequence[torch.Tensor], frames: Sequence[torch.Tensor], method: str
) -> Answers:
    """Fill the memory bank with images' features, and return the frames' maps and scores."""
    if method == "coreset":
        torch.manual_seed(SEED)
        np.random.seed(SEED)  # noqa: NPY002 - anomalib's projection draws from the global generator
        model.memory_bank = _Coreset(torch.vstack(list(features)), CORESET).sample_coreset()
    else:
        model.memory_bank = torch.vstack(list(features))
    found = [model(frame) for frame in frames]
    return [answer.anomaly_map.numpy().squeeze() for answer in found], [float(answer.pred_score) for answer in found]


class _Coreset(KCenterGreedy):
    """anomalib's selection; only, the distances are computed without an array of all differences, which is faster."""

    def update_distances(self, cluster_center: int | torch.Tensor | None) -> None:
        """Take a further position into account."""
        centre = self.features[cluster_center].reshape(1, -1)
        distances = torch.cdist(self.features, centre, compute_mode="donot_use_mm_for_euclid_dist")
        known = self.min_distances
        self.min_distances = distances if known is None else torch.minimum(known, distances)


def _read(path: Path) -> Frame:
    return np.asarray(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB), np.uint8)
