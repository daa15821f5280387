"""What the one process that takes and writes all rows can do: workers hand it ready rows, and compute nothing.

The rate is a lower bound, since workers and driver share this machine's cores.
"""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spadeline.engine.optional import imported
from spadeline.engine.scale import RecipeScorer, run
from spadeline.engine.scale.addresses import RAY, pyarrow
from spadeline.engine.scale.cluster import connected
from spadeline.engine.scale.description import Description
from spadeline.engine.scale.local_recipes import find_recipes
from spadeline.engine.scale.sources import Source
from spadeline.engine.scale.written import open_written
from spadeline.engine.settings import Need

BLOCK = run.MOST_TOGETHER  # images
FEW = 16  # images with maps: what one takes hardly differs


class Ready:
    """A worker that has its rows already; each batch gets the paths of its images.

    Parameters
    ----------
    rows
        At least as many as a batch has images.
    """

    def __init__(self, rows: Any) -> None:
        self._rows = rows

    def __call__(self, batch: Any) -> Any:
        """Return a batch's rows."""
        rows = self._rows.slice(0, len(batch))
        return rows.set_column(rows.schema.get_field_index("path"), "path", batch["path"])


def measure(recipe: Path, paths: Sequence[Path], *, images: int, workers: int, need: Need) -> dict[str, Any]:
    """Take and write the rows of so many images; return the rate, the process's own time, and the bytes of a map."""
    scorer = RecipeScorer(recipe, need=need)
    rows = scorer(_batch([str(paths[index % len(paths)]) for index in range(BLOCK)]))
    names = [f"/archive/of/images/{index:09}.png" for index in range(images)]
    used = tuple(map(run._used, find_recipes(recipe)))  # noqa: SLF001 - described as a run of score is
    description = Description(source="drawn", recipes=used, need=need, maps=False, masks=False)
    looks: list[tuple[float, float, int]] = []
    writing_s = 0.0
    with (
        tempfile.TemporaryDirectory(prefix="spadeline-scale-") as folder,
        connected(None, workers=workers, threads=1),
        open_written(Path(folder), description, resume=False) as written,
    ):
        data = imported("ray.data", RAY)
        blocks = (
            Source(names)
            .dataset(without=(), together=BLOCK)
            .map_batches(
                Ready,
                fn_constructor_args=[rows],
                batch_size=BLOCK,
                batch_format="pyarrow",
                num_cpus=1,
                compute=data.ActorPoolStrategy(min_size=1, max_size=workers, initial_size=workers),
            )
            .iter_batches(batch_size=None, batch_format="pyarrow")
        )
        for block in blocks:
            start = time.perf_counter()
            written.add(block)
            end = time.perf_counter()
            writing_s += end - start
            looks.append((end, time.process_time(), len(written.paths)))
        counts = written.finish()
    if counts.images != images:
        raise SystemExit(f"expected rows for {images} images, got {counts.images}")
    (begin_s, begin_own_s, begun), (end_s, end_own_s, done) = looks[0], looks[-1]
    return {
        "images": images,
        "block_images": BLOCK,
        "images_per_s": (done - begun) / (end_s - begin_s),
        "own_s_per_image": (end_own_s - begin_own_s) / (done - begun),
        "writing_s_per_image": writing_s / images,
        "map_bytes_per_image": _bytes_with_maps(recipe, paths[:FEW], need),
    }


def _batch(paths: Sequence[str]) -> Any:
    return pyarrow().table({"path": paths})


def _bytes_with_maps(recipe: Path, paths: Sequence[Path], need: Need) -> float:
    """Return the bytes of an image's row in a Parquet file as ``score`` writes it, with the anomaly map."""
    content = io.BytesIO()
    rows = RecipeScorer(recipe, need=need, maps=True)(_batch([str(path) for path in paths]))
    imported("pyarrow.parquet", RAY).write_table(rows, content, compression="zstd")
    return len(content.getvalue()) / len(paths)
