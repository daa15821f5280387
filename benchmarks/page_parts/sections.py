"""The chapter of each kind of document: finding, charts, tables, and those that README and docs/ take.

There is one function for each kind of document. Figures come from the documents; only ratios and units are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from spadeline.engine.errors import InputError

from page_parts.accuracy import accuracy
from page_parts.chapter import Chapter
from page_parts.detectors import detectors
from page_parts.doors import doors
from page_parts.embed import embed
from page_parts.extractor import extractor
from page_parts.frame_check import frame_check
from page_parts.frames import bench, pipeline
from page_parts.gpu import gpu
from page_parts.matcher import matcher
from page_parts.needs import matcher_needs, pipeline_needs
from page_parts.scale import scale
from page_parts.soak import soak

KINDS: dict[str, Callable[[Mapping[str, Any]], Chapter]] = {  # in the page's order
    "bench": bench,
    "pipeline": pipeline,
    "pipeline_needs": pipeline_needs,
    "embed": embed,
    "scale": scale,
    "detectors": detectors,
    "doors": doors,
    "accuracy": accuracy,
    "frame_check": frame_check,
    "extractor": extractor,
    "matcher": matcher,
    "matcher_needs": matcher_needs,
    "gpu": gpu,
    "soak": soak,
}


def chapter(document: Any, name: str) -> Chapter:
    """Return a document's chapter; InputError with the file's ``name`` if none of these benchmarks wrote it."""
    kind = document.get("benchmark") if isinstance(document, Mapping) else None
    if kind not in KINDS:
        raise InputError(f"{name}: expected a document of one of {', '.join(KINDS)}, got {kind!r} as its benchmark")
    try:
        return KINDS[kind](document)
    except (KeyError, IndexError, TypeError) as error:
        script = kind.removesuffix("_needs")
        raise InputError(f"{name}: expected a document as {script}.py writes it, got {error!r}") from error
