"""Which images are taken as normal ones: none from a folder with another role, and none by a guess."""

import pytest
from spadeline.engine.errors import InputError
from spadeline.engine.folders.normal_images import normal_images


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def taken(root, *names):
    touch(root, *names)
    return normal_images(root)


@pytest.mark.parametrize(
    ("names", "folder"),
    [
        (("Train/Good/0.png", "Test/Bad/1.png"), "Train/Good"),
        (("train/ok/0.bmp", "test/ok/1.bmp", "test/ko/2.bmp", "ground_truth/ko/2.png"), "train/ok"),
        (("TRAIN/good/0.png", "test_public/good/1.png", "test_public/bad/1.png", "test_private/1.png"), "TRAIN/good"),
        (("train/good/0.png", "validation/good/1.png", "test/logical_anomalies/2.png"), "train/good"),
        (("Data/train/good/0.png", "Data/test/bad/1.png"), "Data/train/good"),
        (("train/good/0.png", "train/bad/1.png"), "train/good"),
        (("training/Normal/0.png", "training/Abnormal/1.png"), "training/Normal"),
        (("train/good/0.png", "docs/drawing.png"), "train/good"),
    ],
)
def test_of_a_data_set_the_normal_training_images_are_taken(tmp_path, names, folder):
    images = taken(tmp_path, *names)
    assert images.taken == {folder: 1}
    assert [(name, path.parent) for name, path in images.named] == [(names[0].rpartition("/")[2], tmp_path / folder)]
    other = {name.removeprefix("Data/").split("/")[0] for name in names[1:]} - {folder.split("/")[0]}
    assert other <= {name.rpartition("/")[2] for name in images.left_out}


def test_several_folders_of_normal_images_are_taken_together(tmp_path):
    images = taken(tmp_path, "train/good/0.png", "train/ok/0.png", "train/misc/0.png", "test/bad/1.png")
    assert [name for name, _ in images.named] == ["good/0.png", "ok/0.png"]
    assert images.taken == {"train/good": 1, "train/ok": 1}
    assert images.left_out == ("test", "train/misc")


def test_a_folder_of_ordinary_ones_is_taken_whole(tmp_path):
    names = ["0.png", "2024-05-01/1.png", "camera1/a/2.png", "camera1/b/2.png", "bad_homburg/3.png"]
    images = taken(tmp_path, *names)
    assert sorted(name for name, _ in images.named) == sorted(names)
    assert images.taken == {".": 1, "2024-05-01": 1, "bad_homburg": 1, "camera1": 2}
    assert images.left_out == ()


def test_a_folder_of_normal_ones_is_taken_whole(tmp_path):
    images = taken(tmp_path, "OK/S0001/1.png", "OK/S0002/1.png", "Good/0.png")
    assert images.taken == {"Good": 1, "OK": 2}


def test_names_above_the_folder_do_not_matter(tmp_path):
    root = tmp_path / "defect" / "test" / "masks"
    assert taken(root, "1.png", "camera1/2.png").taken == {".": 1, "camera1": 1}
    touch(tmp_path, "bad/train/good/1.png")
    assert normal_images(tmp_path / "bad").taken == {"train/good": 1}


def test_empty_folders_do_not_matter(tmp_path):
    for name in ("test", "NG", "@eaDir"):
        (tmp_path / name).mkdir()
    assert taken(tmp_path, "good/1.png").taken == {"good": 1}


@pytest.mark.parametrize(
    "name",
    [
        "Bad",
        "bad",
        "NG",
        "ng_2024",
        "KO",
        "defect",
        "Defects",
        "Abnormal",
        "Anomaly",
        "Ground_Truth",
        "GT",
        "Masks",
        "label",
        "Test",
        "TEST",
        "validation",
        "not_OK",
        "Reject",
        "n.i.O.",
        "不良品",
        "scratch_defects",
        "test_public",
        "test_good",
    ],
)
def test_what_says_otherwise_is_refused_wherever_it_lies(tmp_path, name):
    for index, place in enumerate((f"{name}/1.png", f"camera1/{name}/1.png", f"a/b/{name}/c/1.png")):
        for beside in ("0.png", "OK/0.png", "camera2/0.png"):
            root = tmp_path / str(index) / beside[0]
            touch(root, place, beside)
            with pytest.raises(InputError) as caught:
                normal_images(root)
            assert str(caught.value).startswith(
                f"{root}: expected normal images only, got a folder with {name} ({root}"
            )
            better = root / "OK" if index == 0 and beside == "OK/0.png" else "a class's train/good"
            assert f"; give the folder that holds normal images alone, such as {better}" in str(caught.value)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (
            ("good/0.png", "crack/1.png"),
            "got good beside crack in {root}, which may not be normal; give {root}/good if",
        ),
        (("OK/0.png", "misc/1.png"), "got OK beside misc in {root}"),
        (("good/0.png", "unsorted.png"), "got good beside images such as unsorted.png in {root}"),
        (("a/good/0.png", "a/x/1.png"), "got good beside x in {root}/a"),
        (
            ("train/good/0.png", "train/1.png"),
            "{root}/train: expected its images in folders alone, got 1.png beside good",
        ),
        (
            ("train/a/0.png", "train/b/1.png"),
            "{root}/train: expected a folder of normal images in it (good, ok, normal, pass, …), got a, b; give",
        ),
        (
            ("train/0.png",),
            "{root}/train: expected a folder of normal images in it (good, ok, normal, pass, …), got none",
        ),
        (("train/Bad/0.png",), "got Bad; give {root}/train itself if all of its images are normal"),
        (
            ("train/good/0.png", "training/good/1.png"),
            "{root}: expected one folder that means train, got train, training",
        ),
        (("train/good/0.png", "good/1.png"), "{root}: expected one layout, got train and good; keep one there"),
        (
            ("train/good/0.png", "train/Good/1.png"),
            "{root}/train: expected one spelling of a folder's name, got Good, good",
        ),
        (("train/good/bad/0.png",), "{root}/train/good: expected normal images only, got a folder with bad"),
        (
            ("0.png", "0_label.bmp"),
            "got {root}/0_label.bmp, by its name the mask of 0.png; move masks into a folder of",
        ),
        (("a/0.png", "a/0_GT.png"), "got {root}/a/0_GT.png, by its name the mask of 0.png"),
        (("a/0.jpg", "a/0_mask.png"), "got {root}/a/0_mask.png, by its name the mask of 0.jpg"),
    ],
)
def test_what_cannot_be_told_is_refused(tmp_path, names, text):
    touch(tmp_path, *names)
    with pytest.raises(InputError) as caught:
        normal_images(tmp_path)
    assert text.format(root=tmp_path) in str(caught.value)


@pytest.mark.parametrize("name", ["camera2", "good"])
def test_a_link_to_defects_is_refused(tmp_path, name):
    touch(tmp_path, "product/NG/1.png", "root/camera1/0.png")
    (tmp_path / "root" / name).symlink_to(tmp_path / "product" / "NG", target_is_directory=True)
    with pytest.raises(
        InputError, match="got a folder with camera2" if name == "camera2" else "leads to what its name says"
    ):
        normal_images(tmp_path / "root")


def test_a_mask_like_name_without_its_image_is_an_image(tmp_path):
    assert taken(tmp_path, "front_label.png", "back_label.png").taken == {".": 2}


def test_paths_given_one_by_one_are_taken_as_they_are(tmp_path):
    touch(tmp_path, "bad/1.png")
    path = tmp_path / "bad" / "1.png"
    assert normal_images(path).named == (("1.png", path),)
    found = normal_images([path])
    assert found.named == ((path.as_posix(), path),)
    assert (found.taken, normal_images(found)) == ({}, found)


def test_nothing_to_take(tmp_path):
    with pytest.raises(InputError, match="expected at least one image"):
        normal_images(tmp_path)
    with pytest.raises(InputError, match="nowhere: expected a folder of images, got no such path"):
        normal_images(tmp_path / "nowhere")
