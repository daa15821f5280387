"""Normal images on their way into a recipe: each is read, its record is made, and it is prepared for the extractor.

All images are read before the first is extracted: a damaged image, a copy or a name that is taken is then found before
the long work. Which files are read, ``folders/normal_images.py`` decides.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..extract.extractor import Extractor
from ..features import Features
from ..images.decoding import read_picture
from ..images.frame_facts import frame_facts
from ..images.frame_shape import FrameShapes, Size
from ..images.resizing import as_rgb, place
from ..images.turning import degrees_of, turned
from ..recipe.records import ImageRecord
from ..settings import Framing
from .copies import pixels_digest, some

# Called with a stage's name, the number of images done and their total.
Progress = Callable[[str, int, int], None]

KEPT_BYTES = 1 << 28  # of prepared images, 1,700 of 224 x 224; further images are decoded a second time


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """An image that was read: its record for the recipe, and (H, W, 3) RGB as the extractor takes it.

    ``prepared`` is None if the images before it have taken ``KEPT_BYTES``; it is then read again to be extracted.
    """

    record: ImageRecord
    path: Path
    prepared: NDArray[np.uint8] | None


def prepare_images(
    named: Sequence[tuple[str, Path]],
    size: Size,
    framing: Framing,
    on_progress: Progress | None = None,
    *,
    ignore: NDArray[np.bool_] | None = None,
    shapes: FrameShapes | None = None,
) -> list[PreparedImage]:
    """Read images by name and path.

    Parameters
    ----------
    size
        (H, W) of the extractor's input.
    on_progress
        Called as ``on_progress("read", done, total)``.
    ignore
        (H, W) bool: what the recipe doesn't score; None: nothing.
    shapes
        The proportions that frames may have; None: any.

    Raises
    ------
    InputError
        An image that can't be read or prepared, or of other proportions; the text names it.
    """
    images, by_exif, kept = [], [], 0
    for name, path in named:
        record, prepared, is_turned = _read(name, path, size, framing, ignore, shapes)
        if is_turned:
            by_exif.append(name)
        kept += prepared.nbytes
        images.append(PreparedImage(record, path, prepared if kept <= KEPT_BYTES else None))
        if on_progress:
            on_progress("read", len(images), len(named))
    if by_exif:
        text = (
            f"{len(by_exif)} of {len(named)} images have an EXIF orientation and were turned as a viewer shows them: "
        )
        warnings.warn(text + f"{some(by_exif)}; a camera's arrays must stand the same way", UserWarning, stacklevel=3)
    return images


def with_free_names(
    images: Sequence[PreparedImage], held: Collection[ImageRecord], *, rename: bool
) -> list[PreparedImage]:
    """Return the images under names that no held image has.

    Parameters
    ----------
    rename
        Whether an image whose name is taken gets the next free name: part.png, part-2.png, part-3.png.

    Raises
    ------
    InputError
        A name that is taken, without ``rename``.
    """
    known = {record.name for record in held}.intersection(image.record.name for image in images)
    if known and not rename:
        raise InputError(
            f"images: expected names that the recipe doesn't hold yet, got {some([repr(n) for n in sorted(known)])}: "
            "--rename adds them under free names, spadeline remove takes the old ones out"
        )
    taken = {record.name for record in [*held, *(image.record for image in images)]}
    renamed = []
    for image in images:
        name = image.record.name
        if name in known:
            name = _free_name(name, taken)
            taken.add(name)
        renamed.append(replace(image, record=replace(image.record, name=name)))
    return renamed


def _free_name(name: str, taken: Collection[str]) -> str:
    path = PurePosixPath(name)
    candidates = (str(path.with_name(f"{path.stem}-{number}{path.suffix}")) for number in count(2))
    return next(candidate for candidate in candidates if candidate not in taken)


def extract(
    images: Sequence[PreparedImage],
    extractor: Extractor,
    framing: Framing,
    on_progress: Progress | None = None,
    *,
    ignore: NDArray[np.bool_] | None = None,
    angles: int = 1,
    stage: str = "extract",
) -> Iterator[tuple[ImageRecord, Features]]:
    """Extract images one by one, each at a number of angles; ``ignore`` is the mask that they were prepared with.

    Raises
    ------
    InputError
        A file that was changed after it was read.
    ExtractorError
        As :meth:`.Extractor.extract`.
    """
    for index, image in enumerate(images):
        prepared = image.prepared
        if prepared is None:
            record, prepared, _ = _read(image.record.name, image.path, extractor.input_size, framing, ignore)
            if record != image.record:
                raise _changed(image)
        yield image.record, extractor.extract(prepared[None])
        if angles > 1:
            for record, prepared in _turned(image, extractor.input_size, framing, ignore, angles):
                yield record, extractor.extract(prepared[None])
        if on_progress:
            on_progress(stage, index + 1, len(images))


def _turned(
    image: PreparedImage, size: Size, framing: Framing, ignore: NDArray[np.bool_] | None, angles: int
) -> Iterator[tuple[ImageRecord, NDArray[np.uint8]]]:
    """Yield an image's record and pixels at all angles but 0; the whole frame is turned, before it is placed."""
    picture = read_picture(image.path)
    rgb = as_rgb(picture.pixels)
    if picture.sha256 != image.record.sha256:
        raise _changed(image)
    for degrees in degrees_of(angles):
        prepared, _ = place(turned(rgb, degrees), size, framing=framing)
        yield image.record.turned(degrees, frame_facts(prepared, ignore)), prepared


def _changed(image: PreparedImage) -> InputError:
    return InputError(f"{image.path}: expected the image that was read before, got another: it was changed")


def _read(
    name: str,
    path: Path,
    size: Size,
    framing: Framing,
    ignore: NDArray[np.bool_] | None,
    shapes: FrameShapes | None = None,
) -> tuple[ImageRecord, NDArray[np.uint8], bool]:
    """Return an image's record, the image as the extractor takes it, and whether EXIF's orientation turned it."""
    picture = read_picture(path)
    rgb = as_rgb(picture.pixels)
    frame_size = rgb.shape[0], rgb.shape[1]
    try:
        if shapes is not None:
            shapes.check(frame_size)
        prepared, _ = place(rgb, size, framing=framing)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    facts = frame_facts(prepared, ignore)
    record = ImageRecord(name, picture.sha256, pixels_digest(rgb), size=frame_size, facts=facts)
    return record, prepared, picture.turned
