"""Memory of workers that share a large gallery, mapped from the recipe's files, beside one in each worker's memory."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from spadeline.engine import Recipe
from spadeline.engine.extract.extractor import Extractor
from spadeline.engine.recipe.held import GalleryPlace
from spadeline.engine.resources import available_memory, processors
from spadeline.engine.settings import Need

from scale_parts import scored
from scale_parts.archive import write_again
from scale_parts.plain import SIZES, plain
from shared_parts.again import add_again

FREE_SHARE = 1.2  # of the memory that the galleries take: workers and Ray need some themselves
PLACES: tuple[GalleryPlace, ...] = ("mapped", "memory")
NEED: Need = "map"  # it reads more of the gallery than mask and label do


def measure(
    recipe: Recipe, paths: Sequence[Path], folder: Path, *, images: int, frames: int, workers: Sequence[int]
) -> dict[str, Any]:
    """Return what workers hold of the memory with a gallery of so many images, at the end of a run.

    Parameters
    ----------
    recipe
        Is copied, and grows by the images of ``paths`` as if they were taken again.
    frames
        Normal images to score, each another view: together they find most of the gallery.
    """
    large = enlarged(recipe, paths, folder / "large", images)
    source = folder / "normal"
    views = write_again(paths, source, frames)
    size = sum(level.nbytes for level in large.levels)
    rows, left_out = [], {}
    for place in PLACES:
        for count in workers:
            if place == "memory" and FREE_SHARE * count * size > (free := available_memory()):
                left_out[f"memory, {count} workers"] = (
                    f"{count} galleries of {size / 1e9:.1f} GB don't fit into {free / 1e9:.1f} GB"
                )
                continue
            run = scored.run(large.folder, source, workers=count, need=NEED, worker=scored.Weighed, gallery=place)
            rows.append({"gallery": place, "kind": "Ray", "workers": count, "each": list(_last(run))})
    with plain(large.folder, 1) as alone:
        alone.inspect(views, NEED)
        rows.append({"gallery": "mapped", "kind": "plain", "workers": 1, "each": alone.memory()})
    return {"gallery_images": len(large.images), "gallery_bytes": size, "frames": frames, "rows": rows} | {
        "left_out": left_out
    }


def enlarged(recipe: Recipe, paths: Sequence[Path], folder: Path, count: int) -> Recipe:
    """Return a copy of a recipe that holds so many images, or as many as it has if these are more."""
    shutil.copytree(recipe.folder, folder)
    opened = Extractor(recipe.extractor_file, device="cpu", threads=processors())
    return add_again(Recipe.load(folder), paths, count, opened=opened)


def _last(run: scored.Run) -> Iterator[dict[str, int]]:
    """Yield each worker's memory after its last batch."""
    columns = (run.rows[name] for name in ("worker", "end_s", *SIZES))
    last: dict[int, tuple[float, list[int]]] = {}
    for worker, end, *sizes in zip(*columns, strict=True):
        if worker not in last or last[worker][0] < end:
            last[worker] = end, sizes
    for _, sizes in last.values():
        yield dict(zip(SIZES, sizes, strict=True))
