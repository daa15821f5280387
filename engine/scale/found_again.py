"""A few images of a run, found again: their pixels in the source, and their anomaly maps in what was written.

Columns of paths are read through, but images and maps only where one that is wanted lies.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..optional import imported
from .addresses import RAY, failing_as, files_below, is_address, pyarrow
from .comparing import Side
from .scorer import read_image
from .sources import PARQUET, open_parquet
from .written import parts_in

Pixels = NDArray[np.uint8]


def find_images(source: str, paths: Collection[str]) -> dict[str, Pixels | InputError]:
    """Return images' pixels, or why they can't be read, by path.

    An image is taken from the source's Parquet files if these hold it, else from its own file or address.

    Parameters
    ----------
    source
        What was scored.
    paths
        As the rows name the images.
    """
    place = source.partition("?")[0].rstrip("/") if is_address(source) else str(Path(source))
    elsewhere = [path for path in paths if not path.startswith(place)]  # a folder's images have its path before theirs
    contents: dict[str, bytes] = {}
    if elsewhere:
        try:
            files = _parquet_files(source)
            for row in _rows(files, ("path", "bytes"), elsewhere):
                contents[row["path"]] = row["bytes"]
        except InputError as error:
            return dict.fromkeys(paths, error)
    return {path: read_image({"path": path, "bytes": contents.get(path)}) for path in paths}


def find_maps(side: Side, paths: Collection[str]) -> dict[str, NDArray[np.float32]]:
    """Return the anomaly maps that a run wrote, by path; only those that are exact.

    Raises
    ------
    InputError
        The rows can't be read.
    """
    if not side.maps:
        return {}
    files = map(str, parts_in(Path(side.rows)).values())
    rows = _rows(files, ("path", "need", "decided", "map"), paths)
    return {row["path"]: np.array(row["map"], np.float32) for row in rows if row["need"] == "map" and row["decided"]}


def _rows(files: Iterable[str], columns: Collection[str], paths: Collection[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of some images in Parquet files; none of a file that lacks one of the columns."""
    compute, wanted = imported("pyarrow.compute", RAY), pyarrow().array(list(paths))
    for file in files:
        with failing_as(InputError, file, "a Parquet file"), open_parquet(file) as parquet:
            if not set(columns) <= set(parquet.schema_arrow.names):
                continue
            for group in range(parquet.num_row_groups):
                named = parquet.read_row_group(group, columns=["path"])["path"]
                places = compute.indices_nonzero(compute.is_in(named, value_set=wanted))
                if len(places):
                    yield from parquet.read_row_group(group, columns=list(columns)).take(places).to_pylist()


def _parquet_files(source: str) -> list[str]:
    if is_address(source):
        files = files_below(source)
    else:
        place = Path(source)
        files = [str(path) for path in sorted(place.rglob(f"*{PARQUET}"))] if place.is_dir() else [source]
    return [file for file in files if file.partition("?")[0].endswith(PARQUET)]
