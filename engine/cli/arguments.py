"""What the command line accepts: commands, options, defaults. What they do is :mod:`.cli`'s business."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, get_args

from ..extract.providers import Device
from ..fitting.thresholds import DEFAULT_RATE
from ..recipe.held import GalleryPlace
from ..settings import Distance, FrameCheck, FrameShape, Framing, LabelRule, Settings, Storage, Upsampling
from .terminal import escaped, shortened

if TYPE_CHECKING:  # argparse has no public name for it, and this one takes no parameter when it runs
    Commands = argparse._SubParsersAction["_Parser"]  # noqa: SLF001


def parse(arguments: Sequence[str] | None, *, version: str) -> argparse.Namespace:
    """Return the options; ``.command`` names the command. Exits with code 2 where they make no sense."""
    parser = _Parser(prog="spadeline", description="Exact SPADE anomaly detection, from normal images alone.")
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    _making(commands)
    _keeping(commands)
    _using(commands)
    return parser.parse_args(arguments)


class _Parser(argparse.ArgumentParser):
    """Its errors name what was typed, or what a shell made of it."""

    def error(self, message: str) -> NoReturn:
        super().error(escaped(shortened(message)))


def _making(commands: Commands) -> None:
    _export(commands)
    fit_ = commands.add_parser("fit", help="make a recipe of normal images, thresholds included")
    fit_.add_argument(
        "images",
        type=Path,
        help="a folder of normal images, or of a data set with train/good, in any of its spellings (train/OK, …)",
    )
    fit_.add_argument("--extractor", type=Path, required=True, help="the ONNX file")
    fit_.add_argument("--recipe", type=Path, required=True, help="the folder to write")
    fit_.add_argument(
        "--held-out",
        type=float,
        default=0.0,
        help="share of the images to take thresholds from; 0: leave-one-out",
    )
    fit_.add_argument("--overwrite", action="store_true", help="replace the recipe that is there")
    fit_.add_argument("--framing", choices=get_args(Framing), help="whole frame, or the paper's resize and centre crop")
    fit_.add_argument(
        "--ignore", type=Path, metavar="MASK", help="an image of what is never scored, such as a fixture; black: scored"
    )
    fit_.add_argument("--html", type=Path, metavar="FILE", help="write a page of the images that set the thresholds")
    fit_.add_argument("--storage", choices=get_args(Storage), help="number type of the stored gallery")
    _score_options(fit_, rate=DEFAULT_RATE, rate_default="0.01")
    _run_options(fit_, device=True)


def _export(commands: Commands) -> None:
    export = commands.add_parser("export", help="turn a torchvision ResNet into an extractor (ONNX)")
    export.add_argument("file", type=Path, help="the ONNX file to write")
    export.add_argument(
        "--backbone", help="resnet18, 34, 50, 101, wide_resnet50_2 or wide_resnet101_2 (wide_resnet50_2)"
    )
    export.add_argument(
        "--levels", type=stages, metavar="NAMES", help="stages to return, finest first (layer1,layer2,layer3)"
    )
    export.add_argument("--embedding", help="stage to pool (layer4); a lower one leaves out what follows")
    export.add_argument("--input-size", type=size, metavar="HxW", help="multiples of 32 (224x224)")
    export.add_argument("--weights", help="torchvision, a .pth or .safetensors file, or random (torchvision)")
    export.add_argument(
        "--precision",
        choices=("float32", "float16", "int8"),
        default="float32",
        help="of weights and arithmetic; int8 needs --calibrate",
    )
    integers = export.add_argument_group("int8")
    integers.add_argument(
        "--from", dest="source", type=Path, metavar="FILE", help="quantize this float32 extractor in place of a ResNet"
    )
    integers.add_argument("--calibrate", type=Path, metavar="FOLDER", help="normal images, at least 8")
    integers.add_argument("--framing", choices=get_args(Framing), default="whole", help="as the recipe will have it")
    integers.add_argument(
        "--evaluate", type=Path, metavar="FOLDER", help="labelled images: measure ROCAUC on them, too"
    )
    integers.add_argument(
        "--least-correlation", type=float, default=0.95, help="of int8 and float32 maps of normal images (0.95)"
    )
    integers.add_argument("--most-rocauc-loss", type=float, default=0.01, help="that int8 may cost (0.01)")
    _json_option(export)


def _keeping(commands: Commands) -> None:
    calibrate_ = commands.add_parser(
        "calibrate", help="change settings and make the thresholds anew, from the stored features"
    )
    calibrate_.add_argument("recipe", type=Path)
    _score_options(calibrate_, rate=None, rate_default="as its thresholds were made")
    _run_options(calibrate_, device=False)

    add_ = commands.add_parser("add", help="add normal images, to end a false alarm without a refit")
    add_.add_argument("recipe", type=Path)
    add_.add_argument("images", type=Path, help="an image, or a folder of them")
    add_.add_argument("--rename", action="store_true", help="add images whose names are taken under free ones")
    _run_options(add_, device=True)

    remove = commands.add_parser("remove", help="remove normal images by name")
    remove.add_argument("recipe", type=Path)
    remove.add_argument("names", nargs="+", help="as recipe.json has them")
    remove.add_argument("--calibrate", action="store_true", help="make the thresholds anew from the others")
    _run_options(remove, device=False)

    codes = commands.add_parser(
        "codes", help="make the matcher's codes of a recipe that has none, or those of another version"
    )
    codes.add_argument("recipe", type=Path)
    _json_option(codes)

    info = commands.add_parser("info", help="say what a recipe holds")
    info.add_argument("recipe", type=Path)
    info.add_argument("--verify", action="store_true", help="also compare every file's SHA-256")
    info.add_argument("--html", type=Path, metavar="FILE", help="write a page of the images that set the thresholds")
    info.add_argument(
        "--normal-images", type=Path, metavar="FOLDER", help="where the recipe's images lie, for the page"
    )
    _json_option(info)


def _using(commands: Commands) -> None:
    predict = commands.add_parser("predict", help="inspect images; exit code 1 if one is anomalous")
    predict.add_argument("recipe", type=Path)
    predict.add_argument("images", type=Path, nargs="+", help="images, or folders of them")
    predict.add_argument("--overlays", type=Path, metavar="FOLDER", help="write a picture of every image's anomaly map")
    _run_options(predict, device=True)
    _load_options(predict)

    eval_ = commands.add_parser(
        "eval", help="evaluate on labelled images: test/good and test/<kind>, or normal and abnormal, or OK and NG, …"
    )
    eval_.add_argument("recipe", type=Path)
    eval_.add_argument("dataset", type=Path)
    eval_.add_argument("--html", type=Path, metavar="FILE", help="write a self-contained report")
    eval_.add_argument(
        "--normal-images", type=Path, metavar="FOLDER", help="where the recipe's images lie, for the report"
    )
    _run_options(eval_, device=True)
    _load_options(eval_)

    bench = commands.add_parser("bench", help="measure a recipe's latency and throughput on this machine")
    bench.add_argument("recipe", type=Path)
    bench.add_argument(
        "images",
        type=Path,
        nargs="?",
        help="an image, or a folder of them, as the camera delivers them (drawn ones)",
    )
    bench.add_argument("--takt", type=float, metavar="SECONDS", help="time between two parts, to be told if it is met")
    bench.add_argument("--runs", type=int, default=1000, help="frames timed (1000)")
    bench.add_argument("--warm-up", type=int, default=1000, help="frames before them (1000)")
    bench.add_argument("--seconds", type=float, default=60.0, help="the most that each latency may take (60)")
    bench.add_argument("--html", type=Path, metavar="FILE", help="write a self-contained page")
    _run_options(bench, device=True)
    _load_options(bench)

    demo = commands.add_parser("demo", help="fit and evaluate on solar cells, from PyPI alone")
    demo.add_argument("--folder", type=Path, default=Path("spadeline-demo"), help="where everything is written")
    _run_options(demo, device=False)


def _score_options(parser: argparse.ArgumentParser, *, rate: float | None, rate_default: str) -> None:
    defaults = Settings()
    text = f"wanted share of normal images called anomalous ({rate_default})"
    parser.add_argument("--false-alarm-rate", type=float, default=rate, metavar="RATE", help=text)
    parser.add_argument("--k-score", type=int, help=f"images averaged into the image score ({defaults.k_score})")
    parser.add_argument("--k-gallery", type=int, help=f"images whose pixels are searched ({defaults.k_gallery})")
    parser.add_argument("--kappa", type=int, help=f"pixels averaged into a pixel's score ({defaults.kappa})")
    parser.add_argument("--window", type=int, help="search radius in pixels of the coarsest level (whole image)")
    parser.add_argument(
        "--level-weights",
        type=float,
        nargs="+",
        metavar="W",
        help="factors of the levels' squared distances, finest first (all 1)",
    )
    parser.add_argument("--upsampling", choices=get_args(Upsampling), help="of coarse levels (nearest)")
    parser.add_argument("--distance", choices=get_args(Distance), help="squared, as in the paper, or its root")
    parser.add_argument("--sigma", type=float, help=f"Gaussian smoothing in pixels of the input ({defaults.sigma})")
    parser.add_argument("--index-factory", help="faiss index of the embeddings (Flat)")
    parser.add_argument(
        "--label-rule",
        choices=get_args(LabelRule),
        help=f"what makes a frame anomalous ({defaults.label_rule})",
    )
    parser.add_argument(
        "--frame-check",
        choices=get_args(FrameCheck),
        help="also flag a frame that is dark, glaring, flat or blurred beside all normal images, or like none (on)",
    )
    parser.add_argument(
        "--frame-shape",
        choices=get_args(FrameShape),
        help="what to make of a frame of other proportions than the normal images' (error)",
    )


def _run_options(parser: argparse.ArgumentParser, *, device: bool) -> None:
    parser.add_argument("--threads", type=int, help="default: all processors that it may use")
    if device:
        parser.add_argument(
            "--device",
            choices=get_args(Device),
            default="auto",
            help="where the extractor runs; predict, eval, bench: the matcher too",
        )
    _json_option(parser)


def _load_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--gallery",
        choices=get_args(GalleryPlace),
        default="auto",
        help="in memory, or mapped where its files lie, which must then never be written into (memory where it fits)",
    )
    parser.add_argument("--memory-limit", type=int, metavar="BYTES", help="the most that the gallery takes on the GPU")
    parser.add_argument(
        "--tensorrt-cache",
        type=Path,
        metavar="FOLDER",
        help="run the extractor by TensorRT, and keep its engine there",
    )


def _json_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def stages(text: str) -> tuple[str, ...]:
    """Read names separated by commas."""
    return tuple(text.split(","))


def size(text: str) -> tuple[int, int]:
    """Read HEIGHTxWIDTH."""
    try:
        height, width = (int(side) for side in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH, as 256x320, got {text!r:.100}") from None
    return height, width
