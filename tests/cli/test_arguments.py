"""The options of each command, and that each setting has one option, made from what its field declares."""

import argparse

import pytest
from spadeline.engine.cli.arguments import command_parser
from spadeline.engine.settings import all_settings

BUILT_IN = "--framing --angles --storage"
OTHER_SETTINGS = (
    "--k-score --k-gallery --kappa --window --level-weights --upsampling --distance --sigma --index-factory "
    "--label-rule --frame-check --frame-shape --need"
)
LOADING = "--gallery --memory-limit --tensorrt-cache"
OPTIONS = {
    "export": "--backbone --levels --embedding --input-size --weights --precision --neighbourhood --from "
    "--preset --calibrate --framing --evaluate --least-correlation --most-rocauc-loss --json",
    "fit": f"--extractor --recipe --held-out --overwrite --ignore --html --preset --false-alarm-rate --threads --device --json "
    f"{BUILT_IN} {OTHER_SETTINGS}",
    "calibrate": f"--false-alarm-rate --threads --json {OTHER_SETTINGS}",
    "add": "--rename --threads --device --json",
    "remove": "--calibrate --threads --json",
    "codes": "--json",
    "info": "--verify --html --normal-images --json",
    "tune": "--labelled --extractor --angles --images --dry-run --false-alarm-rate --threads --device --json",
    "predict": f"--overlays --need --deadline-s --threads --device --json {LOADING}",
    "eval": f"--html --normal-images --threads --device --json {LOADING}",
    "bench": f"--takt --runs --warm-up --seconds --html --need --deadline-s --threads --device --json {LOADING}",
    "demo": "--folder --threads --json",
    "score": "--out --resume --address --workers --need --maps --masks --gallery --cache --threads --json",
    "compare": "--html --json",
}


@pytest.fixture(scope="module")
def commands():
    """The parser of each command by its name."""
    (of_commands,) = (a for a in command_parser(version="")._actions if isinstance(a, argparse._SubParsersAction))
    return of_commands.choices


def test_these_are_the_commands(commands):
    assert list(commands) == list(OPTIONS)


@pytest.mark.parametrize("command", OPTIONS)
def test_a_command_has_these_options(commands, command):
    options = [name for action in commands[command]._actions for name in action.option_strings]
    assert sorted(options) == sorted(["-h", "--help", *OPTIONS[command].split()])


@pytest.mark.parametrize("setting", all_settings(), ids=lambda setting: setting.name)
def test_a_setting_has_one_option_with_its_text_and_default(commands, setting):
    for command in ("fit", "calibrate"):
        actions = [action for action in commands[command]._actions if action.dest == setting.name]
        assert len(actions) == (command == "fit" or not setting.built_in)
        for action in actions:
            assert action.option_strings == [setting.option]
            assert action.default is None
            assert tuple(action.choices or ()) == setting.choices
            shown = commands[command].format_help()
            assert " ".join(f"{setting.phrase} ({setting.default_text})".split()) in " ".join(shown.split())


@pytest.mark.parametrize("command", [["predict", "recipe", "image"], ["bench", "recipe"]])
def test_need_and_deadline_are_the_recipe_s_and_none_unless_given(command):
    options = command_parser(version="").parse_args(command)
    assert (options.need, options.deadline_s) == (None, None)
    options = command_parser(version="").parse_args([*command, "--need", "mask", "--deadline-s", "0.02"])
    assert (options.need, options.deadline_s) == ("mask", 0.02)
    with pytest.raises(SystemExit):
        command_parser(version="").parse_args([*command, "--need", "all"])


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (["--kappa", "3"], "kappa", 3),
        (["--sigma", "2.5"], "sigma", 2.5),
        (["--window", "0"], "window", 0),
        (["--level-weights", "1", "0.5"], "level_weights", [1.0, 0.5]),
        (["--index-factory", "SQ8"], "index_factory", "SQ8"),
        (["--distance", "root"], "distance", "root"),
        (["--need", "label"], "need", "label"),
    ],
)
def test_an_option_is_read_as_its_setting_is_typed(arguments, name, value):
    options = command_parser(version="").parse_args(["calibrate", "recipe", *arguments])
    assert getattr(options, name) == value
    assert type(getattr(options, name)) is type(value)
