"""Listings of images: by names alone, without files of systems, through links, always in one order."""

import os
from pathlib import Path

import pytest
from spadeline.engine.errors import InputError
from spadeline.engine.folders.listing import contents, list_images, named_images, walk


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def listed(root):
    return [path.relative_to(root).as_posix() for path in list_images(root)]


def test_images_are_listed_by_suffix_and_sorted(tmp_path):
    touch(tmp_path, "b/2.PNG", "b/10.jpg", "a.tif", "z.webp", "b/c/d.ppm", "notes.txt", ".hidden.png", ".cache/x.png")
    (tmp_path / "folder.png").mkdir()
    assert listed(tmp_path) == ["a.tif", "b/10.jpg", "b/2.PNG", "b/c/d.ppm", "z.webp"]


def test_a_hidden_root_is_no_reason_to_skip(tmp_path):
    for name in (".images", "@eaDir"):
        touch(tmp_path, f"{name}/a.png")
        assert list_images(tmp_path / name) == [tmp_path / name / "a.png"]


@pytest.mark.parametrize(
    "name",
    [
        "@eaDir/1.png/SYNOPHOTO_THUMB_XL.jpg",
        "sub/@EADIR/1.png",
        "$RECYCLE.BIN/S-1-5-21/$R1.png",
        "$Recycle.Bin/1.png",
        "RECYCLER/1.png",
        "System Volume Information/1.png",
        ".Trash/1.png",
        ".Trash-1000/files/1.png",
        ".Trashes/501/1.png",
        "__MACOSX/images/._1.png",
        "__MACOSX/images/1.png",
        "._1.png",
        "sub/._1.png",
        ".AppleDouble/1.png",
        "lost+found/#123.png",
        "#recycle/1.png",
        "#snapshot/monday/1.png",
        "@Recycle/1.png",
        "@Recently-Snapshot/1.png",
        "~snapshot/hourly/1.png",
        ".thumbnails/1.png",
        ".git/1.png",
    ],
)
def test_what_systems_put_into_folders_is_left_out(tmp_path, name):
    touch(tmp_path, "1.png", name)
    assert listed(tmp_path) == ["1.png"]


def test_names_that_only_resemble_a_systems_stay(tmp_path):
    names = ["#12/1.png", "$5/1.png", "@home/1.png", "recycled parts/1.png", "snapshot/1.png"]
    touch(tmp_path, *names)
    assert listed(tmp_path) == sorted(names)


def test_links_are_followed_once(tmp_path):
    touch(tmp_path, "outside/1.png", "outside/deep/2.png", "root/0.png", "root/real/3.png")
    root = tmp_path / "root"
    for link, target in (("b", "../outside"), ("a", "real"), ("c", "../outside"), ("real/up", ".."), ("loop", ".")):
        (root / link).symlink_to(target, target_is_directory=True)
    (root / "4.png").symlink_to(tmp_path / "outside" / "1.png")
    assert listed(root) == ["0.png", "4.png", "b/1.png", "b/deep/2.png", "real/3.png"]


def test_links_that_lead_round_each_other_end(tmp_path):
    touch(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "a" / "b").symlink_to("../b", target_is_directory=True)
    (tmp_path / "b" / "a").symlink_to("../a", target_is_directory=True)
    assert listed(tmp_path / "a") == ["1.png", "b/2.png"]
    assert listed(tmp_path) == ["a/1.png", "b/2.png"]


@pytest.mark.parametrize("target", ["gone", "link"])
def test_a_link_to_nothing_is_named(tmp_path, target):
    touch(tmp_path, "1.png")
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(InputError) as caught:
        list_images(tmp_path)
    text = "expected a link to a folder or a file, got one to nothing; mend or remove it"
    assert str(caught.value) == f"{tmp_path / 'link'}: {text}"


def test_a_broken_link_named_like_an_image_is_listed_for_the_reader_to_refuse(tmp_path):
    touch(tmp_path, "1.png")
    (tmp_path / "2.png").symlink_to("gone")
    assert listed(tmp_path) == ["1.png", "2.png"]


def test_nothing_is_opened(tmp_path, monkeypatch):
    """Opening a named pipe would block."""
    touch(tmp_path, "1.png")
    os.mkfifo(tmp_path / "2.png")

    def refused(*_, **__):
        raise AssertionError

    monkeypatch.setattr("builtins.open", refused)
    monkeypatch.setattr(os, "open", refused)
    assert listed(tmp_path) == ["1.png", "2.png"]


def test_any_bytes_in_names(tmp_path):
    for name in (b"\xff.png", b"a\nb.png", "ü.png".encode()):
        (tmp_path / os.fsdecode(name)).touch()
    assert listed(tmp_path) == ["a\nb.png", "ü.png", "\udcff.png"]


def test_listing_errors(tmp_path):
    suffixes = ".bmp, .jpeg, .jpg, .pgm, .png, .ppm, .tif, .tiff, .webp"
    touch(tmp_path, "sub/file.txt")
    for folder, text in [
        (tmp_path, f"expected at least one image ({suffixes}), got none"),
        (tmp_path / "sub" / "file.txt", "expected a folder of images, got a file"),
        (tmp_path / "none", "expected a folder of images, got no such path"),
    ]:
        with pytest.raises(InputError) as caught:
            list_images(folder)
        assert str(caught.value) == f"{folder}: {text}"


def test_a_subfolder_that_cannot_be_read_is_an_error(tmp_path, monkeypatch):
    touch(tmp_path, "a.png")
    (tmp_path / "locked").mkdir()
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)  # file modes don't stop root, who may run the tests
    with pytest.raises(InputError) as caught:
        list_images(tmp_path)
    assert str(caught.value) == f"{tmp_path / 'locked'}: expected a readable folder, got: Permission denied"


def test_order_does_not_depend_on_the_file_system(tmp_path, monkeypatch):
    touch(tmp_path, *(f"{folder}/{name}.png" for folder in "cab" for name in "201"))
    scandir = os.scandir

    class Reversed:
        def __init__(self, path):
            with scandir(path) as entries:
                self.entries = sorted(entries, key=lambda entry: entry.name, reverse=True)

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *_):
            pass

    before = [(place.folder, place.folders, place.images) for place in walk(tmp_path)]
    monkeypatch.setattr(os, "scandir", Reversed)
    assert [(place.folder, place.folders, place.images) for place in walk(tmp_path)] == before
    assert contents(tmp_path).folders == tuple(tmp_path / name for name in "abc")


def test_names_are_relative_to_the_folder_or_as_given(tmp_path):
    touch(tmp_path, "a/1.png", "2.png")
    assert named_images(tmp_path) == [("2.png", tmp_path / "2.png"), ("a/1.png", tmp_path / "a" / "1.png")]
    assert named_images(str(tmp_path / "2.png")) == [("2.png", tmp_path / "2.png")]
    assert named_images(["x/1.png", Path("y/1.png")]) == [("x/1.png", Path("x/1.png")), ("y/1.png", Path("y/1.png"))]
    for source, text in (([], "source: expected a folder or at least one image"), (["x", "x"], "'x' comes twice")):
        with pytest.raises(InputError, match=text):
            named_images(source)
