"""Load a backbone's weights, and check their SHA-256 if it is known.

Only a state dict of tensors is read; pickled code is never run. Nothing is converted or renamed, except that the
``module.`` that DataParallel puts before every name is removed. ``backbone.py`` checks whether the tensors fit.
"""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import torch
import torchvision
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from ..engine.errors import DownloadError, ExportError, InputError
from ..engine.optional import imported

RANDOM_SEED = 0
SUFFIXES = (".pth", ".pt", ".safetensors")


@dataclass(frozen=True, eq=False)
class Weights:
    """A state dict, the name that the metadata gives it, and the SHA-256 of what it was read from."""

    tensors: Mapping[str, torch.Tensor]
    name: str
    sha256: str


def load_weights(backbone: str, source: str | os.PathLike[str]) -> Weights:
    """Return the weights that `source` names: ``torchvision``, ``random`` or a file.

    Raises
    ------
    InputError
        `source` is none of the three.
    DownloadError
        torchvision's file isn't in torch's cache and can't be downloaded; the text says what to do.
    ExportError
        The file can't be read, is damaged, or doesn't hold a state dict.
    """
    if source == "random":
        return _random(backbone)
    if source == "torchvision":
        path, name = _torchvision_file(backbone), "torchvision IMAGENET1K_V1"
    else:
        path = Path(source)
        name = path.name  # without its folder, which is private; the SHA-256 identifies the file
        if path.suffix not in SUFFIXES:
            kinds = ", ".join(SUFFIXES)
            raise InputError(f"weights: expected 'torchvision', 'random' or a {kinds} file, got {str(source)!r:.100}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ExportError(f"{path}: the weights can't be read ({error.strerror or error})") from error
    sha256 = hashlib.sha256(content).hexdigest()
    if source == "torchvision" and not sha256.startswith(_hash_prefix(path.name)):
        raise ExportError(
            f"{path}: expected a SHA-256 that begins with {_hash_prefix(path.name)}, got {sha256[:8]}: "
            "delete the damaged file and it is downloaded again"
        )
    return Weights(_state_dict(path, content), name, sha256)


def _torchvision_file(backbone: str) -> Path:
    """Return torchvision's V1 file in torch's cache, downloaded if it isn't there.

    V1 by name: the paper used it, and ``DEFAULT`` is V2, whose features tell near-identical images apart.
    """
    url: str = torchvision.models.get_model_weights(backbone)["IMAGENET1K_V1"].url
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / url.rpartition("/")[2]
    if path.exists():
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=_hash_prefix(path.name), progress=False)
    except (OSError, HTTPException, RuntimeError) as error:  # RuntimeError: the downloaded file has another hash
        reason = getattr(error, "reason", error)
        raise DownloadError(
            f"the weights of {backbone} could not be downloaded from {url} ({reason}): pass a weights file "
            f"(--weights FILE), put {path.name} into {folder}, or take --weights random for a trial"
        ) from error
    return path


def _hash_prefix(file_name: str) -> str:
    """Return the start of the SHA-256 that torch's own file names end in: ``resnet18-f37072fd.pth``."""
    return Path(file_name).stem.rpartition("-")[2]


def _random(backbone: str) -> Weights:
    """Return the same random weights every time; torch's global generator stays as it was."""
    warnings.warn(
        f"{backbone} gets random weights: for trials only, don't judge a product by them",
        UserWarning,
        stacklevel=4,  # the caller of export_extractor
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        model = torchvision.models.get_model(backbone, weights=None)
    _scale_residual_branches(model)
    tensors = model.state_dict()
    digest = hashlib.sha256()
    for _, tensor in sorted(tensors.items()):
        digest.update(tensor.numpy().tobytes())
    return Weights(tensors, "random", digest.hexdigest())


def _scale_residual_branches(model: nn.Module) -> None:
    """Keep the variance of random features bounded at any depth: (1 + 1/b)^b < e for b blocks.

    As torchvision initialises weights, every block doubles the variance: in ResNet-101, layer3's features are then
    thousands of times as large as layer1's, and layer4's leave the range of float16.
    """
    blocks = [m for m in model.modules() if isinstance(m, BasicBlock | Bottleneck)]
    for block in blocks:
        last_norm = [m for m in block.children() if isinstance(m, nn.BatchNorm2d)][-1]
        nn.init.constant_(last_norm.weight, len(blocks) ** -0.5)


def _state_dict(path: Path, content: bytes) -> Mapping[str, torch.Tensor]:
    state = _read_safetensors(path, content) if path.suffix == ".safetensors" else _read_torch(path, content)
    if not isinstance(state, Mapping):
        raise ExportError(f"{path}: expected a state dict (names to tensors), got {type(state).__name__}")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise ExportError(
                f"{path}: expected a state dict (names to tensors), got {type(value).__name__} at {key!r:.100}"
            )
    if state and all(key.startswith("module.") for key in state):
        return {key.removeprefix("module."): value for key, value in state.items()}
    return state


def _read_torch(path: Path, content: bytes) -> object:
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle may raise anything
        raise ExportError(
            f"{path}: expected a state dict saved by torch.save, got a file that is damaged or holds more "
            "than tensors (pickled code is never run)"
        ) from error


def _read_safetensors(path: Path, content: bytes) -> object:
    command = "pip install 'spadeline[export]'"
    safetensors, for_torch = imported("safetensors", command), imported("safetensors.torch", command)
    try:
        return for_torch.load(content)
    except safetensors.SafetensorError as error:
        raise ExportError(f"{path}: not a safetensors file, or a damaged one ({error})") from error
