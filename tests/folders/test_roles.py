"""The roles of folders' names: words of data sets and plants in any spelling, and names that only look like them."""

import pytest
from spadeline.engine.errors import InputError
from spadeline.engine.folders.roles import ROLES, WORDS, folded, role_of, role_of_name, understood

MEANINGS = {
    "train": "train Train TRAIN training train_set trainset Training-Images",
    "test": "test Test tests test_public testset Test_Set eval",
    "aside": "validation val Valid test_private test_private_mixed",
    "normal": """
        good Good GOOD ok OK Ok normal Normal pass Passed golden conforming defect-free NODefect_images No_Defect
        non-defective i.O. gut OK1 1_OK 02-good good_images img_ok Good_Parts 良品 合格 正常 정상
    """,
    "abnormal": """
        bad Bad ng NG ko KO nok NOK not_ok Not-OK NotOK not.good fail Failed defect Defect defects Defect_images defective
        reject rejected REJECTS anomaly Anomaly anomalous abnormal Abnormal faulty n.i.O. nio NIO Ausschuss non-conforming
        NG2 2_bad NG_2024-05-01 bad_images images_NG NG-scratch logical_anomalies structural_anomalies surface_defects
        Ungood défaut 不良品 缺陷 異常 불량 train_bad
    """,
    "masks": """
        ground_truth Ground_Truth ground-truth groundtruth GroundTruth GT gt mask Masks Mask_images label Labels bad_masks
        scratch_mask
    """,
    "container": "images Images Data data imgs",
}


@pytest.mark.parametrize(("role", "name"), [(role, name) for role, names in MEANINGS.items() for name in names.split()])
def test_words_of_data_sets_and_plants(role, name):
    assert role_of_name(name) == role


@pytest.mark.parametrize("name", ["Ground Truth", " not ok ", "not  OK", "System of defects"])
def test_names_with_spaces(name):
    assert role_of_name(name) == ("masks" if "Truth" in name else "abnormal")


@pytest.mark.parametrize(
    "name",
    [
        "bad_homburg",
        "badge",
        "camera1",
        "2024-05-01",
        "S0001",
        "crack",
        "scratch",
        "goodyear",
        "okapi",
        "passage",
        "testo",
        "maskin_line",
        "trainyard",
        "01",
        "-",
        "free_of_defects",
        "without_defects",
        "passau",
        "kopf",
        "línea",
        "unsorted",
    ],
)
def test_other_names_mean_nothing(name):
    assert role_of_name(name) is None


def test_no_word_has_two_roles():
    words = [folded(word) for words in WORDS.values() for word in words.split()]
    assert len(words) == len(set(words)) == len(ROLES)
    assert all(words)


def test_error_texts_quote_the_words():
    assert understood("abnormal") == "bad, ng, defect, anomaly, …"


def test_a_link_has_its_own_name_and_its_targets(tmp_path):
    for name in ("NG", "good", "2024", "data"):
        (tmp_path / "store" / name).mkdir(parents=True)

    def linked(name, target):
        (tmp_path / name).symlink_to(tmp_path / "store" / target, target_is_directory=True)
        return tmp_path / name

    assert role_of(linked("camera1", "NG")) == "abnormal"
    assert role_of(linked("images", "NG")) == "abnormal"
    assert role_of(linked("OK", "2024")) == "normal"
    assert role_of(linked("ok", "data")) == "normal"
    for name, target in (("Good", "NG"), ("bad", "good"), ("test", "good"), ("masks", "NG")):
        with pytest.raises(
            InputError, match=f"{name}: expected a link that leads to what its name says, got one to .*{target}"
        ):
            role_of(linked(name, target))
