"""libspadeline.so through ctypes: structures and functions as spadeline.h declares them."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

OK, ARGUMENT, HANDLE, BUSY, RECIPE, EXTRACTOR, DEVICE, MEMORY, FAILED = range(9)
NEEDS = {None: 0, "map": 1, "mask": 2, "label": 3}
GALLERIES = {"auto": 0, "memory": 1, "mapped": 2}
COLORS = {"gray": 0, "rgb": 1, "bgr": 2, "rgba": 3, "bgra": 4}
REASONS = ("map", "image", "exposure", "contrast", "sharpness", "unlike")
INTEGER, POINTER = ctypes.c_int32, ctypes.c_void_p


class Region(ctypes.Structure):
    """spadeline_region."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("area", "top", "left", "bottom", "right", "peak_y", "peak_x")),
        ("score", ctypes.c_double),
    ]


class RawResult(ctypes.Structure):
    """spadeline_result."""

    _fields_ = [
        ("struct_size", ctypes.c_int64),
        ("pred_label", ctypes.c_int32),
        ("reasons", ctypes.c_uint32),
        ("need", ctypes.c_int32),
        ("decided", ctypes.c_int32),
        *((name, ctypes.c_double) for name in ("pred_score", "image_score", "map_score")),
        *((name, ctypes.c_int64) for name in ("map_height", "map_width")),
        ("anomaly_map", ctypes.POINTER(ctypes.c_float)),
        ("lower_map", ctypes.POINTER(ctypes.c_float)),
        ("pred_mask", ctypes.POINTER(ctypes.c_uint8)),
        ("region_count", ctypes.c_int64),
        ("regions", ctypes.POINTER(Region)),
        *((name, ctypes.c_int64) for name in ("grid_height", "grid_width", "kappa")),
        ("neighbours", ctypes.POINTER(ctypes.c_int32)),
        ("nearest_count", ctypes.c_int64),
        ("nearest_images", ctypes.POINTER(ctypes.c_int64)),
        *((f"{stage}_s", ctypes.c_double) for stage in ("prepare", "extract", "retrieve", "match", "map")),
        ("pairs", ctypes.c_int64),
        ("passed", ctypes.c_int64 * 4),
        *((name, ctypes.c_int64) for name in ("exact", "guarded_cells", "passes")),
        ("warning", ctypes.c_char_p),
    ]


SIGNATURES = {
    "spadeline_version": (ctypes.c_char_p, []),
    "spadeline_abi": (INTEGER, []),
    "spadeline_error": (ctypes.c_char_p, []),
    "spadeline_load": (INTEGER, [ctypes.c_char_p, INTEGER, INTEGER, INTEGER, POINTER]),
    "spadeline_free_recipe": (None, [POINTER]),
    "spadeline_describe": (INTEGER, [POINTER, POINTER]),
    "spadeline_image_count": (ctypes.c_int64, [POINTER]),
    "spadeline_image_name": (ctypes.c_char_p, [POINTER, ctypes.c_int64]),
    "spadeline_open": (INTEGER, [POINTER, INTEGER, INTEGER, ctypes.c_double, POINTER]),
    "spadeline_free_inspector": (None, [POINTER]),
    "spadeline_describe_inspector": (INTEGER, [POINTER, POINTER]),
    "spadeline_set_need": (INTEGER, [POINTER, INTEGER]),
    "spadeline_set_deadline": (INTEGER, [POINTER, ctypes.c_double]),
    "spadeline_inspect": (
        INTEGER,
        [POINTER, POINTER, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, INTEGER, POINTER],
    ),
    "spadeline_inspector_error": (ctypes.c_char_p, [POINTER]),
}


@dataclass(frozen=True)
class Inspected:
    """A result, copied; the names and forms are those of spadeline.engine.Result."""

    pred_label: bool
    pred_score: float
    image_score: float
    map_score: float
    reasons: tuple[str, ...]
    need: str
    decided: bool
    anomaly_map: NDArray[np.float32]
    lower_map: NDArray[np.float32]
    pred_mask: NDArray[np.bool_]
    regions: list[tuple[int, tuple[int, ...], tuple[int, int], float]]
    neighbours: NDArray[np.int32]
    nearest_images: NDArray[np.int64]
    statistics: tuple[Any, ...]
    timings_s: Mapping[str, float]
    warning: str | None


class CallError(Exception):
    """A call that failed: its code and the text."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def copied(raw: RawResult) -> Inspected:
    """Copy what the library's memory holds."""
    size, grid = (raw.map_height, raw.map_width), (raw.grid_height, raw.grid_width, raw.kappa, 3)

    def array(pointer: Any, shape: tuple[int, ...]) -> NDArray[Any]:
        return np.array(np.ctypeslib.as_array(pointer, shape))

    return Inspected(
        pred_label=bool(raw.pred_label),
        pred_score=raw.pred_score,
        image_score=raw.image_score,
        map_score=raw.map_score,
        reasons=tuple(name for bit, name in enumerate(REASONS) if raw.reasons >> bit & 1),
        need=next(str(name) for name, number in NEEDS.items() if number == raw.need),
        decided=bool(raw.decided),
        anomaly_map=array(raw.anomaly_map, size),
        lower_map=array(raw.lower_map, size),
        pred_mask=array(raw.pred_mask, size).astype(bool),
        regions=[
            (one.area, (one.top, one.left, one.bottom, one.right), (one.peak_y, one.peak_x), one.score)
            for one in raw.regions[: raw.region_count]
        ],
        neighbours=array(raw.neighbours, grid),
        nearest_images=array(raw.nearest_images, (raw.nearest_count,)),
        statistics=(raw.pairs, tuple(raw.passed), raw.exact, raw.guarded_cells, raw.passes),
        timings_s={name: getattr(raw, f"{name}_s") for name in ("prepare", "extract", "retrieve", "match", "map")},
        warning=raw.warning and raw.warning.decode(),
    )


class Library:
    """The functions, and the ways through them that tests and benchmarks share."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.c = ctypes.CDLL(str(path))
        for name, (result, arguments) in SIGNATURES.items():
            function = getattr(self.c, name)
            function.restype, function.argtypes = result, arguments

    def error(self) -> str:
        """Return the thread's text."""
        return str(self.c.spadeline_error().decode("utf-8", "replace"))

    def expect(self, code: int) -> None:
        """Raise CallError unless a call went well."""
        if code != OK:
            raise CallError(code, self.error())

    def load(self, folder: Path, *, gallery: str = "auto", verify: bool = False) -> ctypes.c_void_p:
        """Return a recipe's handle."""
        handle = ctypes.c_void_p()
        self.expect(self.c.spadeline_load(str(folder).encode(), 0, GALLERIES[gallery], verify, ctypes.byref(handle)))
        return handle

    def open(
        self, recipe: ctypes.c_void_p, *, threads: int = 2, need: str | None = None, deadline_s: float = -1.0
    ) -> ctypes.c_void_p:
        """Return an inspector's handle."""
        handle = ctypes.c_void_p()
        self.expect(self.c.spadeline_open(recipe, threads, NEEDS[need], deadline_s, ctypes.byref(handle)))
        return handle

    @contextmanager
    def inspector(
        self, folder: Path, *, gallery: str = "auto", verify: bool = False, **options: Any
    ) -> Iterator[ctypes.c_void_p]:
        """Open a recipe's inspector. The recipe's handle is freed at once: the inspector keeps what it needs."""
        recipe = self.load(folder, gallery=gallery, verify=verify)
        try:
            inspector = self.open(recipe, **options)
        finally:
            self.c.spadeline_free_recipe(recipe)
        try:
            yield inspector
        finally:
            self.c.spadeline_free_inspector(inspector)

    def inspect_raw(
        self, inspector: ctypes.c_void_p, frame: NDArray[np.uint8], *, color: str = "rgb"
    ) -> tuple[int, Any]:
        """Inspect a frame whose rows may lie apart; return the code and the pointer to the result."""
        result = ctypes.POINTER(RawResult)()
        height, width, *_ = frame.shape
        code = self.c.spadeline_inspect(
            inspector, frame.ctypes.data, height, width, frame.strides[0], COLORS[color], ctypes.byref(result)
        )
        return code, result

    def inspect(self, inspector: ctypes.c_void_p, frame: NDArray[np.uint8], *, color: str = "rgb") -> Inspected:
        """Inspect a frame and return the result, copied."""
        code, result = self.inspect_raw(inspector, frame, color=color)
        self.expect(code)
        return copied(result.contents)
