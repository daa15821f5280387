"""One frame in, one verdict out: the chain that a line runs, opened from a recipe.

Here the stages meet and thresholds become labels. How thresholds come about is :mod:`.fitting`'s business.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from .errors import DeviceError, RecipeError
from .extractor import Device, Extractor
from .heatmap import find_regions, overlay
from .images import Color, Placement, as_rgb, place
from .recipe import Recipe
from .result import Result
from .scoring import Scorer

Frame = NDArray[np.uint8]

# Frames of a batch that are extracted together: more gain nothing on a CPU, and memory stays bounded.
EXTRACTED_TOGETHER = 8


class Detector:
    """A recipe ready to inspect frames. Open one with :meth:`load`; it may be called from several threads.

    Attributes
    ----------
    recipe
        The recipe as it was when opened.
    extractor
        The feature extractor.
    """

    def __init__(self, recipe: Recipe, extractor: Extractor, scorer: Scorer) -> None:
        if recipe.calibration is None:
            raise RecipeError(f"{recipe.folder}: expected thresholds, got none; make them with: spadeline calibrate")
        self.recipe = recipe
        self.extractor = extractor
        self._scorer = scorer
        self._tau = recipe.calibration.tau.value
        self._theta = recipe.calibration.theta.value

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        device: Device = "auto",
        threads: int | None = None,
        memory_limit: int | None = None,
        verify: bool = False,
    ) -> Self:
        """Open a recipe for inspection.

        Parameters
        ----------
        folder
            The recipe.
        device
            Where the extractor and the matcher run. ``"cuda"``: both on the GPU, or an error. ``"auto"``: what there is
            of that; :attr:`info` says what it took. It is decided here, once.
        threads
            For ONNX Runtime, the matcher, faiss and OpenCV; None takes the machine's processors. The last two have but
            one setting for the whole process.
        memory_limit
            Bytes of the GPU's memory that the gallery may take: see :class:`.matching.Matcher`.
        verify
            Also compare every file's SHA-256.

        Raises
        ------
        RecipeError
            Not a recipe, a damaged one, or one without thresholds.
        ExtractorError
            Its extractor can't run, or not on this device.
        DeviceError
            The matcher can't run on the GPU that was asked for.
        DependencyError
            ONNX Runtime or faiss isn't installed.

        Examples
        --------
        >>> detector = Detector.load("recipes/hazelnut")  # doctest: +SKIP
        >>> result = detector.predict(frame)  # doctest: +SKIP
        >>> result.pred_label, result.pred_score, result.regions  # doctest: +SKIP
        """
        recipe = Recipe.load(folder, verify=verify)
        extractor = Extractor(recipe.extractor_path, device=device, threads=threads)
        if threads is not None:
            cv2.setNumThreads(threads)
        if (extractor.input_size, extractor.level_shapes) != (recipe.input_size, recipe.level_shapes):
            raise RecipeError(
                f"{recipe.extractor_path}: expected input {recipe.input_size} and levels {recipe.level_shapes}, "
                f"got {extractor.input_size} and {extractor.level_shapes}"
            )
        return cls(recipe, extractor, _open_scorer(recipe, device, extractor, threads, memory_limit))

    @property
    def info(self) -> dict[str, Any]:
        """What runs where: JSON-able."""
        return {
            "recipe": str(self.recipe.folder),
            "generation": self.recipe.generation,
            "images": len(self.recipe.images),
            "extractor": self.extractor.provider,
            "precision": self.extractor.precision,
            "backbone": self.extractor.metadata.get("spadeline.backbone", "unknown"),
            "weights": self.extractor.metadata.get("spadeline.weights", "unknown"),
            "input_size": list(self.recipe.input_size),
            "levels": {
                name: list(shape) for name, shape in zip(self.recipe.level_names, self.recipe.level_shapes, strict=True)
            },
            "ignored_share": None if self.recipe.ignore is None else float(self.recipe.ignore.mean()),
            "matcher": self._scorer.matcher.path,
            "matcher_device": self._scorer.matcher.device,
            "resident_images": self._scorer.matcher.resident_images,
            "instruction_set": self._scorer.matcher.instruction_set,
            "threads": self._scorer.matcher.threads,
        }

    def predict(self, frame: Frame, *, color: Color = "auto") -> Result:
        """Inspect one frame.

        Parameters
        ----------
        frame
            (h, w), (h, w, 1), (h, w, 3) or (h, w, 4) uint8, any size.
        color
            What the channels are: ``"auto"`` takes one, three or four of them as gray, RGB or RGBA; a camera that
            delivers BGR must be declared.

        Raises
        ------
        InputError
            A frame of another dtype or shape, or too small.
        """
        return self.predict_batch([frame], color=color)[0]

    def predict_batch(self, frames: Sequence[Frame], *, color: Color = "auto") -> list[Result]:
        """Inspect several frames; the results equal :meth:`predict`'s, and so do the errors."""
        results: list[Result] = []
        for first in range(0, len(frames), EXTRACTED_TOGETHER):
            results += self._inspect(frames[first : first + EXTRACTED_TOGETHER], color)
        return results

    def overlay(self, frame: Frame, result: Result, *, color: Color = "auto") -> Frame:
        """Draw a frame's anomaly map, mask and regions over it; colours are scaled by theta, so frames compare.

        What the recipe ignores is dark and hatched.

        Returns
        -------
        ndarray
            (h, w, 3) uint8 RGB, the frame's size.
        """
        rgb = as_rgb(frame, color=color)
        _, placement = place(rgb, self.recipe.input_size, framing=self.recipe.settings.framing)
        return overlay(
            rgb,
            result.anomaly_map,
            self._theta,
            placement=placement,
            regions=result.regions,
            ignore=self.recipe.ignore,
        )

    def _inspect(self, frames: Sequence[Frame], color: Color) -> Iterator[Result]:
        settings = self.recipe.settings
        start = time.perf_counter()
        placed = [
            place(as_rgb(frame, color=color), self.recipe.input_size, framing=settings.framing) for frame in frames
        ]
        prepared = time.perf_counter()
        features = self.extractor.extract(np.stack([image for image, _ in placed]))
        timings_s = {
            "prepare": (prepared - start) / len(frames),
            "extract": (time.perf_counter() - prepared) / len(frames),
        }
        for index, (frame, (_, placement)) in enumerate(zip(frames, placed, strict=True)):
            levels = [level[index] for level in features.levels]
            yield self._judge(frame, placement, levels, features.embedding[index], timings_s)

    def _judge(
        self,
        frame: Frame,
        placement: Placement,
        levels: Sequence[NDArray[np.floating]],
        embedding: NDArray[np.float32],
        timings_s: dict[str, float],
    ) -> Result:
        scores = self._scorer.score(levels, embedding)
        start = time.perf_counter()
        height, width = frame.shape[:2]
        mask, regions = find_regions(scores.anomaly_map, self._theta, placement=placement, frame_size=(height, width))
        pred_score, pred_label = self._label(scores.image_score, scores.map_score)
        timings_s = timings_s | scores.timings_s
        timings_s["map"] += time.perf_counter() - start
        return Result(
            pred_score=pred_score,
            pred_label=pred_label,
            image_score=scores.image_score,
            map_score=scores.map_score,
            anomaly_map=scores.anomaly_map,
            pred_mask=mask,
            regions=regions,
            neighbours=scores.neighbours,
            nearest_images=scores.nearest_images,
            match_statistics=scores.match_statistics,
            timings_s=timings_s,
        )

    def _label(self, image_score: float, map_score: float) -> tuple[float, bool]:
        """Return the score that the recipe's label rule looks at, and its verdict."""
        rule = self.recipe.settings.label_rule
        if rule == "image":
            return image_score, image_score > self._tau
        if rule == "map":
            return map_score, map_score > self._theta
        # Either: both scores in units of their thresholds, so that the larger one decides.
        tiny = np.finfo(np.float64).tiny
        ratio = max(image_score / max(self._tau, tiny), map_score / max(self._theta, tiny))
        return ratio, image_score > self._tau or map_score > self._theta


def _open_scorer(
    recipe: Recipe, device: Device, extractor: Extractor, threads: int | None, memory_limit: int | None
) -> Scorer:
    """Open the matcher on the GPU where that was asked for; with "auto", where the extractor is and it can follow."""
    if device == "cuda":
        return Scorer(recipe, threads=threads, device="cuda", memory_limit=memory_limit)
    if device == "auto" and extractor.on_gpu and recipe.settings.upsampling == "nearest":
        with contextlib.suppress(DeviceError):
            return Scorer(recipe, threads=threads, device="cuda", memory_limit=memory_limit)
    return Scorer(recipe, threads=threads)
