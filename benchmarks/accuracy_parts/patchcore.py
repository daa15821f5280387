"""anomalib's PatchCore on the same classes and the same backbone, in the environment that set_up_peers.sh made.

PatchCore sees the pixels that the extractor sees. Its thresholds are made as ours, from normal images that its memory
bank doesn't hold: each image is left out once, or with a coreset each fifth of them. Each class runs in a process of
its own, and has a record like ours.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from spadeline.engine.errors import InputError
from spadeline.engine.evaluate.truth import true_regions
from spadeline.engine.extract.extractor import Extractor
from spadeline.engine.images.reading import read_image
from spadeline.engine.images.resizing import as_rgb, place

from accuracy_parts.classes import ImageClass
from accuracy_parts.figures import Answers, class_figures
from accuracy_parts.records import files_digest
from detectors_parts.process import BENCHMARKS, DetectorProcess, Job

PEERS = {"patchcore-coreset": "coreset", "patchcore-all": "all"}  # by their names for --peer-detectors: the method
MODULE = "detectors_parts.by_patchcore"
_CODE = (
    "accuracy_parts/figures.py",
    "accuracy_parts/patchcore.py",
    "detectors_parts/by_patchcore.py",
    "detectors_parts/torch_backbone.py",
)


@dataclass(frozen=True, eq=False)
class Patchcore:
    """PatchCore in an environment.

    Attributes
    ----------
    python
        The environment's interpreter.
    threads
        Of its process.
    versions
        Of the environment's libraries.
    """

    python: Path
    threads: int
    versions: Mapping[str, str]

    @classmethod
    def open(cls, folder: Path, threads: int) -> Patchcore:
        """Ask the environment for its versions.

        Raises
        ------
        InputError
            There is no Python in the folder, or no anomalib.
        """
        python = folder.absolute() / "bin" / "python"  # a resolved link would lead to another Python
        if not python.exists():
            raise InputError(f"--peers: expected the folder that set_up_peers.sh made, got {folder}")
        process = DetectorProcess(python, "", threads)
        try:
            versions = dict(process.ask("versions"))
        finally:
            process.close()
        if "anomalib" not in versions:
            raise InputError(f"--peers: expected an environment with anomalib, got {folder}, which has none")
        return cls(python, threads, versions)

    def key(self, name: str) -> dict[str, Any]:
        """Return what PatchCore's figures depend on, beside images and backbone."""
        code = files_digest(BENCHMARKS / path for path in _CODE)
        return {"detector": name, "code": code, "versions": dict(self.versions)}

    def figures(self, name: str, image_class: ImageClass, backbone: Path) -> dict[str, Any]:
        """Fit on a class and score its test images; return the figures as :func:`.figures.class_figures` does.

        Raises
        ------
        DetectorError
            The process failed, or the backbone isn't the extractor's in torch.
        """
        extractor = Extractor(backbone, device="cpu", threads=self.threads)
        with tempfile.TemporaryDirectory(prefix="spadeline-patchcore-") as scratch:
            folder = Path(scratch)
            (folder / "train").mkdir()
            for index, path in enumerate(image_class.train):
                bgr = cv2.cvtColor(_placed(path, read_image(path), extractor), cv2.COLOR_RGB2BGR)
                cv2.imwrite(str(folder / "train" / f"{index:05}.png"), bgr)
            frames, masks = [], []
            for image in image_class.test:
                frame = read_image(image.path)
                frames.append(_placed(image.path, frame, extractor))
                masks.append(true_regions(image, frame, extractor.input_size, framing="whole"))
            answers = self._answers(PEERS[name], extractor, backbone, frames, folder)
        return class_figures(image_class.test, masks, answers)

    def _answers(
        self, method: str, extractor: Extractor, backbone: Path, frames: Sequence[NDArray[np.uint8]], folder: Path
    ) -> Answers:
        """Write what the process reads, run it, and read its answers."""
        np.savez(folder / "frames.npz", *frames)
        found = extractor.extract(frames[0][None])
        levels: dict[str, Any] = dict(zip(extractor.level_names, found.levels, strict=True))
        np.savez(folder / "probe.npz", image=frames[0], embedding=found.embedding, **levels)
        job = Job(
            method=method,
            extractor=backbone.resolve(),
            probe=folder / "probe.npz",
            train=folder / "train",
            frames=folder / "frames.npz",
            input_size=extractor.input_size,
            images=len(list((folder / "train").iterdir())),
            k_score=1,
            threads=self.threads,
        )
        # A bar over a coreset's positions would fill the file that holds what the process says.
        process = DetectorProcess(self.python, MODULE, self.threads, environment={"TQDM_DISABLE": "1"})
        try:
            process.ask("fit", job, folder)
        finally:
            process.close()
        with np.load(folder / "answers.npz") as found_answers:
            normal_scores = {score: found_answers[f"normal_{score}s"] for score in ("image_score", "map_score")}
            return Answers(found_answers["image_scores"], list(found_answers["maps"]), normal_scores)


def backbones(candidates: Sequence[tuple[Path, int]]) -> list[Path]:
    """Return the extractors whose levels aren't averaged, of pairs of a file and its neighbourhood.

    Raises
    ------
    InputError
        All are averaged.
    """
    plain = [path for path, neighbourhood in candidates if neighbourhood == 1]
    if not plain:
        files = ", ".join(str(path) for path, _ in candidates)
        raise InputError(
            f"--peers: PatchCore averages the levels itself: expected an extractor whose levels aren't averaged, got "
            f"{files}"
        )
    return plain


def _placed(path: Path, frame: NDArray[np.uint8], extractor: Extractor) -> NDArray[np.uint8]:
    try:
        return place(as_rgb(frame), extractor.input_size, framing="whole")[0]
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
