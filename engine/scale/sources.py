"""Where the images come from: files of a folder or below an address, or rows of Parquet files. Nothing is decoded here.

A source names every image once: by its path or address, or in the column ``path``. So what is written of it can be
found again, and a run can be taken up where it ended.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..checks import check_unique
from ..errors import InputError
from ..folders.listing import IMAGE_SUFFIXES, named_images
from ..optional import imported
from .addresses import RAY, failing_as, files_below, is_address, open_address, pyarrow

PARQUET = ".parquet"


@dataclass(frozen=True)
class Source:
    """Images to score.

    Attributes
    ----------
    paths
        What names each image; it comes once.
    parquet
        The Parquet files that hold the images, or their paths. None: ``paths`` are the images' files.
    """

    paths: Sequence[str]
    parquet: tuple[str, ...] | None = None

    def dataset(self, *, without: Collection[str], together: int) -> Any:
        """Return a dataset of Ray's: rows with path, and with bytes if the source has them.

        Parameters
        ----------
        without
            Paths that are left out.
        together
            Images in one task.
        """
        data, arrow = imported("ray.data", RAY), pyarrow()
        if self.parquet is None:
            paths = [path for path in self.paths if path not in without]
            return data.from_arrow(
                [
                    arrow.table({"path": arrow.array(paths[first : first + together], arrow.string())})
                    for first in range(0, len(paths), together)
                ]
            )
        groups = [(file, group) for file in self.parquet for group in range(_groups_in(file))]
        left_out = imported("ray", RAY).put(arrow.array(sorted(without), arrow.string()))
        # Not by Ray's own reader of Parquet files: it gives up if a node dies while it looks at the files.
        return data.from_arrow([arrow.table({"file": [file], "group": [group]}) for file, group in groups]).map_batches(
            _read_group, fn_args=[together, left_out], batch_size=1, batch_format="pyarrow"
        )


def find_source(source: str | os.PathLike[str]) -> Source:
    """Find the images of a source.

    Parameters
    ----------
    source
        An image, a folder of images, or Parquet files with the columns ``path`` and ``bytes``, or ``path`` alone; each
        by its path or its address. In a folder with images, Parquet files aren't read.

    Raises
    ------
    InputError
        No image, a source that can't be read, or an image that is named twice.
    """
    text = os.fspath(source)
    files = files_below(text) if is_address(text) else _local_files(Path(text))
    images = [file for file in files if PurePosixPath(file.partition("?")[0]).suffix.lower() in IMAGE_SUFFIXES]
    if images:
        return Source(images)
    parquet = tuple(file for file in files if file.partition("?")[0].endswith(PARQUET))
    if not parquet:
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
        raise InputError(f"{text}: expected images ({suffixes}) or Parquet files ({PARQUET}), got none")
    paths = [path for file in parquet for path in _paths_in(file)]
    if not paths:
        raise InputError(f"{text}: expected rows in its Parquet files, got none")
    check_unique(f"{text}: path", paths)
    return Source(paths, parquet)


def _local_files(place: Path) -> list[str]:
    """Return the images of a folder as our own reader finds them, else its Parquet files; by absolute paths.

    Workers have other working folders.
    """
    place = Path(os.path.abspath(place))  # noqa: PTH100 - Path.absolute keeps "..", and resolve follows links
    if place.is_dir():
        tables = sorted(path for path in place.rglob(f"*{PARQUET}") if path.is_file())
        try:
            paths = [path for _, path in named_images(place)]
        except InputError:
            if not tables:
                raise
            paths = tables
    elif place.is_file():
        paths = [place]
    else:
        raise InputError(f"{place}: expected an image, a folder or a Parquet file, got no such path")
    # A name that isn't UTF-8 can't stand in a table. Written so, it leads to no file, and its row says so.
    return [str(path).encode("utf-8", "backslashreplace").decode() for path in paths]


def _paths_in(file: str) -> Iterator[str]:
    with failing_as(InputError, file, "a Parquet file"), open_parquet(file) as parquet:
        _columns(file, parquet)
        for group in parquet.iter_batches(columns=["path"]):
            for path in group.column("path").to_pylist():
                if not isinstance(path, str):
                    raise InputError(f"{file}: expected a text in each row of column path, got {path!r:.100}")
                yield path


def _columns(file: str, parquet: Any) -> list[str]:
    """Return the columns of an opened Parquet file that are read. InputError if it doesn't name its images."""
    names = parquet.schema_arrow.names
    if "path" not in names:
        raise InputError(
            f"{file}: expected the columns path and bytes, or path alone, got {', '.join(names) or 'none'}"
        )
    return [name for name in ("path", "bytes") if name in names]


def open_parquet(file: str) -> Any:
    """Open a Parquet file by its path or address. Errors are pyarrow's."""
    system, path = _opened(file)
    return imported("pyarrow.parquet", RAY).ParquetFile(path, filesystem=system)


def _opened(file: str) -> tuple[Any, str]:
    """Return the file system of a path or an address, and the path there."""
    return open_address(file) if is_address(file) else (pyarrow().fs.LocalFileSystem(), str(Path(file).absolute()))


def _groups_in(file: str) -> int:
    with failing_as(InputError, file, "a Parquet file"), open_parquet(file) as parquet:
        count: int = parquet.num_row_groups
        return count


def _read_group(batch: Any, together: int, left_out: Any) -> Iterator[Any]:
    """Read a group of rows of a Parquet file, and yield so many of them at once, except those that are left out."""
    compute = imported("pyarrow.compute", RAY)
    ((file, group),) = zip(batch["file"].to_pylist(), batch["group"].to_pylist(), strict=True)
    with open_parquet(file) as parquet:
        rows = parquet.read_row_group(group, columns=_columns(file, parquet))
    rows = rows.filter(compute.invert(compute.is_in(rows["path"], value_set=imported("ray", RAY).get(left_out))))
    yield from (rows.slice(first, together) for first in range(0, len(rows), together))
