"""Nothing leaves the machine: ONNX Runtime's telemetry is turned off before anything imports ONNX Runtime.

From 1.29 on, ONNX Runtime writes a device id and events below the cache of the home directory, and looks up the address
of a collector. It reads an environment variable once, when it is imported; no later call stops either of the two. Child
processes inherit the variable. If the variable is set already, its value stays, whatever it is.
"""

from __future__ import annotations

import os
import re
import sys
import warnings

VARIABLE = "ORT_DISABLE_TELEMETRY"
_FIRST_WITH_TELEMETRY = (1, 29)


def turn_telemetry_off() -> None:
    """Set the variable unless it is set. Warn if ONNX Runtime has already been imported without it."""
    if VARIABLE in os.environ:
        return
    os.environ[VARIABLE] = "1"
    version = getattr(sys.modules.get("onnxruntime"), "__version__", "0")
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) >= _FIRST_WITH_TELEMETRY:
        text = f"onnxruntime {version} was imported before spadeline, so its telemetry is on in this process; import "
        warnings.warn(text + f"spadeline.engine first, or set {VARIABLE}=1", UserWarning, stacklevel=3)


turn_telemetry_off()
