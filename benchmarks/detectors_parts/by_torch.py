"""SPADE by torch alone: what a user would write from the paper, with the same settings as spadeline's.

The gallery's levels are brought to the finest grid, concatenated and kept; a frame's pixels are compared with all
pixels of its nearest images by ``addmm`` and ``min``, in blocks. Squared distances, nearest upsampling, kappa = 1,
Gaussian of sigma 4. So its maps equal spadeline's within float32's rounding, which the benchmark checks. The module
runs where torch is installed, without spadeline.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.nn import functional

from detectors_parts.process import Answer, Frame, Job
from detectors_parts.torch_backbone import TorchBackbone, load_backbone

GALLERY = "gallery.pt"
BLOCK = 256  # pixels at once: the matrix of all distances would take gigabytes
SIGMA = 4.0

Tensors = dict[str, torch.Tensor]


def fit(job: Job, folder: Path) -> None:
    """Write the features of all normal images."""
    backbone = load_backbone(job.extractor)
    backbone.check(job.probe)
    images = [_prepare(_read(path), job) for path in sorted(job.train.iterdir())]
    pixels, embeddings = zip(*(extract(backbone, image) for image in images), strict=True)
    torch.save({"pixels": torch.stack(pixels), "embeddings": torch.cat(embeddings)}, folder / GALLERY)


def files(job: Job, folder: Path, _: str) -> list[Path]:
    """Return the files that are deployed."""
    return [folder / GALLERY, job.extractor]


def open_detector(job: Job, folder: Path, _: str) -> tuple[Callable[[Frame], Answer], str]:
    """Return the function from a frame to its answer, and the number type that it computes in."""
    torch.set_num_threads(job.threads)
    cv2.setNumThreads(job.threads)
    backbone = load_backbone(job.extractor)
    gallery = torch.load(folder / GALLERY, weights_only=True)
    return partial(_inspect, job, backbone, gallery), "float32"


def _inspect(job: Job, backbone: TorchBackbone, gallery: Tensors, frame: Frame) -> Answer:
    pixels, embedding = extract(backbone, _prepare(frame, job))
    ids, embedding_score = retrieve(embedding, gallery["embeddings"], images=job.images, k_score=job.k_score)
    distances = match(pixels.flatten(0, 1), gallery["pixels"][ids].flatten(0, 2)).reshape(1, 1, *pixels.shape[:2])
    enlarged = functional.interpolate(distances, job.input_size, mode="bilinear", align_corners=False)
    # SPADE smooths with scipy's "reflect", which repeats the edge pixel; so does OpenCV's BORDER_REFLECT.
    size = 2 * int(4 * SIGMA + 0.5) + 1
    smooth = cv2.GaussianBlur(enlarged[0, 0].numpy(), (size, size), SIGMA, borderType=cv2.BORDER_REFLECT)
    return Answer(smooth, float(smooth.max()), embedding_score)


def extract(backbone: TorchBackbone, image: Frame) -> tuple[torch.Tensor, torch.Tensor]:
    """(H, W, 3) to (h, w, channels), levels concatenated on the finest grid, and (1, d), the embedding."""
    with torch.inference_mode():
        outputs = dict(backbone.module(backbone.normalise(image)))
        embedding = outputs.pop("embedding")
        return concatenate(list(outputs.values())), embedding


def concatenate(levels: Sequence[torch.Tensor]) -> torch.Tensor:
    """Bring levels, (1, c, h, w) each, finest first, to the first's grid: (h, w, channels of all)."""
    size = levels[0].shape[2:]
    grids = [functional.interpolate(level, size, mode="nearest") for level in levels]
    return torch.cat(grids, dim=1)[0].permute(1, 2, 0).contiguous()


def retrieve(
    embedding: torch.Tensor, embeddings: torch.Tensor, *, images: int, k_score: int
) -> tuple[torch.Tensor, float]:
    """Return the ids of the nearest images, and the mean squared distance to the nearest few."""
    distances = torch.cdist(embedding, embeddings, compute_mode="donot_use_mm_for_euclid_dist")[0]
    nearest = distances.topk(min(max(images, k_score), len(embeddings)), largest=False)
    return nearest.indices[:images], float(nearest.values[:k_score].square().mean())


def match(pixels: torch.Tensor, gallery: torch.Tensor) -> torch.Tensor:
    """Return the squared distance of each of (n, c) to the nearest of all of (m, c): |a|^2 + min(|b|^2 - 2ab)."""
    norms = gallery.square().sum(1)
    found = [torch.addmm(norms, block, gallery.T, alpha=-2).min(1).values for block in pixels.split(BLOCK)]
    return (torch.cat(found) + pixels.square().sum(1)).clamp_min(0)


def _read(path: Path) -> Frame:
    return np.asarray(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB), np.uint8)


def _prepare(frame: Frame, job: Job) -> Frame:
    height, width = job.input_size
    way = cv2.INTER_AREA if frame.shape[0] >= height else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(frame, (width, height), interpolation=way), np.uint8)
