"""The extension's stub is generated and committed. It must be the one that the extension gives."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from spadeline.engine import _native, instruction_sets

STUB = Path(__file__).resolve().parents[1] / "engine" / "_native.pyi"


def signatures(stub):
    """Names and parameters; how the generator spells types and spaces changes with its version.

    The committed stub has the classes of a GPU, too, which not every build has.
    """
    tree = ast.parse(stub)
    if not _native.CUDA:
        tree.body = [node for node in tree.body if not getattr(node, "name", "").startswith("Cuda")]
    return [
        (node.name, [argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)])
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    ]


def test_the_stub_is_current(tmp_path):
    pytest.importorskip("pybind11_stubgen")
    command = [sys.executable, "-m", "pybind11_stubgen", "spadeline.engine._native", "-o", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    generated = (tmp_path / "spadeline" / "engine" / "_native.pyi").read_text()
    assert signatures(generated) == signatures(STUB.read_text()), (
        f"make it anew: {' '.join(command[1:4])} and copy it to {STUB.name}"
    )


def test_the_table_is_best_first_and_ends_with_scalar():
    best_first = ["avx512vnni", "avx512", "avx2vnni", "avx2", "neondot", "neon", "scalar"]
    names = list(instruction_sets())
    assert names == _native.instruction_sets()
    assert names == [name for name in best_first if name in names]
    assert names[-1] == "scalar"
