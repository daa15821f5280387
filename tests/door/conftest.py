"""libspadeline.so, built and installed once a run, with the ONNX Runtime that Python has.

ONNX Runtime's headers are found where CMake looks: in Debian's package, in the folder that the environment variable
onnxruntime_ROOT names, or below CMAKE_PREFIX_PATH. If ``SPADELINE_LIBRARY_BUILD`` names a folder, CMake builds there, so
that the next run need not build all anew. A folder that CMake has configured is built as it is, such as for a sanitizer.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shared_parts.library import Library

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "csrc" / "examples"
# Python's own CMake comes first: the system's may be too old.
CMAKE = shutil.which("cmake", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))


def run(*command, **options):
    """Run a command and return its output; raise with the output if it fails."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{command}: {done.stdout}{done.stderr}")
    return done.stdout


def configure(folder, *options):
    """Let CMake configure the library in a folder."""
    run(CMAKE, "-S", ROOT, "-B", folder, "-DSPADELINE_LIBRARY=ON", "-DSPADELINE_CUDA=OFF", *options)


@pytest.fixture(scope="session")
def runtime():
    """The library of ONNX Runtime that Python has."""
    onnxruntime = pytest.importorskip("onnxruntime")
    found = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"))
    if not found:
        pytest.skip("Python's ONNX Runtime has no libonnxruntime.so")
    return found[0]


@pytest.fixture(scope="session")
def build(tmp_path_factory, runtime):
    """The folder where the library is built."""
    if CMAKE is None:
        pytest.skip("no cmake")
    folder = Path(os.environ.get("SPADELINE_LIBRARY_BUILD") or tmp_path_factory.mktemp("library"))
    options = [f"-Donnxruntime_LIBRARY={runtime}", "-DSPADELINE_WERROR=ON", "-DCMAKE_CXX_FLAGS_RELEASE=-O2"]
    try:
        if not (folder / "CMakeCache.txt").exists():
            configure(folder, *options)
    except RuntimeError as error:
        if "SPADELINE_LIBRARY=ON: expected" not in str(error):
            raise
        pytest.skip(" ".join(str(error).split("SPADELINE_LIBRARY=ON: ")[1].split("Call Stack")[0].split()))
    run(CMAKE, "--build", folder, "--target", "spadeline", "--parallel", "2")
    return folder


@pytest.fixture(scope="session")
def sanitizers(build):
    """CMake's options for a program that calls the library: the sanitizers that it was built with."""
    flags = re.findall(r"^CMAKE_CXX_FLAGS\w*:.*?=(.*)", (build / "CMakeCache.txt").read_text("utf-8"), re.MULTILINE)
    found = sorted({flag for line in flags for flag in line.split() if "sanitize" in flag})
    return [f"-DCMAKE_{language}_FLAGS={' '.join(found)}" for language in ("C", "CXX") if found]


@pytest.fixture(scope="session")
def installed(build, runtime, tmp_path_factory):
    """The folder that the library is installed into, with ONNX Runtime's beside it."""
    prefix = tmp_path_factory.mktemp("installed")
    run(CMAKE, "--install", build, "--prefix", prefix, "--component", "library")
    (folder,) = {path.parent for path in prefix.rglob("libspadeline.so")}
    (folder / "libonnxruntime.so.1").symlink_to(runtime)
    return prefix


@pytest.fixture(scope="session")
def library(installed):
    """The installed library."""
    (path,) = installed.rglob("libspadeline.so")
    return Library(path)


@pytest.fixture(scope="session")
def programs(installed, sanitizers, tmp_path_factory):
    """Programs built by CMake with find_package(spadeline)."""
    folder = tmp_path_factory.mktemp("consumer")
    source = ROOT / "tests" / "door" / "consumer"
    run(CMAKE, "-S", source, "-B", folder, f"-DEXAMPLES={EXAMPLES}", f"-DCMAKE_PREFIX_PATH={installed}", *sanitizers)
    run(CMAKE, "--build", folder)
    return folder
