"""benchmarks/matcher.py: its report, who takes part beside the matcher, and its errors."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from spadeline.engine.match.matcher import instruction_sets

from matcher_parts import peers

from .scripts import BENCHMARKS, SMALL, run


def measured(folder, *arguments, **environment):
    done = run(*arguments, "--json", folder / "report.json", **environment)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "report.json").read_text()), done.stdout


def runs(result):
    return {row["name"]: row["runs"] for row in result["rows"]}


def test_drawn_features_with_all_options(tmp_path):
    plot = tmp_path / "plot.svg"
    options = ("-K", 4, 2, "--features", "equal", "--peers", "numpy", "--storage", "float32", "float16")
    document, printed = measured(tmp_path, *SMALL, *options, "--batch", "--memory", "--plot", plot)
    results = document["results"]
    assert [(result["features"], result["images"]) for result in results] == [("equal", 2), ("equal", 4)]
    for result in results:
        rows = {row["name"]: row for row in result["rows"]}
        assert runs(result) == {
            "dense scalar": 4, "pruned scalar": 4, "dense scalar float16": 4, "pruned scalar float16": 4, "NumPy matmul": 1,
        }  # fmt: skip
        for row in rows.values():
            assert 0 < row["min_s"] <= row["median_s"] <= row["worst"]["median_s"] <= row["max_s"]
        ratio = rows["pruned scalar"]["median_s"] / rows["dense scalar"]["median_s"]
        assert rows["pruned scalar"]["per_dense"] == pytest.approx(ratio)
        assert rows["pruned scalar"]["worst"]["statistics"]["pairs"] == 4 * 4 * result["images"]
        assert "yardstick" not in result
        assert result["batch"]["loop_per_batch"] == result["batch"]["loop_s"] / result["batch"]["batch_s"]
        assert result["memory"]["peak_bytes"] >= result["memory"]["imported_bytes"] > 1e6
        levels = result["images"] * 4 * (64 * 256 + 16 * 512 + 4 * 1024)
        assert result["bytes"]["float32"]["levels"] == 2 * result["bytes"]["float16"]["levels"] == levels
    assert all("slope" in line for line in document["growth"])
    assert document["environment"]["versions"]["numpy"] == np.__version__
    assert "slope" in plot.read_text()
    for caption in (
        "Runs", "Time a query", "What pruning left to compute for the slowest query", "Memory of the gallery",
        "Memory of a process that does nothing else", "Many queries at once", "Growth with K",
    ):  # fmt: skip
        assert f"\n{caption}:\n" in printed


def test_real_features_at_another_size_with_images_as_if_taken_again(tmp_path, parts, extractor_path):
    pytest.importorskip("onnxruntime")
    source = ("--extractor", extractor_path, "--images", parts / "train", "--queries", parts / "test")
    options = ("-K", 14, "--most-queries", 4, "--features", "real", "other", "--peers", "numpy")
    document, printed = measured(tmp_path, *SMALL, *source, *options)
    real, other = document["results"]
    assert (real["images"], real["real_images"], real["queries"]) == (14, 12, 4)
    assert {name.split("/")[0] for name in real["rows"][0]["medians_s"]} == {"good", "scratch"}
    assert runs(real) == {"dense scalar": 4, "pruned scalar": 8, "NumPy matmul": 1}
    assert runs(other) == {"dense scalar": 8, "pruned scalar": 8, "NumPy matmul": 1}
    assert "At most 12 images are as taken." in printed


FAKE_FAISS = "import numpy, os\ndef omp_set_num_threads(threads): pass\n"


@pytest.mark.parametrize(
    ("fake", "reason"),
    [
        ("raise ModuleNotFoundError", "faiss-cpu is not installed"),
        ("raise ImportError('no memory')", "faiss-cpu can't be imported: no memory"),
        (FAKE_FAISS + "def knn(queries, gallery, kappa): os._exit(3)", "its process ended with code 3"),
        (FAKE_FAISS + "def knn(queries, gallery, kappa): raise MemoryError", "it ran out of memory"),
    ],
)
def test_a_peer_that_cannot_take_part_is_left_out_with_the_reason(tmp_path, fake, reason):
    (tmp_path / "faiss.py").write_text(fake)
    document, printed = measured(tmp_path, *SMALL, "--peers", "faiss", PYTHONPATH=str(tmp_path))
    (result,) = document["results"]
    names = ("faiss.knn, tuned BLAS", "faiss.knn, as installed")
    assert result["left_out"] == dict.fromkeys(names, reason)
    assert runs(result).keys() == {"dense scalar", "pruned scalar"}
    assert f"{names[0]}: left out, {reason}." in printed


def test_a_wrong_peer_ends_the_run_without_a_report(tmp_path):
    answer = "def knn(queries, gallery, kappa): return numpy.zeros((len(queries), kappa)), None"
    (tmp_path / "faiss.py").write_text(FAKE_FAISS + answer)
    done = run(*SMALL, "--peers", "faiss", "--json", tmp_path / "report.json", PYTHONPATH=str(tmp_path))
    assert done.returncode != 0
    assert "faiss.knn, tuned BLAS: pixel" in done.stderr
    assert "has distance 0, expected" in done.stderr
    assert not (tmp_path / "report.json").exists()


def test_the_yardsticks_ratios(tmp_path):
    pytest.importorskip("faiss")
    document, _ = measured(tmp_path, *SMALL, "--peers", "faiss")
    (result,) = document["results"]
    rows = {row["name"]: row for row in result["rows"]}
    assert runs(result)[result["yardstick"]] == 3
    for row in rows.values():
        assert row["against_yardstick"] == pytest.approx(rows[result["yardstick"]]["median_s"] / row["median_s"])


@pytest.mark.parametrize(
    ("available", "kernels"),
    [
        (("avx512vnni", "avx512", "avx2", "scalar"), {"OPENBLAS_CORETYPE": "SkylakeX"}),
        (("avx2", "scalar"), {"OPENBLAS_CORETYPE": "Haswell"}),
        (("scalar",), {}),
    ],
)
def test_the_blas_gets_kernels_that_the_processor_has(available, kernels):
    assert peers.tuned_blas(available) == kernels


@pytest.mark.skipif(not peers.tuned_blas(instruction_sets()), reason="a BLAS is never tuned here")
def test_where_the_tuned_blas_can_not_run_the_other_is_the_yardstick(tmp_path):
    knn = """def knn(queries, gallery, kappa):
    if "OPENBLAS_CORETYPE" in os.environ: os._exit(4)
    distances = numpy.square(queries[:, None].astype(float) - gallery).sum(2)
    return numpy.sort(distances, 1)[:, :kappa], None
"""
    (tmp_path / "faiss.py").write_text(FAKE_FAISS + knn)
    document, printed = measured(tmp_path, *SMALL, "--peers", "faiss", PYTHONPATH=str(tmp_path))
    (result,) = document["results"]
    assert result["left_out"] == {"faiss.knn, tuned BLAS": "its process ended with code 4"}
    assert result["yardstick"] == "faiss.knn, as installed"
    assert runs(result)["faiss.knn, as installed"] == 3
    assert all(row["against_yardstick"] > 0 for row in result["rows"])
    assert "Ratio: speed relative to faiss.knn, as installed." in printed


def test_torchs_search_has_our_distances(tmp_path):
    pytest.importorskip("torch")
    document, _ = measured(tmp_path, *SMALL, "--peers", "torch", "--kappa", 1, 3)
    for result in document["results"]:
        assert result["left_out"] == {}
        assert "torch addmm + min or topk" in runs(result)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--extractor", "x.onnx"], "--extractor, --images and --queries go together"),
        (["--features", "other"], "need --extractor, --images and --queries"),
        (["--size", "20"], "--size: expected multiples of 16, got [20]"),
        (["-K", "0"], "expected numbers of 1 or more, got 0"),
        (["--json", "/nowhere/at/all.json"], "expected a folder that exists, got /nowhere/at/all.json"),
        (["--extractor", "x", "--images", "x", "--queries", "x"], "matcher.py: x: "),
    ],
)
def test_what_it_cannot_do_is_said_in_one_sentence(options, text):
    done = run(*options)
    assert done.returncode != 0
    assert text in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_so_and_leaves_nothing_behind(tmp_path, how):
    command = [sys.executable, str(BENCHMARKS / "matcher.py"), *SMALL, "--peers", "numpy", "--repeats", "1000000"]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        # A shell starts background jobs with SIGINT ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    try:
        while not list(tmp_path.glob("*/queries.npy")):
            assert process.poll() is None, "it ended by itself"
            time.sleep(0.01)
        process.send_signal(how)
        _, said = process.communicate(timeout=60)
        assert (process.returncode, said) == (1, "matcher.py: interrupted\n")
        assert not list(tmp_path.iterdir())
    finally:
        process.kill()  # a process that goes on would block the tests for ever
        process.wait()
