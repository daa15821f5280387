"""Compare an exported graph with torch: ONNX Runtime on the CPU must be about as close to the truth as torch.

Truth t: the torch model in float64. Yardstick E: the largest error that the plain torch model makes at the
exported precision, over all values of one output. Tolerance of every value x of that output:

    |x - t| <= 4 E + u max|t|

Both runtimes add the same products, each product and each sum rounded with the same unit u, so their errors
have one bound; they differ in the order of the sums, and in that a folded weight is rounded once where weight
and batch normalisation are rounded apart. The largest of many such errors varies little, so a small factor
covers the difference: measured over all backbones, ONNX Runtime's largest error is 0.3 to 1.1 times E. The
second term is the rounding of the result itself, which remains if torch happens to make no error. In float32,
a wrong fold, a missing layer or swapped channels are off by thousands of E.

A frame of noise and a natural-looking frame are compared, together as a batch of two and each alone. Speed is
not measured and other devices are not tried.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..engine.errors import ExportError
from ..engine.extract.session import runtime_reason

if TYPE_CHECKING:
    from .backbone import Backbone
    from .choices import Precision

ERROR_FACTOR = 4.0  # see above
SEED = 0


@dataclass(frozen=True)
class OutputCheck:
    """One output's largest difference from what it was compared with, and the allowed difference.

    Both are absolute, in the output's own units.
    """

    name: str
    largest_error: float
    tolerance: float


def verify(model: Backbone, onnx_path: str | os.PathLike[str], *, precision: Precision) -> tuple[OutputCheck, ...]:
    """Compare an ONNX file with the torch model that it was exported from.

    Parameters
    ----------
    model
        In float64.
    onnx_path
        The file, as ONNX Runtime will read it.
    precision
        The precision that the file was exported in.

    Raises
    ------
    ExportError
        ONNX Runtime can't run the file, its outputs have other names, types or shapes, or a value is further
        from the truth than the tolerance; the text names output, worst index, both values and the bound.
    """
    images = probe_frames(model.input_size)
    truth, plain = _run_torch(model, images), _run_torch(model.at(precision), images)
    graph = Graph(onnx_path, model.output_names)
    batched, alone = graph.run(images), graph.run_alone(images)
    checks = []
    for index, name in enumerate(model.output_names):
        tolerance = _tolerance(name, truth[index], plain[index], precision)
        errors = (
            largest_error(name, "torch", truth[index], plain[index], got[index], tolerance) for got in (batched, alone)
        )
        checks.append(OutputCheck(name, max(errors), tolerance))
    return tuple(checks)


def probe_frames(size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return (2, height, width, 3): independent noise, and an image with the 1/f spectrum of natural ones."""
    height, width = size
    random = np.random.default_rng(SEED)
    noise = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1.0
    spectrum = np.fft.rfft2(random.standard_normal((height, width, 3)), axes=(0, 1))
    texture = np.fft.irfft2(spectrum / frequency[:, :, None], s=(height, width), axes=(0, 1))
    texture = texture[:, :, :1] + 0.3 * texture  # the channels of natural images share most of their structure
    natural = 120 + 50 * texture / texture.std()
    return np.stack([noise, natural.clip(0, 255).astype(np.uint8)])


class Graph:
    """The exported file in ONNX Runtime on the CPU; the names of its outputs are checked."""

    def __init__(self, path: str | os.PathLike[str], output_names: tuple[str, ...]) -> None:
        import onnxruntime  # noqa: PLC0415 - optional

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only: warnings would be printed
        try:
            self._session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions have no base of their own
            raise ExportError(f"ONNX Runtime can't load the exported graph: {runtime_reason(error)}") from error
        names = tuple(output.name for output in self._session.get_outputs())
        if names != output_names:
            raise ExportError(f"the exported graph's outputs: expected {output_names}, got {names}")

    def run(self, images: NDArray[np.uint8]) -> list[NDArray[Any]]:
        """Return the outputs for (n, height, width, 3) uint8."""
        try:
            outputs: list[NDArray[Any]] = self._session.run(None, {"image": images})
        except Exception as error:
            raise ExportError(
                f"ONNX Runtime can't run the exported graph at batch {len(images)}: {runtime_reason(error)}"
            ) from error
        return outputs

    def run_alone(self, images: NDArray[np.uint8]) -> list[NDArray[Any]]:
        """Return the outputs of images that are run one by one."""
        each = [self.run(images[index : index + 1]) for index in range(len(images))]
        return [np.concatenate(parts) for parts in zip(*each, strict=True)]


def _run_torch(model: Backbone, images: NDArray[np.uint8]) -> list[NDArray[Any]]:
    import torch  # noqa: PLC0415 - only while exporting

    with torch.no_grad():
        return [output.numpy() for output in model(torch.from_numpy(images))]


def _tolerance(name: str, truth: NDArray[np.float64], plain: NDArray[Any], precision: Precision) -> float:
    """Return ``4 E + u max|t|``; u is half the spacing of `plain`'s numbers at one."""
    if not (np.isfinite(truth).all() and np.isfinite(plain).all()):
        raise ExportError(f"{name}: with these weights torch itself leaves the range of {precision}")
    yardstick = np.abs(plain - truth).max()
    return float(ERROR_FACTOR * yardstick + np.finfo(plain.dtype).eps / 2 * np.abs(truth).max())


def largest_error(
    name: str, reference: str, truth: NDArray[Any], plain: NDArray[Any], got: NDArray[Any], tolerance: float
) -> float:
    """Return the largest |got - truth|, or raise: `plain` tells the type and shape that `got` must have.

    ``reference`` says in an error's text what the truth is.
    """
    if got.dtype != plain.dtype or got.shape != plain.shape:
        raise ExportError(
            f"{name}: expected {plain.dtype} {plain.shape} of the exported graph, got {got.dtype} {got.shape}"
        )
    errors = np.abs(got - truth)
    worst = tuple(int(i) for i in np.unravel_index(np.argmax(errors), errors.shape))  # NaN counts as the largest
    if not errors[worst] <= tolerance:
        raise ExportError(
            f"{name}: the exported graph differs from {reference} at {worst}: expected {truth[worst]:.9g}, got "
            f"{got[worst]:.9g}, allowed difference {tolerance:.3g}"
        )
    return float(errors[worst])
