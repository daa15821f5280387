"""benchmarks/extractor.py with a tiny network and few runs: its document, and its errors."""

import json
import sys
from functools import partial

import pytest
from PIL import Image

import extractor
from page_parts import sections

from .scripts import run

pytest.importorskip("onnxruntime")
pytest.importorskip("torchvision")


def measured(folder, *arguments):
    done = run(*arguments, "--runs", 3, "--json", folder / "report.json", script="extractor.py")
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "report.json").read_text()), done.stdout


def test_a_file_with_its_own_images(tmp_path, parts, extractor_path):
    document, printed = measured(tmp_path, "--extractor", extractor_path, "--dataset", parts, "--threads", 1, 2)
    assert document["benchmark"] == "extractor"
    assert document["command"].startswith("python ")
    assert document["environment"]["threads"] == 2
    rows = document["results"]
    assert [(row["precision"], row["threads"]) for row in rows] == [
        ("float32", 1),
        ("int8", 1),
        ("float32", 2),
        ("int8", 2),
    ]
    for row in rows:
        assert (row["network"], row["input_size"]) == (str(extractor_path), [64, 64])
        assert row["provider"]
        assert row["latency"]["runs"] == 3
        assert 0 < row["latency"]["min_s"] <= row["latency"]["p50_s"] <= row["latency"]["max_s"]
    for base, int8 in zip(rows[::2], rows[1::2], strict=True):
        assert base["float32_per_this"] == 1
        assert int8["float32_per_this"] == pytest.approx(base["latency"]["p50_s"] / int8["latency"]["p50_s"])
        assert base["file_bytes"] == extractor_path.stat().st_size != int8["file_bytes"]
        assert int8["calibration_images"] == 9  # of 12: three are held out
        assert 0.5 < int8["map_correlation"] < 1
        assert int8["rocauc"].keys() == {
            "image_rocauc_by_image_score",
            "image_rocauc_by_map_score",
            "pixel_rocauc",
        }
        assert all(0.5 < share <= 1 for pair in int8["rocauc"].values() for share in pair.values())
    line = next(line for line in printed.splitlines() if line.split()[:1] == [extractor_path.stem])
    assert line.split()[1:6] == ["float32", "1", "64", "×", "64"]
    assert line.split()[7] == "-"  # three runs have no 95th percentile
    assert "What int8 costs: float32 → int8:" in printed
    tables = sections.chapter(document, "extractor").tables
    assert len(tables["times"].rows) == 4
    assert len(tables["cost"].rows) == 1


def test_backbones_of_random_weights_on_drawn_images(tmp_path, monkeypatch, capsys):
    small = partial(extractor.export_extractor, input_size=(64, 64))
    monkeypatch.setattr(extractor, "export_extractor", small)
    report = tmp_path / "report.json"
    options = ("--backbones", "resnet18", "--threads", "1", "--runs", "2", "--json", str(report))
    monkeypatch.setattr(sys, "argv", ["extractor.py", *options])
    extractor.main()
    rows = json.loads(report.read_text())["results"]
    expected = [("resnet18", precision) for precision in ("float32", "float16", "int8")]
    assert [(row["network"], row["precision"]) for row in rows] == expected
    float32, float16, int8 = rows
    assert float32["file_bytes"] > 1.9 * float16["file_bytes"] > 3.6 * int8["file_bytes"]
    assert (int8["calibration_images"], int8["rocauc"]) == (12, {})
    correlation = f"{int8['map_correlation']:.4f}"
    assert [line.split() for line in capsys.readouterr().out.splitlines()][-1] == ["resnet18", "12", correlation]


def test_drawn_images_are_the_same_every_time_and_smooth(tmp_path):
    one, same = (extractor._drawn(tmp_path / name) for name in ("one", "same"))
    files = sorted(path.name for path in one.iterdir())
    assert len(files) == extractor.DRAWN_IMAGES
    assert all((one / name).read_bytes() == (same / name).read_bytes() for name in files)
    with Image.open(one / files[0]) as image:
        assert image.size == (extractor.DRAWN_SIDE, extractor.DRAWN_SIDE)


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (("--runs", 0), 2, "expected numbers of 1 or more, got 0"),
        (("--threads", 2, 0), 2, "expected numbers of 1 or more, got 0"),
        (("--json", "/nowhere/at/all.json"), 2, "expected a folder that exists, got /nowhere/at/all.json"),
        (("--backbones", "vgg"), 1, "extractor.py: backbone: expected one of resnet18, "),
        (("--dataset", "/nowhere"), 1, "extractor.py: /nowhere: expected a data set's folder, got no such path"),
        (("--weights", "/nowhere.pth"), 1, "extractor.py: /nowhere.pth: the weights can't be read"),
    ],
)
def test_what_it_cannot_do_is_said_in_one_sentence(options, code, text):
    done = run("--backbones", "resnet18", *options, script="extractor.py")
    assert done.returncode == code
    assert text in done.stderr
    assert "Traceback" not in done.stderr
