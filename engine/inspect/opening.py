"""A recipe's chain, opened on the GPU or on the CPU: decided once, when the recipe is opened.

A recipe whose every frame would fail is refused. Which of ONNX Runtime's providers runs the extractor (CUDA, TensorRT,
OpenVINO, CPU) is chosen in ``extract/providers.py``.
"""

from __future__ import annotations

import contextlib
import os

from ..errors import DeviceError, ExtractorError, InputError, RecipeError
from ..extract.extractor import Extractor
from ..extract.providers import Device, offers_cuda
from ..recipe.held import GalleryPlace
from ..recipe.recipe import Recipe
from .chains import Chain, DeviceChain, HostChain
from .scoring import BaseScorer, DeviceScorer, Scorer


def open_chain(
    recipe: Recipe,
    *,
    device: Device,
    threads: int,
    memory_limit: int | None,
    tensorrt_cache: str | os.PathLike[str] | None,
    gallery: GalleryPlace,
) -> Chain:
    """Open a recipe's chain where ``device`` says; see :meth:`.Detector.load`, also for what is raised.

    With "auto", extractor and matcher run on the GPU if both can. Else the matcher runs on the CPU, and the extractor
    where :class:`.extractor.Extractor` puts it with "auto".
    """
    if device == "cpu" and memory_limit is not None:
        raise InputError("memory_limit: expected device 'auto' or 'cuda' with it, got 'cpu'")

    def open_on_gpu() -> tuple[Extractor, DeviceScorer]:
        scorer = DeviceScorer(recipe, threads=threads, memory_limit=memory_limit, gallery=gallery)
        extractor = Extractor(
            recipe.extractor_file,
            device="cuda",
            threads=threads,
            stream=scorer.inspector.stream,
            tensorrt_cache=tensorrt_cache,
        )
        return extractor, scorer

    opened = None
    if device == "cuda":
        opened = open_on_gpu()
    elif device == "auto" and offers_cuda():
        with contextlib.suppress(DeviceError, ExtractorError):
            opened = open_on_gpu()
    if opened is not None:
        extractor, device_scorer = opened
        _check_extractor(recipe, extractor)
        _check_reach(recipe, device_scorer)
        return DeviceChain(recipe, extractor, device_scorer)
    extractor = Extractor(recipe.extractor_file, device=device, threads=threads, tensorrt_cache=tensorrt_cache)
    return open_on_host(recipe, extractor, threads=threads, gallery=gallery)


def open_on_host(recipe: Recipe, extractor: Extractor, *, threads: int, gallery: GalleryPlace) -> HostChain:
    """Open a recipe's chain with the matcher on the CPU, and an extractor that is open already.

    Raises
    ------
    InputError, RecipeError, DependencyError
        As :meth:`.Detector.load` raises them for device "cpu".
    """
    _check_extractor(recipe, extractor)  # before the gallery takes memory, whose size follows from the geometry
    scorer = Scorer(recipe, threads=threads, gallery=gallery)
    _check_reach(recipe, scorer)
    return HostChain(recipe, extractor, scorer)


def _check_extractor(recipe: Recipe, extractor: Extractor) -> None:
    """Raise RecipeError unless the extractor's outputs have the shapes that the gallery holds."""
    wanted = (recipe.input_size, recipe.level_shapes, recipe.geometry.embedding_size)
    came = (extractor.input_size, extractor.level_shapes, extractor.embedding_size)
    if came != wanted:
        texts = ("input {}, levels {} and {} numbers in an embedding".format(*shapes) for shapes in (wanted, came))
        raise RecipeError("{}: expected {}, got {}".format(recipe.extractor_path, *texts))


def _check_reach(recipe: Recipe, scorer: BaseScorer) -> None:
    """Raise RecipeError if fewer than kappa gallery pixels are within reach.

    Images may have been removed since kappa was set, or the window may be too narrow.
    """
    settings = recipe.settings
    images = min(settings.k_gallery, len(recipe.images))
    reach = images * scorer.matcher.reachable(settings.window)
    if settings.kappa > reach:
        raise RecipeError(
            f"{recipe.folder}: expected a kappa of at most the {reach} gallery pixels within reach in {images} images, "
            f"got {settings.kappa}; set another with: spadeline calibrate"
        )
