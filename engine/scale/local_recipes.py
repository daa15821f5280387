"""Recipes as a worker opens them: from its node's own disk, an address fetched once a node, one extractor for all.

All workers of a node map one copy of the gallery, so that they share its memory.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import cv2
import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from ..errors import InputError, RecipeError
from ..extract.extractor import Extractor, HostExtraction
from ..features import Features
from ..files import writing
from ..inspect.detector import Detector
from ..inspect.opening import open_on_host
from ..recipe.generations import MANIFEST_NAME, read_manifest
from ..recipe.held import GalleryPlace
from ..recipe.manifest import EXTRACTOR
from ..recipe.recipe import Recipe
from .addresses import failing_as, is_address, open_address, pyarrow
from .rows import recipe_facts

Recipes = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
CACHE = Path(tempfile.gettempdir()) / f"spadeline-recipes-{os.getuid()}"


class OpenedRecipe(NamedTuple):
    """A recipe ready to inspect, and the columns that tell which one a row is of."""

    detector: Detector
    facts: Mapping[str, Any]


class LocalRecipe(NamedTuple):
    """A recipe on this machine's disk.

    Attributes
    ----------
    name
        The name of its folder.
    recipe
        The recipe, opened for reading.
    sha256
        SHA-256 of its recipe.json.
    address
        Where it was fetched from; None: it was given by its path.
    """

    name: str
    recipe: Recipe
    sha256: str
    address: str | None


def find_recipes(recipes: Recipes, *, cache: str | os.PathLike[str] | None = None) -> list[LocalRecipe]:
    """Open recipes for reading, and fetch those at an address first.

    Parameters
    ----------
    recipes
        A folder or an address, or several.
    cache
        The folder to fetch into; None: a folder for temporary files.

    Raises
    ------
    InputError
        None, or two of one name.
    RecipeError
        Not a recipe, a damaged one, or an address that can't be read.
    OutputError
        The cache can't be written.
    DependencyError
        An address, and pyarrow isn't installed.
    """
    given = [recipes] if isinstance(recipes, str | os.PathLike) else list(recipes)
    if not given:
        raise InputError("recipes: expected at least one, got none")
    found = []
    for address_or_folder in given:
        text = os.fspath(address_or_folder)
        address = text if is_address(text) else None
        folder = _fetched(address, CACHE if cache is None else Path(cache)) if address else Path(text)
        name = PurePosixPath(address.partition("?")[0]).name if address else folder.resolve().name
        found.append(LocalRecipe(name, *_opened(folder), address))
    names = [local.name for local in found]
    if len(set(names)) != len(names):
        raise InputError(f"recipes: expected folders of different names, got {', '.join(names)}")
    return found


def _opened(folder: Path) -> tuple[Recipe, str]:
    """Return a recipe, and the SHA-256 of the recipe.json that it was opened from."""
    while True:
        digest = hashlib.sha256(read_manifest(folder)).hexdigest()
        recipe = Recipe.load(folder)
        if hashlib.sha256(read_manifest(folder)).hexdigest() == digest:  # no writer switched meanwhile
            return recipe, digest


def _fetched(address: str, cache: Path) -> Path:
    """Return a local copy of the recipe at an address. Of all processes of this machine, the first one makes it.

    The copy's name is the SHA-256 of recipe.json, so a recipe that has changed is fetched again. Its other files are
    checked when they are opened.

    Raises
    ------
    RecipeError
        The address can't be read.
    OutputError
        The cache can't be written.
    """
    with failing_as(RecipeError, address, "a recipe that can be read"):
        system, root = open_address(address)
        with system.open_input_stream(f"{root}/{MANIFEST_NAME}") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
    target = cache / digest
    with writing(cache):
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)  # nobody else may put recipes there
        with FileLock(cache / f"{digest}.lock"):
            if not target.is_dir():
                partial = cache / f"{digest}.{os.getpid()}.partial"
                try:
                    with failing_as(RecipeError, address, "a recipe that can be read"):
                        _copy(system, root, partial)
                    if hashlib.sha256(read_manifest(partial)).hexdigest() != digest:
                        raise RecipeError(f"{address}: expected a recipe that nobody changes while it is fetched")
                    partial.replace(target)
                finally:
                    shutil.rmtree(partial, ignore_errors=True)
    return target


def _copy(system: Any, root: str, target: Path) -> None:
    """Copy a recipe's files; what lies in folders there isn't the recipe's."""
    target.mkdir()
    fs = pyarrow().fs
    for file in system.get_file_info(fs.FileSelector(root)):
        if file.type == fs.FileType.File:
            fs.copy_files(file.path, str(target / file.base_name), system, fs.LocalFileSystem())


def open_recipes(recipes: Sequence[LocalRecipe], *, threads: int, gallery: GalleryPlace) -> list[OpenedRecipe]:
    """Open recipes for inspecting, on the CPU; those with the same extractor share it.

    Raises
    ------
    SpadelineError
        As :meth:`.Detector.load`.
    """
    extractors: dict[str, SharedExtractor] = {}
    opened = []
    for name, recipe, digest, _ in recipes:
        file = recipe.files[EXTRACTOR].sha256
        if file not in extractors:
            extractors[file] = SharedExtractor(recipe.extractor_file, device="cpu", threads=threads)
        chain = open_on_host(recipe, extractors[file], threads=threads, gallery=gallery)
        opened.append(OpenedRecipe(Detector(chain), recipe_facts(name, recipe, digest)))
    cv2.setNumThreads(threads)
    return opened


class SharedExtractor(Extractor):
    """An extractor whose chains share what it last extracted: recipes that prepare a frame alike share its features.

    One thread may use it at a time.
    """

    _shared: SharedExtraction | None = None

    def on_host(self) -> HostExtraction:
        """Return the one extraction that all chains have."""
        self._shared = self._shared or SharedExtraction(self)
        return self._shared


class SharedExtraction(HostExtraction):
    """An extraction that doesn't run the last image again.

    Recipes of different framings prepare other images, which are compared, not assumed to be equal.
    """

    _last: tuple[NDArray[np.uint8], Features] | None = None

    def extract(self, image: NDArray[np.uint8]) -> Features:
        """Return the features of an image; see :meth:`.HostExtraction.extract`."""
        if self._last is None or not np.array_equal(self._last[0], image):
            self._last = None  # what it held is overwritten, whether or not the graph runs
            self._last = image.copy(), super().extract(image)
        return self._last[1]
