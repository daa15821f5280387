"""What `spadeline tune` makes of a class: half of its test images choose settings, the other half judges them.

The class's own settings and the chosen ones are judged by the same images, which had no part in the choice.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spadeline.engine.extract.providers import Device
from spadeline.engine.fitting.fitting import fit
from spadeline.engine.folders.dataset import Dataset
from spadeline.engine.settings import Settings
from spadeline.engine.tuning.tuning import tune

from accuracy_parts.classes import ImageClass
from accuracy_parts.figures import RATES

RATE = RATES[0]


def test_names(image_class: ImageClass) -> list[str]:
    """Return the names of a class's test images, by which they are halved."""
    return [image.path.relative_to(image_class.folder).as_posix() for image in image_class.test]


def tuned_figures(
    folder: Path, image_class: ImageClass, extractor: Path, settings: Settings, *, device: Device, threads: int
) -> dict[str, Any]:
    """Fit a recipe of a class's normal images in a folder, tune it, and return what was chosen and what came of it.

    Raises
    ------
    InputError
        The class has too few test images for two halves.
    """
    dataset = Dataset(folder=image_class.folder, layout="plain", train=(), test=image_class.test)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of images that stand out, or of copies
        fit(image_class.train, folder, extractor=extractor, settings=settings, device=device, threads=threads)
        tuned = tune(folder, dataset, false_alarm_rate=RATE, device=device, threads=threads, dry_run=True)
    chosen = asdict(tuned.chosen.settings)
    return {
        "tried": len(tuned.trials),
        "changed": {name: chosen[name] for name in tuned.record.changed},
        "choosing": {"before": asdict(tuned.own.figures), "after": asdict(tuned.chosen.figures)},
        "final": {"before": asdict(tuned.before), "after": asdict(tuned.after)},
    }
