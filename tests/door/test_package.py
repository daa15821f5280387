"""The installed package: what it shows, and programs in C and C++ that are built against it."""

import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image
from spadeline.engine import Detector

from ..conftest import part
from .conftest import ROOT, run
from .library import SIGNATURES

pytestmark = pytest.mark.xdist_group("door")
EXAMPLES = ROOT / "csrc" / "examples"
PLACES = ("CMAKE_ENVIRONMENT_PATH", "CMAKE_SYSTEM_PATH", "PACKAGE_ROOT_PATH")
FRAME = part(301, scratched=True)[0]


@pytest.fixture(scope="module")
def programs(installed, tmp_path_factory):
    """Programs built by CMake with find_package(spadeline)."""
    folder = tmp_path_factory.mktemp("consumer")
    source = ROOT / "tests" / "door" / "consumer"
    run("cmake", "-S", source, "-B", folder, f"-DEXAMPLES={EXAMPLES}", f"-DCMAKE_PREFIX_PATH={installed}")
    run("cmake", "--build", folder)
    return folder


@pytest.fixture
def picture(tmp_path):
    Image.fromarray(FRAME).save(tmp_path / "frame.ppm")
    return tmp_path / "frame.ppm"


def test_only_the_interface_is_visible(library):
    listed = run("nm", "--dynamic", "--defined-only", library.path)
    visible = {line.split()[2].split("@")[0] for line in listed.splitlines()}
    assert visible - {"SPADELINE_1"} == set(SIGNATURES)
    header = (ROOT / "csrc" / "include" / "spadeline" / "spadeline.h").read_text("utf-8")
    assert set(re.findall(r"\b(spadeline_\w+)\(", re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL))) == set(SIGNATURES)


def test_a_cpp_program(programs, recipe_folder, tmp_path):
    FRAME.tofile(tmp_path / "frame")
    lines = run(programs / "inspect_all", recipe_folder, tmp_path / "frame", 96, 96, tmp_path / "map").splitlines()
    expected = Detector.load(recipe_folder, device="cpu", threads=2).predict(FRAME)
    label, score, regions, counted, allocations = lines[0].split()
    assert (bool(int(label)), float.fromhex(score)) == (expected.pred_label, expected.pred_score)
    assert int(regions) == len(expected.regions)
    np.testing.assert_array_equal(np.fromfile(tmp_path / "map", np.float32), expected.anomaly_map.ravel())
    assert (counted, allocations) == ("1", "0")
    assert lines[1] == "1 pixels: expected 96 rows of 288 bytes, 288 bytes apart, got 27647 bytes"


def test_the_c_example(programs, recipe_folder, picture):
    inspected = subprocess.run(
        [programs / "inspect", recipe_folder, picture], capture_output=True, text=True, check=False
    )
    expected = Detector.load(recipe_folder, device="cpu", threads=2).predict(FRAME)
    first, *regions = inspected.stdout.splitlines()
    assert (inspected.returncode, first) == (1, f"anomalous {expected.pred_score:.9g}")
    assert regions == [
        f"region at {region.peak[0]}, {region.peak[1]}: {region.score:.9g}" for region in expected.regions
    ]
    refused = subprocess.run([programs / "inspect", picture, picture], capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith(f"{picture}/recipe.json: can't be read: ")


def test_pkg_config(installed, tmp_path, recipe_folder, picture):
    if shutil.which("pkg-config") is None:
        pytest.skip("no pkg-config")
    (folder,) = installed.rglob("pkgconfig")
    flags = run("pkg-config", "--cflags", "--libs", folder / "spadeline.pc").split()
    program = tmp_path / "inspect"
    run("cc", EXAMPLES / "inspect.c", *flags, f"-Wl,-rpath,{folder.parent}", "-o", program)
    assert subprocess.run([program, recipe_folder, picture], capture_output=True, check=False).returncode == 1


def test_what_is_missing_is_named(build, runtime, tmp_path):
    nowhere = [f"-DCMAKE_FIND_USE_{place}=OFF" for place in PLACES]
    configure = ["cmake", "-S", ROOT, "-B", tmp_path, "-DSPADELINE_LIBRARY=ON", f"-Donnxruntime_LIBRARY={runtime}"]
    with pytest.raises(RuntimeError, match="SPADELINE_LIBRARY=ON: expected ONNX Runtime's C"):
        run(*configure, *nowhere)
    (headers,) = re.findall("^onnxruntime_INCLUDE_DIR:.*=(.*)", (build / "CMakeCache.txt").read_text(), re.MULTILINE)
    with pytest.raises(RuntimeError, match="SPADELINE_LIBRARY=ON: expected the header nlohmann"):
        run(*configure, *nowhere, f"-Donnxruntime_INCLUDE_DIR={headers}")
