"""benchmarks/gpu.py: its report where there is a GPU, or an emulated one; what it is made of, on the CPU."""

import json
from dataclasses import replace

import pytest
from spadeline.engine.match.matcher import Match
from spadeline.engine.pages.terminal_text import table_text

from gpu_parts import contest as gpu_contest
from gpu_parts import contestants as on_gpu
from matcher_parts import features, ours
from page_parts import sections
from page_parts.gpu import gpu_times

from .scripts import run

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
