"""The accuracy that quantization costs: detectors with the int8 and with the float32 extractor are compared.

Both are fitted on the images that calibrated the integers, and both inspect normal images that neither has seen. The
map of such an image shows no defect, only differences between good parts, above which a defect must rise. Errors of the
integers are most visible there, so the cost is measured on these maps:

    map correlation = the smallest correlation of an image's two maps

A labelled data set adds the loss of each ROCAUC. A different scale of the scores isn't a cost: thresholds are made with
the extractor in use. The shift of the images' scores is reported in their standard deviations. Time is measured in
``speed.py``.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..engine.errors import ExportError
from ..engine.evaluate.evaluation import evaluate
from ..engine.fitting.fitting import fit
from ..engine.fitting.suspects import SuspectWarning
from ..engine.folders.dataset import Dataset
from ..engine.images.reading import read_image
from ..engine.inspect.detector import Detector
from ..engine.settings import Framing, Settings

# Two scores standardise to -1 and 1 whatever they are, and three to nearly fixed values: they would show no shift.
FEWEST_STANDARDISED = 4
ROCAUCS = ("image_rocauc_by_map_score", "image_rocauc_by_image_score", "pixel_rocauc")


@dataclass(frozen=True)
class Cost:
    """The differences between the int8 and the float32 extractor's results.

    Attributes
    ----------
    held_out
        The number of normal images that both have inspected.
    map_correlation
        The smallest correlation of an image's two anomaly maps.
    worst_image
        The image that has it.
    score_shift
        The largest change of an image's map maximum. The maxima are standardised with their mean and standard deviation
        at each precision. None for fewer than four images, which are too few to standardise.
    rocauc
        Each ROCAUC by its name in an evaluation, as (at float32, at int8). Empty without labelled images.
    """

    held_out: int
    map_correlation: float
    worst_image: Path
    score_shift: float | None
    rocauc: dict[str, tuple[float, float]]

    def check(self, *, least_correlation: float, most_rocauc_loss: float) -> None:
        """Raise :class:`ExportError` with the figure if a bound isn't kept."""
        if not self.map_correlation >= least_correlation:  # NaN fails this, too
            raise ExportError(
                f"int8: expected anomaly maps that correlate with float32's by {least_correlation:g} or more, got "
                f"{self.map_correlation:.4f} on the worst of {self.held_out} normal images, {self.worst_image}"
            )
        for name, (before, after) in self.rocauc.items():
            if not before - after <= most_rocauc_loss:
                raise ExportError(
                    f"int8: expected a loss of {name} of at most {most_rocauc_loss:g}, got {before - after:.4f}: "
                    f"{before:.4f} at float32, {after:.4f} at int8"
                )


def measure_cost(
    float32: Path,
    int8: Path,
    *,
    gallery: Sequence[Path],
    held_out: Sequence[Path],
    framing: Framing,
    labelled: Dataset | None,
) -> Cost:
    """Fit both extractors on `gallery`, and compare their maps of `held_out` and their ROCAUC on `labelled`.

    If the labelled data set has normal images to fit on, it is evaluated with these.

    Raises
    ------
    InputError, ExtractorError
        As :func:`~..engine.fit` and :func:`~..engine.evaluation.evaluate` raise them.
    """
    maps, figures = [], []
    for extractor in (float32, int8):
        with tempfile.TemporaryDirectory(prefix="spadeline-cost-") as folder:
            recipe = Path(folder) / "recipe"
            detector = _fitted(extractor, recipe, gallery, framing)
            maps.append(np.stack([detector.predict(read_image(path)).anomaly_map.ravel() for path in held_out]))
            if labelled is not None:
                if labelled.train:
                    detector = _fitted(extractor, recipe, labelled.train, framing)
                summary = evaluate(detector, labelled).summary()
                figures.append({name: summary[name] for name in ROCAUCS})
    correlations = [float(np.corrcoef(before, after)[0, 1]) for before, after in zip(*maps, strict=True)]
    worst = int(np.argmin(correlations))  # argmin takes NaN for the smallest, which min() may miss
    return Cost(
        held_out=len(held_out),
        map_correlation=correlations[worst],
        worst_image=held_out[worst],
        score_shift=_score_shift(np.stack([image_maps.max(axis=1) for image_maps in maps]).astype(np.float64)),
        rocauc={
            name: (figures[0][name], figures[1][name]) for name in ROCAUCS if figures and figures[0][name] is not None
        },
    )


def _score_shift(scores: NDArray[np.float64]) -> float | None:
    """Return the largest change from float32's to int8's standardised scores; ``scores`` is (2, images)."""
    if scores.shape[1] < FEWEST_STANDARDISED:
        return None
    deviation = scores.std(axis=1, keepdims=True)
    alike = np.zeros_like(scores)  # equal scores have no deviation, and don't change
    standardised = np.divide(scores - scores.mean(axis=1, keepdims=True), deviation, out=alike, where=deviation > 0)
    return float(np.abs(standardised[1] - standardised[0]).max())


def _fitted(extractor: Path, recipe: str | os.PathLike[str], images: Sequence[Path], framing: Framing) -> Detector:
    defaults = Settings()
    settings = Settings(
        framing=framing, k_score=min(defaults.k_score, len(images)), k_gallery=min(defaults.k_gallery, len(images))
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SuspectWarning)  # this recipe is deleted afterwards
        fit(images, recipe, extractor=extractor, settings=settings, device="cpu", overwrite=True)
    return Detector.load(recipe, device="cpu")
