"""A recipe opened for reading: recipe.json and the files that it names, checked and held open.

Arrays can be read row by row. For inspecting, :mod:`.held` holds them in memory. Recipes are created and changed in
:mod:`.changes`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..checks import check_integer
from ..errors import InputError, RecipeError
from ..features import Features
from ..files import HeldFile, OpenedFile
from ..match.cells import from_cells
from ..settings import Settings, all_settings
from .arrays import StoredArray
from .gallery import EMBEDDINGS
from .generations import MANIFEST_NAME, read_manifest
from .held import StoredGallery
from .ignore import IGNORE, open_ignore
from .manifest import EXTRACTOR, Manifest
from .manifest_json import manifest_from_json
from .stored_codes import StoredCodes, open_codes

BUILT_IN = tuple(setting.name for setting in all_settings() if setting.built_in)


@dataclass(frozen=True, kw_only=True, eq=False)
class Recipe(Manifest):
    """A recipe opened for reading: the content of recipe.json, and the files that it named at that moment, held open.

    The object stays the same if a writer changes the recipe afterwards. Load it again to see the change. If somebody
    writes over a file in place, that shows in this object, but not in a detector that holds the gallery in memory.

    Attributes
    ----------
    folder
        The recipe's folder.
    gallery
        Embeddings, levels and codes on the disk: see :class:`.held.StoredGallery`.
    ignore
        (H, W) bool, read-only: the pixels of the extractor's input that are not scored. None: all are scored.
    extractor
        The extractor's file.
    """

    folder: Path
    gallery: StoredGallery = field(repr=False, compare=False)
    ignore: NDArray[np.bool_] | None = field(repr=False)
    extractor: OpenedFile = field(repr=False, compare=False)

    @staticmethod
    def load(folder: str | os.PathLike[str], *, verify: bool = False) -> Recipe:
        """Open a recipe.

        Sizes, shapes and number types of all files are always checked, before any memory is allocated. When the
        extractor is read, or the gallery is read into memory, its SHA-256 is compared.

        Parameters
        ----------
        folder
            The recipe.
        verify
            Also read every file: compare its SHA-256, and check that all features are finite and that the stored
            scores give the thresholds.

        Raises
        ------
        RecipeError
            Not a recipe, of another version, or damaged; the text names the file.
        """
        folder = Path(folder)
        encoded = read_manifest(folder)
        while True:
            try:
                return open_recipe(folder, manifest_from_json(encoded, folder / MANIFEST_NAME), verify=verify)
            except RecipeError:
                # A writer may have switched since recipe.json was read, and removed the files that it named.
                current = read_manifest(folder)
                if current == encoded:
                    raise
                encoded = current

    @property
    def embeddings(self) -> StoredArray:
        """(n, d) float32, on the disk."""
        return self.gallery.embeddings

    @property
    def levels(self) -> tuple[StoredArray, ...]:
        """(n, rows, columns, 4**depth, c) in the cell-blocked layout, on the disk; finest first."""
        return self.gallery.levels

    @property
    def codes(self) -> tuple[StoredCodes, ...] | None:
        """The matcher's codes of each level, on the disk, finest first. None: there are none of this version."""
        return self.gallery.codes

    @cached_property
    def extractor_file(self) -> HeldFile:
        """The extractor's ONNX file, verified and in memory. No change to the file reaches it."""
        return self.extractor.held()

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
        """Return the recipe with other settings, in memory alone. Its thresholds are still those of the old settings.

        Raises
        ------
        InputError
            A change of framing, angles or storage, which the stored features depend on.
        """
        for name in BUILT_IN:
            own, new = getattr(self.settings, name), getattr(settings, name)
            if new != own:
                raise InputError(
                    f"{name}: expected {own!r:.100}, which is built into the stored features, got {new!r:.100}"
                )
        return replace(self, settings=settings)

    def features(self, index: int | np.integer) -> Features:
        """Return the stored features of an image as float32: levels (1, c, h, w) and embedding (1, d).

        Raises
        ------
        InputError
            There is no image of that index.
        """
        index = (
            int(index) if isinstance(index, np.integer) else index
        )  # nearest_images of a Result holds NumPy's integers
        check_integer("index", index, low=0, high=len(self.images) - 1)
        levels = (
            from_cells(level[index][None].astype(np.float32), height, width)
            for level, (_, height, width) in zip(self.levels, self.level_shapes, strict=True)
        )
        return Features(tuple(levels), self.embeddings[index][None])


def open_recipe(folder: Path, manifest: Manifest, *, verify: bool, kept_in: Path | None = None) -> Recipe:
    """Open the files that a manifest names, whether or not it is already the content of recipe.json.

    Extractor and mask may lie in another folder, ``kept_in``, since a new generation keeps them.
    """
    kept_in = folder if kept_in is None else kept_in
    if verify:
        _check_thresholds(folder / MANIFEST_NAME, manifest)
    files, geometry, count = manifest.files, manifest.geometry, len(manifest.images)
    layouts = geometry.arrays(count, manifest.settings.storage)
    extractor = OpenedFile(kept_in / files[EXTRACTOR].name, files[EXTRACTOR])
    arrays = {role: StoredArray(folder, files[role], layout) for role, layout in layouts.items()}
    gallery = StoredGallery(
        embeddings=arrays[EMBEDDINGS],
        levels=tuple(arrays[name] for name in geometry.level_names),
        codes=open_codes(folder, files, geometry, count) if manifest.has_codes else None,
    )
    if verify:
        extractor.verify()
        gallery.verify()
    return Recipe(
        **vars(manifest),
        folder=folder,
        gallery=gallery,
        ignore=open_ignore(kept_in, files[IGNORE], geometry.input_size) if IGNORE in files else None,
        extractor=extractor,
    )


def _check_thresholds(path: Path, manifest: Manifest) -> None:
    """Raise RecipeError unless the stored scores give the thresholds. This finds damage in files without own hash."""
    made = manifest.calibration
    if made is None:
        return
    for name, threshold, scores in (("tau", made.tau, made.image_scores), ("theta", made.theta, made.map_scores)):
        try:
            threshold.check_made_from(scores)
        except InputError as error:
            raise RecipeError(f"{path}: {name}: {error}; make the thresholds anew with: spadeline calibrate") from error
