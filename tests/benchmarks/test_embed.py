"""The C++ program beside Python: what is refused. tests/door/test_benchmark.py runs the benchmark."""

from types import SimpleNamespace

import numpy as np
import pytest

from embed_parts.contest import Contest
from shared_parts.subjects import Subject

from .scripts import run

MAP = np.float32([[1, 2], [3, 4]])
HIGHER = MAP + np.float32(1e-6)
MASK = MAP > 2


class OneResult:
    """A program that says this of the only frame."""

    def __init__(self, *result):
        self._result = result

    def need(self, need):
        assert need in ("label", "mask", "map")

    def results(self, input_size):
        assert input_size == (2, 2)
        yield self._result


def compare(need, *result):
    truth = SimpleNamespace(pred_label=True, pred_mask=MASK, anomaly_map=MAP)
    detector = SimpleNamespace(predict=lambda _, need: truth, recipe=SimpleNamespace(input_size=(2, 2)))
    frames = [SimpleNamespace(path="0.png", label=True)]
    subject = Subject("nuts", "net", SimpleNamespace(input_size=(2, 2)), frames)
    contest = Contest(subject, detector, [np.zeros((8, 8, 3), np.uint8)], OneResult(*result))
    contest.compare(need)


@pytest.mark.parametrize(
    ("need", "result"),
    [
        ("label", (True, HIGHER, ~MASK)),
        ("mask", (True, HIGHER, MASK)),
        ("map", (True, MAP, MASK)),
    ],
)
def test_what_a_need_leaves_open_may_differ(need, result):
    compare(need, *result)


@pytest.mark.parametrize(
    ("need", "result", "what"),
    [
        ("label", (False, MAP, MASK), "label"),
        ("mask", (True, MAP, ~MASK), "mask"),
        ("map", (True, HIGHER, MASK), "map"),
    ],
)
def test_another_result_ends_the_run_before_anything_is_timed(need, result, what):
    text = rf"^nuts, net, 2x2: 0\.png: the {what} of C\+\+ isn't Python's; no time is worth reporting$"
    with pytest.raises(SystemExit, match=text):
        compare(need, *result)


def test_a_prefix_without_the_library_is_one_sentence(tmp_path):
    done = run("--installed", tmp_path, "--data", "x", "--extractor", "n", script="embed.py")
    assert done.returncode == 1
    assert (
        done.stderr
        == f"embed.py: {tmp_path}: expected the prefix of an installed libspadeline.so, found none below it\n"
    )


@pytest.mark.parametrize(
    ("option", "text"),
    [
        (("--frames", 0), "expected numbers of 1 or more, and at most 1024 threads, got 0"),
        (("--inspectors", 1, 2000), "expected numbers of 1 or more, and at most 1024 threads, got 1"),
        (("--seconds", -1), "expected seconds of 0 or more, got -1.0"),
        (("--json", "no/where"), "expected a folder that exists, got no/where"),
    ],
)
def test_options_that_make_no_sense(tmp_path, option, text):
    done = run("--installed", tmp_path, "--data", "x", "--extractor", "n", *option, script="embed.py")
    assert done.returncode == 2
    assert text in done.stderr
