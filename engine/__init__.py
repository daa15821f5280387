"""spadeline's runtime: fit a recipe on normal images, inspect frames with it. Never imports torch."""

from . import privacy  # noqa: F401 - first: whatever comes next may import ONNX Runtime
from .calibration import Threshold
from .detector import Detector
from .errors import (
    DependencyError,
    DeviceError,
    DownloadError,
    ExportError,
    ExtractorError,
    InputError,
    OutputError,
    RecipeError,
    SpadelineError,
)
from .fitting import add, calibrate, fit
from .matching import Match, Matcher, instruction_sets
from .recipe import Recipe, remove_images, update_codes
from .result import Region, Result, Statistics
from .settings import Calibration, Settings
from .stream import FrameError

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
    "Settings",
    "SpadelineError",
    "Statistics",
    "Threshold",
    "add",
    "calibrate",
    "fit",
    "instruction_sets",
    "remove_images",
    "update_codes",
]
