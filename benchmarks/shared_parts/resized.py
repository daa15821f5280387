"""An extractor's graph for another input size: a convolutional network takes any size."""

from __future__ import annotations

from pathlib import Path

from spadeline.engine.extract.extractor import Extractor


def resized_extractor(path: Path, size: tuple[int, int], folder: Path) -> Path:
    """Return the extractor's file if its input has this size, else a file in ``folder`` whose input has it."""
    if Extractor(path, device="cpu").input_size == size:
        return path
    try:
        import onnx
    except ModuleNotFoundError:
        raise SystemExit(
            "onnx is not installed, and another input size needs it: pip install 'spadeline[bench]'"
        ) from None

    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        dimensions = value.type.tensor_type.shape.dim
        is_input = value.name == "image"
        for index, dimension in enumerate(dimensions[1:3] if is_input else dimensions[2:]):
            dimension.Clear()
            if is_input:
                dimension.dim_value = size[index]
    del model.graph.value_info[:]
    resized = folder / f"{path.stem}-{size[0]}x{size[1]}.onnx"
    onnx.save(model, resized)
    return resized
