"""A recipe's extractor and scorer, opened where they can run: decided once, at the start.

What would fail at each frame is found here. Frames, thresholds and streams are :mod:`.detector`'s business.
"""

from __future__ import annotations

import contextlib
import os
from typing import NamedTuple

from ..errors import DeviceError, ExtractorError, InputError, RecipeError
from ..extract.extractor import Extractor
from ..extract.session import Device, offers_cuda
from ..recipe.held import GalleryPlace
from ..recipe.recipe import Recipe
from .scoring import Scorer


class Opened(NamedTuple):
    """What runs a recipe.

    Attributes
    ----------
    extractor
        The feature extractor.
    scorer
        Retrieval, matcher and map.
    on_device
        Whether features stay on the GPU between the two.
    """

    extractor: Extractor
    scorer: Scorer
    on_device: bool


def open_chain(
    recipe: Recipe,
    *,
    device: Device,
    threads: int,
    memory_limit: int | None,
    tensorrt_cache: str | os.PathLike[str] | None,
    gallery: GalleryPlace,
) -> Opened:
    """Open extractor and scorer where ``device`` says; see :meth:`.Detector.load`, also for what is raised.

    With "auto" both run on the GPU if they can; else each takes the best that it can have.
    """

    def open_on_gpu() -> Opened:
        scorer = Scorer(recipe, threads=threads, device="cuda", memory_limit=memory_limit, gallery=gallery)
        extractor = Extractor(
            recipe.extractor_file,
            device="cuda",
            threads=threads,
            stream=scorer.inspector.stream if scorer.inspector is not None else None,
            tensorrt_cache=tensorrt_cache,
        )
        return Opened(extractor, scorer, on_device=True)

    if device == "cpu" and memory_limit is not None:
        raise InputError("memory_limit: expected device 'auto' or 'cuda' with it, got 'cpu'")
    opened = None
    if device == "cuda":
        opened = open_on_gpu()
    elif device == "auto" and offers_cuda():
        with contextlib.suppress(DeviceError, ExtractorError):
            opened = open_on_gpu()
    if opened is None:
        extractor = Extractor(recipe.extractor_file, device=device, threads=threads, tensorrt_cache=tensorrt_cache)
        _check_outputs(recipe, extractor)  # first: what a scorer takes of memory follows from the geometry
        opened = Opened(extractor, Scorer(recipe, threads=threads, gallery=gallery), on_device=False)
    else:
        _check_outputs(recipe, opened.extractor)
    _check_reach(recipe, opened.scorer)
    return opened


def _check_outputs(recipe: Recipe, extractor: Extractor) -> None:
    """Raise RecipeError unless the extractor makes what the gallery holds."""
    wanted = (recipe.input_size, recipe.level_shapes, recipe.geometry.embedding_size)
    came = (extractor.input_size, extractor.level_shapes, extractor.embedding_size)
    if came != wanted:
        texts = ("input {}, levels {} and {} numbers in an embedding".format(*shapes) for shapes in (wanted, came))
        raise RecipeError("{}: expected {}, got {}".format(recipe.extractor_path, *texts))


def _check_reach(recipe: Recipe, scorer: Scorer) -> None:
    """Raise RecipeError if kappa pixels can't be had: images may have been removed, or a window may be too narrow."""
    settings = recipe.settings
    images = min(settings.k_gallery, len(recipe.images))
    reach = images * scorer.matcher.reachable(settings.window)
    if settings.kappa > reach:
        raise RecipeError(
            f"{recipe.folder}: expected a kappa of at most the {reach} gallery pixels within reach in {images} images, "
            f"got {settings.kappa}; set another with: spadeline calibrate"
        )
