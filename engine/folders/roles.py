"""What a folder's name says about the images in it: train, test, normal, abnormal, masks.

WORDS is the table of the words that data sets and plants use; to add a word, add it there. A name is compared as a
whole, without case, accents and separators. Numbers in it and nouns such as "images" are passed over. So ``NG``,
``Not OK``, ``bad_images`` and ``2-Defect`` are abnormal, while ``bad_homburg`` has no role.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Literal

from ..errors import InputError

# aside: images of a data set to neither fit nor evaluate on. container: the name says nothing about the images.
Role = Literal["train", "test", "aside", "normal", "abnormal", "masks", "container"]

# Error texts name the first words of each role.
WORDS: Mapping[Role, str] = {
    "train": "train training trainset traindata",
    "test": "test testing tests testset testdata evaluation eval holdout test_public",
    "aside": "validation val valid test_private test_private_mixed",  # MVTec LOCO, MVTec AD 2
    "normal": """
        good ok normal pass okay passed normals golden conforming conform compliant accept accepted acceptable
        defect_free no_defect no_defects non_defective nondefect faultless flawless anomaly_free no_anomaly
        non_anomalous intact healthy correct
        io in_Ordnung gut Gutteil Gutteile fehlerfrei konform
        conforme conformes bon bons buono buoni bueno buenos bom
        良品 合格 合格品 正常 正常品 无缺陷 양품 정상 합격
        """,
    "abnormal": """
        bad ng defect anomaly ko nok not_ok fail failed failing failure failures defects defective defectives defected
        anomalies anomalous abnormal abnormality abnormalities reject rejects rejected rejection faulty fault faults
        flaw flaws flawed damage damaged broken nonconforming nonconform nonconformant noncompliant nonconformity
        not_good no_good ungood not_normal non_normal scrap unacceptable outlier outliers
        nio nicht_in_Ordnung schlecht Schlechtteil Schlechtteile Ausschuss Fehler fehlerhaft defekt Defekte
        non_conforme non_conformes mauvais defaut defauts defectueux rebut rebuts difetto difetti difettoso difettosi
        scarto scarti malo malos defecto defectos defectuoso defectuosos rechazo defeito defeitos
        不良 不良品 不合格 不合格品 异常 異常 缺陷 欠陥 瑕疵 次品 불량 불량품 결함 비정상 이상 불합격
        """,
    "masks": """
        ground_truth masks gt mask ground_truths gts label labels annotation annotations segmentation segmentations
        """,
    "container": "images image imgs img data dataset pictures photos",  # VisA: Data/Images/Normal
}
# Folders of these roles may never lie below a folder of normal images.
NEVER_NORMAL: tuple[Role, ...] = ("abnormal", "masks", "test", "aside")

_NOUNS = frozenset((
    "images", "image", "imgs", "img", "pictures", "picture", "pics", "photos", "photo", "frames", "frame", "files",
    "samples", "sample", "parts", "part", "pieces", "piece", "items", "item", "units", "unit", "cases", "case",
    "folder", "set", "data", "dataset", "bilder", "bild", "teile", "teil",
))  # fmt: skip
# These words make a longer name abnormal, too (logical_anomalies, NG_scratch), unless it denies them (free of defects).
_ABNORMAL_WITHIN = frozenset((
    "ng", "nok", "nio", "defect", "defects", "defective", "anomaly", "anomalies", "anomalous", "abnormal",
    "reject", "rejects", "rejected", "faulty",
))  # fmt: skip
_DENIALS = frozenset(("no", "non", "not", "free", "without"))
_LEAST_NORMAL_FIRST: tuple[Role, ...] = ("masks", "abnormal", "test", "aside", "train", "normal", "container")
_DIGITS = "0123456789"


def folded(name: str) -> str:
    """Return a name without case, accents and separators, in which two spellings of one word are the same."""
    return "".join(sign for sign in unicodedata.normalize("NFKD", name).casefold() if sign.isalnum())


ROLES: dict[str, Role] = {folded(word): role for role, words in WORDS.items() for word in words.split()}


def role_of(folder: Path) -> Role | None:
    """Return the role that a folder's name gives it; of a link, its own name's or, if that has none, its target's.

    Raises
    ------
    InputError
        A link whose name and whose target's name mean different things.
    """
    role = role_of_name(folder.name)
    if not folder.is_symlink():
        return role
    target = Path(os.path.realpath(folder))
    real = role_of_name(target.name)
    if role in (None, "container"):
        return real or role
    if real not in (None, "container", role):
        raise InputError(f"{folder}: expected a link that leads to what its name says, got one to {target}")
    return role


@lru_cache(maxsize=4096)
def role_of_name(name: str) -> Role | None:
    """Return the role that a name gives to its folder; None: it has no role."""
    if role := ROLES.get(folded(name)):
        return role
    words = [word.strip(_DIGITS) for word in map(folded, re.split(r"[\W_]+", name))]
    words = [word for word in words if word and word not in _NOUNS]
    if role := ROLES.get("".join(words)):
        return role
    known = [ROLES.get(word) for word in words]
    if known and all(known):  # train_good, test_bad: the role counts that is least like normal images
        return next(role for role in _LEAST_NORMAL_FIRST if role in known)
    if words and words[-1] in ("mask", "masks"):
        return "masks"
    if _ABNORMAL_WITHIN.intersection(words) and not _DENIALS.intersection(words):
        return "abnormal"
    return None


def understood(role: Role) -> str:
    """Return the first words of a role, for an error text."""
    return ", ".join(WORDS[role].split()[:4]) + ", …"
