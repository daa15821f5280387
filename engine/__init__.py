"""spadeline's runtime: fit a recipe on normal images, inspect frames with it. Never imports torch."""

from . import privacy  # noqa: F401 - first: whatever comes next may import ONNX Runtime
from .calibration import Threshold
from .errors import (
    DependencyError,
    DeviceError,
    DownloadError,
    ExportError,
    ExtractorError,
    InputError,
    OutputError,
    RecipeError,
    ScaleError,
    SpadelineError,
)
from .fitting.fitting import add, calibrate, fit
from .inspect.detector import Detector
from .inspect.stream import FrameError
from .match.matcher import Match, Matcher, instruction_sets
from .recipe.changes import remove_images, update_codes
from .recipe.recipe import Recipe
from .recipe.records import Calibration
from .result import Region, Result, Statistics
from .settings import Settings, preset
from .tuning.tuning import Tuned, tune

__all__ = [
    "Calibration",
    "DependencyError",
    "Detector",
    "DeviceError",
    "DownloadError",
    "ExportError",
    "ExtractorError",
    "FrameError",
    "InputError",
    "Match",
    "Matcher",
    "OutputError",
    "Recipe",
    "RecipeError",
    "Region",
    "Result",
    "ScaleError",
    "Settings",
    "SpadelineError",
    "Statistics",
    "Threshold",
    "Tuned",
    "add",
    "calibrate",
    "fit",
    "instruction_sets",
    "preset",
    "remove_images",
    "tune",
    "update_codes",
]
