"""What a run writes, without Ray: parts that are whole, kills at any step, runs that are taken up, counts."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from spadeline.engine import InputError, OutputError, ScaleError
from spadeline.engine.json_data import to_json
from spadeline.engine.scale import written as writing
from spadeline.engine.scale.description import Description, read_description
from spadeline.engine.scale.rows import schema, table
from spadeline.engine.scale.written import open_written, read_rows

from .scored import USED

pa = pytest.importorskip("pyarrow")
KIND = schema(maps=False, masks=False)
RECIPES = tuple(replace(USED, name=name, folder=f"/r/{name}", sha256=name * 64) for name in ("a", "b"))
RUN = Description(source="images", recipes=RECIPES, need=None, maps=False, masks=False)


def rows(*paths):
    """Rows of both recipes: "a" calls every image anomalous, "b" can't judge any."""
    return table(
        [
            row
            for path in paths
            for row in ({"path": path, "recipe": "a", "label": True}, {"path": path, "recipe": "b", "error": "no"})
        ],
        KIND,
    )


def paths_in(folder, recipe):
    return read_rows(folder / recipe, ["path"])["path"].to_pylist()


def test_rows_parts_and_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "PART_IMAGES", 3)
    with open_written(tmp_path / "out", RUN, resume=False) as written:
        for image in ("5", "1", "3", "2"):
            written.add(rows(image))
        assert read_description(tmp_path / "out").counts is None
        counts = written.finish()
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.parquet")) == [
        f"out/{name}/part-0000000{number}.parquet" for name in "ab" for number in (1, 2)
    ]
    assert paths_in(tmp_path / "out", "a") == ["1", "3", "5", "2"]
    assert vars(counts) == {
        "images": 4,
        "scored": {"a": 4, "b": 0},
        "errors": {"a": 0, "b": 4},
        "anomalous": {"a": 4, "b": 0},
    }
    assert read_description(tmp_path / "out").counts == counts
    assert pa.parquet.read_table(tmp_path / "out").num_rows == 8  # _score.json and .lock are passed over


def test_old_parts_and_large_ones_are_written(tmp_path, monkeypatch):
    for limit in ("PART_SECONDS", "PART_BYTES"):
        with monkeypatch.context() as patch, open_written(tmp_path / limit, RUN, resume=False) as written:
            patch.setattr(writing, limit, 0)
            written.add(rows("1"))
            assert paths_in(tmp_path / limit, "b") == ["1"]


def test_a_run_is_taken_up(tmp_path):
    for images, resume in ((("1", "2"), False), (("3",), True)):
        with open_written(tmp_path, RUN, resume=resume) as written:
            assert written.paths == (set() if not resume else {"1", "2"})
            written.add(rows(*images))
            written.finish()
    assert paths_in(tmp_path, "a") == paths_in(tmp_path, "b") == ["1", "2", "3"]


def test_an_interruption_loses_nothing(tmp_path):
    def interrupted():
        with open_written(tmp_path, RUN, resume=False) as written:
            written.add(rows("1"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert paths_in(tmp_path, "b") == ["1"]
    assert read_description(tmp_path).counts is None


def test_a_part_that_cannot_be_written_stands_once_when_it_is_tried_again(tmp_path, monkeypatch):
    failures = iter([False, True])

    def full(path, content, replace_file=writing.replace_file):
        if next(failures, False):
            raise OutputError(f"{path}: can't be written: No space left on device")
        replace_file(path, content)

    def run():
        with open_written(tmp_path, RUN, resume=False) as written:
            written.add(rows("1"))
            monkeypatch.setattr(writing, "replace_file", full)
            written.write_part()

    with pytest.raises(OutputError, match="No space left"):
        run()
    assert paths_in(tmp_path, "a") == paths_in(tmp_path, "b") == ["1"]


def test_a_part_that_not_all_recipes_have_does_not_count(tmp_path):
    with open_written(tmp_path, RUN, resume=False) as written:
        for image in "123":
            written.add(rows(image))
            written.write_part()
    (tmp_path / "b" / "part-00000002.parquet").unlink()
    with open_written(tmp_path, RUN, resume=True) as written:
        assert written.paths == {"1", "3"}
        written.add(rows("2"))
        written.finish()
    assert paths_in(tmp_path, "a") == paths_in(tmp_path, "b") == ["1", "3", "2"]


@pytest.mark.parametrize("step", range(8))
def test_a_kill_at_any_step_leaves_each_image_with_all_its_rows_or_none(tmp_path, step):
    child = os.fork()
    if not child:
        calls = iter(range(100))

        def maybe_killed(how):
            def call(*arguments, **options):
                if next(calls) == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return how(*arguments, **options)

            return call

        Path.replace, Path.write_bytes = maybe_killed(Path.replace), maybe_killed(Path.write_bytes)
        with open_written(tmp_path, RUN, resume=False) as written:
            written.add(rows("1"))
            written.write_part()
            written.add(rows("2"))
            written.finish()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    with open_written(tmp_path, RUN, resume=True) as written:
        done = set(written.paths)
        written.add(rows(*({"1", "2"} - done)))
        assert written.finish().images == 2
    assert sorted(paths_in(tmp_path, "a")) == sorted(paths_in(tmp_path, "b")) == ["1", "2"]
    assert not list(tmp_path.rglob("*.partial"))


def test_an_image_never_has_two_rows(tmp_path):
    with open_written(tmp_path, RUN, resume=False) as written:
        written.add(rows("1"))
        for wrong in (rows("1"), rows("2", "2"), rows("2").slice(0, 1)):
            with pytest.raises(ScaleError, match="expected each image once"):
                written.add(wrong)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"source": "others"}, "expected source as in the run to take up, 'images', got 'others'"),
        ({"need": "label"}, "expected need as in the run to take up, None, got 'label'"),
        ({"maps": True}, "expected maps as in the run to take up, False, got True"),
        ({"recipes": RECIPES[:1]}, "expected recipe b as in the run to take up, 'SHA-256 b"),
    ],
)
def test_another_run_is_not_taken_up(tmp_path, change, text):
    with open_written(tmp_path, RUN, resume=False) as written:
        written.add(rows("1"))
        written.finish()
    before = (tmp_path / "_score.json").read_bytes()
    with pytest.raises(InputError) as raised, open_written(tmp_path, Description(**vars(RUN) | change), resume=True):
        pass
    assert text in str(raised.value)
    assert (tmp_path / "_score.json").read_bytes() == before
    with (
        pytest.raises(InputError, match="which holds a run; --resume goes on"),
        open_written(tmp_path, RUN, resume=False),
    ):
        pass


def test_a_run_without_rows_is_begun_anew(tmp_path):
    other = Description(**vars(RUN) | {"need": "label"})
    for run in (RUN, other):
        with open_written(tmp_path, run, resume=False) as written:
            written.write_part()
    assert read_description(tmp_path).need == "label"


def test_folders_that_cannot_be_written(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match=r"out: expected a new folder or an empty one, got .* with mine\.txt"):
        open_written(tmp_path, RUN, resume=True).__enter__()
    with pytest.raises(OutputError, match="can't be written"):
        open_written(tmp_path / "mine.txt", RUN, resume=True).__enter__()
    with (
        open_written(tmp_path / "out", RUN, resume=False),
        pytest.raises(OutputError, match="is being written by another process"),
        open_written(tmp_path / "out", RUN, resume=True),
    ):
        pass


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "got: No such file or directory"),
        (b"{", "got: JSONDecodeError: "),
        (b"[]", "got: TypeError: "),
        (json.dumps({"format": "other", "version": 1, "source": "", "recipes": [], "need": None, "maps": True, "masks": True}).encode(), "expected 'spadeline-score' of version 1, got 'other' of 1"),
        (json.dumps({"format": "spadeline-score"}).encode(), "got: KeyError: "),
    ],
)  # fmt: skip
def test_descriptions_that_cannot_be_read(tmp_path, content, text):
    if content is not None:
        (tmp_path / "_score.json").write_bytes(content)
    with pytest.raises(InputError) as raised:
        read_description(tmp_path)
    assert text in str(raised.value)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"version": 2}, "InputError: format: expected 'spadeline-score' of version 1, got 'spadeline-score' of 2"),
        ({"source": 3}, "InputError: source: expected text of 1 to 4096 characters, got 3"),
        ({"recipes": []}, "InputError: recipes: expected at least one, got none"),
        ({"recipes": 3}, "TypeError: "),
        ({"need": "all"}, "InputError: need: expected one of map, mask, label, got 'all'"),
        ({"maps": 1}, "InputError: maps: expected bool, got int"),
        ({"tau": "high"}, "InputError: tau: expected a finite number, got 'high'"),
        ({"label_rule": "none"}, "InputError: label_rule: expected one of "),
        ({"sha256": "0"}, "InputError: sha256: expected 64 hexadecimal digits, got '0'"),
        ({"counts": {"images": -1, "scored": {}, "errors": {}, "anomalous": {}}}, "InputError: images: expected "),
    ],
)
def test_values_that_a_description_cannot_have(tmp_path, change, text):
    content = to_json(RUN)
    (content if change.keys() <= content.keys() else content["recipes"][0]).update(change)
    (tmp_path / "_score.json").write_text(json.dumps(content))
    with pytest.raises(InputError) as raised:
        read_description(tmp_path)
    assert f"{tmp_path}: expected a folder that spadeline score wrote, got: {text}" in str(raised.value)


def test_a_damaged_part_is_named(tmp_path):
    with open_written(tmp_path, RUN, resume=False) as written:
        written.add(rows("1"))
        written.write_part()
    part = tmp_path / "a" / "part-00000001.parquet"
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"part-00000001\.parquet: expected a Parquet file that can be read, got: "):
        open_written(tmp_path, RUN, resume=True).__enter__()
