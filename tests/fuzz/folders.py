"""Folder trees: which images are taken as normal ones, for a data set, and for a listing.

Beyond no crash: no image below a folder of abnormal ones, of masks or of test images is ever among the normal images,
none of normal ones among the abnormal images, no system's file anywhere, and no file comes twice.
"""

import os
from collections import Counter
from pathlib import Path

from spadeline.engine.errors import SpadelineError
from spadeline.engine.folders.dataset import find_dataset
from spadeline.engine.folders.listing import SYSTEM_NAMES, list_images
from spadeline.engine.folders.normal_images import normal_images
from spadeline.engine.folders.roles import NEVER_NORMAL, WORDS, role_of_name

SECONDS = 3.0
MEMORY_BYTES = 50_000_000

# A name alone is a file, a name with "/" a folder, with "|" a pipe, with "->" a link. All files are empty, and none is read.
SEEDS = {
    "good_mvtec": "train/good/0.png train/good/1.png test/good/0.png test/cut/0.png ground_truth/cut/0_mask.png",
    "good_plain": "normal/0.png abnormal/1.png masks/1_mask.png",
    "good_btech": "train/ok/0.bmp test/ok/0.bmp test/ko/0.bmp ground_truth/ko/0.png",
    "good_loco": "train/good/0.png validation/good/0.png test/logical_anomalies/0.png"
    " ground_truth/logical_anomalies/0/000.png ground_truth/logical_anomalies/0/001.png",
    "good_visa": "Data/Images/Normal/0.JPG Data/Images/Anomaly/1.JPG Data/Masks/Anomaly/1.png",
    "good_ordinary": "camera1/0.png camera1/2024-05-01/1.png camera2/bad_homburg/0.png",
    "good_link": "camera1/0.png store/x/1.png camera2->store/x",
    "fitted_whole_capitals": "Train/Good/0.png Test/Bad/1.png",
    "fitted_whole_ok_ng": "OK/0.png NG/1.png",
    "fitted_whole_bad": "0.png bad/1.png",
    "fitted_whole_defect": "camera1/0.png defect/1.png",
    "fitted_whole_abnormal": "a/0.png Abnormal/1.png",
    "fitted_whole_ground_truth": "0.png Ground_Truth/0_mask.png",
    "good_parts_as_defects": "test/Good/0.png test/Bad/1.png",
    "thumbnails": "0.png @eaDir/0.png/SYNOPHOTO_THUMB_XL.jpg",
    "recycle_bin": "0.png $RECYCLE.BIN/S-1-5/1.png .Trash/files/2.png",
    "archive": "0.png ._0.png __MACOSX/._0.png __MACOSX/0.png",
    "skipped_link": "0.png outside/1.png sub->outside",
    "loop": "a/0.png a/b->.. a/c->. b->a",
    "links_round_each_other": "a/0.png b/1.png a/x->../b b/x->../a",
    "broken_link": "0.png gone->nowhere 1.png->nowhere itself->itself",
    "link_to_defects": "good/0.png store/NG/1.png camera2->store/NG",
    "masks_by_a_link_among_defects": "OK/0.png NG/1.png masks/1.png NG/nok->../masks",
    "good_ones_by_a_link_among_defects": "OK/0.png NG/1.png NG/images->../OK",
    "pipe": "0.png x.png|",
    "masks_beside": "OK/0.jpg NG/1.jpg NG/1_label.bmp",
    "two_masks": "normal/0.png abnormal/1.png masks/1.png masks/1_mask.png",
    "twins": "test/good/0.png test/Good/1.png",
    "deep": "a/" * 60 + "0.png",
    "odd_names": "\udcff.png \u202egnp.png good\n/0.png \x1b[31m/1.png 不良品/2.png é/3.png e\u0301/4.png",
}
WORDS_IN_NAMES = [word for words in WORDS.values() for word in words.split()] + sorted(SYSTEM_NAMES)
ODD = [
    "camera1",
    "2024-05-01",
    "x",
    "0",
    "bad_homburg",
    "\udcfe",
    "...",
    " ",
    "-",
    "ŋ",
    "ＮＧ",
    "🛠",
    "a" * 255,
    "x.png",
    "0_mask",
]
SUFFIXES = [".png", ".BMP", ".jpg", "_mask.png", "_GT.bmp", "_label.PNG", "-mask.tif", "", ".txt"]
# These words don't come from the table that is tested, since it may be wrong.
NEVER = {"bad", "ng", "ko", "defect", "abnormal", "anomaly", "ground_truth", "masks", "mask", "gt", "test", "不良品"}
MOST_ENTRIES = 300


def corpus(folder):
    for name, tree in SEEDS.items():
        (folder / name).mkdir()
        for entry in tree.split(" "):
            make(folder / name, entry)


def make(root, entry):
    """Add a file, a folder, a pipe or a link."""
    place, arrow, leads = entry.partition("->")
    path = root / place.rstrip("/|")
    path.parent.mkdir(parents=True, exist_ok=True)
    if arrow:
        path.symlink_to(leads)
    elif entry.endswith("/"):
        path.mkdir()
    elif entry.endswith("|"):
        os.mkfifo(path)
    else:
        path.touch()


def mutate(rng, case, target):
    copy(case, target)
    for _ in range(rng.integers(1, 6)):
        change = drawn(rng, CHANGES if entries(target) else ADDITIONS)
        try:
            change(rng, target)
        except OSError:  # the name is taken, too long, or below itself
            continue
    for path in entries(target):  # a link may lead out of the case
        if path.is_symlink() and not os.path.realpath(path).startswith(f"{os.path.realpath(target)}/"):
            path.unlink()


def copy(source, target):
    """Copy a tree with its links and pipes."""
    if source.is_symlink():
        target.symlink_to(source.readlink())
    elif source.is_dir():
        target.mkdir()
        for path in sorted(source.iterdir()):
            copy(path, target / path.name)
    elif source.is_fifo():
        os.mkfifo(target)
    else:
        target.touch()


def entries(root):
    """Return all paths below the root, sorted. Links are not followed."""
    return sorted(Path(folder, name) for folder, *kinds in os.walk(root) for names in kinds for name in names)


def drawn(rng, choices):
    return choices[rng.integers(len(choices))]


def word(rng):
    """Return a name, most often one with a role, in any spelling."""
    name = drawn(rng, WORDS_IN_NAMES if rng.integers(4) else ODD)
    spellings = (
        str,
        str.upper,
        str.title,
        lambda text: text.replace("_", "-"),
        lambda text: f"{text}_{rng.integers(9)}",
    )
    return drawn(rng, spellings)(name) + (drawn(rng, ("", "", " images", "_parts")))


def folder(rng, root):
    """Return the root or a folder below it."""
    return drawn(rng, [root, *(path for path in entries(root) if path.is_dir() and not path.is_symlink())])


def add_folder(rng, root):
    path = folder(rng, root) / word(rng)
    path.mkdir()
    for _ in range(rng.integers(3)):
        (path / f"{rng.integers(3)}{drawn(rng, SUFFIXES)}").touch()


def add_file(rng, root):
    (folder(rng, root) / f"{rng.integers(3)}{drawn(rng, SUFFIXES)}").touch()


def add_pipe(rng, root):
    os.mkfifo(folder(rng, root) / f"{rng.integers(9)}.png")


def add_link(rng, root):
    path = folder(rng, root) / (word(rng) + drawn(rng, ("", "", ".png")))
    leads = drawn(rng, [*entries(root), root / "gone", root])
    path.symlink_to(os.path.relpath(leads, path.parent))


def rename(rng, root):
    path = drawn(rng, entries(root))
    path.rename(path.with_name(word(rng) if path.is_dir() else f"{rng.integers(3)}{drawn(rng, SUFFIXES)}"))


def move(rng, root):
    path = drawn(rng, entries(root))
    path.rename(folder(rng, root) / path.name)


def double(rng, root):
    if len(entries(root)) < MOST_ENTRIES:
        path = drawn(rng, entries(root))
        copy(path, path.with_name(word(rng)))


def remove(rng, root):
    path = drawn(rng, entries(root))
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink()


ADDITIONS = (add_folder, add_folder, add_file, add_pipe, add_link)
CHANGES = (*ADDITIONS, rename, rename, rename, move, double, remove)


def attempt(case):
    refusals = []
    for check in (check_listing, check_normal, check_data_set):
        try:
            check(case)
        except SpadelineError as error:
            refusals.append(error)
    if len(refusals) == 3:  # a case is good if one of the three accepts it
        raise refusals[0]


def check_listing(case):
    paths = list_images(case)
    check_files(paths, case)
    if paths != list_images(case):
        raise AssertionError("another order")


def check_normal(case):
    images = normal_images(case)
    paths = [path for _, path in images.named]
    check_files(paths, case)
    if len({name for name, _ in images.named}) != len(paths):
        raise AssertionError("one name for two images")
    if images.taken != Counter() and sum(images.taken.values()) != len(paths):
        raise AssertionError("the counts don't add up")
    for path in paths:
        check_roles(path, case, NEVER_NORMAL, NEVER)


def check_data_set(case):
    dataset = find_dataset(case)
    check_files(dataset.train, case)
    for path in dataset.train:
        check_roles(path, case, NEVER_NORMAL, NEVER)
    images = [image.path for image in dataset.test]
    masks = [path for image in dataset.test for path in image.mask_paths]
    check_files([*images, *masks], case)
    if len({*images, *masks}) != len(images) + len(masks):
        raise AssertionError("a mask of two images, or one that is an image, too")
    for image in dataset.test:
        if image.label:
            check_roles(image.path, case, ("normal", "train", "aside", "masks"), {"good", "ok", "masks"})
        else:
            check_roles(image.path, case, ("abnormal", "masks", "aside"), NEVER - {"test"})
    if sum(taken.images for taken in dataset.taken) != len(images):
        raise AssertionError("the counts don't add up")


def check_files(paths, case):
    """Check that no file comes twice, and that no file of a system is listed."""
    for path in paths:
        for name in path.relative_to(case).parts:
            if name.startswith(".") or name.lower() in SYSTEM_NAMES:
                raise AssertionError(f"a system's file: {path}")
    if len(set(paths)) != len(paths):
        raise AssertionError("a file twice")


def check_roles(path, case, roles, words):
    """Check that no folder on the way to an image has one of the roles, by its own name or its target's."""
    for place in path.relative_to(case).parents:
        names = {place.name} if place.name else set()
        if (case / place).is_symlink() and names:
            names.add(Path(os.path.realpath(case / place)).name)
        for name in names:
            if role_of_name(name) in roles or name.lower() in words:
                raise AssertionError(f"{path} was taken, which {name!r} forbids")
