import inspect
import math
from dataclasses import fields

import numpy as np
import pytest
from spadeline.engine.calibration import threshold
from spadeline.engine.errors import InputError
from spadeline.engine.recipe.records import Calibration, ImageRecord
from spadeline.engine.settings import Settings, all_settings, preset

TAU = threshold([1.0, 2.0], false_alarm_rate=0.4)
CALIBRATION = {
    "tau": TAU,
    "theta": TAU,
    "method": "leave-one-out",
    "image_scores": (1.0, 2.0),
    "map_scores": (2.0, 1.0),
}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"window": 0},
        {"sigma": 0},
        {"sigma": np.float64(2.5)},
        {"kappa": 1000},
        {"index_factory": "IVF16,Flat"},
        *(
            {"index_factory": f}
            for f in ("Flat", "SQ8", "SQfp16", "LSH", "HNSW2", "HNSW999", "PCA64,IVF1,SQ8", "PCA8,Flat")
        ),
        {"level_weights": (1.0,)},
        {"level_weights": (1e-6, 1e6, 0.5, 2.0)},
    ],
)
def test_settings_take(changes):
    settings = Settings(**changes)
    for name, value in changes.items():
        assert getattr(settings, name) == value


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("framing", "crop", "expected one of whole, paper, got 'crop'"),
        ("framing", ["whole"], "expected one of whole, paper, got ['whole']"),
        ("k_score", 0, "expected an integer from 1 to 2147483647, got 0"),
        ("k_score", True, "got True"),
        ("k_gallery", 5.0, "got 5.0"),
        ("k_gallery", 2**31, "got 2147483648"),
        ("kappa", 1001, "expected an integer from 1 to 1000, got 1001"),
        ("window", -1, "expected an integer from 0 to 2147483647, got -1"),
        ("upsampling", None, "expected one of nearest, bilinear, got None"),
        ("distance", "l1", "expected one of squared, root, got 'l1'"),
        ("sigma", -0.5, "expected a finite number from 0 to 1000, got -0.5"),
        ("sigma", math.nan, "got nan"),
        ("sigma", 1e9, "got 1000000000.0"),
        ("sigma", 10**400, "got 1000"),
        ("sigma", "4", "got '4'"),
        ("index_factory", "", "expected text of 1 to 4096 characters, got ''"),
        ("index_factory", None, "got None"),
        # Descriptions that end the process, take all of its memory, or fail at each search; and similar ones.
        *(
            (
                "index_factory",
                factory,
                f"expected Flat, SQ8, SQfp16, LSH, HNSW<2 to 999>, IVF<lists>,Flat or IVF<lists>,SQ8, or one of them behind PCA<dimensions>, got {factory!r}",
            )
            for factory in (
                "HNSW0",
                "HNSW1",
                "HNSW1000",
                "HNSW100000000",
                "IVF4_HNSW0,Flat",
                "IVF0,Flat",
                "PQ3x0",
                "OPQ8_9999,Flat",
                "IDMap,Flat",
                "Flat,RFlat",
                "flat",
                "Flat ",
                "Flat\n",
                "IVF٤,Flat",
            )
        ),
        ("storage", "float64", "expected one of float32, float16, got 'float64'"),
        ("level_weights", (), "expected 1 to 4 numbers, one a level, got ()"),
        ("level_weights", (1.0,) * 5, "expected 1 to 4 numbers, one a level, got (1.0, 1.0"),
        ("level_weights", 1.0, "expected 1 to 4 numbers, one a level, got 1.0"),
        ("level_weights", "111", "expected 1 to 4 numbers, one a level, got '111'"),
        ("label_rule", "both", "expected one of map, image, either, got 'both'"),
    ],
)
def test_settings_refuse(name, value, expected):
    with pytest.raises(InputError) as error:
        Settings(**{name: value})
    assert str(error.value).startswith(f"{name}: ")
    assert expected in str(error.value)


@pytest.mark.parametrize("value", [0, -1.0, 9e-7, 1.1e6, math.nan, math.inf, True, "1", None])
def test_level_weights_are_numbers_within_limits(value):
    with pytest.raises(InputError) as error:
        Settings(level_weights=(1.0, value))
    assert str(error.value) == f"level_weights[1]: expected a finite number from 1e-06 to 1e+06, got {value!r}"


def test_a_list_of_level_weights_becomes_a_tuple_of_floats():
    settings = Settings(level_weights=[1, np.float64(0.5)])
    assert settings.level_weights == (1.0, 0.5)
    assert [type(weight) for weight in settings.level_weights] == [float, float]
    assert settings == Settings(level_weights=(1.0, 0.5))
    assert len({settings, Settings(level_weights=(1.0, 0.5))}) == 1


def test_each_field_declares_its_setting():
    defaults = Settings()
    assert [setting.name for setting in all_settings()] == [field.name for field in fields(Settings)]
    for setting in all_settings():
        assert setting.default == getattr(defaults, setting.name)
        assert setting.values, setting.name
        assert setting.default_text, setting.name
        assert setting.text[0].isupper()
        assert setting.text.endswith(".")
        assert f"\n{setting.name} : {setting.values}\n" in inspect.getdoc(Settings)


@pytest.mark.parametrize(
    ("name", "values", "default", "text"),
    [
        ("kappa", "int, 1 to 1000", "1", "Number of nearest gallery pixels"),
        (
            "window",
            "None, or int, 0 to 2147483647",
            "whole image",
            "in pixels of the coarsest level. None: whole image.",
        ),
        ("sigma", "float, 0 to 1000", "4", "in pixels of the extractor's input."),
        ("level_weights", "None, or 1 to 4 numbers, one a level", "all 1", "finest level first. None: all 1."),
        ("distance", '"squared", "root"', "squared", "Squared L2 distances"),
    ],
)
def test_the_reference_says_what_a_setting_takes(name, values, default, text):
    (setting,) = (setting for setting in all_settings() if setting.name == name)
    assert (setting.values, setting.default_text) == (values, default)
    assert text in setting.text


def test_calibration_takes_matching_scores():
    assert Calibration(**CALIBRATION).theta is TAU


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"method": "guess"}, "method: expected one of leave-one-out, held-out, got 'guess'"),
        ({"tau": 1.0}, "tau: expected Threshold, got float"),
        ({"image_scores": [1.0, 2.0]}, "image_scores: expected tuple, got list"),
        ({"image_scores": (1.0,)}, "image_scores: expected tau's 2 scores, got 1"),
        ({"map_scores": (1.0, 2)}, "map_scores[1]: expected float, got int"),
        ({"map_scores": (math.inf, 1.0)}, "map_scores[0]: expected a finite number, got inf"),
    ],
)
def test_calibration_refuses(changes, text):
    with pytest.raises(InputError) as error:
        Calibration(**CALIBRATION | changes)
    assert str(error.value) == text


@pytest.mark.parametrize("name", ["a.png", 'Blech Nr. 7 ÄÖ/漢字 \U0001f600\n\t"\\\x00.png', "bad\udcffbyte.png"])
def test_image_names_may_be_odd(name):
    assert ImageRecord(name).name == name


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (("",), "image name: expected text of 1 to 4096 characters, got ''"),
        ((b"a",), "image name: expected text of 1 to 4096 characters, got b'a'"),
        (("\ud800",), "image name: expected text without lone surrogates, got '\\ud800'"),
        (("a", "ab"), "image 'a': sha256: expected 64 hexadecimal digits, got 'ab'"),
        (("a", "A" * 64), "image 'a': sha256: expected 64 hexadecimal digits"),
        (("a", "0" * 64 + "\n"), "image 'a': sha256: expected 64 hexadecimal digits"),
    ],
)
def test_image_records_refuse(fields, text):
    with pytest.raises(InputError) as error:
        ImageRecord(*fields)
    assert text in str(error.value)


def test_presets():
    assert preset("default") == Settings()
    paper = preset("paper")
    assert (paper.framing, paper.k_score, paper.k_gallery, paper.kappa, paper.sigma) == ("paper", 50, 50, 1, 4.0)
    with pytest.raises(InputError, match="preset: expected one of default, paper, got 'SPADE'"):
        preset("SPADE")
