"""Every error that spadeline raises on purpose. Each text says what is wrong, what was expected and what came."""

from __future__ import annotations


class SpadelineError(Exception):
    """Base of all errors of spadeline: who catches it catches all of them, and no error of another library."""


class InputError(SpadelineError, ValueError):
    """An image, array, file name or option that can't be used as it is."""


class OutputError(SpadelineError, OSError):
    """A path that can't be written, for example without permission or space, or because it is no folder."""


class ExtractorError(SpadelineError):
    """A file that is no ONNX file, breaks the extractor's contract, or can't run on the device asked for."""


class DeviceError(SpadelineError):
    """A GPU that is missing, fails or lacks memory, or a build of spadeline that can't use a GPU."""


class RecipeError(SpadelineError):
    """A recipe folder that is damaged, incomplete, of another version, locked or not a recipe."""


class ExportError(SpadelineError):
    """Weights that can't be obtained or don't fit the backbone, or an exported graph that disagrees with torch."""


class DownloadError(ExportError):
    """Pretrained weights that could not be downloaded."""


class ScaleError(SpadelineError):
    """A run over many images that ended early, because Ray failed. What was written stays, and the run can go on."""


class DependencyError(SpadelineError, ImportError):
    """An optional package that is missing or fails to load; if it is missing, the text has the pip command."""
