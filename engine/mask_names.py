"""Which file marks the defect of which image, by their names alone.

An image's mask has the image's stem, with or without an ending such as ``_mask``, and any image's suffix; or several
masks lie in a folder of that name, one for each defect (MVTec LOCO). Two candidates are an error, since either may be
the wrong one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from .errors import InputError
from .folder_roles import folded, role_of_name
from .listing import walk

ENDINGS = ("_mask", "_gt", "_label", "_ground_truth")
_ENDING = re.compile(r"[ _.-](masks?|gt|labels?|ground[ _.-]?truth)$", re.IGNORECASE)


def looked_for(image: Path) -> str:
    """Return the names that an image's mask may have, for an error's text."""
    stems = ", ".join(f"{image.stem}{ending}" for ending in ENDINGS)
    return f"{image.stem}, {stems} with an image's suffix, or masks in a folder {image.stem}"


def beside(paths: Iterable[Path]) -> dict[Path, Path]:
    """Return the files that are masks of another file in their folder, by its name with an ending: mask to image."""
    paths = list(paths)
    by_stem: dict[tuple[Path, str | None], Path] = {(path.parent, path.stem): path for path in paths}
    found = {path: by_stem.get((path.parent, _without_ending(path.stem))) for path in paths}
    return {mask: image for mask, image in found.items() if image is not None}


def masks_in(folder: Path, kinds: Mapping[Path, Sequence[Path]]) -> tuple[dict[Path, tuple[Path, ...]], set[Path]]:
    """Find the masks of abnormal images in a folder of masks.

    Parameters
    ----------
    folder
        Holds masks in a folder named as each kind's, or directly, below the same folders as the images.
    kinds
        The folders of abnormal images, each with its images.

    Returns
    -------
    tuple
        Each image's masks, for those that have any; and the masks of no image, but for those of normal images.

    Raises
    ------
    InputError
        Two masks for an image, or two images for a mask.
    """
    files = [path for place in walk(folder) for path in place.images]
    named = {folded(kind.name) for kind in kinds}
    inside: dict[str, list[Path]] = {}  # by the kind's name; "" directly
    for path in files:
        first = path.relative_to(folder).parts[0]
        key = folded(first) if path.parent != folder and folded(first) in named else ""
        if path.parent == folder or key or role_of_name(first) != "normal":
            inside.setdefault(key, []).append(path)
    masks: dict[Path, tuple[Path, ...]] = {}
    image_of: dict[Path, Path] = {}
    for kind, images in kinds.items():
        key = folded(kind.name) if folded(kind.name) in inside else ""
        candidates = _by_image(inside.get(key, ()), folder, skip=1 if key else 0)
        for image in images:
            found = candidates.get((image.relative_to(kind).parent, image.stem), {})
            if len(found) > 1:
                raise InputError(f"{image}: expected one mask, got {' and '.join(str(path) for path in sorted(found))}")
            for mask in next(iter(found.values()), ()):
                if other := image_of.get(mask):
                    raise InputError(f"{mask}: expected the mask of one image, got {other} and {image}")
                image_of[mask] = image
                masks[image] = (*masks.get(image, ()), mask)
    return masks, {path for paths in inside.values() for path in paths} - image_of.keys()


def _by_image(files: Iterable[Path], folder: Path, *, skip: int) -> dict[tuple[Path, str], dict[Path, list[Path]]]:
    """Sort masks by the images that they may belong to: by relative folder and stem, to the masks of each candidate."""
    candidates: dict[tuple[Path, str], dict[Path, list[Path]]] = {}
    for path in files:
        relative = Path(*path.relative_to(folder).parts[skip:])
        for stem in {path.stem, _without_ending(path.stem)} - {None}:
            candidates.setdefault((relative.parent, str(stem)), {})[path] = [path]
        if relative.parent.name:
            group = candidates.setdefault((relative.parent.parent, relative.parent.name), {})
            group.setdefault(path.parent, []).append(path)
    return candidates


def _without_ending(stem: str) -> str | None:
    """Return the stem of the image whose mask has this one by its ending; None without one."""
    found = _ENDING.search(stem)
    return stem[: found.start()] if found else None
