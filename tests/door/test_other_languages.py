"""C#'s layout and program, the page's ctypes, and the header in the standards that callers compile with."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from spadeline.engine import Detector

from shared_parts.library import SIGNATURES

from ..conftest import part
from .conftest import EXAMPLES, ROOT, run

pytestmark = pytest.mark.xdist_group("door")
INCLUDE = ROOT / "csrc" / "include"
PAGE = ROOT / "docs" / "how-to" / "other-languages.md"
CSHARP = (EXAMPLES / "Inspect.cs").read_text("utf-8")
SIZES = {"int": 4, "Reason": 4, "Need": 4, "long": 8, "double": 8, "IntPtr": 8}
FRAME = part(301, scratched=True)[0]


def c_name(name):
    """PredLabel is pred_label in C, and Passed2 is passed[2]."""
    snake = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
    return re.sub(r"(\d)$", r"[\1]", snake)


def csharp_layout(structure):
    """Return where each field of a sequential structure lies, and the structure's size, by C#'s rules."""
    (body,) = re.findall(rf"Sequential\)\]\n +public struct {structure}\n(.*?)\n    }}", CSHARP, re.DOTALL)
    offset, offsets = 0, {}
    for kind, names in re.findall(r"^ +public (\w+) ([\w, ]+);", body, re.MULTILINE):
        for name in names.split(", "):
            offset += -offset % SIZES[kind]
            offsets[c_name(name)] = offset
            offset += SIZES[kind]
    return offsets, offset + -offset % 8


def c_program(folder, lines):
    """Compile and run statements with the header; return what they print, line by line."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    (folder / "prints.c").write_text(
        "#include <spadeline/spadeline.h>\n#include <stddef.h>\n#include <stdio.h>\n"
        "int main(void) {\n" + "\n".join(lines) + "\nreturn 0;\n}\n"
    )
    run("cc", "-std=c99", f"-I{INCLUDE}", folder / "prints.c", "-o", folder / "prints")
    return run(folder / "prints").splitlines()


@pytest.mark.parametrize(("structure", "fields"), [("Region", 8), ("Result", 35)])
def test_csharp_lays_structures_out_as_c_does(tmp_path, structure, fields):
    offsets, size = csharp_layout(structure)
    assert len(offsets) == fields
    kind = f"spadeline_{structure.lower()}"
    lines = [f'printf("%d\\n", (int)offsetof({kind}, {name}));' for name in offsets]
    printed = c_program(tmp_path, [*lines, f'printf("%d\\n", (int)sizeof({kind}));'])
    assert [int(line) for line in printed] == [*offsets.values(), size]


@pytest.mark.parametrize("kind", ["Device", "Gallery", "Need", "Color", "Code", "Reason"])
def test_csharp_has_the_numbers_of_c(tmp_path, kind):
    (body,) = re.findall(rf"enum {kind}(?: : uint)? {{ (.*?) }}", CSHARP)
    numbers = {}
    for entry in body.split(", "):
        name, _, number = entry.partition(" = ")
        numbers[name] = int(number or len(numbers))
    prefix = "SPADELINE_" if kind == "Code" else f"SPADELINE_{kind.upper()}_"
    printed = c_program(tmp_path, [f'printf("%d\\n", (int){prefix}{name.upper()});' for name in numbers])
    assert [int(line) for line in printed] == list(numbers.values())
    header = (INCLUDE / "spadeline" / "spadeline.h").read_text("utf-8")
    (declared,) = re.findall(rf"typedef enum spadeline_{kind.lower()} {{(.*?)}}", header, re.DOTALL)
    assert len(re.findall(r"^ +SPADELINE_", declared, re.MULTILINE)) == len(numbers)


def test_csharp_calls_functions_that_there_are():
    declared = re.findall(r"extern \w+ (\w+)\(", CSHARP)
    assert len(declared) == 7
    assert set(declared) <= set(SIGNATURES)


def csharp_program(folder):
    """Compile the example, and the page's lines, with what is at hand; return the command that runs the example."""
    (lines,) = re.findall("```csharp\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    (folder / "Page.cs").write_text(
        "using Spadeline;\nstatic class Page {\nstatic void Reject(long y, long x) {}\n"
        f"public static void Line(byte[] pixels, long height, long width) {{\n{lines}}}\n}}\n"
    )
    if dotnet := shutil.which("dotnet"):
        version = int(run(dotnet, "--version").split(".")[0])
        framework = f"net{version}.0" if version >= 5 else "netcoreapp3.1"
        (folder / "Inspect.csproj").write_text(
            '<Project Sdk="Microsoft.NET.Sdk"><PropertyGroup><OutputType>Exe</OutputType>'
            f"<TargetFramework>{framework}</TargetFramework></PropertyGroup></Project>"
        )
        shutil.copy(EXAMPLES / "Inspect.cs", folder)
        run(dotnet, "build", "--output", folder / "built", folder / "Inspect.csproj")
        return [dotnet, folder / "built" / "Inspect.dll"]
    if shutil.which("mcs") and shutil.which("mono"):
        run("mcs", "-warnaserror", f"-out:{folder / 'Inspect.exe'}", EXAMPLES / "Inspect.cs", folder / "Page.cs")
        return ["mono", folder / "Inspect.exe"]
    return pytest.skip("no dotnet, and no mcs with mono")


def searching(library):
    """Return this environment, in which programs also find the library."""
    folders = [str(library.path.parent), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    return os.environ | {"LD_LIBRARY_PATH": os.pathsep.join(folders)}


def test_the_csharp_example(library, recipe_folder, tmp_path):
    command = csharp_program(tmp_path)
    environment = searching(library)

    def inspect(content):
        (tmp_path / "frame.ppm").write_bytes(content)
        arguments = [*command, recipe_folder, tmp_path / "frame.ppm"]
        ended = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
        return ended.returncode, ended.stdout.splitlines(), ended.stderr.strip()

    expected = Detector.load(recipe_folder, device="cpu", threads=2).predict(FRAME)
    code, (first, *regions), text = inspect(b"P6 96 96 255\n" + FRAME.tobytes())
    assert (code, text) == (1, "")
    assert (first.split()[0], float(first.split()[1])) == ("anomalous", expected.pred_score)
    found = [tuple(float(number) for number in re.findall(r"[\d.E+-]+", line[len("region") :])) for line in regions]
    assert found == [(*region.peak, region.score) for region in expected.regions]
    code, lines, text = inspect(b"P6 7 96 255\n" + bytes(7 * 96 * 3))
    assert (code, lines, text) == (2, [], "frame: expected sides of at least 8 pixels, got 96 x 7")
    code, lines, text = inspect(b"P6 96 96 255\n" + FRAME.tobytes()[:-1])
    assert (code, lines) == (2, [])
    assert text.startswith("expected a frame's bytes, got fewer")


def test_the_pages_ctypes(library, recipe_folder, tmp_path):
    (text,) = re.findall("```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    FRAME.tofile(tmp_path / "frame")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "hazelnut").symlink_to(recipe_folder)
    camera = "pixels, height, width = open('frame', 'rb').read(), 96, 96\n"
    (tmp_path / "page.py").write_text(camera + text)
    environment = searching(library)
    printed = run(sys.executable, "-I", tmp_path / "page.py", cwd=tmp_path, env=environment)
    expected = Detector.load(recipe_folder, device="cpu", threads=2).predict(FRAME)
    assert printed == f"True {expected.pred_score}\n"


@pytest.mark.parametrize(
    ("compiler", "language", "standard"),
    [("cc", "c", "c99"), ("cc", "c", "c11"), ("c++", "c++", "c++17"), ("c++", "c++", "c++20")],
)
def test_the_header_compiles_without_a_warning(tmp_path, compiler, language, standard):
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    program = tmp_path / "program"
    program.write_text(
        "#include <spadeline/spadeline.h>\n#include <spadeline/spadeline.h>\n"
        "int main(void) { return spadeline_abi() != SPADELINE_ABI || sizeof(spadeline_result) % 8; }\n"
    )
    warnings = ["-pedantic", "-Wall", "-Wextra", "-Werror"]
    run(compiler, f"-std={standard}", *warnings, f"-I{INCLUDE}", "-fsyntax-only", "-x", language, program)
