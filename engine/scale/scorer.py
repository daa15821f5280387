"""What Ray Data runs in each worker: a class that opens recipes once and scores batches of images.

The images are read by our own decoder. Another one may give other pixels, and so other scores.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from ..checks import check_choice, check_integer
from ..errors import InputError, RecipeError
from ..images.decoding import MAX_FILE_BYTES, decode, read_file
from ..inspect.stream import FrameError, run_stream
from ..recipe.held import GalleryPlace
from ..resources import MOST_THREADS
from ..settings import Need
from .addresses import is_address, read_address
from .local_recipes import Recipes, find_recipes, open_recipes
from .rows import error_row, result_row, rows_of, schema, table


class RecipeScorer:
    """Scores batches of images with one recipe or several: a callable class for ``Dataset.map_batches``.

    Parameters
    ----------
    recipes
        A recipe's folder or several, on each node's disk; or addresses such as ``s3://bucket/recipe``, which each node
        fetches once.
    threads
        Threads of this worker; the same number as its ``num_cpus``. Ray tells libraries to take one, so it is given.
    need
        What the rows must be exact in, see :meth:`.Detector.predict`. None: as each recipe says.
    maps, masks
        Whether the rows hold the anomaly map, the mask.
    gallery
        As for :meth:`.Detector.load`. Mapped galleries are shared by all workers of a node.
    cache
        Where recipes are fetched to; None: a folder for temporary files.
    sha256
        Of each recipe's recipe.json, to be sure that all nodes have the same recipes. None: whatever is there.

    Raises
    ------
    InputError
        An option out of range, no recipe, or two of one name.
    RecipeError
        A recipe that can't be opened, or another one than ``sha256`` says.
    SpadelineError
        As :meth:`.Detector.load`.

    Examples
    --------
    >>> import ray  # doctest: +SKIP
    >>> ray.data.read_parquet("s3://archive/november").map_batches(  # doctest: +SKIP
    ...     RecipeScorer,
    ...     fn_constructor_kwargs={"recipes": "recipes/hazelnut", "threads": 1, "need": "label"},
    ...     compute=ray.data.ActorPoolStrategy(size=15),
    ...     num_cpus=1,
    ...     batch_size=32,
    ... ).write_parquet("scored")
    """

    def __init__(
        self,
        recipes: Recipes,
        *,
        threads: int = 1,
        need: Need | None = None,
        maps: bool = False,
        masks: bool = False,
        gallery: GalleryPlace = "mapped",
        cache: str | os.PathLike[str] | None = None,
        sha256: Sequence[str] | None = None,
    ) -> None:
        check_integer("threads", threads, low=1, high=MOST_THREADS)
        if need is not None:
            check_choice("need", need, get_args(Need))
        found = find_recipes(recipes, cache=cache)
        for local, wanted in zip(found, sha256 or (), strict=sha256 is not None):
            if local.sha256 != wanted:
                raise RecipeError(
                    f"{local.recipe.folder}: expected the recipe.json of SHA-256 {wanted}, got {local.sha256}: "
                    "each node must have the same recipe"
                )
        self._opened = open_recipes(found, threads=threads, gallery=gallery)
        self._need, self._maps, self._masks = need, maps, masks
        self._schema = schema(maps=maps, masks=masks)

    def __call__(self, batch: Any) -> Any:
        """Score a batch.

        Parameters
        ----------
        batch
            Rows with ``path``, the file or address of an image, or with ``bytes``, an image file's content, which
            ``path`` may name. In any of Ray Data's formats.

        Returns
        -------
        pyarrow.Table
            ``COLUMNS``, a row for each image and recipe. An image that can't be judged has a row with its error.

        Raises
        ------
        SpadelineError
            As :meth:`.Detector.predict`, except for errors of a single image.
        """
        images = rows_of(batch)
        return table(self._score(images), self._schema)

    def errors(self, batch: Any, error: InputError) -> Any:
        """Return the rows of images that can't be judged for one reason: as a call of the scorer returns them."""
        images = rows_of(batch)
        return table(
            (error_row(facts, image.get("path"), error) for image in images for _, facts in self._opened), self._schema
        )

    def _score(self, images: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """Score images while the next one is read."""

        def inspect(frame: Any) -> Any:
            if isinstance(frame, InputError):
                raise frame
            return [self._inspected(detector, frame) for detector, _ in self._opened]

        results = run_stream(inspect, map(read_image, images), workers=1)
        for image, outcome in zip(images, results, strict=True):
            path = image.get("path")
            if isinstance(outcome, FrameError):
                yield from (error_row(facts, path, _of_image(outcome.error)) for _, facts in self._opened)
                continue
            for (_, facts), result in zip(self._opened, outcome, strict=True):
                if isinstance(result, InputError):
                    yield error_row(facts, path, result)
                else:
                    yield result_row(facts, path, result, maps=self._maps, masks=self._masks)

    def _inspected(self, detector: Any, frame: Any) -> Any:
        """Return a frame's result, or why this recipe can't judge it: another one may."""
        try:
            return detector.predict(frame, need=self._need)
        except InputError as error:
            return error


def _of_image(error: Exception) -> InputError:
    """Return an error that one image is to blame for; raise any other."""
    if isinstance(error, InputError):
        return error
    raise error


def read_image(image: Mapping[str, Any]) -> Any:
    """Return an image's pixels, or the error that stands in its rows."""
    path = image.get("path")
    try:
        return decode(_content(path, image.get("bytes"), image), "bytes" if path is None else path)[0]
    except InputError as error:
        return error


def _content(path: str | None, content: bytes | None, image: Mapping[str, Any]) -> bytes:
    if content is not None:
        if len(content) > MAX_FILE_BYTES:
            raise InputError(f"{path}: expected at most {MAX_FILE_BYTES} bytes, got {len(content)}")
        return content
    if path is None:
        raise InputError(f"batch: expected path or bytes in each row, got columns {', '.join(sorted(image)) or 'none'}")
    return read_address(path) if is_address(path) else read_file(path)
