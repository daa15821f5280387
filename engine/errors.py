"""Every error that spadeline raises on purpose. Each text names the thing, what was expected and what came."""

from __future__ import annotations


class SpadelineError(Exception):
    """Base of the tree: catch it to catch all of ours and none of anybody else's."""


class InputError(SpadelineError, ValueError):
    """An image, array, file name or option that can't be used as it is."""


class OutputError(SpadelineError, OSError):
    """A path that can't be written: no permission, no space, not a folder."""


class ExtractorError(SpadelineError):
    """An ONNX file that isn't one, breaks the extractor's contract, or can't run on the device asked for."""


class DeviceError(SpadelineError):
    """A GPU that isn't there, fails, or lacks memory; or a build of spadeline that can't use one."""


class RecipeError(SpadelineError):
    """A recipe folder that is damaged, incomplete, of another version, locked or not a recipe."""


class ExportError(SpadelineError):
    """Weights that can't be had or don't fit the backbone, or an exported graph that disagrees with torch."""


class DownloadError(ExportError):
    """Pretrained weights that could not be downloaded."""


class DependencyError(SpadelineError, ImportError):
    """An optional package is missing; the text holds the pip command that installs it."""
