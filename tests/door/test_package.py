"""The installed package: what it shows, and programs in C and C++ that are built against it."""

import os
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image
from spadeline.engine import Detector

from shared_parts.library import SIGNATURES

from ..conftest import part
from .conftest import EXAMPLES, ROOT, configure, run

pytestmark = pytest.mark.xdist_group("door")
PLACES = ("CMAKE_ENVIRONMENT_PATH", "CMAKE_SYSTEM_PATH", "PACKAGE_ROOT_PATH")
FRAME = part(301, scratched=True)[0]


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


def test_handles_in_every_order(programs, recipe_folder):
    without = {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", "ASAN_OPTIONS")}
    run(programs / "handles", recipe_folder, env=without)


def test_the_first_environment_of_onnx_runtime_writes_nothing(programs, recipe_folder, picture, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    hidden = ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in hidden} | {"HOME": str(home)}
    ended = subprocess.run([programs / "inspect", recipe_folder, picture], env=environment, check=False)
    assert ended.returncode == 1
    assert list(home.iterdir()) == []


def test_the_pages_programs_compile(tmp_path):
    page = (ROOT / "docs" / "how-to" / "c-and-cpp.md").read_text("utf-8")
    (c,) = re.findall("```c\n(.*?)```", page, re.DOTALL)
    (cpp,) = re.findall("```cpp\n(.*?)```", page, re.DOTALL)
    include, body = cpp.split("\n", 1)
    names = "std::span<const uint8_t> pixels, int64_t height, int64_t width, void (*reject)(int64_t, int64_t)"
    for name, text in (("page.c", c), ("page.cpp", f"{include}\nvoid line({names}) {{\n{body}}}\n")):
        (tmp_path / name).write_text(text)
        standard = "-std=c99" if name == "page.c" else "-std=c++20"
        options = ["-fsyntax-only", "-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-I{ROOT / 'csrc' / 'include'}"]
        run("c++" if name == "page.cpp" else "cc", standard, *options, tmp_path / name)


def test_pkg_config(installed, tmp_path, recipe_folder, picture):
    if shutil.which("pkg-config") is None:
        pytest.skip("no pkg-config")
    (folder,) = installed.rglob("pkgconfig")
    flags = run("pkg-config", "--cflags", "--libs", folder / "spadeline.pc").split()
    program = tmp_path / "inspect"
    run("cc", EXAMPLES / "inspect.c", *flags, f"-Wl,-rpath,{folder.parent}", "-o", program)
    assert subprocess.run([program, recipe_folder, picture], capture_output=True, check=False).returncode == 1


def headers_of(build):
    """The folder of ONNX Runtime's headers that a build has found."""
    cache = (build / "CMakeCache.txt").read_text("utf-8")
    return re.findall("^onnxruntime_INCLUDE_DIR:.*=(.*)", cache, re.MULTILINE)[0]


def test_what_is_missing_is_named(build, runtime, tmp_path):
    nowhere = [f"-DCMAKE_FIND_USE_{place}=OFF" for place in PLACES] + [f"-Donnxruntime_LIBRARY={runtime}"]
    with pytest.raises(RuntimeError, match="SPADELINE_LIBRARY=ON: expected ONNX Runtime's C"):
        configure(tmp_path, *nowhere)
    with pytest.raises(RuntimeError, match="SPADELINE_LIBRARY=ON: expected the header nlohmann"):
        configure(tmp_path, *nowhere, f"-Donnxruntime_INCLUDE_DIR={headers_of(build)}")


@pytest.mark.parametrize(
    ("headers", "libraries", "option"),
    [
        ("include", "lib", "onnxruntime_ROOT"),  # the archive
        ("include/onnxruntime", "lib", "CMAKE_PREFIX_PATH"),  # a package
    ],
)
def test_onnx_runtime_is_found_in_an_archive_and_a_package(build, runtime, tmp_path, headers, libraries, option):
    folder = tmp_path / "onnxruntime"
    (folder / libraries).mkdir(parents=True)
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / libraries / name).symlink_to(runtime)
    (folder / headers).parent.mkdir(exist_ok=True)
    (folder / headers).symlink_to(headers_of(build))
    prefixes = os.environ.get("CMAKE_PREFIX_PATH", "")  # nlohmann/json may lie there
    place = f"{folder};{prefixes.replace(os.pathsep, ';')}" if option == "CMAKE_PREFIX_PATH" else folder
    configure(tmp_path / "build", f"-D{option}={place}")
    cache = (tmp_path / "build" / "CMakeCache.txt").read_text("utf-8")
    assert f"={folder / libraries / 'libonnxruntime.so'}\n" in cache
