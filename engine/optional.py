"""Packages that not every installation has. One that is missing and one that fails to load are two sentences."""

from __future__ import annotations

import importlib
from typing import Any

from .errors import DependencyError

RUNTIME = "pip install 'spadeline[cpu]' (or 'spadeline[gpu]' on a machine with an NVIDIA GPU)"


def imported(module: str, command: str) -> Any:
    """Import a module; DependencyError, with the pip command where it isn't installed, else with what failed."""
    package = module.partition(".")[0]
    name = package.replace("_", "-")  # as pip has it
    try:
        importlib.import_module(package)  # first: a part of it may lie in memory though it has gone
        return importlib.import_module(module)
    except Exception as error:  # a library that lacks memory, or a part of its own, may raise anything
        if isinstance(error, ModuleNotFoundError) and error.name == package:
            raise DependencyError(f"{name} is not installed: {command}") from error
        raise DependencyError(f"{name} is installed, but can't be imported: {failure(error)}") from error


def failure(error: Exception) -> str:
    """Return why an import failed, as part of one sentence."""
    text = " ".join(str(error).split())[:500].rstrip(". ")
    if isinstance(error, MemoryError):
        return "out of memory"
    return text or type(error).__name__
