"""Where images come from, without Ray: folders, addresses, Parquet files, and what is refused."""

import shutil

import pytest
from spadeline.engine import InputError
from spadeline.engine.scale import addresses
from spadeline.engine.scale.sources import find_source

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def folder(parts, tmp_path):
    return shutil.copytree(parts / "test" / "good", tmp_path / "images" / "below")


def test_an_image_a_folder_and_addresses_of_both(folder):
    (folder / "notes.txt").write_text("no image")
    (folder / "with # and %20.PNG").write_bytes((folder / "100.png").read_bytes())
    names = ["100.png", "101.png", "102.png", "103.png", "with # and %20.PNG"]
    assert find_source(folder.parent).paths == [str(folder / name) for name in names]
    assert find_source(folder / "100.png").paths == [str(folder / "100.png")]
    assert find_source(f"file://{folder.parent}/").paths == [f"file://{folder / name}" for name in names]
    assert find_source(f"file://{folder / '100.png'}").paths == [f"file://{folder / '100.png'}"]
    for path in find_source(f"file://{folder}").paths:
        assert addresses.read_address(path) == (folder / "100.png").read_bytes() or "10" in path


def test_a_name_that_is_not_utf_8_leads_to_no_file(folder):
    (folder / "caf\udce9.png").write_bytes(b"")
    assert find_source(folder).paths[-1] == str(folder / "caf\\udce9.png")


def test_parquet_files(folder, tmp_path):
    names = ["a", "b", "c", "d"]
    content = [path.read_bytes() for path in sorted(folder.iterdir())]
    tables = tmp_path / "tables" / "2026=11"
    tables.mkdir(parents=True)
    pq.write_table(pa.table({"path": names[:3], "bytes": content[:3], "line": [1, 2, 3]}), tables / "1.parquet")
    pq.write_table(pa.table({"path": names[3:], "bytes": content[3:], "line": [4]}), tables / "2.parquet")
    for source in (tmp_path / "tables", tables, f"file://{tmp_path}/tables"):
        found = find_source(source)
        assert found.paths == names
        assert [file.rpartition("/")[2] for file in found.parquet] == ["1.parquet", "2.parquet"]
    assert find_source(tables / "2.parquet").paths == ["d"]


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"path": ["a", "a"]}, "path: 'a' comes twice"),
        ({"path": ["a", None]}, "expected a text in each row of column path, got None"),
        ({"path": [1]}, "expected a text in each row of column path, got 1"),
        ({"bytes": [b""]}, "expected the columns path and bytes, or path alone, got bytes"),
        ({"path": pa.array([], pa.string())}, "expected rows in its Parquet files, got none"),
    ],
)
def test_parquet_files_that_cannot_be(tmp_path, table, text):
    pq.write_table(pa.table(table), tmp_path / "x.parquet")
    with pytest.raises(InputError) as raised:
        find_source(tmp_path)
    assert text in str(raised.value)


def test_sources_that_cannot_be(tmp_path):
    with pytest.raises(InputError, match="expected at least one image"):
        find_source(tmp_path)
    with pytest.raises(InputError, match="expected an image, a folder or a Parquet file, got no such path"):
        find_source(tmp_path / "gone")
    with pytest.raises(InputError, match="file:///nowhere: expected a folder or a file, got nothing there"):
        find_source("file:///nowhere")
    with pytest.raises(InputError, match="flower://x: expected a folder or a file that can be read, got: "):
        find_source("flower://x")
    (tmp_path / "x.parquet").write_bytes(b"no table")
    with pytest.raises(InputError, match=r"x\.parquet: expected a Parquet file, got: "):
        find_source(tmp_path)
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(InputError, match=r"expected images \(.*\) or Parquet files \(.parquet\), got none"):
        find_source(tmp_path / "notes.txt")


def test_addresses_keep_buckets_paths_and_options_apart():
    for address, parts in (
        ("s3://bucket/a/b.png", ("s3://bucket", "a/b.png", "")),
        ("s3://bucket/a/?region=eu-1&scheme=http", ("s3://bucket", "a", "?region=eu-1&scheme=http")),
        ("file:///a#b/c d%20.png", ("file://", "a#b/c d%20.png", "")),
        ("hdfs://host:8020/a", ("hdfs://host:8020", "a", "")),
        ("gs://bucket", ("gs://bucket", "", "")),
    ):
        assert addresses._split(address) == parts
