"""PatchCore in benchmarks/accuracy.py: folds, records, tables, with a small model in the place of anomalib's."""

import csv
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from spadeline.engine.errors import InputError
from spadeline.engine.extract.extractor import Extractor
from spadeline.engine.images.reading import read_image
from spadeline.engine.images.resizing import place

import accuracy
from accuracy_parts import figures, patchcore
from page_parts import recall, sections

from .scripts import needs_torch

# Like anomalib's in what by_patchcore.py calls; the coreset begins with the first position, and isn't projected.
COMPONENTS = """
import torch


class KCenterGreedy:
    def __init__(self, embedding, sampling_ratio):
        self.features, self.min_distances = embedding, None
        self.size = int(len(embedding) * sampling_ratio)

    def sample_coreset(self):
        chosen = [torch.tensor(0)]
        while len(chosen) < self.size:
            self.update_distances(chosen[-1])
            chosen.append(self.min_distances.squeeze(1).argmax())
        return self.features[torch.stack(chosen)]
"""
MODEL = """
import torch
from torch.nn import functional


class PatchcoreModel:
    def __init__(self, layers, backbone, pre_trained):
        assert layers == ("layer2", "layer3") and not pre_trained
        self.backbone, self.training = backbone, True

    def train(self):
        self.training = True

    def eval(self):
        self.training = False

    def __call__(self, image):
        level = self.backbone(image)["layer2"]
        rows = level.flatten(2)[0].T
        if self.training:
            return rows
        distances = torch.cdist(rows, self.memory_bank, compute_mode="donot_use_mm_for_euclid_dist").min(1).values
        found = functional.interpolate(distances.reshape(1, 1, *level.shape[2:]), image.shape[2:])

        class Answer:
            anomaly_map, pred_score = found, 2 * found.max()

        return Answer
"""


@pytest.fixture
def peers(tmp_path):
    """An environment like that of set_up_peers.sh, with a small model as anomalib's."""
    needs_torch()
    site = tmp_path / "site"
    below = site / "anomalib" / "models" / "image" / "patchcore"
    below.mkdir(parents=True)
    (below / "torch_model.py").write_text(MODEL)
    (site / "anomalib" / "models" / "components.py").write_text(COMPONENTS)
    (site / "anomalib-2.7.0.dist-info").mkdir()
    (site / "anomalib-2.7.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: anomalib\nVersion: 2.7.0\n"
    )
    return environment(tmp_path / "peers", f"PYTHONPATH={site}:$PYTHONPATH ")


def environment(folder, variables=""):
    (folder / "bin").mkdir(parents=True)
    python = folder / "bin" / "python"
    python.write_text(f'#!/bin/sh\n{variables}exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return folder


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        command = [*arguments, "--protocol", "defaults", "--threads", 1, "--json", "accuracy.json"]
        monkeypatch.setattr(sys, "argv", ["accuracy.py", *map(str, command)])
        capsys.readouterr()
        accuracy.main()
        return json.loads(Path("accuracy.json").read_text()), capsys.readouterr().out

    return run


def level_rows(folder, extractor):
    """Return (images, positions, channels) of the second level."""
    images = [
        place(read_image(path), extractor.input_size, framing="whole")[0] for path in sorted(folder.glob("*.png"))
    ]
    level = extractor.extract(np.stack(images)).levels[1]
    return level.reshape(*level.shape[:2], -1).transpose(0, 2, 1).astype(float)


def coreset(bank):
    """Return a tenth of the positions: the first, then whichever lies furthest from all chosen ones."""
    chosen, nearest = [0], np.full(len(bank), np.inf)
    while len(chosen) < len(bank) // 10:
        nearest = np.minimum(nearest, ((bank - bank[chosen[-1]]) ** 2).sum(1))
        chosen.append(int(nearest.argmax()))
    return bank[chosen]


def furthest(rows, bank):
    """Return each image's largest distance of a position to the nearest position of the bank."""
    bank = bank.reshape(-1, bank.shape[-1])
    return np.array([np.sqrt(((image[:, None] - bank) ** 2).sum(-1)).min(1).max() for image in rows])


def test_thresholds_are_made_of_images_that_the_model_had_not_seen(peers, parts, extractor_path, run):
    document, printed = run(parts, "--extractor", extractor_path, "--peers", peers, "--csv", "all.csv")
    normal, good, bad = (
        level_rows(parts / folder, Extractor(extractor_path, device="cpu", threads=1))
        for folder in ("train/good", "test/good", "test/scratch")
    )
    rows = {row["protocol"]: row for row in document["results"]}
    assert list(rows) == ["defaults", *patchcore.PEERS]
    for name, choose, folds in (("patchcore-all", np.asarray, len(normal)), ("patchcore-coreset", coreset, 5)):

        def kept(images, choose=choose):
            return choose(images.reshape(-1, images.shape[-1]))

        held_out = np.empty(len(normal))
        for fold in range(folds):
            inside = np.arange(len(normal)) % folds == fold
            held_out[inside] = furthest(normal[inside], kept(normal[~inside]))
        of_good, of_bad = (furthest(images, kept(normal)) for images in (good, bad))
        area = np.mean([[g < b for g in of_good] for b in of_bad])
        for score in figures.SCORES:  # the small model's own score is twice the map's maximum
            assert rows[name]["figures"][figures.recall(score, 0.01)] == np.mean(of_bad > held_out.max())
            assert rows[name]["figures"][figures.false_alarms(score, 0.01)] == np.mean(of_good > held_out.max())
            assert rows[name]["figures"][f"image_rocauc_by_{score}"] == area
    assert document["peers"]["versions"]["anomalib"] == "2.7.0"
    assert "PatchCore is that of anomalib 2.7.0" in printed
    table = sections.chapter(document, "accuracy").tables[f"{parts.name}-recall"]
    assert [row[1] for row in table.rows[:3]] == ["spadeline, levels as they are", *recall.PATCHCORE.values()]
    assert table.rows[0][5].endswith(" of 4")
    assert recall.PATCHCORE.keys() == patchcore.PEERS.keys()
    with Path("all.csv").open() as file:
        lines = [(line["protocol"], line["kappa"]) for line in csv.DictReader(file)]
    assert lines == [("defaults", "1"), *((name, "") for name in patchcore.PEERS)]


def test_what_patchcore_found_is_on_record(peers, parts, extractor_path, run):
    command = (parts, "--extractor", extractor_path, "--peers", peers, "--peer-detectors", "patchcore-all")
    first, _ = run(*command)
    records = {path: path.stat().st_mtime_ns for path in Path("accuracy-records").glob("*.json")}
    assert len(records) == 2
    again, _ = run(*command)
    assert {path: path.stat().st_mtime_ns for path in Path("accuracy-records").glob("*.json")} == records
    assert again["results"] == first["results"]


def test_patchcore_gets_the_levels_that_are_not_averaged(peers, parts, extractor_path, run, tmp_path):
    from spadeline.export import average_extractor

    average_extractor(tmp_path / "averaged.onnx", extractor_path, neighbourhood=3)
    command = (parts, "--peers", peers, "--peer-detectors", "patchcore-all", "--extractor")
    with pytest.raises(InputError, match=r"expected an extractor whose levels aren't averaged, got .*averaged.onnx"):
        run(*command, tmp_path / "averaged.onnx")
    document, _ = run(*command, tmp_path / "averaged.onnx", extractor_path)
    assert [(Path(row["extractor"]).name, row["protocol"]) for row in document["results"]] == [
        ("averaged.onnx", "defaults"),
        (extractor_path.name, "defaults"),
        (extractor_path.name, "patchcore-all"),
    ]
    table = sections.chapter(document, "accuracy").tables[f"{parts.name}-recall"]
    assert table.rows[0][1] == "spadeline, levels averaged over 3 × 3"


def test_a_class_without_an_answer_is_left_out(peers, parts, extractor_path, run, tmp_path):
    (tmp_path / "site" / "anomalib" / "models" / "image" / "patchcore" / "torch_model.py").write_text("1 / 0")
    document, printed = run(parts, "--extractor", extractor_path, "--peers", peers, "--peer-detectors", "patchcore-all")
    assert document["peers"]["left_out"] == {
        f"patchcore-all, {parts.name}, {parts.name}": "ZeroDivisionError: division by zero"
    }
    assert f"patchcore-all, {parts.name}, {parts.name}: left out, ZeroDivisionError: division by zero." in printed
    assert [row["protocol"] for row in document["results"]] == ["defaults"]


def test_an_image_alone_gives_no_threshold(peers, parts, extractor_path, run, tmp_path):
    shutil.copytree(parts, tmp_path / "parts")
    for path in sorted((tmp_path / "parts" / "train" / "good").iterdir())[1:]:
        path.unlink()
    document, _ = run(tmp_path / "parts", "--extractor", extractor_path, "--peers", peers)
    assert len(document["results"]) == 3
    for row in document["results"]:
        assert row["figures"]["pixel_rocauc"] is not None
        name = figures.recall("map_score", 0.05)
        assert row["figures"][name] is None
        assert row["not_computed"][name] == "thresholds: expected at least 2 different normal images, got fewer"


def test_an_environment_without_anomalib_is_named(parts, extractor_path, run, tmp_path):
    command = (parts, "--extractor", extractor_path, "--peers")
    with pytest.raises(InputError, match=r"--peers: expected the folder that set_up_peers.sh made, got "):
        run(*command, tmp_path / "none")
    with pytest.raises(InputError, match=r"--peers: expected an environment with anomalib, got .*bare, which has none"):
        run(*command, environment(tmp_path / "bare"))
