"""Data sets by the names of their folders: layouts, spellings, and roles that can't be told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from spadeline.engine.errors import InputError
from spadeline.engine.folders.dataset import LabelledImage, Taken, find_dataset, has_layout

from .trees import found, refused, touch

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture
def mvtec(tmp_path):
    touch(
        tmp_path,
        "train/good/000.png",
        "train/good/001.png",
        "test/good/000.png",
        "test/crack/000.png",
        "test/crack/001.jpg",
        "test/.hidden/000.png",
        "test/@eaDir/000.png",
        "ground_truth/crack/000_mask.png",
        "ground_truth/crack/001_mask.png",
        "license.txt",
    )
    return tmp_path


@pytest.fixture
def plain(tmp_path):
    touch(
        tmp_path,
        "normal/a.png",
        "abnormal/a.png",
        "abnormal/b.png",
        "abnormal/deep/c.png",
        "masks/a.bmp",
        "masks/deep/c_mask.png",
    )
    return tmp_path


def test_mvtec_layout(mvtec):
    dataset = find_dataset(str(mvtec))
    assert (dataset.folder, dataset.layout, dataset.train_folder) == (mvtec, "mvtec", mvtec / "train" / "good")
    assert [path.name for path in dataset.train] == ["000.png", "001.png"]
    crack, truth = mvtec / "test" / "crack", mvtec / "ground_truth" / "crack"
    assert dataset.test == (
        LabelledImage(path=crack / "000.png", label=True, kind="crack", mask_paths=(truth / "000_mask.png",)),
        LabelledImage(path=crack / "001.jpg", label=True, kind="crack", mask_paths=(truth / "001_mask.png",)),
        LabelledImage(path=mvtec / "test" / "good" / "000.png", label=False, kind="good"),
    )
    assert dataset.taken == (
        Taken(folder="test/crack", label=True, images=2, with_mask=2),
        Taken(folder="test/good", label=False, images=1, with_mask=0),
    )


def test_mvtec_layout_without_masks_train_or_test(tmp_path):
    touch(tmp_path, "a/test/good/0.png", "a/test/bad/0.png", "b/train/good/0.png")
    only_test, only_train = find_dataset(tmp_path / "a"), find_dataset(tmp_path / "b")
    assert (only_test.train, only_test.train_folder) == ((), None)
    assert [image.mask_paths for image in only_test.test] == [(), ()]
    assert (len(only_train.train), only_train.test) == (1, ())


def test_plain_layout(plain):
    dataset = find_dataset(plain)
    assert (dataset.layout, dataset.train) == ("plain", ())
    found = [(image.path.name, image.label, image.kind, image.mask_paths) for image in dataset.test]
    assert found == [
        ("a.png", False, "normal", ()),
        ("a.png", True, "abnormal", (plain / "masks" / "a.bmp",)),
        ("b.png", True, "abnormal", ()),
        ("c.png", True, "abnormal", (plain / "masks" / "deep" / "c_mask.png",)),
    ]


# --- spellings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        pytest.param(
            ["Train/Good/0.png", "Test/Good/1.png", "Test/Bad/2.png"],
            {"Test/Bad/2.png": ("abnormal", "Bad"), "Test/Good/1.png": ("normal", "Good")},
            id="a capital letter",
        ),
        pytest.param(
            ["train/ok/0000.bmp", "test/ok/0000.bmp", "test/ko/0000.bmp", "ground_truth/ko/0000.png"],
            {"test/ko/0000.bmp": ("abnormal", "ko", "ground_truth/ko/0000.png"), "test/ok/0000.bmp": ("normal", "ok")},
            id="BTech",
        ),
        pytest.param(
            ["OK/S0001/a_OK_C1.jpg", "NG/AK/S0002/a_NG_C1.jpg"],
            {"OK/S0001/a_OK_C1.jpg": ("normal", "OK"), "NG/AK/S0002/a_NG_C1.jpg": ("abnormal", "NG")},
            id="Real-IAD without masks",
        ),
        pytest.param(
            ["Data/Images/Normal/0.JPG", "Data/Images/Anomaly/000.JPG", "Data/Masks/Anomaly/000.png", "image_anno.csv"],
            {
                "Data/Images/Normal/0.JPG": ("normal", "Normal"),
                "Data/Images/Anomaly/000.JPG": ("abnormal", "Anomaly", "Data/Masks/Anomaly/000.png"),
            },
            id="VisA",
        ),
        pytest.param(
            ["train/good/0.JPG", "test/good/1.JPG", "test/bad/2.JPG", "ground_truth/bad/2.png"],
            {"test/bad/2.JPG": ("abnormal", "bad", "ground_truth/bad/2.png"), "test/good/1.JPG": ("normal", "good")},
            id="VisA, converted",
        ),
        pytest.param(
            [
                "train/good/0.png", "validation/good/0.png", "test/good/0.png", "test/logical_anomalies/0.png",
                "test/structural_anomalies/0.png", "ground_truth/logical_anomalies/0/000.png",
                "ground_truth/logical_anomalies/0/001.png", "ground_truth/structural_anomalies/0/000.png",
            ],
            {
                "test/good/0.png": ("normal", "good"),
                "test/logical_anomalies/0.png": (
                    "abnormal", "logical_anomalies",
                    "ground_truth/logical_anomalies/0/000.png", "ground_truth/logical_anomalies/0/001.png",
                ),
                "test/structural_anomalies/0.png": (
                    "abnormal", "structural_anomalies", "ground_truth/structural_anomalies/0/000.png",
                ),
            },
            id="MVTec LOCO",
        ),
        pytest.param(
            [
                "train/good/0.png", "validation/good/0.png", "test_public/good/1.png", "test_public/bad/2_regular.png",
                "test_public/ground_truth/bad/2_regular_mask.png", "test_private/3.png", "test_private_mixed/4.png",
            ],
            {
                "test_public/bad/2_regular.png": ("abnormal", "bad", "test_public/ground_truth/bad/2_regular_mask.png"),
                "test_public/good/1.png": ("normal", "good"),
            },
            id="MVTec AD 2",
        ),
        pytest.param(
            ["NODefect_images/2311694-2c1u/0.png", "Defect_images/1.png", "Mask_images/1_mask.png"],
            {
                "NODefect_images/2311694-2c1u/0.png": ("normal", "NODefect_images"),
                "Defect_images/1.png": ("abnormal", "Defect_images", "Mask_images/1_mask.png"),
            },
            id="AITEX",
        ),
        pytest.param(
            ["OK/Part0.jpg", "NG/Part1.jpg", "NG/Part1_label.bmp"],
            {"OK/Part0.jpg": ("normal", "OK"), "NG/Part1.jpg": ("abnormal", "NG", "NG/Part1_label.bmp")},
            id="KolektorSDD, sorted by hand",
        ),
        pytest.param(
            ["gut/0.png", "Ausschuss/1.png"],
            {"gut/0.png": ("normal", "gut"), "Ausschuss/1.png": ("abnormal", "Ausschuss")},
            id="German",
        ),
        pytest.param(
            ["良品/0.png", "不良品/1.png"],
            {"良品/0.png": ("normal", "良品"), "不良品/1.png": ("abnormal", "不良品")},
            id="Chinese and Japanese",
        ),
        pytest.param(
            ["good/0.png", "ok/1.png", "bad/2.png", "reject/3.png"],
            {
                "good/0.png": ("normal", "good"), "ok/1.png": ("normal", "ok"),
                "bad/2.png": ("abnormal", "bad"), "reject/3.png": ("abnormal", "reject"),
            },
            id="several of each",
        ),
    ],
)  # fmt: skip
def test_layouts_of_data_sets_and_plants(tmp_path, names, expected):
    assert found(tmp_path, *names) == expected


def test_a_data_set_of_links(tmp_path):
    touch(tmp_path, "store/a/1.png", "store/b/2.png", "store/c/2_mask.png")
    root = tmp_path / "set"
    for name, target in (("normal", "a"), ("abnormal", "b"), ("masks", "c")):
        root.mkdir(exist_ok=True)
        (root / name).symlink_to(tmp_path / "store" / target, target_is_directory=True)
    expected = {"normal/1.png": ("normal", "normal"), "abnormal/2.png": ("abnormal", "abnormal", "masks/2_mask.png")}
    assert found(root) == expected


def test_containers_that_lead_back_end(tmp_path):
    touch(tmp_path, "OK/0.png", "NG/1.png")
    (tmp_path / "data").symlink_to(".", target_is_directory=True)
    assert set(found(tmp_path)) == {"OK/0.png", "NG/1.png"}


def test_names_are_all_that_is_looked_at(mvtec, monkeypatch):
    os.mkfifo(mvtec / "test" / "good" / "pipe.png")

    def refuse(*_, **__):
        raise AssertionError

    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr(os, "open", refuse)
    assert [image.path.name for image in find_dataset(mvtec).test] == ["000.png", "001.jpg", "000.png", "pipe.png"]


def test_what_is_meant_to_be_a_data_set(tmp_path):
    for name, expected in (("TRAIN", True), ("Data/Images/OK", True), ("ground_truth", False), ("camera1", False)):
        (tmp_path / name.replace("/", "-") / name).mkdir(parents=True)
        assert has_layout(tmp_path / name.replace("/", "-")) is expected


# --- roles that aren't clear ------------------------------------------------------------------------------------------

UNDERSTOOD = "understood as normal: good, ok, normal, pass, …; as abnormal: bad, ng, defect, anomaly, …"


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ((), f"ROOT: expected train/good and test/<kind>, or normal and abnormal, got neither; {UNDERSTOOD}"),
        (
            ("scratch/0.png", "dent/0.png"),
            f"ROOT: expected train/good and test/<kind>, or normal and abnormal, got neither in dent, scratch; {UNDERSTOOD}",
        ),
        (
            ("train/0.png",),
            ("ROOT/train: expected a folder of normal images in it (good, ok, normal, pass, …), got none; give ROOT/train "
            "itself if all of its images are normal"),
        ),
        (("test/0.png",), "ROOT/test: expected the folders good and one per kind of defect, got none"),
        (("normal/0.png",), "ROOT: expected a folder of abnormal images (bad, ng, defect, anomaly, …) beside normal, got none"),
        (
            ("Abnormal/0.png", "fine/0.png"),
            "ROOT: expected a folder of normal images (good, ok, normal, pass, …) beside Abnormal, got fine",
        ),
        (
            ("OK/0.png", "NG/1.png", "misc/2.png"),
            ("ROOT: expected folders of normal and of abnormal images, got misc beside OK, NG; name it as one of "
            "good, ok, normal, pass, … or bad, ng, defect, anomaly, …"),
        ),
        (("test/good/0.png", "test/Good/0.png"), "ROOT/test: expected one spelling of a folder's name, got Good, good"),
        (("test/Crack-1/0.png", "test/crack 1/0.png"), "ROOT/test: expected one spelling of a folder's name, got Crack-1, crack 1"),
        (("OK/0.png", "ok/0.png", "NG/1.png"), "ROOT: expected one spelling of a folder's name, got OK, ok"),
        (("test/good/0.png", "Test/bad/0.png"), "ROOT: expected one spelling of a folder's name, got Test, test"),
        (("test/good/0.png", "eval/bad/0.png"), "ROOT: expected one folder that means test, got eval, test"),
        (("test/good/0.png", "OK/0.png"), "ROOT: expected one layout, got test and OK; keep one of them there"),
        (("test/good/0.png", "test/1.png"), "ROOT/test: expected test images in folders alone, got 1.png beside them"),
        (("test/images/0.png", "test/masks/0.png"), "ROOT/test: expected test images in folders alone, got 0.png beside them"),
        (("test/train/0.png",), "ROOT/test: expected the folders good and one per kind of defect, got train"),
        (
            ("test/camera1/good/0.png",),
            ("ROOT/test/camera1: expected abnormal images only, got a folder that means normal by its name: "
            "ROOT/test/camera1/good (ROOT/test/camera1/good/0.png)"),
        ),
        (
            ("test/good/bad/0.png",),
            ("ROOT/test/good: expected normal images only, got a folder with bad (ROOT/test/good/bad/0.png); give the folder "
            "that holds normal images alone, such as a class's train/good"),
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_refused(tmp_path, names, text):
    assert refused(tmp_path, *names) == text


def test_what_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file: expected a data set's folder, got a file"):
        find_dataset(tmp_path / "file")
    with pytest.raises(InputError, match="nowhere: expected a data set's folder, got no such path"):
        find_dataset(tmp_path / "nowhere")


def test_real_folder():
    folder = SHARED / "hazelnut_reduced"
    if not folder.is_dir():
        pytest.skip(f"{folder} isn't there")
    dataset = find_dataset(folder)
    assert len(dataset.train) == 50
    assert len(dataset.test) == 10
    assert sum(len(image.mask_paths) for image in dataset.test) == 8
