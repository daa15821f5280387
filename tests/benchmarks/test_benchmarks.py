import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from spadeline.engine.match.matcher import Match, instruction_sets
from spadeline.engine.pages.terminal_text import table_text
from spadeline.engine.result import Statistics

from gpu_parts import contest as gpu_contest
from gpu_parts import contestants as on_gpu
from matcher_parts import alone, features, growth, ours, peers
from page_parts import sections
from page_parts.gpu import gpu_times
from shared_parts.again import as_if_taken_again

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SMALL = ("--size", "32", "-K", "2", "--kappa", "2", "--threads", "1", "--repeats", "2", "--instruction-sets", "scalar")


def run(*arguments, script="matcher.py", **environment):
    command = [sys.executable, str(BENCHMARKS / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)


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


def test_equal_distances_are_equal_to_a_thousandth():
    case = features.make_case("equal", 32, 3, None)
    gallery = np.concatenate([level.reshape(-1, 1, level.shape[-1])[:12] for level in case.cells], -1)[:, 0]
    for query in case.queries.values():
        pixels = np.concatenate([level[:, 0, 0] for level in query])
        distances = ((gallery.astype(np.float64) - pixels) ** 2).sum(-1)
        assert np.ptp(distances) < 1e-3 * distances.mean()


def test_lifting_keeps_distances():
    a, b = np.random.default_rng(0).standard_normal((2, 24))
    lift = features._isometry(24, 256)
    assert np.linalg.norm(lift @ a - lift @ b) == pytest.approx(np.linalg.norm(a - b), rel=1e-6)
    with pytest.raises(SystemExit, match="expected at most"):
        features._isometry(300, 256)


def test_an_image_as_if_taken_again_differs_a_little_and_always_alike():
    image = np.tile(np.linspace(0, 255, 64).astype(np.uint8)[:, None, None], (1, 64, 3))
    one, same, other = (as_if_taken_again(image, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    assert 0 < np.abs(one.astype(float) - image).mean() < 30


@pytest.fixture
def answer():
    """A gallery with two equal images, a query, and a match of it."""
    case = features.make_case("random", 32, 1, None)
    twice = features.Case("random", [level.repeat(2, axis=0) for level in case.cells], case.sizes, case.queries, 0)
    stored = ours.store(twice, 2, "float32")
    query = case.queries["drawn 0"]
    match, seconds = ours.Ours(stored, "dense", "scalar", 1).search(query, 1)
    assert seconds > 0
    return stored, query, match


def changed(match, distances=None, neighbours=None):
    distances = match.distances if distances is None else distances
    neighbours = match.neighbours if neighbours is None else neighbours
    return Match(distances, neighbours, Statistics(path="dense", pairs=0, passed=(), exact=0, guarded_cells=0))


def test_other_neighbours_at_the_same_distance_are_as_good(answer):
    stored, query, match = answer
    other = match.neighbours.copy()
    other[..., 0] = 1
    ours.check_same("pruned", changed(match, neighbours=other), match, stored, query)


def test_other_neighbours_at_another_distance_end_the_run(answer):
    stored, query, match = answer
    other = match.neighbours.copy()
    other[3, 4, 0, 2] = (other[3, 4, 0, 2] + 1) % 8
    with pytest.raises(SystemExit, match=r"pruned: neighbour 0 of \(3, 4\) is \[0, .*expected \[0, "):
        ours.check_same("pruned", changed(match, neighbours=other), match, stored, query)


def test_other_distances_end_the_run(answer):
    stored, query, match = answer
    with pytest.raises(SystemExit, match=r"pruned: distances differ by 1.00e-06, allowed 1e-09"):
        ours.check_same("pruned", changed(match, distances=match.distances * (1 + 1e-6)), match, stored, query)


def test_a_distance_is_the_matchers(answer):
    stored, query, match = answer
    assert stored.distance(query, (5, 2), match.neighbours[5, 2, 0]) == pytest.approx(match.distances[5, 2], rel=1e-12)


def test_growth():
    results = [
        {"features": "real", "size": 224, "kappa": 1, "images": k, "rows": [{"name": "a", "median_s": 3 * k**0.5}]}
        for k in (200, 5, 50)
    ]
    (line,) = growth.growth(results)
    assert line["slope"] == pytest.approx(0.5)
    assert line["from_50_to_200"] == pytest.approx(2)


def test_instructions_are_those_of_a_match_alone(tmp_path, monkeypatch):
    valgrind = tmp_path / "valgrind"
    valgrind.write_text(
        f"#!{sys.executable}\n"
        "import sys\n"
        "options = dict(a.removeprefix('--').split('=', 1) for a in sys.argv if '=' in a)\n"
        "assert options['tool'] == 'callgrind' and options['path'] == 'pruned' and options['threads'] == '1'\n"
        "with open(options['callgrind-out-file'], 'w') as file:\n"
        "    file.write(f'events: Ir\\nsummary: {500_000 + 1000 * int(options[\"matches\"])}\\n')\n"
    )
    valgrind.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert alone.instructions(tmp_path, "avx2", kappa=1) == 1000


def test_without_valgrind_there_are_no_instructions(tmp_path):
    done = run("--instructions", PATH=str(tmp_path))
    assert done.returncode != 0
    assert "valgrind is not installed, and --instructions needs it" in done.stderr


SMALL_ON_GPU = ("--size", "32", "-K", "2", "--kappa", "2", "--threads", "1", "--runs", "10", "--seconds", "0.01")


def measured_on_gpu(folder, *arguments):
    pytest.importorskip("torch")
    options = (*SMALL_ON_GPU, *arguments, "--json", folder / "report.json")
    done = run(*options, script="gpu.py", OMP_NUM_THREADS="1")
    if done.stderr.startswith("gpu.py: device: "):
        assert len(done.stderr.splitlines()) == 1
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "report.json").read_text()), done.stdout


def test_gpu_with_drawn_features(tmp_path):
    document, printed = measured_on_gpu(tmp_path, "--features", "random", "--batch", 3, 1, "--kappa", 1, 2)
    assert [(result["kappa"], result["batch"]) for result in document["results"]] == [(1, 1), (1, 3), (2, 1), (2, 3)]
    for result in document["results"]:
        rows = {row["name"]: row for row in result["rows"]}
        assert list(rows) == ["dense", "pruned", "torch fp16", "torch fp32", "torch cdist"]
        assert result["left_out"] == {}
        for row in rows.values():
            assert 1 <= row["runs"] <= 10
            for clock in ("wall_s", "device_s"):
                assert row[clock]["p50"] > 0
                assert (row[clock]["p95"], row[clock]["p99"]) == (None, None)  # ten runs are too few for them
            assert row["memory_share"] > 0
            assert ("tensor_share" in row) == (row["name"] in ("dense", "torch fp16"))
        ratio = rows["torch fp16"]["wall_s"]["p50"] / rows["dense"]["wall_s"]["p50"]
        assert rows["dense"]["yardstick_per_wall"] == pytest.approx(ratio)
        assert rows["pruned"]["statistics"]["drawn 0"]["pairs"] == 4 * 4 * 2
    assert document["gpu"]["architecture"].startswith("sm_")
    assert "The chain wasn't measured: real images are needed" in printed
    assert len(sections.chapter(document, "gpu").tables["times"].rows) == 20


def test_gpu_with_the_chain(tmp_path, parts, extractor_path):
    pytest.importorskip("torchvision")
    pytest.importorskip("faiss")
    source = ("--extractor", extractor_path, "--images", parts / "train", "--queries", parts / "test")
    document, printed = measured_on_gpu(tmp_path, *source, "--features", "real", "--peers", "--most-queries", 2)
    chain = document["chain"]
    assert "not_measured" not in chain
    device = document["gpu"]["torch_device"]  # the CPU where the GPU is emulated
    assert chain["detector"]["extractor"] == f"torch on {device}"
    assert (chain["detector"]["backbone"], chain["detector"]["images"]) == ("wide_resnet50_2", 2)
    assert (chain["detector"]["chain"], chain["detector"]["matcher_device"]) == ("device", "cuda")
    assert chain["difference_to_cpu"] < (1e-4 if device == "cpu" else 1e-3)
    assert chain["stages_s"].keys() == {"prepare", "extract", "retrieve", "match", "map"}
    assert chain["wall_s"]["p50"] <= chain["wall_s"]["max"]
    precision = "float32" if device == "cpu" else "float16"
    assert f"wide_resnet50_2 (random weights, {precision}) by torch on {device}, matcher pruned on cuda" in printed


class NoGpu:
    """It does what a matcher on a GPU does, by the CPU's matcher; with a factor its distances are wrong."""

    name = "pruned"

    def __init__(self, case, on_cpu, factor=1.0):
        self.case, self.on_cpu, self.factor = case, on_cpu, factor

    def answer(self, names, kappa):
        return [self.match(self.case.queries[name], kappa) for name in names]

    def match(self, query, kappa):
        match, _ = self.on_cpu.search(query, kappa)
        return Match(match.distances * self.factor, match.neighbours.copy(), match.statistics)

    def work(self, batch):
        return on_gpu.Work(None, 1.0)


def contest_of(*contestants, case, on_cpu):
    limits = {"torch": None, "rates": {}, "runs": 5, "seconds": 0.0}
    return gpu_contest.GpuContest(case, on_cpu, contestants, **limits).hold(kappa=2, batch=3)


@pytest.fixture
def drawn():
    case = features.make_case("random", 32, 3, None)
    return case, ours.Ours(ours.store(case, 3, "float32"), "dense", "scalar", 1)


def test_torchs_searches_are_right_and_a_wrong_one_is_left_out(drawn, monkeypatch):
    torch = pytest.importorskip("torch")
    case, on_cpu = drawn
    monkeypatch.setattr(on_gpu, "MATRIX_BYTES", 50 * 4 * 3 * 64)  # several blocks, the last of another length
    half, single = (on_gpu.TorchGallery(torch, "cpu", case, 3, half=half) for half in (True, False))
    peers = [on_gpu.OnTorch(torch, name, half if name == "fp16" else single) for name in ("fp16", "fp32", "cdist")]
    wrong = on_gpu.OnTorch(torch, "fp32", on_gpu.TorchGallery(torch, "cpu", case, 3, half=False))
    wrong.name = "wrong"
    wrong._gallery.norms += 10
    table = contest_of(NoGpu(case, on_cpu), *peers, wrong, case=case, on_cpu=on_cpu)
    assert [row["name"] for row in table["rows"]] == ["pruned", "torch fp16", "torch fp32", "torch cdist"]
    assert [row.get("equal_neighbours", 0) > 0.95 for row in table["rows"]] == [False, True, True, True]
    assert table["left_out"].keys() == {"wrong"}
    assert "wrong: pixel" in table["left_out"]["wrong"]


def test_large_features_stay_finite_in_float16(drawn):
    torch = pytest.importorskip("torch")
    case, _ = drawn
    large = replace(case, cells=[1e3 * level for level in case.cells])
    gallery = on_gpu.TorchGallery(torch, "cpu", large, 3, half=True)
    assert gallery.scale < 1
    assert gallery.norms.isfinite().all()
    assert gallery.norms.max() > 1000


def test_a_wrong_matcher_on_the_gpu_ends_the_run(drawn):
    case, on_cpu = drawn
    with pytest.raises(SystemExit, match=r"pruned: distances differ by 1.00e-06"):
        contest_of(NoGpu(case, on_cpu, 1 + 1e-6), case=case, on_cpu=on_cpu)


def test_percentiles_of_a_hundred_runs():
    seconds = [index / 100 for index in range(1, 101)]
    assert gpu_contest.percentiles(seconds) == pytest.approx({"p50": 0.505, "p95": 0.9505, "p99": 0.9901})
    assert gpu_contest.percentiles(seconds[:99])["p99"] is None


def test_a_percentile_that_is_not_there_is_left_out():
    times = {"p50": 0.002, "p95": 0.003, "p99": None}
    result = {
        "images": 1, "kappa": 1, "batch": 1, "size": 32, "features": "random", "storage": "float16", "queries": 2, "real_images": 0,
        "rows": [{"name": "dense", "runs": 20, "wall_s": times}], "left_out": {},
    }  # fmt: skip
    faster = result["rows"][0] | {"name": "pruned", "wall_s": {"p50": 0.001, "p95": 0.002, "p99": 0.003}}
    *_, dense, pruned, _ = table_text(gpu_times([result | {"rows": [*result["rows"], faster]}])).splitlines()
    assert dense.split()[5:] == ["dense", "2.00", "3.00", "-", "20"]
    assert pruned.split()[5:] == ["pruned", "1.00", "2.00", "3.00", "20"]
    chain = {
        "wall_s": times | {"max": 0.004}, "stages_s": {"match": 0.001}, "frames_per_s": 400.0, "runs": 20, "batch": 8,
        "detector": dict.fromkeys(("chain", "images", "backbone", "weights", "precision", "extractor", "matcher", "matcher_device"), "x"),
    }  # fmt: skip
    document = {
        "benchmark": "gpu",
        "command": "x",
        "gpu": {"architecture": "sm_87"},
        "results": [result],
        "chain": chain,
    }
    chapter = sections.chapter(document, "gpu")
    assert list(chapter.tables["times"].head[-3:]) == ["wall p50, ms", "p95", "runs"]
    assert "A frame takes p50 2.00 ms, p95 3.00 ms, max 4.00 ms, of 20 runs." in chapter.text()
    assert chapter.finding == "On the sm_87 a frame takes 2.00 ms, at most 4.00 ms."


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


# --- the frame check -------------------------------------------------------------------------------------------------


def test_the_frame_check_on_drawn_parts(tmp_path, parts, extractor_path):
    pytest.importorskip("faiss")
    options = ("--images", parts, "--extractor", extractor_path, "--frames", 2, "--learn", 5, 10, 200, "--splits", 3)
    done = run(*options, "--json", tmp_path / "report.json", script="frame_check.py")
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "report.json").read_text())
    rows = {row["frame"]: row for row in document["found"]}
    assert rows["as it is"]["frames"] == 4
    assert rows["black"]["check"] == rows["white"]["check"] == rows["a tenth of the exposure"]["check"] == 2
    assert rows["black"]["reasons"]["contrast"] == 2
    assert [(row["learnt_from"], row["judged"]) for row in document["false_alarms"]] == [(5, 33), (10, 18)]
    assert "contrast 2" in done.stdout  # why the black frames were flagged
    alone = run(*options, "--only-false-alarms", script="frame_check.py")
    assert "black" not in alone.stdout
    assert "False alarms, by reason:" in alone.stdout
    assert re.search(rf"{parts.name}, averages +10 +16 ", alone.stdout)
