"""What ``spadeline predict`` makes from image files: a record of each file, in their order, and overlay pictures.

Records are ready for JSON. They are printed, and turned into an exit code, in :mod:`.commands`.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import InputError, OutputError
from ..files import replace_file
from ..images.reading import read_image
from ..inspect.detector import Detector, Frame
from ..inspect.stream import FrameError
from ..recipe.records import ImageRecord
from ..result import Result
from ..settings import Need


def inspect_files(
    detector: Detector,
    paths: Sequence[Path],
    overlays: Mapping[Path, Path],
    *,
    need: Need | None = None,
    deadline_s: float | None = None,
) -> Generator[dict[str, Any], None, None]:
    """Inspect images while the next one is read, and write the overlays of the images in ``overlays``.

    Parameters
    ----------
    need, deadline_s
        As for :meth:`.Detector.stream`; an image arrives when it has been read.

    Yields
    ------
    dict
        A record of an image. It has image. If the image can't be used, it has error; the other images are still
        inspected. Else it has need, decided, pred_label, reasons, pred_score, image_score, map_score, regions,
        nearest_images (five names), match_statistics and timings_s, and overlay_error if the overlay can't be written.

    Raises
    ------
    SpadelineError
        As :meth:`.Detector.stream` and :meth:`.Detector.predict`, except for errors of a single image.
    """
    read: deque[Frame | InputError] = deque()

    def frames() -> Iterator[Any]:
        for path in paths:
            try:
                read.append(read_image(path))
            except InputError as error:
                read.append(error)  # it is no frame, so the detector refuses it
            yield read[-1]

    results = detector.stream(frames(), need=need, deadline_s=deadline_s)
    for path, result in zip(paths, results, strict=True):
        frame = read.popleft()
        if isinstance(frame, InputError):
            yield {"image": str(path), "error": str(frame)}
        elif not isinstance(result, FrameError):
            record = {"image": str(path)} | _record(result, detector.recipe.images)
            if path in overlays:
                record |= _draw(overlays[path], detector, frame, result)
            yield record
        elif isinstance(result.error, InputError):
            yield {"image": str(path), "error": str(result.error)}
        else:
            raise result.error


def overlay_paths(sources: Sequence[tuple[Path, Sequence[tuple[str, Path]]]], folder: Path) -> dict[Path, Path]:
    """Return the file of each image's overlay: it has the image's name, in a folder that has its folder's name.

    Parameters
    ----------
    sources
        Folders and images, each with its :func:`.listing.named_images`.

    Raises
    ------
    InputError
        Two images would have the same overlay file, or an overlay would replace an image.
    """
    overlays: dict[Path, Path] = {}
    taken: dict[Path, Path] = {}
    for source, named in sources:
        overlay_folder = folder / source.resolve().name if source.is_dir() else folder
        for name, path in named:
            overlays[path] = (overlay_folder / name).with_suffix(".png")
            if (other := taken.setdefault(overlays[path], path)) != path:
                raise InputError(
                    f"overlays: expected a name for each image, got {overlays[path]} for {other} and {path}"
                )
    images = {path.resolve() for _, named in sources for _, path in named}
    for path, overlay in overlays.items():
        if overlay.resolve() in images:
            raise InputError(
                f"overlays: expected another folder than the images', got {overlay} for {path}, which is an image"
            )
    return overlays


def _record(result: Result, images: Sequence[ImageRecord]) -> dict[str, Any]:
    return {
        "need": result.need,
        "decided": result.decided,
        "pred_label": result.pred_label,
        "reasons": list(result.reasons),
        "pred_score": result.pred_score,
        "image_score": result.image_score,
        "map_score": result.map_score,
        "regions": [asdict(region) for region in result.regions],
        "nearest_images": [images[index].name for index in result.nearest_images[:5]],
        "match_statistics": asdict(result.match_statistics),
        "timings_s": dict(result.timings_s),
    }


def _draw(path: Path, detector: Detector, frame: Frame, result: Result) -> dict[str, str]:
    """Write an overlay, all of it or nothing. Return the error for the record, since the verdict is still valid."""
    content = io.BytesIO()
    Image.fromarray(detector.overlay(frame, result)).save(content, "png")
    try:
        replace_file(path, content.getvalue())
    except OutputError as error:
        return {"overlay_error": str(error)}
    return {}
