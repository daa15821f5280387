"""``spadeline demo``: export, fit, evaluate and report on real solar cells, with packages from PyPI alone.

The images show monocrystalline solar cells by electroluminescence. They come from the package elpv-dataset
(CC BY-NC-SA 4.0). Cells that are certainly functional form the gallery. Further ones, and cells that are certainly
defective, are scored. The pictures are written as the folders of a data set, so users can repeat each later step on
folders of their own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from ..errors import DownloadError
from ..evaluate.evaluation import evaluate
from ..evaluate.report import write_report
from ..files import writing
from ..fitting.fitting import fit
from ..fitting.prepared import Progress
from ..folders.dataset import find_dataset
from ..inspect.detector import Detector
from ..optional import imported

FIT, TEST = 150, 50  # cells in the gallery; cells of either kind to score
BACKBONE = "resnet18"
RANDOM_NOTICE = (
    "RANDOM WEIGHTS: the pretrained ones could not be downloaded, so these figures say that the chain runs, "
    "not how well it detects"
)


@dataclass(frozen=True)
class DemoOutcome:
    """The result of the demo: the evaluation's summary, the report's path, and notices that must be shown with them."""

    summary: dict[str, Any]
    report: Path
    notices: tuple[str, ...]


def run_demo(
    folder: str | os.PathLike[str],
    *,
    threads: int | None = None,
    on_progress: Progress | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> DemoOutcome:
    """Run the whole chain in a folder and return its figures.

    Parameters
    ----------
    folder
        The folder to write cells, extractor, recipe and report into. Those of an earlier demo are replaced.
    threads
        As for :meth:`.Detector.load`.
    on_progress
        As for :func:`.fit`.
    say
        Called with a sentence for each stage, and with the notice if the weights are random.

    Raises
    ------
    DependencyError
        The packages of the demo aren't installed.
    OutputError
        The folder can't be written.
    """
    folder = Path(folder)
    say(f"writing solar cells to {folder / 'cells'} (elpv-dataset, CC BY-NC-SA 4.0)")
    write_cells(folder / "cells")
    say(f"exporting {BACKBONE}")
    notices = _export(folder / "extractor.onnx")
    for notice in notices:
        say(f"\n*** {notice} ***\n")
    say(f"fitting on {FIT} functional cells")
    fit(
        folder / "cells" / "train" / "good",
        folder / "recipe",
        extractor=folder / "extractor.onnx",
        threads=threads,
        overwrite=True,
        on_progress=on_progress,
    )
    say(f"scoring {TEST} functional and {TEST} defective cells")
    detector = Detector.load(folder / "recipe", threads=threads)
    evaluation = evaluate(detector, find_dataset(folder / "cells"), on_progress=on_progress)
    report = folder / "report.html"
    write_report(
        report,
        evaluation,
        title="spadeline demo: solar cells",
        normal_images=folder / "cells" / "train" / "good",
        notices=notices,
    )
    return DemoOutcome(evaluation.summary(), report, notices)


def _export(path: Path) -> tuple[str, ...]:
    """Export the backbone, with pretrained weights if they can be downloaded. Return the report's notices about it."""
    from ...export import export_extractor  # noqa: PLC0415 - needs torch

    try:
        export_extractor(path, backbone=BACKBONE)
    except DownloadError:
        export_extractor(path, backbone=BACKBONE, weights="random")
        return (RANDOM_NOTICE,)
    return ()


def write_cells(folder: Path, *, kind: Literal["mono", "poly"] = "mono") -> None:
    """Write cells of one kind as train/good, test/good and test/defective, chosen the same way every time.

    Raises
    ------
    DependencyError
        elpv-dataset isn't installed.
    OutputError
        The folder can't be written.
    """
    package = imported("elpv_dataset.utils", "pip install 'spadeline[cpu,demo]'")
    images, defect_probability, kinds = package.load_dataset()
    rng = np.random.default_rng(0)
    of_kind = kinds == kind
    functional = rng.permutation(np.flatnonzero(of_kind & (defect_probability == 0)))[: FIT + TEST]
    defective = rng.permutation(np.flatnonzero(of_kind & (defect_probability == 1)))[:TEST]
    for name, chosen in (
        ("train/good", functional[:FIT]),
        ("test/good", functional[FIT:]),
        ("test/defective", defective),
    ):
        with writing(folder / name):
            (folder / name).mkdir(parents=True, exist_ok=True)
            for index in np.sort(chosen):
                Image.fromarray(images[index]).save(folder / name / f"cell{index:04}.png")
