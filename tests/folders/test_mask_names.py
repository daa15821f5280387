"""Which files are the masks of an image, by their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from .trees import found, refused, touch


@pytest.mark.parametrize(
    "mask",
    [
        "a_mask.png",
        "a.png",
        "a.bmp",
        "a_mask.bmp",
        "a_mask.BMP",
        "a_GT.png",
        "a_gt.tif",
        "a_label.PNG",
        "a-mask.png",
        "a.mask.png",
        "a_Mask.jpg",
        "a_ground_truth.png",
        "a_masks.png",
        "a_labels.webp",
        "a gt.png",
    ],
)
@pytest.mark.parametrize(
    ("image", "truth"),
    [
        ("test/Crack/a.jpg", "ground_truth/crack"),
        ("test/crack/a.jpg", "test/Ground-Truth/crack"),
        ("test/crack/a.jpg", "Masks"),
        ("test/crack/deep/a.jpg", "GT/crack/deep"),
        ("test/crack/deep/a.jpg", "GT/deep"),
    ],
)
def test_masks_by_any_known_name(tmp_path, image, truth, mask):
    assert found(tmp_path, image, f"{truth}/{mask}")[image][2:] == (f"{truth}/{mask}",)
    labelled = tmp_path / "plain"
    kind, stem = Path(image).parts[1], "/".join(Path(image).parts[2:])
    if "/" not in truth:  # the masks lie in a folder beside the others
        touch(labelled, "OK/0.png")
        assert found(labelled, f"NG/{stem}", f"{truth}/{mask}")[f"NG/{stem}"][2:] == (f"{truth}/{mask}",)
        assert kind not in truth


def test_masks_in_a_folder_for_each_image_belong_together(tmp_path):
    names = ("normal/a.png", "abnormal/a.png", "abnormal/b/a.png", "masks/a/1.png", "masks/a/0.bmp", "masks/b/a/x.png")
    images = found(tmp_path, *names)
    assert images["abnormal/a.png"][2:] == ("masks/a/0.bmp", "masks/a/1.png")
    assert images["abnormal/b/a.png"][2:] == ("masks/b/a/x.png",)


def test_black_masks_of_normal_images_are_passed_over(tmp_path):
    images = found(tmp_path, "OK/a.png", "NG/b.png", "GT/OK/a.png", "GT/NG/b.png")
    assert images == {"OK/a.png": ("normal", "OK"), "NG/b.png": ("abnormal", "NG", "GT/NG/b.png")}


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (
            ("test/cut/0.png", "ground_truth/cut/1_mask.png"),
            ("ROOT/ground_truth: expected the mask of ROOT/test/cut/0.png, named 0, 0_mask, 0_gt, 0_label, "
            "0_ground_truth with an image's suffix, or masks in a folder 0; got none"),
        ),
        (
            ("normal/0.png", "abnormal/1.png", "masks/2.png"),
            "ROOT/masks/2.png: expected an abnormal image of that name, without an ending such as _mask; got none",
        ),
        (
            ("normal/0.png", "abnormal/1.png", "masks/1.png", "masks/1_mask.png"),
            "ROOT/abnormal/1.png: expected one mask, got ROOT/masks/1.png and ROOT/masks/1_mask.png",
        ),
        (
            ("normal/0.png", "abnormal/1.png", "masks/1.png", "masks/1.BMP"),
            "ROOT/abnormal/1.png: expected one mask, got ROOT/masks/1.BMP and ROOT/masks/1.png",
        ),
        (
            ("normal/0.png", "abnormal/1.png", "masks/1.png", "masks/1/000.png"),
            "ROOT/abnormal/1.png: expected one mask, got ROOT/masks/1 and ROOT/masks/1.png",
        ),
        (
            ("normal/0.png", "abnormal/1.png", "abnormal/1_mask.png", "masks/1.png"),
            "ROOT/abnormal/1.png: expected one mask, got ROOT/masks/1.png and ROOT/abnormal/1_mask.png",
        ),
        (
            ("normal/0.png", "abnormal/1.png", "abnormal/1_mask.png", "abnormal/1_gt.png"),
            "ROOT/abnormal/1.png: expected one mask, got ROOT/abnormal/1_gt.png and ROOT/abnormal/1_mask.png",
        ),
        (
            ("normal/0.png", "abnormal/1.png", "abnormal/1.jpg", "masks/1.png"),
            ("ROOT/abnormal/1.png: expected one abnormal image of that name, got 1.jpg, too; if one of them is a mask, move "
            "it into a folder ground_truth or masks"),
        ),
        (
            ("test/bad/1.png", "test/worse/1.png", "ground_truth/1.png"),
            "ROOT/ground_truth/1.png: expected the mask of one image, got ROOT/test/bad/1.png and ROOT/test/worse/1.png",
        ),
        (
            ("test/bad/1.png", "test/masks/1.png", "ground_truth/1.png"),
            "ROOT: expected one folder of masks, got ROOT/ground_truth and ROOT/test/masks",
        ),
        (("normal/0.png", "abnormal/1.png", "masks/1.png", "GT/1.png"), "ROOT: expected one folder that means masks, got GT, masks"),
    ],
)  # fmt: skip
def test_a_mask_that_cannot_be_told_is_refused(tmp_path, names, text):
    assert refused(tmp_path, *names) == text
