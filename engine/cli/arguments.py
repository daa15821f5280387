"""What the command line accepts: commands, options, defaults. What each command does stands in :mod:`.commands`.

The options of settings are made from the fields of :class:`.Settings`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, get_args

from ..extract.providers import Device
from ..fitting.thresholds import DEFAULT_RATE
from ..recipe.held import GalleryPlace
from ..settings import Framing, Need, Preset, all_settings
from .terminal import escaped, shortened

if TYPE_CHECKING:  # argparse has no public name for this class, which takes a parameter only while types are checked
    Commands = argparse._SubParsersAction["_Parser"]  # noqa: SLF001


def parse(arguments: Sequence[str] | None, *, version: str) -> argparse.Namespace:
    """Return the options; ``.command`` names the command. Exits with code 2 if they are wrong."""
    return command_parser(version=version).parse_args(arguments)


def command_parser(*, version: str) -> argparse.ArgumentParser:
    """Return the parser of the whole command line. The documentation's reference page is made from it, too."""
    parser = _Parser(prog="spadeline", description="Exact SPADE anomaly detection, from normal images alone.")
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    _add_export(commands)
    _add_fit(commands)
    _add_changes(commands)
    _add_tune(commands)
    _add_uses(commands)
    _add_archives(commands)
    return parser


class _Parser(argparse.ArgumentParser):
    """Its errors quote what was typed, so control characters are escaped and long texts shortened."""

    def error(self, message: str) -> NoReturn:
        super().error(escaped(shortened(message)))


def _add_fit(commands: Commands) -> None:
    fit_ = commands.add_parser("fit", help="make a recipe from normal images, with thresholds")
    fit_.add_argument(
        "images",
        type=Path,
        help="a folder of normal images, or of a data set with train/good or another spelling of it (train/OK, …)",
    )
    fit_.add_argument("--extractor", type=Path, required=True, help="the ONNX file")
    fit_.add_argument("--recipe", type=Path, required=True, help="the folder to write")
    fit_.add_argument(
        "--held-out",
        type=float,
        default=0.0,
        help="share of the images to make the thresholds from; 0: leave-one-out",
    )
    fit_.add_argument("--overwrite", action="store_true", help="replace a recipe that is there already")
    fit_.add_argument(
        "--ignore",
        type=Path,
        metavar="MASK",
        help="an image of what is never scored, such as a fixture: black is scored, white is not",
    )
    fit_.add_argument("--html", type=Path, metavar="FILE", help="write a page of the images that set the thresholds")
    fit_.add_argument(
        "--preset",
        choices=get_args(Preset),
        default="default",
        help="the settings where no option says otherwise; paper: the protocol of SPADE's paper (default)",
    )
    _rate_option(fit_, default=DEFAULT_RATE, default_text="0.01")
    _run_options(fit_, device="where the extractor runs")
    _setting_options(fit_, "Their defaults stand in brackets.", all_of_them=True)


def _add_export(commands: Commands) -> None:
    export = commands.add_parser(
        "export", help="make an extractor (ONNX) of a torchvision ResNet or of another extractor"
    )
    export.add_argument("file", type=Path, help="the ONNX file to write")
    export.add_argument(
        "--backbone",
        help="resnet18, resnet34, resnet50, resnet101, wide_resnet50_2 or wide_resnet101_2 (wide_resnet50_2)",
    )
    export.add_argument(
        "--levels", type=stages, metavar="NAMES", help="stages to return, finest first (layer1,layer2,layer3)"
    )
    export.add_argument("--embedding", help="stage to pool; a lower stage leaves out those that follow (layer4)")
    export.add_argument("--input-size", type=size, metavar="HxW", help="height and width, multiples of 32 (224x224)")
    export.add_argument(
        "--weights", help="torchvision, the path of a .pth or .safetensors file, or random (torchvision)"
    )
    export.add_argument(
        "--precision",
        choices=("float32", "float16", "int8"),
        help="number type of weights and arithmetic; int8 needs --calibrate (float32)",
    )
    export.add_argument(
        "--neighbourhood",
        type=int,
        metavar="N",
        help="average each level over N x N positions, N odd; 1: don't (3; with --from, 1)",
    )
    export.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="FILE",
        help="take this extractor instead of a ResNet, to average its levels, quantize it, or both",
    )
    export.add_argument(
        "--preset",
        choices=get_args(Preset),
        default="default",
        help="what holds where no option says otherwise; paper: no averages, the paper's framing for int8 (default)",
    )
    integers = export.add_argument_group("int8")
    integers.add_argument(
        "--calibrate", type=Path, metavar="FOLDER", help="normal images to calibrate int8 with, at least 8"
    )
    integers.add_argument("--framing", choices=get_args(Framing), help="the framing that the recipe will have (whole)")
    integers.add_argument("--evaluate", type=Path, metavar="FOLDER", help="labelled images to measure ROCAUC on, too")
    integers.add_argument(
        "--least-correlation",
        type=float,
        help="smallest correlation allowed between int8 and float32 maps of normal images (0.95)",
    )
    integers.add_argument("--most-rocauc-loss", type=float, help="largest loss of ROCAUC allowed for int8 (0.01)")
    _json_option(export)


def _add_changes(commands: Commands) -> None:
    """Add the commands that change or show a recipe."""
    calibrate_ = commands.add_parser(
        "calibrate", help="change settings and make the thresholds anew, from the stored features"
    )
    calibrate_.add_argument("recipe", type=Path, help="the recipe's folder")
    _rate_option(calibrate_, default=None, default_text="as its thresholds were made")
    _run_options(calibrate_)
    _setting_options(
        calibrate_,
        "A setting that isn't given stays as the recipe has it; the defaults in brackets are those of fit.",
        all_of_them=False,
    )

    add_ = commands.add_parser("add", help="add normal images, to end a false alarm without a refit")
    add_.add_argument("recipe", type=Path, help="the recipe's folder")
    add_.add_argument("images", type=Path, help="an image, or a folder of images")
    add_.add_argument("--rename", action="store_true", help="add images whose names are taken under other, free names")
    _run_options(add_, device="where the extractor runs")

    remove = commands.add_parser("remove", help="remove normal images by name")
    remove.add_argument("recipe", type=Path, help="the recipe's folder")
    remove.add_argument("names", nargs="+", help="names of the images, as in recipe.json")
    remove.add_argument("--calibrate", action="store_true", help="make the thresholds anew from the other images")
    _run_options(remove)

    codes = commands.add_parser(
        "codes", help="make the matcher's codes of a recipe that has none, or has those of another version"
    )
    codes.add_argument("recipe", type=Path, help="the recipe's folder")
    _json_option(codes)

    info = commands.add_parser("info", help="show what a recipe holds")
    info.add_argument("recipe", type=Path, help="the recipe's folder")
    info.add_argument("--verify", action="store_true", help="also compare every file's SHA-256")
    info.add_argument("--html", type=Path, metavar="FILE", help="write a page of the images that set the thresholds")
    info.add_argument(
        "--normal-images", type=Path, metavar="FOLDER", help="folder of the recipe's images, to show them on the page"
    )
    _json_option(info)


def _add_tune(commands: Commands) -> None:
    tune = commands.add_parser(
        "tune", help="choose settings by one half of labelled images, and tell what they find on the other half"
    )
    tune.add_argument("recipe", type=Path, help="the recipe's folder")
    tune.add_argument(
        "--labelled",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="a data set's folder, as for eval: at least 8 abnormal and 2 good images",
    )
    tune.add_argument(
        "--extractor",
        dest="extractors",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="try these extractors (ONNX files), too; needs --images",
    )
    text = "keep each normal image at so many angles, too, for parts that lie at any angle; needs --images"
    tune.add_argument("--angles", type=int, nargs="+", metavar="N", default=[], help=text)
    text = "the recipe's normal images, as for fit, to try other extractors or angles with"
    tune.add_argument("--images", type=Path, metavar="FOLDER", help=text)
    tune.add_argument("--dry-run", action="store_true", help="change nothing in the recipe")
    _rate_option(tune, default=None, default_text="as its thresholds were made")
    _run_options(tune, device="where the extractor runs")


def _add_uses(commands: Commands) -> None:
    """Add the commands that inspect images with a recipe."""
    predict = commands.add_parser("predict", help="inspect images; exit code 1 if one is anomalous")
    predict.add_argument("recipe", type=Path, help="the recipe's folder")
    predict.add_argument("images", type=Path, nargs="+", help="images, or folders of images")
    predict.add_argument("--overlays", type=Path, metavar="FOLDER", help="write a picture of every image's anomaly map")
    _need_options(predict, "after it was read")
    _run_options(predict, device="where the extractor and the matcher run")
    _load_options(predict)

    eval_ = commands.add_parser(
        "eval", help="evaluate on labelled images: test/good and test/<kind>, or normal and abnormal, or OK and NG, …"
    )
    eval_.add_argument("recipe", type=Path, help="the recipe's folder")
    eval_.add_argument("dataset", type=Path, help="the data set's folder")
    eval_.add_argument("--html", type=Path, metavar="FILE", help="write a self-contained report")
    eval_.add_argument(
        "--normal-images", type=Path, metavar="FOLDER", help="folder of the recipe's images, to show them in the report"
    )
    _run_options(eval_, device="where the extractor and the matcher run")
    _load_options(eval_)

    bench = commands.add_parser("bench", help="measure a recipe's latency and throughput on this machine")
    bench.add_argument("recipe", type=Path, help="the recipe's folder")
    bench.add_argument(
        "images",
        type=Path,
        nargs="?",
        help="an image, or a folder of images, as the camera delivers them (drawn images)",
    )
    bench.add_argument("--takt", type=float, metavar="SECONDS", help="time between two parts, to find out if it is met")
    bench.add_argument("--runs", type=int, default=1000, help="number of frames to time (1000)")
    bench.add_argument("--warm-up", type=int, default=1000, help="number of frames before the timed ones (1000)")
    bench.add_argument("--seconds", type=float, default=60.0, help="longest time for measuring each latency (60)")
    bench.add_argument("--html", type=Path, metavar="FILE", help="write a self-contained page")
    _need_options(bench, "after the call")
    _run_options(bench, device="where the extractor and the matcher run")
    _load_options(bench)

    demo = commands.add_parser("demo", help="fit and evaluate on solar cells, with packages from PyPI alone")
    demo.add_argument("--folder", type=Path, default=Path("spadeline-demo"), help="folder to write everything into")
    _run_options(demo)


def _add_archives(commands: Commands) -> None:
    """Add the commands for many images, on one machine or a cluster."""
    score = commands.add_parser(
        "score", help="score an archive of images, on all cores or a Ray cluster, into Parquet files"
    )
    score.add_argument("recipes", nargs="+", metavar="recipe", help="recipes' folders, or their addresses (s3://…)")
    score.add_argument(
        "source",
        help="images, by path or address: a folder, or Parquet files with the columns path and bytes, or path alone",
    )
    score.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder to write the rows into")
    score.add_argument("--resume", action="store_true", help="score the images that have no rows in --out yet")
    score.add_argument(
        "--address", help="a Ray cluster's address; auto: the one that this machine belongs to (this machine alone)"
    )
    score.add_argument("--workers", type=int, metavar="N", help="processes that score (as many as there is room for)")
    score.add_argument("--need", choices=get_args(Need), help="what rows must be exact in (as each recipe says)")
    score.add_argument("--maps", action="store_true", help="write the anomaly maps, too")
    score.add_argument("--masks", action="store_true", help="write the masks, too")
    score.add_argument(
        "--gallery",
        choices=get_args(GalleryPlace),
        default="mapped",
        help="map the galleries, so that a machine's workers share them, or hold one in each worker's memory (mapped)",
    )
    score.add_argument(
        "--cache", type=Path, metavar="FOLDER", help="where each machine keeps recipes that have an address (temporary)"
    )
    score.add_argument("--threads", type=int, default=1, help="threads of each worker (1)")
    _json_option(score)

    compare = commands.add_parser(
        "compare", help="say which images have another verdict in one scored folder than in another"
    )
    for name, other in (
        ("scored_a", "a folder that score wrote; of several recipes, the folder of one in it"),
        ("scored_b", "the folder to compare it with"),
    ):
        compare.add_argument(name, type=Path, metavar=name.upper(), help=other)
    compare.add_argument(
        "--html", type=Path, metavar="FILE", help="write a page of these images, with the anomaly maps of both"
    )
    _json_option(compare)


def _rate_option(parser: argparse.ArgumentParser, *, default: float | None, default_text: str) -> None:
    text = f"wanted share of normal images called anomalous ({default_text})"
    parser.add_argument("--false-alarm-rate", type=float, default=default, metavar="RATE", help=text)


def _setting_options(parser: argparse.ArgumentParser, description: str, *, all_of_them: bool) -> None:
    """Add an option for each setting, or for each that the stored features don't depend on.

    An option that isn't given is None, so that a command can tell what it has been given.
    """
    group = parser.add_argument_group("settings", description)
    for setting in all_settings():
        if setting.built_in and not all_of_them:
            continue
        form: dict[str, Any] = {"type": setting.kind, "metavar": setting.metavar}
        if setting.choices:
            form = {"choices": setting.choices}
        elif setting.most:
            form["nargs"] = "+"
        text = f"{setting.phrase} ({setting.default_text})".replace("%", "%%")
        group.add_argument(setting.option, help=text, **form)


def _run_options(parser: argparse.ArgumentParser, *, device: str | None = None) -> None:
    """Add the options of commands that compute; ``device`` is the help text of --device, None: there is none."""
    parser.add_argument("--threads", type=int, help="number of threads (all processors that it may use)")
    if device is not None:
        parser.add_argument("--device", choices=get_args(Device), default="auto", help=device)
    _json_option(parser)


def _need_options(parser: argparse.ArgumentParser, since: str) -> None:
    parser.add_argument(
        "--need",
        choices=get_args(Need),
        help="what results must be exact in: the anomaly map, its mask, or the label (as the recipe says)",
    )
    parser.add_argument(
        "--deadline-s",
        type=float,
        metavar="SECONDS",
        help=f"when an image's search ends, in seconds {since}; what isn't known then is anomalous (no deadline)",
    )


def _load_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--gallery",
        choices=get_args(GalleryPlace),
        default="auto",
        help="hold the gallery in memory, or map its files, which must then never be written (memory where it fits)",
    )
    parser.add_argument(
        "--memory-limit", type=int, metavar="BYTES", help="the most memory that the gallery may take on the GPU"
    )
    parser.add_argument(
        "--tensorrt-cache",
        type=Path,
        metavar="FOLDER",
        help="run the extractor with TensorRT, and keep its engine in this folder",
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
