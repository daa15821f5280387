from __future__ import annotations

from pathlib import Path

import pytest
from spadeline.engine.dataset import LabelledImage, find_dataset
from spadeline.engine.errors import InputError

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


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
    assert (dataset.folder, dataset.layout) == (mvtec, "mvtec")
    assert [path.name for path in dataset.train] == ["000.png", "001.png"]
    crack, truth = mvtec / "test" / "crack", mvtec / "ground_truth" / "crack"
    assert dataset.test == (
        LabelledImage(path=crack / "000.png", label=True, kind="crack", mask_path=truth / "000_mask.png"),
        LabelledImage(path=crack / "001.jpg", label=True, kind="crack", mask_path=truth / "001_mask.png"),
        LabelledImage(path=mvtec / "test" / "good" / "000.png", label=False, kind="good", mask_path=None),
    )


def test_mvtec_layout_without_masks_train_or_test(tmp_path):
    touch(tmp_path, "a/test/good/0.png", "a/test/bad/0.png", "b/train/good/0.png")
    only_test, only_train = find_dataset(tmp_path / "a"), find_dataset(tmp_path / "b")
    assert only_test.train == ()
    assert [image.mask_path for image in only_test.test] == [None, None]
    assert (len(only_train.train), only_train.test) == (1, ())


def test_plain_layout(plain):
    dataset = find_dataset(plain)
    assert (dataset.layout, dataset.train) == ("plain", ())
    found = [(image.path.name, image.label, image.kind, image.mask_path) for image in dataset.test]
    assert found == [
        ("a.png", False, "normal", None),
        ("a.png", True, "abnormal", plain / "masks" / "a.bmp"),
        ("b.png", True, "abnormal", None),
        ("c.png", True, "abnormal", plain / "masks" / "deep" / "c_mask.png"),
    ]


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ((), "{root}: expected train/good and test/<kind>, or normal and abnormal, got neither"),
        (("train/0.png",), "{root}/train/good: expected a folder of images, got no such path"),
        (("test/0.png",), "{root}/test: expected the folders good and one per kind of defect, got none"),
        (("normal/0.png",), "{root}/abnormal: expected a folder of images, got no such path"),
        (("abnormal/0.png",), "{root}/normal: expected a folder of images, got no such path"),
        (
            ("test/cut/0.png", "ground_truth/cut/1_mask.png"),
            "{root}/ground_truth/cut/0_mask.png: expected the mask of {root}/test/cut/0.png, " + "got no such file",
        ),
        (
            ("normal/0.png", "abnormal/1.png", "masks/2.png"),
            "{root}/masks/2.png: expected one image of that name in {root}/abnormal, got none",
        ),
        (
            ("normal/0.png", "abnormal/1.png", "abnormal/1.jpg", "masks/1.png"),
            (
                "{root}/masks/1.png: expected one image of that name in {abnormal}, "
                "got {abnormal}/1.jpg and {abnormal}/1.png"
            ),
        ),
        (
            ("normal/0.png", "abnormal/1.png", "masks/1.png", "masks/1_mask.png"),
            "{root}/abnormal/1.png: expected one mask, got {root}/masks/1.png and {root}/masks/1_mask.png",
        ),
    ],
)
def test_a_missing_piece_is_named(tmp_path, files, text):
    touch(tmp_path, *files)
    with pytest.raises(InputError) as caught:
        find_dataset(tmp_path)
    assert str(caught.value) == text.format(root=tmp_path, abnormal=tmp_path / "abnormal")


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
    assert sum(image.mask_path is not None for image in dataset.test) == 8
