"""Packages that not every installation has. The error says whether a package is missing or fails to load."""

from __future__ import annotations

import importlib
from typing import Any

from .errors import DependencyError

RUNTIME = "pip install 'spadeline[cpu]' (or 'spadeline[gpu]' on a machine with an NVIDIA GPU)"


def imported(module: str, command: str) -> Any:
    """Import a module.

    Raises
    ------
    DependencyError
        The package isn't installed, and ``command`` installs it; or it is installed and fails to load.
    """
    package = module.partition(".")[0]
    name = package.replace("_", "-")  # as pip spells it
    try:
        # The package comes first: it may be gone although a part of it is still loaded.
        importlib.import_module(package)
        return importlib.import_module(module)
    except Exception as error:  # a library that lacks memory or one of its files may raise anything
        if isinstance(error, ModuleNotFoundError) and error.name == package:
            raise DependencyError(f"{name} is not installed: {command}") from error
        raise DependencyError(f"{name} is installed, but can't be imported: {failure(error)}") from error


def failure(error: Exception) -> str:
    """Return why an import failed, as part of one sentence."""
    text = " ".join(str(error).split())[:500].rstrip(". ")
    if isinstance(error, MemoryError):
        return "out of memory"
    return text or type(error).__name__
