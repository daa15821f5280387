"""A recipe opened for reading: recipe.json and the arrays that it names, checked and mapped into memory.

Nothing is written here: :mod:`.recipe` creates and changes recipes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .arrays import check_finite, open_array
from .cells import from_cells
from .checks import check_integer
from .codes import LevelCodes
from .derived import open_codes
from .errors import InputError, RecipeError
from .extractor import Features
from .files import HeldFile, check_stored, reading
from .gallery import EMBEDDINGS
from .generations import MANIFEST_NAME, read_manifest
from .ignore import IGNORE, open_ignore
from .manifest import EXTRACTOR, Manifest, from_json
from .settings import Settings

BUILT_IN = ("framing", "storage")  # the stored features depend on these settings


@dataclass(frozen=True, kw_only=True, eq=False)
class Recipe(Manifest):
    """A recipe opened for reading: what recipe.json says, and the arrays that it named at that moment.

    Arrays and extractor stay as they are even if a writer changes the recipe afterwards; load again to see that.

    Attributes
    ----------
    folder
        Where it lies.
    extractor_file
        The extractor's ONNX file, held open.
    embeddings
        (n, d) float32, mapped read-only.
    levels
        (n, rows, columns, 4**depth, c) in the cell-blocked layout, float32 or float16, mapped read-only;
        finest first.
    codes
        The matcher's codes of each level, finest first, mapped read-only; None: there are none, or of another version.
    ignore
        (H, W) bool, mapped read-only: the pixels of the extractor's input that are not scored; None: all are.
    """

    folder: Path
    extractor_file: HeldFile = field(repr=False)
    embeddings: NDArray[np.float32] = field(repr=False)
    levels: tuple[NDArray[np.floating], ...] = field(repr=False)
    codes: tuple[LevelCodes, ...] | None = field(repr=False)
    ignore: NDArray[np.bool_] | None = field(repr=False)

    @staticmethod
    def load(folder: str | os.PathLike[str], *, verify: bool = False) -> Recipe:
        """Open a recipe.

        Sizes, shapes and number types of all files are always checked, before any memory is asked for.

        Parameters
        ----------
        folder
            The recipe.
        verify
            Also read every file through: compare its SHA-256, and see that all features are finite and that the
            thresholds are those that the stored scores give.

        Raises
        ------
        RecipeError
            Not a recipe, of another version, or damaged; the text names the file.
        """
        folder = Path(folder)
        encoded = read_manifest(folder)
        while True:
            try:
                return open_recipe(folder, from_json(encoded, folder / MANIFEST_NAME), verify=verify)
            except RecipeError:
                # A writer may have switched since recipe.json was read, and swept the files that it named.
                current = read_manifest(folder)
                if current == encoded:
                    raise
                encoded = current

    @property
    def extractor_path(self) -> Path:
        """The extractor's ONNX file."""
        return self.folder / self.files[EXTRACTOR].name

    @property
    def input_size(self) -> tuple[int, int]:
        """(H, W) of the extractor's input."""
        return self.geometry.input_size

    @property
    def level_names(self) -> tuple[str, ...]:
        """The levels' names, finest first."""
        return self.geometry.level_names

    @property
    def level_shapes(self) -> tuple[tuple[int, int, int], ...]:
        """(c, h, w) of each level, finest first."""
        return self.geometry.level_shapes

    def with_settings(self, settings: Settings) -> Recipe:
        """Return the recipe with other settings, in memory alone; its thresholds are those of the old ones.

        Raises
        ------
        InputError
            A change of framing or storage, which the stored features depend on.
        """
        for name in BUILT_IN:
            own, new = getattr(self.settings, name), getattr(settings, name)
            if new != own:
                raise InputError(f"{name}: expected {own!r}, which is built into the stored features, got {new!r}")
        return replace(self, settings=settings)

    def features(self, index: int | np.integer) -> Features:
        """Return what was stored of one image as float32: levels (1, c, h, w) and embedding (1, d).

        Raises
        ------
        InputError
            There is no image of that index.
        """
        index = int(index) if isinstance(index, np.integer) else index  # as in a Result's nearest_images
        check_integer("index", index, low=0, high=len(self.images) - 1)
        rows = slice(index, index + 1)
        levels = (
            from_cells(np.array(level[rows], np.float32), height, width)
            for level, (_, height, width) in zip(self.levels, self.level_shapes, strict=True)
        )
        return Features(tuple(levels), np.array(self.embeddings[rows]))


def open_recipe(folder: Path, manifest: Manifest, *, verify: bool) -> Recipe:
    """Open the files that a manifest names, whether or not recipe.json already holds it."""
    if verify:
        _check_thresholds(folder / MANIFEST_NAME, manifest)
    extractor = folder / manifest.files[EXTRACTOR].name
    with reading(extractor) as file:
        check_stored(file, extractor, manifest.files[EXTRACTOR], verify=verify)
        held = HeldFile(extractor, os.dup(file.fileno()))
    files, geometry, count = manifest.files, manifest.geometry, len(manifest.images)
    layouts = geometry.arrays(count, manifest.settings.storage)
    arrays = {role: open_array(folder, files[role], layout, verify=verify) for role, layout in layouts.items()}
    if verify:
        for role, array in arrays.items():
            check_finite(folder / files[role].name, array)
    return Recipe(
        **vars(manifest),
        folder=folder,
        extractor_file=held,
        embeddings=arrays[EMBEDDINGS],
        levels=tuple(arrays[name] for name in geometry.level_names),
        codes=open_codes(folder, files, geometry, count, verify=verify) if manifest.has_codes else None,
        ignore=open_ignore(folder, files[IGNORE], geometry.input_size, verify=verify) if IGNORE in files else None,
    )


def _check_thresholds(path: Path, manifest: Manifest) -> None:
    """Raise RecipeError unless the stored scores give the thresholds; a recipe.json without its own hash needs it."""
    made = manifest.calibration
    if made is None:
        return
    for name, threshold, scores in (("tau", made.tau, made.image_scores), ("theta", made.theta, made.map_scores)):
        try:
            threshold.check_made_from(scores)
        except InputError as error:
            raise RecipeError(f"{path}: {name}: {error}; make the thresholds anew with: spadeline calibrate") from error
