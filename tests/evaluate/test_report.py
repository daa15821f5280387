from __future__ import annotations

import base64
import errno
import hashlib
import io
import os
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from spadeline.engine.calibration import Threshold
from spadeline.engine.errors import DependencyError, InputError, OutputError
from spadeline.engine.evaluate.evaluation import Evaluation, Outcome
from spadeline.engine.evaluate.report import write_report
from spadeline.engine.folders.dataset import Dataset, LabelledImage
from spadeline.engine.recipe.records import Calibration, ImageRecord
from spadeline.engine.settings import Settings

HOSTILE = "<script>alert(1)</script>&\"'"


class Page(HTMLParser):
    """Collects what a browser shows: tags with their attributes, and the text."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.text = [], ""
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def pictures(self):
        """Return (caption, size) of each picture, in order."""
        found = []
        for tag, attributes in self.tags:
            if tag == "img":
                encoded = attributes["src"].removeprefix("data:image/jpeg;base64,")
                with Image.open(io.BytesIO(base64.b64decode(encoded, validate=True))) as image:
                    found.append((attributes["alt"], image.size, np.array(image)))
        return found


def outcome(folder, name, *, label, score, mask=None, size=(48, 40), nearest=None):
    """Write one test image and return its outcome at a threshold of 10."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(path)
    mask_paths = ()
    if mask is not None:
        mask_paths = (folder / "masks" / path.name,)
        mask_paths[0].parent.mkdir(exist_ok=True)
        Image.fromarray(mask.astype(np.uint8)).save(mask_paths[0])
    anomaly_map = np.full((32, 32), score / 2, np.float32)
    anomaly_map[4, 4] = score
    placed = np.zeros((32, 32), np.int32)
    placed[4, 4] = 1
    return Outcome(
        image=LabelledImage(path=path, label=label, kind=path.parent.name, mask_paths=mask_paths),
        pred_score=score,
        pred_label=score > 10,
        image_score=score / 10,
        map_score=score,
        anomaly_map=anomaly_map,
        regions=(placed if mask_paths else None) if label else placed * 0,
        nearest_normal=nearest or ImageRecord("best/000.png"),
        timings_s={"extract": 0.01, "total": 0.012},
    )


SPLIT = {"workers": 2, "threads_each": 1, "chosen": "measured", "measured": [{"workers": 2, "frames_per_s": 3.0}]}


def evaluation(folder, outcomes, *, ignore=None, **settings):
    threshold = {"false_alarm_rate": 0.01, "images": 2, "bound": 0.8}
    return Evaluation(
        dataset=Dataset(folder=folder, layout="plain", train=(), test=tuple(outcome.image for outcome in outcomes)),
        outcomes=tuple(outcomes),
        recipe=SimpleNamespace(settings=Settings(**settings), ignore=ignore),
        calibration=Calibration(
            tau=Threshold(value=1.0, **threshold),
            theta=Threshold(value=10.0, **threshold),
            method="leave-one-out",
            image_scores=(0.5, 1.0),
            map_scores=(5.0, 10.0),
        ),
        info={"extractor": "fake", "levels": {"layer1": [8, 4, 4]}, "split": SPLIT},
        environment={"processor": "A Processor", "memory_bytes": 8 * 10**9, "versions": {"numpy": "2.4"}},
    )


@pytest.fixture
def small(tmp_path):
    folder = tmp_path / "data"
    mask = np.zeros((48, 40), bool)
    mask[10:30, 10:30] = True
    return evaluation(
        folder,
        [
            outcome(folder, "normal/fine.png", label=False, score=2.0),
            outcome(folder, "normal/bright.png", label=False, score=12.0),
            outcome(folder, "abnormal/cut.png", label=True, score=30.0, mask=mask),
            outcome(folder, "abnormal/faint.png", label=True, score=9.0),
        ],
    )


def test_page_loads_and_runs_nothing(small, tmp_path):
    write_report(tmp_path / "report.html", small, title="Nuts")
    page = Page(tmp_path / "report.html")
    names = {tag for tag, _ in page.tags}
    assert {"svg", "img", "table"} <= names
    assert not names & {"script", "link", "iframe", "object", "base"}
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/jpeg;base64,"))
        assert not any(name.startswith("on") for name in attributes)
    assert "url(http" not in page.source
    assert "default-src 'none'" in page.source
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert all("aria-label" in attributes for _, attributes in page.tags if attributes.get("tabindex") == "0")


def test_page_shows_the_summary(small, tmp_path):
    write_report(tmp_path / "report.html", small, title="Nuts", notices=["RANDOM WEIGHTS"])
    page = Page(tmp_path / "report.html")
    for text in (
        "Nuts",
        "RANDOM WEIGHTS",
        "1 of 2",
        "image ROCAUC by map maximum",
        f"{small.summary()['pixel_rocauc']:.3f}",
        "tuned on the test labels",
        "1 of 2 abnormal images have a mask; the others are left out of the pixel figures.",
        "map maximum 12 (θ = 10)",
        "nearest normal image: best/000.png",
        "So few normal images can't support the wanted rate",
        "layer1: (8, 4, 4)",
        "leave-one-out",
        "12.0 ms",
        "A Processor",
        "8.0 GB",
        "numpy: 2.4",
        "workers: 2, threads each: 1, chosen: measured, measured: ((workers: 2, frames per s: 3))",
    ):
        assert text in page.text
    notice = next(i for i, (_, attributes) in enumerate(page.tags) if attributes.get("class") == "notice")
    assert notice < next(i for i, (tag, _) in enumerate(page.tags) if tag == "svg")


def test_few_images_have_no_high_percentiles_of_time(small, tmp_path):
    write_report(tmp_path / "report.html", small, title="Nuts")
    assert "extract10.0––10.0" in Page(tmp_path / "report.html").text


def test_the_rule_either_says_that_its_thresholds_share_the_rate(tmp_path):
    both = [outcome(tmp_path, f"normal/{i}.png", label=False, score=2.0) for i in range(2)]
    for rule, said in (("either", True), ("map", False)):
        write_report(tmp_path / "report.html", evaluation(tmp_path, both, label_rule=rule), title="Nuts")
        assert ("each is made at half of the rate" in Page(tmp_path / "report.html").text) == said


def test_wrong_verdicts_come_first_and_are_marked(small, tmp_path):
    write_report(tmp_path / "report.html", small, title="Nuts")
    text = Page(tmp_path / "report.html").text
    shown = [("bright", "false alarm"), ("fine", "passed"), ("faint", "miss"), ("cut", "caught")]
    places = [text.index(f"/{name}.png") for name, _ in shown]
    assert places == sorted(places)
    for (_, verdict), start in zip(shown, places, strict=True):
        assert verdict in text[start : start + 40]


@pytest.mark.parametrize(("wrong", "shown"), [(0, 4), (2, 4), (6, 6), (20, 8)])
def test_number_of_images_shown(tmp_path, wrong, shown):
    folder = tmp_path / "data"
    outcomes = [
        outcome(folder, f"normal/{i:02}.png", label=False, score=11.0 + i if i < wrong else 5.0) for i in range(20)
    ]
    write_report(tmp_path / "report.html", evaluation(folder, outcomes), title="Nuts")
    page = Page(tmp_path / "report.html")
    frames = [alt for alt, _, _ in page.pictures() if alt == "frame"]
    assert len(frames) == shown
    if wrong:
        assert page.text.index(f"normal/{wrong - 1:02}.png") < page.text.index(f"normal/{wrong - 2:02}.png")
    assert f"{wrong} of 20 are false alarms" in page.text


def test_pictures_are_thumbnails_with_the_map_and_the_true_defect(tmp_path):
    folder = tmp_path / "data"
    mask = np.zeros((1200, 640), bool)
    mask[600, 100:500] = True  # finer than a thumbnail's pixel
    case = outcome(folder, "abnormal/cut.png", label=True, score=30.0, mask=mask, size=mask.shape)
    write_report(tmp_path / "report.html", evaluation(folder, [case], framing="paper"), title="Nuts")
    (frame, heat) = Page(tmp_path / "report.html").pictures()
    assert frame[:2] == ("frame, true defect outlined", (171, 320))
    assert heat[:2] == ("anomaly map", (171, 320))
    red, green = frame[2][..., 0].astype(int), frame[2][..., 1].astype(int)
    rows = np.flatnonzero((green - red > 60).any(axis=1))
    assert 157 <= rows.min() <= rows.max() <= 163
    assert np.abs(heat[2].astype(int) - 90).max() > 30


def test_pictures_show_what_is_ignored(tmp_path):
    folder = tmp_path / "data"
    ignore = np.zeros((32, 32), bool)
    ignore[:, 16:] = True
    case = outcome(folder, "normal/0.png", label=False, score=1.0, size=(64, 64))
    write_report(tmp_path / "report.html", evaluation(folder, [case], ignore=ignore), title="Nuts")
    (_, heat) = Page(tmp_path / "report.html").pictures()
    right = heat[2][8:, 40:].astype(int)
    assert np.abs(heat[2][:, :28].astype(int) - 90).max() < 10
    assert right.max() - right.min() > 40  # stripes
    assert right.min() < 60


def test_nearest_normal_picture_is_shown_if_it_is_the_one_that_was_fitted(tmp_path):
    folder, normals = tmp_path / "data", tmp_path / "normals"
    normals.mkdir()
    pixels = np.zeros((16, 24, 3), np.uint8)
    for path in (normals / "right.png", normals / "other.png", tmp_path / "outside.png"):
        Image.fromarray(pixels).save(path)
    digest = hashlib.sha256((normals / "right.png").read_bytes()).hexdigest()
    records = [
        ImageRecord("right.png", digest),
        ImageRecord("other.png", "0" * 64),
        ImageRecord("gone.png", digest),
        ImageRecord("../outside.png", digest),
        ImageRecord("right.png"),
        ImageRecord("x" * 400, digest),
        ImageRecord("right.png\0", digest),
    ]
    for record in records:
        case = outcome(folder, "normal/0.png", label=False, score=1.0, nearest=record)
        report = tmp_path / "report.html"
        write_report(report, evaluation(folder, [case]), title="Nuts", normal_images=normals)
        captions = [alt for alt, _, _ in Page(report).pictures()]
        found = ["nearest normal image"] if record is records[0] else []
        assert captions == ["frame", "anomaly map", *found]
        assert f"nearest normal image: {record.name[:9]}" in Page(report).text


def test_names_from_outside_are_escaped(tmp_path):
    folder = tmp_path / HOSTILE.replace("/", "")
    name = f"{HOSTILE.replace('/', '')}/{HOSTILE.replace('/', '')}.png"
    case = outcome(folder, name, label=False, score=20.0, nearest=ImageRecord(HOSTILE))
    hostile = replace(evaluation(folder, [case]), info={HOSTILE: HOSTILE, "list": [HOSTILE]})
    write_report(tmp_path / "report.html", hostile, title=HOSTILE, notices=[HOSTILE])
    page = Page(tmp_path / "report.html")
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count("<script>") >= 7


def test_undecodable_file_names(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    case = outcome(folder, os.fsdecode(b"normal/\xff.png"), label=False, score=20.0)
    write_report(tmp_path / "report.html", evaluation(folder, [case]), title="Nuts")
    assert "normal/?.png" in Page(tmp_path / "report.html").text


def test_figures_that_are_not_defined_say_why(tmp_path):
    folder = tmp_path / "data"
    case = outcome(folder, "normal/0.png", label=False, score=20.0)
    write_report(tmp_path / "report.html", evaluation(folder, [case]), title="Nuts")
    text = Page(tmp_path / "report.html").text
    assert "Not defined for these images – labels: expected samples of both classes, got 1 normal" in text
    assert "Not defined for these images – masks: expected one for at least one abnormal image" in text
    assert "Abnormal images that look most normal" not in text


def test_a_report_is_replaced_and_folders_are_made(small, tmp_path):
    path = tmp_path / "a" / "b" / "report.html"
    write_report(path, small, title="First")
    write_report(str(path), small, title="Second")
    assert "Second" in Page(path).text
    assert list(path.parent.iterdir()) == [path]


def test_paths_that_can_not_be_written(small, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    for path in (tmp_path / "file" / "report.html", tmp_path / "folder", tmp_path / ("x" * 300)):
        with pytest.raises(OutputError) as caught:
            write_report(path, small, title="Nuts")
        assert str(caught.value).startswith(f"{path}: can't be written: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "file", "folder"]


def test_a_full_disk_leaves_the_old_report(small, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")
    write_bytes = Path.write_bytes

    def full(self, data):
        write_bytes(self, data[:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match=r"report.html: can't be written: No space left on device$"):
        write_report(path, small, title="Nuts")
    assert path.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "report.html"]


def test_a_test_image_that_is_gone_is_named(small, tmp_path):
    gone = small.outcomes[1].image.path
    gone.unlink()
    with pytest.raises(InputError, match=r"bright\.png: expected an image file, got: No such file"):
        write_report(tmp_path / "report.html", small, title="Nuts")


def test_without_jinja2(small, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(DependencyError, match=r"^jinja2 is not installed: pip install 'spadeline\[eval\]'$"):
        write_report(tmp_path / "report.html", small, title="Nuts")
