"""Which file marks the defect of which image, by their names alone.

The mask of an image has the image's stem, with or without an ending such as ``_mask``, and the suffix of any image
format. Instead, several masks may lie in a folder of that name, one for each defect (MVTec LOCO). Two candidates are an
error, since either may be the wrong one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..errors import InputError
from .listing import walk
from .roles import folded, role_of_name

ENDINGS = ("_mask", "_gt", "_label", "_ground_truth")
_ENDING = re.compile(r"[ _.-](masks?|gt|labels?|ground[ _.-]?truth)$", re.IGNORECASE)


def find_masks(
    kinds: Mapping[Path, Sequence[Path]], folder: Path | None, *, each: bool
) -> dict[Path, tuple[Path, ...]]:
    """Find the masks of abnormal images.

    Parameters
    ----------
    kinds
        The folders of abnormal images, each with its files. Masks that lie beside their images are among the files.
    folder
        The folder of masks. They lie in a folder in it that is named as the kind's, or directly in it, and below the
        same folders as their images. None: there is no such folder.
    each
        Whether each image must have a mask. If not, each mask in the folder must have an image.

    Returns
    -------
    dict
        The masks of every image; empty for an image without. Masks that lie beside images are no images.

    Raises
    ------
    InputError
        An image without a mask or a mask without an image, where there must be one; two masks of an image, two images
        of a mask, or two images that differ in the suffix alone, since one may be the other's mask.
    """
    masks: dict[Path, tuple[Path, ...]] = {}
    image_beside: dict[Path, Path] = {}
    for files in kinds.values():
        found = masks_beside_images(files)
        image_beside |= found
        images = [path for path in files if path not in found]
        _check_stems(images)
        masks |= dict.fromkeys(images, ())
    unused = set() if folder is None else _match(folder, kinds, masks)
    for mask, image in image_beside.items():
        if masks.get(image):
            raise InputError(f"{image}: expected one mask, got {masks[image][0]} and {mask}")
        masks[image] = (mask,)
    lacking = next((image for image, found in masks.items() if not found), None)
    if each and lacking:
        raise InputError(f"{folder}: expected the mask of {lacking}, named {_looked_for(lacking)}; got none")
    if unused and not each:
        text = "expected an abnormal image of that name, without an ending such as _mask; got none"
        raise InputError(f"{min(unused)}: {text}")
    return masks


def masks_beside_images(paths: Iterable[Path]) -> dict[Path, Path]:
    """Return the files that have another file's name with an ending, and so are its masks: mask to image."""
    paths = list(paths)
    by_stem: dict[tuple[Path, str | None], Path] = {(path.parent, path.stem): path for path in paths}
    found = {path: by_stem.get((path.parent, _without_ending(path.stem))) for path in paths}
    return {mask: image for mask, image in found.items() if image is not None}


def _match(folder: Path, kinds: Mapping[Path, Sequence[Path]], masks: dict[Path, tuple[Path, ...]]) -> set[Path]:
    """Give each image its masks in a folder. Return the masks that fit no image, apart from those of normal images."""
    named = {folded(kind.name) for kind in kinds}
    masks_of_kind: dict[str, list[Path]] = {}  # by the name of the kind; "" for masks directly in the folder
    for path in (path for place in walk(folder) for path in place.images):
        first = path.relative_to(folder).parts[0]
        key = folded(first) if path.parent != folder and folded(first) in named else ""
        if path.parent == folder or key or role_of_name(first) != "normal":
            masks_of_kind.setdefault(key, []).append(path)
    image_of: dict[Path, Path] = {}
    for kind, files in kinds.items():
        key = folded(kind.name) if folded(kind.name) in masks_of_kind else ""
        candidates = _by_image(masks_of_kind.get(key, ()), folder, skip=1 if key else 0)
        for image in (path for path in files if path in masks):
            found = candidates.get((image.relative_to(kind).parent, image.stem), {})
            if len(found) > 1:
                raise InputError(f"{image}: expected one mask, got {' and '.join(str(path) for path in sorted(found))}")
            for mask in next(iter(found.values()), ()):
                if other := image_of.get(mask):
                    raise InputError(f"{mask}: expected the mask of one image, got {other} and {image}")
                image_of[mask] = image
                masks[image] = (*masks[image], mask)
    return {path for paths in masks_of_kind.values() for path in paths} - image_of.keys()


def _by_image(files: Iterable[Path], folder: Path, *, skip: int) -> dict[tuple[Path, str], dict[Path, list[Path]]]:
    """Sort masks by the images that they may belong to: by relative folder and stem, then by candidate."""
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
    """Return a mask's stem without its ending, which is its image's stem; None if it has no such ending."""
    found = _ENDING.search(stem)
    return stem[: found.start()] if found else None


def _check_stems(images: Sequence[Path]) -> None:
    seen: dict[Path, Path] = {}
    for path in images:
        if other := seen.get(path.with_suffix("")):
            raise InputError(
                f"{path}: expected one abnormal image of that name, got {other.name}, too; if one of them is a mask, "
                "move it into a folder ground_truth or masks"
            )
        seen[path.with_suffix("")] = path


def _looked_for(image: Path) -> str:
    stems = ", ".join(f"{image.stem}{ending}" for ending in ENDINGS)
    return f"{image.stem}, {stems} with an image's suffix, or masks in a folder {image.stem}"
