"""An extractor that takes too much time or memory is refused; the error names the limit and what raises it."""

import os
import subprocess
import sys
import time
from unittest.mock import Mock

import numpy as np
import pytest
from spadeline.engine.errors import ExtractorError, InputError
from spadeline.engine.extract.extractor import Extractor
from spadeline.engine.extract.session import runtime_reason

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from .. import graphs

TIME = "got one that takes longer: SPADELINE_EXTRACTOR_SECONDS allows more"
MEMORY = "bytes of memory, got one that asks for more: SPADELINE_EXTRACTOR_BYTES allows more"


@pytest.fixture
def opened(tmp_path, monkeypatch):
    def opened(model, *, seconds=2, size=256 << 20):
        monkeypatch.setenv("SPADELINE_EXTRACTOR_SECONDS", str(seconds))
        monkeypatch.setenv("SPADELINE_EXTRACTOR_BYTES", str(size))
        return Extractor(graphs.save(model, tmp_path / "x.onnx"), device="cpu", threads=1)

    return opened


def test_a_graph_with_an_endless_loop_is_refused(opened, tmp_path):
    begun = time.monotonic()
    with pytest.raises(ExtractorError) as caught:
        opened(graphs.loop())
    assert str(caught.value) == f"{tmp_path / 'x.onnx'}: expected a graph that runs 2 images within 2 s, {TIME}"
    assert time.monotonic() - begun < 30
    opened(graphs.loop(rounds=5))


@pytest.mark.parametrize("model", [graphs.large_constant, graphs.large_expansion])
def test_a_graph_that_makes_gigabytes_of_numbers_is_refused(opened, model):
    with pytest.raises(ExtractorError, match=rf"a graph that runs 2 images in 268435456 {MEMORY}$"):
        opened(model())
    opened(model(1 << 20))


@pytest.mark.parametrize(
    ("model", "what"),
    [
        (graphs.folded_products(count=2000), "a file that ONNX Runtime loads"),
        (graphs.long_product(), "a graph that runs 2 images"),  # one operator that nothing interrupts
    ],
)
def test_a_graph_that_runs_too_long_is_refused(tmp_path, model, what):
    """The call ends nevertheless. The test needs a process of its own, since the work goes on in its thread."""
    path = graphs.save(model, tmp_path / "x.onnx")
    code = f"""
import os
from spadeline.engine.extract.extractor import Extractor
try:
    Extractor({str(path)!r}, device="cpu", threads=1)
except Exception as error:
    print(error, flush=True)
os._exit(0)
"""
    limits = {"SPADELINE_EXTRACTOR_SECONDS": "1", "SPADELINE_EXTRACTOR_BYTES": str(4 << 30)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=os.environ | limits)
    assert done.stdout == f"{path}: expected {what} within 1 s, {TIME}\n"


def test_the_default_admits_large_inputs_and_refuses_a_gigantic_constant(tmp_path, monkeypatch):
    monkeypatch.delenv("SPADELINE_EXTRACTOR_BYTES", raising=False)
    Extractor(graphs.save(graphs.large_constant(2**28), tmp_path / "x.onnx"), device="cpu")
    with pytest.raises(ExtractorError, match=f"in 2147483648 {MEMORY}"):
        Extractor(graphs.save(graphs.large_constant(), tmp_path / "x.onnx"), device="cpu")


def test_sessions_have_arenas_of_their_own(opened, monkeypatch):
    """One session's limit doesn't change another's."""
    first = opened(graphs.large_expansion(50 << 20), size=250 << 20)
    second = opened(graphs.large_expansion(50 << 20), size=250 << 20)
    with pytest.raises(ExtractorError):
        opened(graphs.large_expansion(50 << 20), size=100 << 20)
    image = np.zeros((1, graphs.H, graphs.W, 3), np.uint8)
    assert first.extract(image).embedding.shape == second.extract(image).embedding.shape


def test_memory_is_limited_while_frames_are_inspected(opened, monkeypatch):
    extractor = opened(graphs.extractor())
    error = RuntimeError("Available memory of 1 is smaller than requested bytes of 2")
    monkeypatch.setattr(extractor, "_session", Mock(run_with_iobinding=Mock(side_effect=error)))
    with pytest.raises(ExtractorError, match=f"expected the graph to run in 268435456 {MEMORY}"):
        extractor.extract(np.zeros((1, graphs.H, graphs.W, 3), np.uint8))
    with pytest.raises(ExtractorError, match=f"expected the graph to run in 268435456 {MEMORY}"):
        extractor.on_host().extract(np.zeros((graphs.H, graphs.W, 3), np.uint8))


@pytest.mark.parametrize("value", ["", "x", "0", "-1", "nan", "inf"])
@pytest.mark.parametrize("variable", ["SPADELINE_EXTRACTOR_SECONDS", "SPADELINE_EXTRACTOR_BYTES"])
def test_limits_are_numbers(tmp_path, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    with pytest.raises(InputError) as caught:
        Extractor(graphs.save(graphs.extractor(), tmp_path / "x.onnx"), device="cpu")
    assert str(caught.value) == f"{variable}: expected a number of 1 or more, got {value!r}"


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (graphs.unknown_operator(), "Error No Op registered for Nonsense with domain_version of 17"),
        (graphs.newer_opset(), "Current official support for domain ai.onnx is till opset"),
        (graphs.newer_format(), "got: Unsupported model IR version: 99, max supported IR version:"),
        (graphs.another_type(), "bound to different types (tensor(float) and tensor(double)"),
        (graphs.fixed_reshape(), "Input shape:{2,3,16,24}, requested shape:{1,3,16,24}"),
        (graphs.short_weights(), "raw_data size (11 bytes) does not match expected size from shape and data type"),
        (graphs.external_weights(), "expected one file, got one with external data; merge it: "),
    ],
)
def test_the_reason_of_a_refusal_is_whole(opened, model, text):
    """ONNX Runtime's messages begin with codes and places in its source, and end with the reason."""
    with pytest.raises(ExtractorError) as caught:
        opened(model)
    assert text in str(caught.value)
    for noise in ("ONNXRuntimeError", "onnxruntime_src", "/proc/self/fd", "std::"):
        assert noise not in str(caught.value)


def test_a_long_reason_keeps_its_ends(opened):
    with pytest.raises(ExtractorError) as caught:
        opened(graphs.unknown_operator("x" * 100_000))
    assert len(str(caught.value)) < 1000
    assert str(caught.value).endswith("with domain_version of 17")
    assert runtime_reason(MemoryError("std::bad_alloc")) == "out of memory"
