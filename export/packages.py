"""The packages that an export needs, beside those of the engine."""

from __future__ import annotations

from ..engine.optional import RUNTIME, imported


def require_packages(*packages: str) -> None:
    """Import these packages and ONNX Runtime, so that a missing one is reported before a download and not after."""
    commands = dict.fromkeys(packages, "pip install 'spadeline[export]'")
    commands["onnxruntime"] = RUNTIME
    for package, command in commands.items():
        imported(package, command)
