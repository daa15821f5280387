"""The gallery as the matcher reads it: verified and held in memory, or mapped where its files lie.

A mapped file shows later writes: if it is written over, results change silently, and if it is cut off, a bus error ends
the process. So the gallery is held in memory, unless the user chooses mapping or memory has no room. Each process holds
its own copy, while processes on one machine share mapped files.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..checks import check_choice
from ..errors import InputError
from ..match.codes import LevelCodes
from ..resources import available_memory, processors
from .arrays import StoredArray
from .stored_codes import StoredCodes, read_basis

GalleryPlace = Literal["auto", "memory", "mapped"]
MOST_OF_AVAILABLE = 0.5  # share that "auto" takes: the extractor, the frames and other processes need memory, too


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldGallery:
    """The arrays that the matcher and the retrieval read.

    Attributes
    ----------
    place
        "memory", or "mapped": levels and codes then show what their files hold at each moment.
    embeddings
        (n, d) float32, read-only, always in memory.
    levels
        (n, rows, columns, 4**depth, c) in the cell-blocked layout, float32 or float16, read-only; finest first.
    codes
        The matcher's codes of each level, finest first, read-only. None: there are none, or they have another version.
    """

    place: Literal["memory", "mapped"]
    embeddings: NDArray[np.float32]
    levels: tuple[NDArray[np.floating], ...]
    codes: tuple[LevelCodes, ...] | None


class StoredGallery:
    """The gallery's files, held open.

    Attributes
    ----------
    embeddings, levels, codes
        The same as in :class:`HeldGallery`, on the disk.
    """

    def __init__(
        self, embeddings: StoredArray, levels: tuple[StoredArray, ...], codes: tuple[StoredCodes, ...] | None
    ) -> None:
        self.embeddings, self.levels, self.codes = embeddings, levels, codes
        self._held: weakref.ref[HeldGallery] | None = None

    def verify(self) -> None:
        """Read and check all files, in parallel. RecipeError names a file that was changed or isn't finite."""
        with ThreadPoolExecutor(processors()) as threads:
            list(threads.map(StoredArray.verify, self._arrays()))
        for codes in self.codes or ():
            read_basis(codes)

    def hold(self, place: GalleryPlace = "auto") -> HeldGallery:
        """Return the gallery in memory, or mapped. A gallery that is held already is returned again.

        Parameters
        ----------
        place
            "memory": the files are read, and the SHA-256 of each is compared. "mapped": levels and codes stay in their
            files, unverified. "auto": memory, if it takes no more than half of what is available; else mapped, with a
            warning.

        Raises
        ------
        InputError
            An unknown place, or a gallery that doesn't fit into memory.
        RecipeError
            A file was changed, or a basis of codes isn't one.
        """
        check_choice("gallery", place, get_args(GalleryPlace))
        held = self._held and self._held()
        if held and place in ("auto", held.place):
            return held
        in_memory = place != "mapped" and self._has_room(place)
        wanted = [array for array in self._arrays() if in_memory or array is self.embeddings]
        wanted.sort(key=lambda array: -array.nbytes)  # the largest array isn't left to the end, for one thread
        with ThreadPoolExecutor(processors()) as threads:
            read = dict(zip(map(id, wanted), threads.map(StoredArray.in_memory, wanted), strict=True))

        def ready(array: StoredArray) -> NDArray[Any]:
            return read[id(array)] if id(array) in read else array.mapped()

        def ready_codes(codes: StoredCodes) -> LevelCodes:
            projected, rotated = (None if array is None else ready(array) for array in codes[1:])
            return LevelCodes(read_basis(codes), projected, rotated)

        gallery = HeldGallery(
            place="memory" if in_memory else "mapped",
            embeddings=ready(self.embeddings),
            levels=tuple(map(ready, self.levels)),
            codes=None if self.codes is None else tuple(map(ready_codes, self.codes)),
        )
        self._held = weakref.ref(gallery)
        return gallery

    def _arrays(self) -> Iterator[StoredArray]:
        """Yield all arrays except the bases, which are small and are read along with their checks."""
        yield self.embeddings
        yield from self.levels
        for codes in self.codes or ():
            yield from (array for array in codes[1:] if array is not None)

    def _has_room(self, place: GalleryPlace) -> bool:
        needed, available = sum(array.nbytes for array in self._arrays()), available_memory()
        if place == "memory" and needed > available:
            raise InputError(
                f"gallery: expected one that fits into the {available / 1e6:.0f} MB of memory that are available, got "
                f"{needed / 1e6:.0f} MB; take gallery 'mapped', and never write into its files"
            )
        if place == "auto" and needed > MOST_OF_AVAILABLE * available:
            text = (
                f"gallery: {needed / 1e6:.0f} MB are more than half of the {available / 1e6:.0f} MB of memory that are "
                "available: its files are mapped, and must not be written into while it is in use"
            )
            warnings.warn(text, UserWarning, stacklevel=2)
            return False
        return True
