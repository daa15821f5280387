"""The benchmarks run as scripts, as a user starts them; the packages that some of them need."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SMALL = ("--size", "32", "-K", "2", "--kappa", "2", "--threads", "1", "--repeats", "2", "--instruction-sets", "scalar")


def run(*arguments, script="matcher.py", **environment):
    command = [sys.executable, str(BENCHMARKS / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)


def needs_torch():
    for package in ("torch", "onnx", "onnxruntime"):
        pytest.importorskip(package)
