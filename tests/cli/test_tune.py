"""``spadeline tune``: what it prints, what it writes, and what ``info`` tells of it afterwards."""

import json

import pytest
from spadeline.engine import Recipe
from spadeline.engine.cli import tune_command

from shared_parts.drawn import part

from ..tuning.spots import SETTINGS, try_few_settings, write, write_blind, write_labelled

pytestmark = pytest.mark.filterwarnings("ignore:.*(far above|far below) the others")


@pytest.fixture
def labelled(tmp_path):
    return write_labelled(tmp_path / "labelled")


@pytest.fixture
def smooth(run, recipe):
    """A recipe that smooths too much to find the spots."""
    assert run("calibrate", recipe, "--sigma", SETTINGS.sigma, "--frame-check", "off", "--kappa", 1)[0] == 0
    return recipe


def test_tune_prints_the_trials_the_choice_and_the_result(run, smooth, labelled):
    code, out, err = run("tune", smooth, "--labelled", labelled, "--threads", 1)
    assert code == 0
    assert f"spadeline: {labelled}: test images: 8 normal from test/good, 12 abnormal from test/spot" in err
    first, *lines = out.splitlines()
    record = Recipe.load(smooth).tuning
    assert first == (
        f"{smooth}: {record.tried} settings tried at a false-alarm rate of 10.00%, on half of the labelled images "
        "(6 abnormal, 4 good); these figures choose, and are no result:"
    )
    own = [line for line in lines if line.startswith("  the recipe's own")]
    assert own[0].endswith(" ms")
    assert f"{record.found_before} of 6" in own[1]
    (chosen,) = (line for line in lines if line.startswith("chosen: "))
    assert all(name in chosen for name in record.changed)
    assert chosen.endswith(" abnormal images more")
    result = lines.index("result, on the other half (6 abnormal, 4 good), which had no part in the choice:")
    assert f"{record.found} of 6" in lines[result + 3]
    assert lines[-1] == "written, with thresholds made anew"
    told = run("info", smooth)[1]
    assert (
        f"settings tried on 6 abnormal and 4 good images, changed {', '.join(record.changed)}; of the others, " in told
    )
    assert f"{record.found} of 6 abnormal images found (before: {record.found_before})" in told
    assert json.loads(run("info", smooth, "--json")[1])["tuning"]["found"] == record.found


def test_a_dry_run_as_json(run, smooth, labelled):
    before = (smooth / "recipe.json").read_bytes()
    code, out, _ = run("tune", smooth, "--labelled", labelled, "--dry-run", "--json", "--false-alarm-rate", 0.2)
    record = json.loads(out)
    assert (code, record["written"], record["false_alarm_rate"]) == (0, False, 0.2)
    assert (smooth / "recipe.json").read_bytes() == before
    assert {*record["result"]} == {"before", "after"}
    assert {*record["changed"]} == {*record["record"]["changed"]}
    for change in record["changed"].values():
        assert change["before"] != change["after"]
    assert len(record["trials"]) == record["record"]["tried"]
    assert record["trials"][0]["changed"] == {}
    assert all(trial["match_s"] > 0 for trial in record["trials"])
    assert json.loads(run("info", smooth, "--json")[1])["tuning"] is None
    assert "tuned on" not in run("info", smooth)[1]


def test_copies_are_no_evidence(run, smooth, labelled):
    for path in (labelled / "test" / "spot").iterdir():
        path.write_bytes((labelled / "test" / "good" / "300.png").read_bytes())
    code, out, err = run("tune", smooth, "--labelled", labelled)
    assert (code, out) == (2, "")  # all of them are one image
    assert "expected at least 8 abnormal images, 4 for each half, got 0" in err


def test_no_evidence(run, recipe, labelled):
    """The recipe finds all that there is."""
    settings = Recipe.load(recipe).settings
    for path in (labelled / "test" / "spot").iterdir():
        write(path, part(int(path.stem), scratched=True)[0])
    code, out, _ = run("tune", recipe, "--labelled", labelled)
    assert code == 0
    assert "chosen: the recipe's own, since no others find at least 2 abnormal images more" in out
    assert "the chosen ones" not in out
    assert Recipe.load(recipe).settings == settings
    assert "changed nothing; of the others" in run("info", recipe)[1]


def test_another_extractor(run, labelled, parts, extractor_path, tmp_path, monkeypatch):
    try_few_settings(monkeypatch)
    kept, tune = [], tune_command.tune_recipe
    monkeypatch.setattr(tune_command, "tune_recipe", lambda *a, **b: kept.append(tune(*a, **b)) or kept[0])
    images, recipe = parts / "train" / "good", tmp_path / "recipe"
    own = write_blind(extractor_path, tmp_path / "blind.onnx")
    settings = ("--k-score", 3, "--frame-check", "off", "--false-alarm-rate", 0.1)
    assert run("fit", images, "--extractor", own, "--recipe", recipe, *settings)[0] == 0
    for path in sorted((labelled / "test" / "spot").iterdir()):
        if int(path.stem) < 408:
            write(path, part(int(path.stem), scratched=True)[0])
        else:
            path.unlink()
    command = ("tune", recipe, "--labelled", labelled, "--extractor", own, extractor_path, "--images", parts)
    code, out, err = run(*command)
    lines, record = out.splitlines(), Recipe.load(recipe).tuning
    assert (code, lines[-1]) == (0, "written, with thresholds made anew")
    assert f"{record.tried} settings tried with 2 extractors at a false-alarm rate" in lines[0]
    heading = lines.index(f"  with {extractor_path}:")
    assert lines[heading + 1].startswith("  the recipe's own  ")
    assert f"chosen: {extractor_path}, the settings stay: 4 abnormal images more" in lines
    assert f"spadeline: {parts}: normal images: 12 from train/good" in err
    monkeypatch.setattr(tune_command, "tune_recipe", lambda *_, **__: kept[0])
    told = json.loads(run(*command, "--json")[1])
    assert told["changed"] == {"extractor": {"before": None, "after": str(extractor_path)}}
    assert told["trials"][0]["changed"] == {}
    assert told["trials"][-1]["changed"]["extractor"] == str(extractor_path)
    assert told["record"]["extractors"] == 2
    assert "settings tried with 2 extractors on 4 abnormal" in run("info", recipe)[1]
    assert "changed extractor; of the others, 4 of 4 abnormal images found (before: 0)" in run("info", recipe)[1]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--labelled", "nowhere"], "nowhere: expected a data set's folder"),
        (["--labelled", "PARTS"], "labelled: expected at least 8 abnormal images, 4 for each half, got 4"),
        (["--labelled", "PARTS", "--extractor", "x.onnx"], "images: expected the recipe's normal images along with"),
        (["--labelled", "PARTS", "--extractor", "x.onnx", "--images", "PARTS"], "x.onnx: is missing"),
        (["--labelled", "PARTS", "--images", "PARTS"], "extractors: expected at least one to try along with images"),
        (["--labelled", "PARTS", "--false-alarm-rate", 0], "false_alarm_rate: expected a number between 0 and 1"),
    ],
)
def test_errors(run, recipe, parts, arguments, text):
    before = (recipe / "recipe.json").read_bytes()
    code, out, err = run("tune", recipe, *(parts if each == "PARTS" else each for each in arguments))
    assert (code, out) == (2, "")
    assert text in err
    assert (recipe / "recipe.json").read_bytes() == before
