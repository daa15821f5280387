"""The extractor alone: latency of precisions and providers side by side; accuracy too, where there are labels.

    python benchmarks/extractor.py --backbones resnet18 wide_resnet50_2               # random weights: speed alone
    python benchmarks/extractor.py --extractor resnet50_thin.onnx --dataset hazelnut  # any float32 file, with ROCAUC

Every int8 file is calibrated as `spadeline export --precision int8` does it: on the data set's normal images, or on
drawn ones where there is no data set. README.md beside this file describes the method.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from spadeline.engine.extract.extractor import Extractor
from spadeline.engine.folders.dataset import find_dataset
from spadeline.engine.json_data import to_json
from spadeline.engine.resources import processors
from spadeline.engine.units import latency
from spadeline.export import Quantization, export_extractor, quantize_extractor

from page_parts.extractor import extractor as chapter
from shared_parts import command

PRECISIONS = ("float32", "float16", "int8")
DRAWN_IMAGES, DRAWN_SIDE = 16, 224
WARM_UPS = 5


def main() -> None:
    """Make the files, measure them in turns, print tables and write JSON."""
    options = _options()
    if options.dataset is not None:
        find_dataset(options.dataset)  # an unusable data set is an error before the work begins
    document = command.begin("extractor", max(options.threads))
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="spadeline-benchmark-") as name:
        folder = Path(name)
        calibration = options.dataset or _drawn(folder / "drawn")
        for network in [options.extractor] if options.extractor else options.backbones:
            files, quantization = _files(network, calibration, options, folder)
            for threads in options.threads:
                results += _measure(str(network), files, quantization, threads, options.runs)
                command.write(document | {"results": results}, options.json)  # now: a run may be cut short
    command.show(chapter, document | {"results": results})


def _files(
    network: str | Path, calibration: Path, options: argparse.Namespace, folder: Path
) -> tuple[dict[str, Path], Quantization]:
    """Return a file for each precision, and what int8 costs; there is no float16 of a given file."""
    files = {}
    if isinstance(network, Path):
        files["float32"] = network
    else:
        for precision in PRECISIONS[:2]:
            files[precision] = folder / f"{network}-{precision}.onnx"
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about random weights, which are intended
                export_extractor(files[precision], backbone=network, weights=options.weights, precision=precision)
    files["int8"] = folder / f"{Path(network).stem}-int8.onnx"
    # Without bounds, since a benchmark reports any cost.
    quantization = quantize_extractor(
        files["int8"], files["float32"], calibration_images=calibration, evaluation_images=options.dataset,
        least_correlation=-1, most_rocauc_loss=1,
    )  # fmt: skip
    return files, quantization


def _measure(
    network: str, files: dict[str, Path], quantization: Quantization, threads: int, runs: int
) -> list[dict[str, Any]]:
    """Time single images in turns; in each turn an extractor first runs once without timing, to refill the caches."""
    extractors = {precision: Extractor(path, device="cpu", threads=threads) for precision, path in files.items()}
    size = extractors["float32"].input_size
    image = np.random.default_rng(0).integers(0, 256, (1, *size, 3), np.uint8)
    seconds: dict[str, list[float]] = {precision: [] for precision in files}
    for turn in range(WARM_UPS + runs):
        for precision, extractor in extractors.items():
            extractor.extract(image)
            start = time.perf_counter()
            extractor.extract(image)
            if turn >= WARM_UPS:
                seconds[precision].append(time.perf_counter() - start)
    yardstick = float(np.median(seconds["float32"]))
    return [
        {
            "network": network, "precision": precision, "threads": threads, "input_size": size,
            "provider": extractors[precision].provider, "provider_times_s": extractors[precision].provider_times_s,
            "file_bytes": path.stat().st_size, "latency": to_json(latency(seconds[precision])),
            "float32_per_this": yardstick / float(np.median(seconds[precision])),
            **(_cost(quantization) if precision == "int8" else {}),
        }
        for precision, path in files.items()
    ]  # fmt: skip


def _cost(quantization: Quantization) -> dict[str, Any]:
    cost = quantization.cost
    return {
        "calibration_images": quantization.calibrated,
        "map_correlation": cost.map_correlation,
        "score_shift": cost.score_shift,
        "rocauc": {name: dict(zip(("float32", "int8"), pair, strict=True)) for name, pair in cost.rocauc.items()},
    }


def _drawn(folder: Path) -> Path:
    """Write images with the 1/f spectrum of natural ones: they suffice to find ranges, not to measure accuracy."""
    folder.mkdir()
    for seed in range(DRAWN_IMAGES):
        Image.fromarray(_picture(seed)).save(folder / f"{seed:02}.png")
    return folder


def _picture(seed: int) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).standard_normal((DRAWN_SIDE, DRAWN_SIDE, 3))
    frequency = np.hypot(np.fft.fftfreq(DRAWN_SIDE)[:, None], np.fft.rfftfreq(DRAWN_SIDE)[None])
    frequency[0, 0] = 1
    texture = np.fft.irfft2(np.fft.rfft2(noise, axes=(0, 1)) / frequency[..., None], axes=(0, 1))
    return (120 + 50 * texture / texture.std()).clip(0, 255).astype(np.uint8)


def _options() -> argparse.Namespace:
    parser = command.new_parser(__doc__)
    backbones = ["resnet18", "wide_resnet50_2"]
    text = f"torchvision's names; default: {' '.join(backbones)}"
    parser.add_argument("--backbones", nargs="+", metavar="NAME", default=backbones, help=text)
    text = "weights of the backbones: see spadeline export; default: random"
    parser.add_argument("--weights", metavar="FILE", default="random", help=text)
    text = "a float32 ONNX file in place of the backbones"
    parser.add_argument("--extractor", type=Path, metavar="FILE.onnx", help=text)
    text = "labelled images with train/good, to calibrate on and to compute ROCAUC of"
    parser.add_argument("--dataset", type=Path, metavar="FOLDER", help=text)
    text = "default: one, and all"
    parser.add_argument("--threads", nargs="+", type=int, metavar="N", default=sorted({1, processors()}), help=text)
    parser.add_argument("--runs", type=int, metavar="N", default=100, help="of each extractor; default: 100")
    options = parser.parse_args()
    if min(*options.threads, options.runs) < 1:
        parser.error(f"expected numbers of 1 or more, got {min(*options.threads, options.runs)}")
    command.check_files(parser, options.json)
    return options


if __name__ == "__main__":
    command.run(main)
