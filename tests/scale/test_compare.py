"""Which images change their verdict between two scored folders. No Ray runs; the folders are written by our own code."""

import json
import shutil
import sys
from dataclasses import replace
from itertools import product

import pytest
from spadeline.engine import InputError
from spadeline.engine.cli.main import main
from spadeline.engine.json_data import from_json, to_json
from spadeline.engine.scale import Comparison, compare, comparing
from spadeline.engine.scale.rows import schema, table

from .scored import USED, row, write

pytest.importorskip("pyarrow")


def scored(out, scores, *, used=USED, complete=True):
    """Write a run of made-up scores by path, and return its folder."""
    rows = table([row(path, score, used=used) for path, score in scores.items()], schema(maps=False, masks=False))
    return write(out, rows, used, complete=complete)


def test_every_pair_of_verdicts_is_counted(tmp_path):
    verdicts = {"normal": 5.0, "anomalous": 20.0, "error": "no image"}
    a, b, wanted = {}, {}, {}
    for number, pair in enumerate(product(verdicts, verdicts), start=1):
        for index in range(number):  # as many images as no other pair has
            a[f"{pair}{index}"], b[f"{pair}{index}"] = (verdicts[verdict] for verdict in pair)
        wanted[pair] = number
    only_a, only_b = {f"a{index}": 5.0 for index in range(3)}, {f"b{index}": 5.0 for index in range(4)}
    result = compare(
        scored(tmp_path / "a", a | only_a), scored(tmp_path / "b", dict(reversed(list((b | only_b).items()))))
    )
    counts = result.counts
    assert (counts.in_both, counts.only_in_a, counts.only_in_b) == (45, 3, 4)
    assert counts.both_normal == wanted["normal", "normal"]
    assert counts.both_anomalous == wanted["anomalous", "anomalous"]
    assert counts.both_errors == wanted["error", "error"]
    assert counts.changed == {
        "normal to anomalous": wanted["normal", "anomalous"],
        "anomalous to normal": wanted["anomalous", "normal"],
        "to error": wanted["normal", "error"] + wanted["anomalous", "error"],
        "from error": wanted["error", "normal"] + wanted["error", "anomalous"],
    }
    assert [image.change for image in result.changed] == [
        change for change, count in counts.changed.items() for _ in range(count)
    ]
    assert (
        "on 30 of 45 images: normal to anomalous 2, anomalous to normal 4, to error 9, from error 15" in result.sentence
    )
    for image in result.changed:
        for verdict, score in ((image.a, a[image.path]), (image.b, b[image.path])):
            if isinstance(score, str):
                assert (verdict.label, verdict.pred_score, verdict.error) == (None, None, score)
            else:
                assert (verdict.label, verdict.pred_score, verdict.error) == (score > 10, score, None)
                assert verdict.reason == ("map" if score > 10 else "")
    assert result.notices == ()


@pytest.mark.parametrize(("rule", "threshold"), [("map", 100.0), ("image", 4.0), ("either", 1.0)])
def test_the_clearest_change_comes_first(tmp_path, rule, threshold):
    """A's theta is 10. The factor between the two multiples of the thresholds decides, not the scores themselves."""
    other = replace(USED, label_rule=rule, theta=100.0, tau=4.0)
    a = {"faint": 9.9, "clear": 1.0, "tie-2": 5.0, "tie-1": 5.0, "same": 9.0}
    multiples = {"faint": 1.1, "clear": 1.01, "tie-2": 1.5, "tie-1": 1.5, "same": 0.5}
    b = {path: threshold * multiple for path, multiple in multiples.items()}
    result = compare(scored(tmp_path / "a", a), scored(tmp_path / "b", b, used=other))
    assert [image.path for image in result.changed] == ["clear", "tie-1", "tie-2", "faint"]
    assert (result.a.threshold, result.b.threshold) == (10.0, threshold)


def test_scores_and_thresholds_of_0_have_their_place(tmp_path):
    zero = replace(USED, theta=0.0)
    a = {"to-0": 11.0, "from-0": 0.0, "far": 9.0}
    b = {"to-0": 0.0, "from-0": 1e-3, "far": 50.0}
    result = compare(scored(tmp_path / "a", a), scored(tmp_path / "b", b, used=zero))
    assert [image.path for image in result.changed] == ["from-0", "far", "to-0"]


def test_sides_say_what_they_are(tmp_path):
    other = replace(USED, name="shells", generation=7, sha256="1" * 64)
    result = compare(scored(tmp_path / "a", {"x": 1.0}), scored(tmp_path / "b", {"x": 1.0}, used=other))
    side = result.b
    assert (side.recipe, side.generation, side.sha256, side.images) == ("shells", 7, "1" * 64, 1)
    assert (side.rows, side.source, side.folder) == (str(tmp_path / "b" / "shells"), "images", "no-such-recipe")
    assert (side.need, side.maps, side.complete, side.theta, side.tau) == (None, False, True, 10.0, 1.0)
    assert result.sentence == "B gives the same verdict as A on all images that both have: 1."


def test_the_result_is_fit_for_json(tmp_path):
    result = compare(
        scored(tmp_path / "a", {"x": 1.0, "y": 20.0, "z": "broken"}),
        scored(tmp_path / "b", {"x": 12.0, "y": "broken", "z": 3.0}),
    )
    assert len(result.changed) == 3
    assert from_json(Comparison, json.loads(json.dumps(to_json(result), allow_nan=False))) == result


def test_a_run_with_several_recipes_needs_one_named(tmp_path, monkeypatch):
    recipes = [replace(USED, name=name) for name in ("nuts", "100 % = ü")]
    rows = [row("x", score, used=used) for used, score in zip(recipes, (5.0, 20.0), strict=True)]
    out = write(tmp_path / "out", table(rows, schema(maps=False, masks=False)), *recipes)
    folders = [out / "nuts", out / "100 %25 %3D %C3%BC"]
    with pytest.raises(InputError) as caught:
        compare(folders[0], out)
    assert str(caught.value) == (
        f"scored_b: expected a folder with the rows of one recipe, got {out} with those of 2; give one of "
        f"{folders[0]}, {folders[1]}"
    )
    result = compare(*folders)
    assert (result.a.recipe, result.b.recipe) == ("nuts", "100 % = ü")
    assert result.counts.changed["normal to anomalous"] == 1
    monkeypatch.chdir(folders[0])
    assert compare(".", folders[1]).counts == result.counts
    (out / "other").mkdir()
    with pytest.raises(InputError, match=r"^scored_a: expected the folder of a recipe's rows in .*out, got .*other$"):
        compare(out / "other", folders[1])


def test_an_incomplete_run_is_compared_as_far_as_it_goes(tmp_path):
    a = scored(tmp_path / "a", {"x": 1.0, "y": 20.0})
    b = scored(tmp_path / "b", {"x": 20.0}, complete=False)
    result = compare(a, b)
    assert (result.a.complete, result.b.complete) == (True, False)
    assert (result.counts.in_both, result.counts.only_in_a) == (1, 1)
    assert [image.path for image in result.changed] == ["x"]
    assert len(result.notices) == 1
    assert result.notices[0].startswith(f"B isn't complete: {b / 'nuts'} has rows of 1 images so far.")
    empty = write(tmp_path / "empty", [], complete=False)
    result = compare(empty, a)
    assert (result.counts.in_both, result.counts.only_in_a, result.counts.only_in_b) == (0, 0, 2)
    assert result.sentence == "No image has a verdict on both sides."
    assert result.notices[0].startswith("A isn't complete: ")


def test_a_complete_run_that_has_lost_a_part_counts_as_incomplete(tmp_path):
    a = scored(tmp_path / "a", {"x": 1.0})
    b = scored(tmp_path / "b", {"x": 1.0})
    (b / "nuts" / "part-00000001.parquet").unlink()
    assert not compare(a, b).b.complete


def test_paths_that_are_spelt_otherwise_are_told(tmp_path):
    result = compare(scored(tmp_path / "a", {"images/x.png": 1.0}), scored(tmp_path / "b", {"/images/x.png": 1.0}))
    (notice,) = result.notices
    assert notice.startswith("No image is on both sides: A has 'images/x.png', B has '/images/x.png'. ")


def test_what_is_no_scored_folder_is_refused(tmp_path):
    good = scored(tmp_path / "good", {"x": 1.0})
    for folder in (tmp_path / "missing", tmp_path):
        with pytest.raises(InputError, match="expected a folder that spadeline score wrote, got: No such file"):
            compare(good, folder)
    for name, part in (("damaged", b"no Parquet"), ("cut", (good / "nuts/part-00000001.parquet").read_bytes()[:-9])):
        shutil.copytree(good, tmp_path / name)
        (tmp_path / name / "nuts" / "part-00000001.parquet").write_bytes(part)
        with pytest.raises(InputError, match=r"part-00000001.parquet: expected a Parquet file that can be read, got: "):
            compare(good, tmp_path / name)
    shutil.copytree(good, tmp_path / "twice")
    part = tmp_path / "twice" / "nuts" / "part-00000001.parquet"
    shutil.copy(part, part.with_name("part-00000002.parquet"))
    with pytest.raises(InputError, match=r"nuts: expected one row for each image, got more for some$"):
        compare(good, tmp_path / "twice")


def test_of_very_many_changes_the_first_are_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(comparing, "MOST_LISTED", 2)
    a, b = dict.fromkeys("vwxyz", 5.0), dict.fromkeys("vwxyz", 20.0) | {"y": 30.0, "v": "broken"}
    result = compare(scored(tmp_path / "a", a), scored(tmp_path / "b", b))
    assert [image.path for image in result.changed] == ["y", "w", "v"]
    assert result.counts.changed["normal to anomalous"] == 4
    assert result.notices == ("Of 4 images that went normal to anomalous, the first 2 are listed.",)


def test_the_command_prints_a_table_and_the_first_changes(tmp_path, capsys):
    a = {f"{index:02}.png": 5.0 for index in range(30)} | {"bad\x1b[31m.png": 20.0, "same": 1.0}
    b = {f"{index:02}.png": 20.0 for index in range(30)} | {"bad\x1b[31m.png": "broken", "same": 1.0}
    folders = [str(scored(tmp_path / "a", a)), str(scored(tmp_path / "b", b, complete=False))]
    assert main(["compare", *folders]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == f"A: nuts, generation 1, {tmp_path}/a/nuts: 32 images"
    assert lines[1] == f"B: nuts, generation 1, {tmp_path}/b/nuts: 32 images, not complete"
    assert "  normal to anomalous          30" in lines
    assert "B gives another verdict than A on 31 of 32 images: normal to anomalous 30, to error 1." in lines
    assert "  normal to anomalous     0.5      2  19.png" in lines
    assert "  … and 10 more normal to anomalous" in lines
    assert "  to error                  2  error  bad\\x1b[31m.png" in lines
    assert sum(line.endswith(".png") for line in lines) == 21
    assert err.startswith("spadeline: warning: B isn't complete: ")


def test_the_command_prints_json(tmp_path, capsys):
    folders = [str(scored(tmp_path / name, {"x": score})) for name, score in (("a", 5.0), ("b", 20.0))]
    assert main(["compare", "--json", *folders]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == to_json(compare(*folders))
    assert document["changed"][0]["b"] == {"label": True, "reason": "map", "pred_score": 20.0, "error": None}
    assert main(["compare", folders[0], str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.startswith(f"spadeline: {tmp_path}/none: expected a folder that spadeline score")


def test_without_pyarrow_the_command_says_how_to_get_it(tmp_path, capsys, monkeypatch):
    folders = [str(scored(tmp_path / name, {"x": 1.0})) for name in "ab"]
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main(["compare", *folders]) == 2
    assert capsys.readouterr().err == "spadeline: pyarrow is not installed: pip install 'spadeline[ray]'\n"
