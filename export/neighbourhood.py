"""Average the levels of an extractor over neighbouring positions, whoever made it, and compare the files.

    averaged[y, x] = sum of the level over the positions around (y, x), N a side, / N^2

Positions beyond a border are zero, so that features at the border are smaller, and so are their distances. A network
sees its own padding there, and a normal part's features vary more than elsewhere.

An ``AveragePool`` follows each level. The stages after a level and the embedding take it as it was before. ONNX
Runtime on the CPU must compute the averages, and the same embedding. Nothing is retrained or quantized here.

Truth t: the averages, in float64, of the levels that the given file computes. A float32 sum of N^2 values and its
division make at most r = N^2 + 1 roundings, with the unit u = 2^-24, and storing the result in the level's number type
one more, with the unit v. With m, the largest average of absolute values, and g = r u / (1 - r u), every average x has

    |x - t| <= (g + (1 + g) v) m + s

where s is the smallest positive number of the level's type, for averages near zero.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..engine.errors import ExportError, InputError
from ..engine.extract.extractor import Extractor
from ..engine.files import replacing, write_durably
from .choices import check_neighbourhood
from .packages import require_packages
from .verify import Graph, OutputCheck, largest_error, probe_frames

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

EMBEDDING = "embedding"
BEFORE = "{}_before_averaging"  # the level's name inside the graph


@dataclass(frozen=True)
class Averaging:
    """An extractor with averaged levels, compared with the one that it was made of.

    Attributes
    ----------
    path
        The ONNX file.
    neighbourhood
        The number of positions a side that each level is averaged over.
    precision
        The extractor's, which stays.
    checks
        Each output's largest difference from the averages, or from the other file's embedding, and the allowed one.
    """

    path: Path
    neighbourhood: int
    precision: str
    checks: tuple[OutputCheck, ...]


def average_extractor(path: str | os.PathLike[str], source: str | os.PathLike[str], *, neighbourhood: int) -> Averaging:
    """Average the levels of an extractor, whoever made it, and write it as another file.

    It keeps the extractor's contract, its number types and its embedding.

    Parameters
    ----------
    path
        The ONNX file to write. An existing one is replaced, once the new one was compared.
    source
        An ONNX file that keeps the extractor's contract, at any precision, and whose levels aren't averaged yet.
    neighbourhood
        The number of positions a side: an odd number from 3 to 9 that fits into the coarsest level. Beyond
        the border a level counts as zero.

    Raises
    ------
    InputError
        An argument that isn't one of the above.
    ExtractorError
        `source` breaks the contract.
    OutputError
        `path` can't be written.
    ExportError
        The levels of `source` are averaged already, or the new file computes anything else than the averages and the
        same embedding.
    DependencyError
        onnx or ONNX Runtime is missing.
    """
    target = Path(path)
    check_another_file(target, Path(source))
    if neighbourhood == 1:
        raise InputError(
            "neighbourhood: expected 3 or more to average the levels, got 1, which leaves them as they are"
        )
    require_packages("onnx")
    with replacing(target) as partial:
        return average_into(partial, Path(source), neighbourhood, target=target)


def check_another_file(target: Path, source: Path) -> None:
    """Raise InputError if an extractor would replace the one that it is made of."""
    if target.resolve() == source.resolve():
        raise InputError(f"path: expected another file than the one it is made of, got {target} for both")


def average_into(partial: Path, source: Path, neighbourhood: int, *, target: Path) -> Averaging:
    """Write `source` with averaged levels into a file reserved for `target`, and compare the two."""
    import onnx  # noqa: PLC0415 - only while exporting

    extractor = Extractor(source, device="cpu")
    _, height, width = extractor.level_shapes[-1]
    check_neighbourhood(neighbourhood, (height, width))
    if extractor.neighbourhood > 1:
        raise ExportError(
            f"{source}: expected an extractor whose levels aren't averaged yet, got one that averages them over "
            f"{extractor.neighbourhood} x {extractor.neighbourhood} positions: take the one that it was made of"
        )
    model = onnx.load(source)
    _append_averages(model, extractor.level_names, neighbourhood)
    properties = extractor.metadata | {"spadeline.neighbourhood": str(neighbourhood)}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, properties)
    write_durably(partial, model.SerializeToString(deterministic=True), target=target)
    checks = _compare(source, partial, extractor, neighbourhood)
    return Averaging(target, neighbourhood, extractor.precision, checks)


def _append_averages(model: ModelProto, levels: tuple[str, ...], neighbourhood: int) -> None:
    """Let an AveragePool make each level, in place, of the tensor that had the level's name."""
    from onnx import TensorProto, helper  # noqa: PLC0415 - only while exporting

    graph = model.graph
    names = {level: BEFORE.format(level) for level in levels}
    _rename(graph.node, names)
    for described in graph.value_info:
        described.name = names.get(described.name, described.name)
    for output in graph.output:
        if output.name == EMBEDDING:
            continue
        before, after = names[output.name], output.name
        half = output.type.tensor_type.elem_type == TensorProto.FLOAT16
        if half:  # a sum of float16 numbers may exceed their range, and not every device averages them
            graph.node.append(helper.make_node("Cast", [before], [f"{before}_float32"], to=TensorProto.FLOAT))
            before, after = f"{before}_float32", f"{after}_float32"
        graph.node.append(
            helper.make_node(
                "AveragePool",
                [before],
                [after],
                kernel_shape=[neighbourhood] * 2,
                pads=[neighbourhood // 2] * 4,
                strides=[1, 1],
                count_include_pad=1,
            )
        )
        if half:
            graph.node.append(helper.make_node("Cast", [after], [output.name], to=TensorProto.FLOAT16))


def _rename(nodes: Iterable[NodeProto], names: Mapping[str, str]) -> None:
    """Rename tensors, in place. The graphs inside of loops and branches may take them, too."""
    for node in nodes:
        for tensors in (node.input, node.output):
            tensors[:] = [names.get(name, name) for name in tensors]
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _rename(inner.node, names)


def _compare(source: Path, averaged: Path, extractor: Extractor, neighbourhood: int) -> tuple[OutputCheck, ...]:
    """Compare the outputs of both files on two frames, together and one by one."""
    names = (*extractor.level_names, EMBEDDING)
    one, other = Graph(source, names), Graph(averaged, names)
    images = probe_frames(extractor.input_size)
    runs = [(one.run(images), other.run(images)), (one.run_alone(images), other.run_alone(images))]
    checks = []
    for index, name in enumerate(names):
        errors, tolerances = [], []
        for before, after in runs:
            truth, tolerance = before[index], 0.0  # the embedding
            if name != EMBEDDING:
                truth = averages(before[index], neighbourhood)
                tolerance = _tolerance(before[index], neighbourhood)
            errors.append(largest_error(name, f"{source}", truth, before[index], after[index], tolerance))
            tolerances.append(tolerance)
        checks.append(OutputCheck(name, max(errors), min(tolerances)))
    return tuple(checks)


def averages(level: NDArray[Any], neighbourhood: int) -> NDArray[np.float64]:
    """Return a level (n, c, h, w), averaged over ``neighbourhood`` positions a side, in float64."""
    return _window_sums(level.astype(np.float64), neighbourhood) / neighbourhood**2


def _window_sums(values: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Return the sums over windows around each position of the last two axes."""
    for axis in (-2, -1):
        pads = [(0, 0)] * values.ndim
        pads[axis] = (side // 2, side // 2)
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(values, pads), side, axis=axis)
        values = windows.sum(axis=-1)
    return values


def _tolerance(level: NDArray[Any], neighbourhood: int) -> float:
    """Return the bound that stands at this file's beginning."""
    roundings = (neighbourhood**2 + 1) * float(np.finfo(np.float32).eps) / 2
    growth = roundings / (1 - roundings)
    stored = np.finfo(level.dtype)
    largest = averages(np.abs(level), neighbourhood).max()
    return float((growth + (1 + growth) * stored.eps / 2) * largest + stored.smallest_subnormal)
