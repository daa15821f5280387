import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from spadeline.engine.json_data import to_json
from spadeline.engine.match import reference
from spadeline.engine.units import latency

from detectors_parts import contest as detector_contest
from detectors_parts.contest import Contestant, DetectorContest
from detectors_parts.judging import Truth, difference_of
from detectors_parts.process import Answer, DetectorError, DetectorProcess, Job
from page_parts import sections
from page_parts.frames import detectors

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
OWN_PYTHON = Path(sys.executable)

# A detector whose map is the frame's red channel. The method's name says what it does wrong.
FAKE = """
import os, sys, time
from detectors_parts import process
from detectors_parts.process import Answer

asked = []

def fit(job, folder):
    if job.method == "unfit":
        raise ValueError("no good parts\\nat all")
    (folder / "model").write_bytes(b"12345")

def files(job, folder, runtime):
    return [folder / "model"]

def open_detector(job, folder, runtime):
    if job.method == "foreign":
        import no_such_package
    if job.method == "late":
        process._Served.process_id = lambda served: os._exit(4)
    return lambda frame: inspect(job.method, frame), "bfloat16"

def inspect(method, frame):
    asked.append(frame)
    if method == "loud":
        print("a warning\\nlibrary.so: cannot open\\n", file=sys.stderr, flush=True)
        os._exit(5)
    if method == "dead" or (method == "tired" and len(asked) == 10):
        os._exit(3)
    time.sleep(0.06 if method == "slow" else 0.004)
    found = frame[..., 0].astype("float32")
    if method == "other":
        found[3, 4] *= 1.01
    if method == "large":
        found = found.repeat(2, axis=0)
    if method == "nan":
        found[0, 0] = float("nan")
    return Answer(found, float(found.max()), None if method == "no embedding" else float(found.mean()))
"""


@pytest.fixture
def fakes(tmp_path, monkeypatch):
    """A module that the processes find, and six frames of which the last three have a defect."""
    (tmp_path / "fake.py").write_text(FAKE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    frames = np.random.default_rng(0).integers(0, 100, (6, 16, 16, 3), np.uint8)
    masks = np.zeros((6, 16, 16), bool)
    masks[3:, 4:8, 4:8] = True
    frames[masks] += 120
    np.savez(tmp_path / "frames.npz", *frames)
    (tmp_path / "train").mkdir()
    for name in ("train/0.png", "extractor.onnx", "probe.npz"):
        (tmp_path / name).write_bytes(name.encode())
    paths = [tmp_path / name for name in ("extractor.onnx", "probe.npz", "train", "frames.npz")]
    job = Job("", *paths, (16, 16), 5, 2, 1)
    return job, Truth(masks.any((1, 2)), list(masks), (16, 16))


def contestant(job, method, *, python=OWN_PYTHON, same=False):
    return Contestant(method, "fake", method, "any", python, job.extractor, same_as_ours=same)


def contest_of(fakes, contestants, folder, *, seconds=0.05):
    job, truth = fakes
    steps = []
    contest = DetectorContest(contestants, job, truth, folder, on_progress=steps.append)
    rows = contest.hold(contest.fit(), seconds=seconds)
    return {row["name"]: row for row in rows}, contest.left_out, steps


@pytest.fixture(autouse=True)
def fake_code(tmp_path, monkeypatch):
    # A model's folder is named by a digest of its code, which the contest looks for beside itself.
    monkeypatch.setattr(detector_contest, "CODE", tmp_path)
    monkeypatch.setattr(detector_contest, "OWN_CODE", tmp_path / "own")
    (tmp_path / "own").mkdir()
    (tmp_path / "detectors_parts").mkdir()
    (tmp_path / "detectors_parts" / "torch_backbone.py").write_text("")


def test_accuracy_speed_and_size_come_from_the_contestant(fakes, tmp_path):
    rows, left_out, _ = contest_of(
        fakes, [contestant(fakes[0], "ours"), contestant(fakes[0], "no embedding")], tmp_path
    )
    assert left_out == {}
    for row in rows.values():
        assert (row["image_rocauc"], row["image_rocauc_by_map"], row["pixel_rocauc"], row["aupro_0.3"]) == (1, 1, 1, 1)
        assert (row["model_bytes"], row["precision"]) == (5, "bfloat16")
        assert row["latency"]["runs"] % 6 == 0
        assert row["latency"]["min_s"] <= row["latency"]["p50_s"] <= row["latency"]["max_s"]
        assert 0 < row["frames_per_s"] <= 1 / row["latency"]["mean_s"]
        assert row["peak_bytes"] >= row["resident_bytes"] > 1e6
    assert rows["ours"]["image_rocauc_by_embedding"] == 1
    assert rows["no embedding"]["image_rocauc_by_embedding"] is None


def test_without_masks_there_are_no_pixel_figures(fakes, tmp_path):
    job, truth = fakes
    unknown = Truth(
        truth.labels,
        [None if label else mask for label, mask in zip(truth.labels, truth.masks, strict=True)],
        truth.size,
    )
    rows, _, _ = contest_of((job, unknown), [contestant(job, "ours")], tmp_path)
    assert (rows["ours"]["pixel_rocauc"], rows["ours"]["aupro_0.3"]) == (None, None)
    assert rows["ours"]["image_rocauc"] == 1


def test_who_cannot_take_part_is_named_with_the_reason(fakes, tmp_path):
    job, _ = fakes
    nobody = tmp_path / "nowhere" / "python"
    methods = ("unfit", "foreign", "dead", "loud", "large", "nan")
    missing = [contestant(job, "homeless", python=None), contestant(job, "lost", python=nobody)]
    rows, left_out, _ = contest_of(
        fakes, [contestant(job, "ours"), *(contestant(job, method) for method in methods), *missing], tmp_path
    )
    assert list(rows) == ["ours"]
    assert left_out == {
        "unfit": "ValueError: no good parts at all",
        "foreign": f"no_such_package is not installed in {sys.prefix}",
        "dead": "its process ended with code 3",
        "loud": "its process ended with code 5: library.so: cannot open",
        "large": "expected maps of (16, 16), got (32, 16)",
        "nan": "its map or score isn't finite",
        "homeless": "no environment with its libraries was named: set_up_peers.sh makes one, --peers names it",
        "lost": f"{nobody} doesn't exist: make it with set_up_peers.sh",
    }


def test_who_fails_while_being_timed_is_left_out_and_the_others_go_on(fakes, tmp_path):
    entries = [contestant(fakes[0], method) for method in ("ours", "tired", "no embedding")]
    rows, left_out, _ = contest_of(fakes, entries, tmp_path)
    assert list(rows) == ["ours", "no embedding"]
    assert left_out == {"tired": "its process ended with code 3"}
    assert all(row["latency"]["runs"] >= 6 for row in rows.values())


def test_who_dies_after_its_last_frame_takes_no_other_row_along(fakes, tmp_path):
    rows, left_out, _ = contest_of(fakes, [contestant(fakes[0], method) for method in ("late", "ours")], tmp_path)
    assert list(rows) == ["ours"]
    assert left_out == {"late": "its process ended with code 4"}


def test_a_spade_must_have_our_maps(fakes, tmp_path):
    job, _ = fakes
    entries = [contestant(job, "ours"), contestant(job, "same", same=True), contestant(job, "other", same=True)]
    rows, left_out, _ = contest_of(fakes, entries, tmp_path)
    assert rows["same"]["difference_to_spadeline"] == 0
    assert list(left_out) == ["other"]
    assert left_out["other"].startswith("its maps or scores differ from spadeline's by ")


def test_a_spade_without_ours_is_left_out(fakes, tmp_path):
    job, _ = fakes
    _, left_out, _ = contest_of(fakes, [contestant(job, "unfit"), contestant(job, "same", same=True)], tmp_path)
    assert left_out["same"] == "its maps can't be compared with spadeline's, which was left out"


def test_whose_answers_took_too_long_has_been_timed(fakes, tmp_path):
    rows, _, _ = contest_of(fakes, [contestant(fakes[0], "ours"), contestant(fakes[0], "slow")], tmp_path, seconds=0.2)
    assert rows["slow"]["latency"]["runs"] == 5  # the first of six warmed up
    assert rows["slow"]["latency"]["min_s"] >= 0.06
    assert rows["ours"]["latency"]["runs"] > 5


def test_what_was_fitted_is_taken_again_until_an_input_changes(fakes, tmp_path):
    job, _ = fakes
    for fitted in (True, False):
        _, _, steps = contest_of(fakes, [contestant(job, "ours")], tmp_path)
        assert ("fitting ours" in steps) == fitted
    metadata, code = tmp_path / "anomalib-1.dist-info" / "METADATA", tmp_path / "own" / "fitting.py"
    metadata.parent.mkdir()
    for path in (job.probe, metadata, code):
        path.write_bytes(b"Name: another\nVersion: 9\n")
        for fitted in (True, False):
            _, _, steps = contest_of(fakes, [contestant(job, "ours")], tmp_path)
            assert ("fitting ours" in steps) == fitted, path


def test_a_process_that_cannot_start_says_so():
    process = DetectorProcess(Path("/bin/false"), "fake", 1)
    with pytest.raises(DetectorError, match="its process ended with code 1"):
        process.ask("versions")
    process.close()


def test_differences_are_of_maps_and_both_scores():
    scores = np.full((2, 2), 4.0)
    ours = [Answer(scores, 4.0, 2.0)]
    assert difference_of([Answer(scores + np.eye(2), 4.0, 2.0)], ours) == 0.25
    assert difference_of([Answer(scores, 6.0, 2.0)], ours) == 0.5
    assert difference_of([Answer(scores, 4.0, 4.0)], ours) == 1
    assert difference_of([Answer(scores, 4.0, None)], ours) == 0


def test_torchs_spade_is_the_reference(monkeypatch):
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnx")
    from detectors_parts import by_torch

    monkeypatch.setattr(by_torch, "BLOCK", 7)  # several blocks, the last of another length
    random = np.random.default_rng(0)
    levels = [random.random((9, 5, 8, 12)), random.random((9, 7, 4, 6)), random.random((9, 3, 2, 3))]
    query, gallery = [level[0] for level in levels], [level[1:] for level in levels]
    grids = [by_torch.concatenate([torch.from_numpy(level[i : i + 1]) for level in levels]) for i in range(9)]
    ids = [1, 4, 7]
    expected, _ = reference.match(query, gallery, ids)
    found = by_torch.match(grids[0].flatten(0, 1), torch.stack(grids[1:])[ids].flatten(0, 2))
    np.testing.assert_allclose(found.numpy().reshape(8, 12), expected, rtol=1e-9)


def test_torchs_retrieval_is_the_reference():
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnx")
    from detectors_parts import by_torch

    embeddings = np.random.default_rng(0).random((6, 4))
    ids, score = by_torch.retrieve(
        torch.from_numpy(embeddings[:1]), torch.from_numpy(embeddings[1:]), images=50, k_score=2
    )
    assert score == pytest.approx(reference.image_score(embeddings[0], embeddings[1:], 2), rel=1e-9)
    assert sorted(ids.tolist()) == [0, 1, 2, 3, 4]
    fewer, of_two = by_torch.retrieve(
        torch.from_numpy(embeddings[:1]), torch.from_numpy(embeddings[1:]), images=1, k_score=2
    )
    assert (fewer.tolist(), of_two) == (ids[:1].tolist(), score)


def runtimes_outputs(path, image):
    from spadeline.engine.extract.extractor import Extractor

    extractor = Extractor(path, device="cpu", threads=1)
    found = extractor.extract(image[None])
    return dict(zip(extractor.level_names, found.levels, strict=True)) | {"embedding": found.embedding}


def backbone_of(path, folder):
    from detectors_parts.torch_backbone import load_backbone

    backbone = load_backbone(path)
    size = (224, 224) if path.stem == "resnet50_thin" else (64, 64)
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    outputs = runtimes_outputs(path, image)
    np.savez(folder / "probe.npz", image=image, **outputs)
    return backbone, outputs


def needs_torch():
    for package in ("torch", "onnx", "onnxruntime"):
        pytest.importorskip(package)


def test_a_backbone_in_torch_is_the_extractor(extractor_path, tmp_path):
    needs_torch()
    backbone, outputs = backbone_of(extractor_path, tmp_path)
    backbone.check(tmp_path / "probe.npz")
    outputs["layer2"][0, 3, 2, 1] *= 1.5
    with np.load(tmp_path / "probe.npz") as probe:
        np.savez(tmp_path / "wrong.npz", image=probe["image"], **outputs)
    with pytest.raises(ValueError, match="layer2 of the backbone in torch differs from ONNX Runtime's by"):
        backbone.check(tmp_path / "wrong.npz")


def test_a_backbone_of_swapped_channels_and_strided_1x1_convolutions(hazelnut, tmp_path):
    needs_torch()
    backbone, _ = backbone_of(hazelnut[1], tmp_path)
    backbone.check(tmp_path / "probe.npz")


def changed(path, folder, change):
    import onnx

    model = onnx.load(path)
    change(model.graph)
    onnx.save(model, folder / "changed.onnx")
    return folder / "changed.onnx"


def test_an_operator_that_is_not_known_is_named(extractor_path, tmp_path):
    needs_torch()
    from detectors_parts.torch_backbone import load_backbone

    def sigmoid(graph):
        next(node for node in graph.node if node.op_type == "Relu").op_type = "Sigmoid"

    with pytest.raises(ValueError, match="an operator that isn't known here, Sigmoid"):
        load_backbone(changed(extractor_path, tmp_path, sigmoid))


def test_a_normalisation_of_another_kind_is_refused(extractor_path, tmp_path):
    needs_torch()
    from detectors_parts.torch_backbone import load_backbone

    def square(graph):
        node = next(node for node in graph.node if node.op_type == "Mul")
        node.input[1] = node.input[0]

    with pytest.raises(ValueError, match="normalisation isn't one factor and one offset a channel"):
        load_backbone(changed(extractor_path, tmp_path, square))


def run(*arguments):
    command = [sys.executable, str(BENCHMARKS / "detectors.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def peers(tmp_path):
    """An environment like that of set_up_peers.sh, but with the packages of the tests: torch, and no anomalib."""
    (tmp_path / "peers" / "bin").mkdir(parents=True)
    python = tmp_path / "peers" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return tmp_path / "peers"


def test_the_whole_command(parts, extractor_path, peers, tmp_path):
    needs_torch()
    pytest.importorskip("faiss")
    options = ("--extractor", extractor_path, "--images", parts, "--peers", peers, "-K", 4, "--threads", 1)
    few = ("--seconds", 0.05, "--peer-detectors", "spade", "padim-torch", "--quantized", extractor_path)
    done = run(*options, *few, "--json", tmp_path / "report.json")
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "report.json").read_text())
    assert document["benchmark"] == "detectors"
    assert document["command"].startswith("python ")
    (result,) = document["results"]
    assert (result["images"], result["frames"], result["gallery_images"], result["weights"]) == (12, 8, 4, "random")
    rows = {row["name"]: row for row in result["rows"]}
    assert list(rows) == ["spadeline", "spadeline, averages", "SPADE, torch"], result["left_out"]
    assert rows["SPADE, torch"]["difference_to_spadeline"] < 1e-3
    assert rows["SPADE, torch"]["pixel_rocauc"] == pytest.approx(rows["spadeline"]["pixel_rocauc"], abs=1e-3)
    assert result["left_out"] == {"PaDiM, anomalib torch": f"anomalib is not installed in {sys.prefix}"}
    assert f"PaDiM, anomalib torch: left out, anomalib is not installed in {sys.prefix}" in done.stdout
    assert "SPADE, torch: maps and scores are spadeline's within" in done.stdout
    table = sections.chapter(document, "detectors").tables["detectors"]
    assert [row[0] for row in table.rows] == list(rows)
    assert table.note.startswith("PaDiM, anomalib torch: left out, anomalib is not installed in ")


def test_without_an_extractor_a_backbone_of_random_weights_is_taken(parts, tmp_path):
    pytest.importorskip("torchvision")
    pytest.importorskip("faiss")
    options = (
        "--images",
        parts,
        "--peer-detectors",
        "--threads",
        1,
        "--seconds",
        0.05,
        "--models",
        tmp_path / "models",
    )
    done = run(*options, "--json", tmp_path / "report.json")
    assert done.returncode == 0, done.stderr
    assert "resnet18, random weights, input 224 × 224" in done.stdout
    (result,) = json.loads((tmp_path / "report.json").read_text())["results"]
    assert (result["backbone"], result["weights"], result["peers"]) == ("resnet18", "random", {})
    (row,) = result["rows"]
    assert (row["name"], row["precision"]) == ("spadeline", "float32")
    assert row["model_bytes"] > 40e6
    assert (tmp_path / "models" / "resnet18-random.onnx").exists()


def test_images_of_one_label_tell_nothing(parts, extractor_path, tmp_path):
    shutil.copytree(parts, tmp_path / "parts", ignore=shutil.ignore_patterns("scratch"))
    done = run("--images", tmp_path / "parts", "--extractor", extractor_path)
    assert done.returncode == 1
    assert "expected train/good, and normal and abnormal images in test" in done.stderr


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--images", "x", "--models", __file__), f"--models: expected a folder, got the file {__file__}"),
        ((), "the following arguments are required: --images"),
        (("--images", "x", "-K", "0"), "expected numbers above 0, got 0, "),
        (("--images", "x", "--models", "/nowhere/at/all"), "expected a folder that exists, got /nowhere/at/all"),
        (("--images", "/nowhere"), "detectors.py: /nowhere: expected a data set's folder, got no such path"),
    ],
)
def test_what_it_cannot_do_is_said_in_one_sentence(options, text):
    done = run(*options)
    assert done.returncode != 0
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_a_figure_that_is_not_there_is_a_dash():
    times = to_json(latency([0.01, 0.01, 0.02]))
    row = {
        "name": "spadeline", "precision": "int8", "image_rocauc": 1.0, "image_rocauc_by_map": 1.0, "image_rocauc_by_embedding": None, "pixel_rocauc": None, "aupro_0.3": None,
        "difference_to_spadeline": None, "latency": times, "frames_per_s": 99.0, "model_bytes": 1, "peak_bytes": 2,
    }  # fmt: skip
    result = {
        "input_size": (64, 64),
        "backbone": "b",
        "weights": "w",
        "images": 1,
        "gallery_images": 1,
        "frames": 1,
        "peers": {},
        "rows": [row],
        "left_out": {},
    }
    text = detectors({"command": "python x", "results": [result]}).text()
    *_, row, note = text.splitlines()
    assert row.split() == [
        "spadeline",
        "1.000",
        "1.000",
        "-",
        "-",
        "-",
        "10.0",
        "-",
        "-",
        "20.0",
        "99.0",
        "1.00e-06",
        "2.00e-06",
    ]
    assert note.strip() == "spadeline computes in int8."
    assert "Runs timed: spadeline 3." in text
