"""Every seed of every target, and some changed copies: seconds of what ``python -m tests.fuzz`` does for hours.

Before that: the harness calls a failure what it is, on small targets made here.
"""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from .fuzz import harness, mutations

SEED = 17
# Number of changed copies for each target, chosen so that it takes a few seconds.
MUTATIONS = {"arrays": 100, "extractors": 20, "folders": 60, "images": 200, "manifests": 80}

TOY = """
import os, signal, subprocess, sys, time
import numpy as np
from pathlib import Path
from spadeline.engine import InputError

SECONDS = 1.0
MEMORY_BYTES = 100_000_000

def corpus(folder):
    for name in {seeds}:
        (folder / name).write_bytes(b"seed")

def mutate(rng, case, target):
    target.write_bytes(rng.bytes(4))

def attempt(case):
{body}

{beside}
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Return a function that fuzzes a target whose attempt has a given body."""
    modules = tmp_path / "modules"
    modules.mkdir()
    monkeypatch.syspath_prepend(str(modules))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(modules), os.environ.get("PYTHONPATH")))))
    monkeypatch.delitem(sys.modules, "toy", raising=False)

    def fuzz(body, *, seeds=("seed.bin",), mutations=0, beside="", **options):
        text = TOY.format(seeds=seeds, beside=beside, body=textwrap.indent(textwrap.dedent(body), "    "))
        (modules / "toy.py").write_text(text)
        keep = tmp_path / "kept"
        keep.mkdir()
        return harness.fuzz("toy", keep, seed=SEED, mutations=mutations, **options)

    yield fuzz
    sys.modules.pop("toy", None)


def test_what_passes(toy, tmp_path):
    body = """
        print("on standard output")
        os.write(1, b"likewise")
        if case.read_bytes()[0] < 128:
            raise InputError("one sentence")
    """
    tally = toy(body, mutations=40)
    assert tally.kinds["accepted"] + tally.kinds["refused"] == 41
    assert min(tally.kinds["accepted"], tally.kinds["refused"]) > 10
    assert tally.failures == []
    assert list((tmp_path / "kept").iterdir()) == []


FAILURES = {  # an attempt's statements, and the failure's kind, place and detail
    "raises": ("raise ValueError('not ours')", "raised", "ValueError at toy.py:", "not ours"),
    "asserts": ("assert 1 > 2", "raised", "AssertionError at toy.py:", "assert 1 > 2"),
    "exits": ("sys.exit(0)", "raised", "SystemExit at toy.py:", "SystemExit"),
    "quotes": ("raise InputError('x' * 20_000)", "raised", "a InputError of 20,000 characters", "xxx"),
    "ends": ("os._exit(3)", "died", "exit code 3", ""),
    "crashes": ("os.write(2, b'last words'); os.kill(os.getpid(), signal.SIGSEGV)", "died", "SIGSEGV", "last words"),
    "hangs": ("time.sleep(60)", "time", "over 1 s", "in attempt"),
    # It would take up to 1.6 GB, and is stopped long before.
    "grows": ("held = [(np.ones(1_000_000), time.sleep(0.004)) for _ in range(200)]", "memory", "over 100,000,000 bytes", ""),
}  # fmt: skip


def test_what_fails(toy, tmp_path):
    body = "\n".join(f"if case.name == {name!r}: {statements}" for name, (statements, *_) in FAILURES.items())
    tally = toy(body, seeds=tuple(FAILURES))
    assert tally.kinds == {"raised": 4, "died": 2, "time": 1, "memory": 1}
    found = {failure.origin: failure for failure in tally.failures}
    assert found.keys() == FAILURES.keys()
    for name, (_, kind, where, detail) in FAILURES.items():
        kept, outcome = found[name].kept, found[name].outcome
        assert outcome.kind == kind
        assert outcome.where.startswith(where)
        assert detail in outcome.detail
        assert kept.read_bytes() == b"seed"
        assert kept.with_name(kept.name + ".txt").read_text().startswith(f"toy, {name}\n{kind}: {where}")
    assert len(list((tmp_path / "kept").iterdir())) == 2 * len(FAILURES)  # no temporary file is left


def test_memory_that_is_gone_before_anybody_looks_counts(toy, monkeypatch):
    monkeypatch.setattr(harness, "LOOK_S", 60.0)
    body = """
        if case.name == "large":
            np.ones(15_000_000)
    """
    tally = toy(body, seeds=("large", "small"))
    assert tally.kinds == {"memory": 1, "accepted": 1}
    assert int(tally.failures[0].outcome.detail.removesuffix(" bytes").replace(",", "")) > 100_000_000


def test_one_failure_of_each_sort_is_kept(toy):
    body = """
        if case.name.startswith("bad"):
            os.kill(os.getpid(), signal.SIGKILL)
        if case.read_bytes()[0] < 128 and case.name != "good":
            raise KeyError
    """
    said = []
    tally = toy(body, seeds=("bad-1", "bad-2", "good"), mutations=50, say=said.append)
    assert tally.kinds["died"] == 2
    assert tally.kinds["accepted"] + tally.kinds["raised"] == 51
    assert min(tally.kinds["accepted"], tally.kinds["raised"]) > 10
    assert [failure.outcome.kind for failure in tally.failures] == ["died", "died", "raised"]
    assert said == tally.failures
    assert "good, changed by seed 17, number " in str(tally.failures[2])
    assert tally.failures[2].kept.read_bytes()[0] < 128
    assert str(tally).startswith("toy: 53 attempts, ")


def test_what_an_attempt_starts_ends_with_it(toy, tmp_path):
    toy("Path('../process').write_text(str(subprocess.Popen(['sleep', '600']).pid)); os._exit(1)")
    process = Path("/proc", (tmp_path / "kept" / "process").read_text(), "stat")
    end = time.monotonic() + 10
    while process.exists() and process.read_text().split()[2] != "Z":  # its new parent removes it
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_stall_that_does_not_come_again_is_no_failure(toy):
    body = """
        if not Path("been here").exists():
            Path("been here").touch()
            time.sleep(60)
    """
    assert toy(body).kinds == {"accepted": 1}


def test_a_target_that_its_process_cannot_import_is_an_error_of_its_own(toy):
    with pytest.raises(
        RuntimeError, match=r"expected a process that is ready, got: (.|\n)*ImportError: no such library"
    ):
        toy("return", beside="if 'pytest' not in sys.modules: raise ImportError('no such library')")


def test_a_mutation_that_fails_says_which(toy):
    with pytest.raises(ZeroDivisionError) as raised:
        toy("return", beside="def mutate(rng, case, target): 1 / 0", mutations=1)
    assert raised.value.__notes__ == [
        "a fault of mutate, not of what is fuzzed: seed.bin, changed by seed 17, number 0"
    ]


def test_the_same_seed_makes_the_same_cases():
    seeds = (SEED, 3), (SEED, 3), (SEED, 4)
    once, again, other = (mutations.mutate_bytes(np.random.default_rng(seed), bytes(1000), b"other") for seed in seeds)
    assert once == again != other


@pytest.mark.parametrize("content", [b"", b"x", b'{"version": 2, "theta": 46.25}' * 40, bytes(range(256)) * 16])
def test_mutations_change_and_stay_small(content):
    changed = [mutations.mutate_bytes(np.random.default_rng([SEED, n]), content, b"other") for n in range(400)]
    assert sum(new != content for new in changed) > 200
    assert max(map(len, changed)) <= len(content) + mutations.MOST_GROWTH
    assert len(set(changed)) > 100 or not content


@pytest.mark.parametrize("kind", mutations.KINDS)
def test_every_kind_of_mutation_takes_anything(kind):
    for number in range(200):
        rng = np.random.default_rng([SEED, number])
        for content in (b"", b"7", b"-1.5, 300, " * 60):
            kind(rng, bytearray(content), b"")
            kind(rng, bytearray(content), b"another")


def test_the_command_says_which_targets_there_are():
    command = [sys.executable, "-m", "tests.fuzz", "nothing"]
    done = subprocess.run(command, cwd=harness.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"expected targets of {', '.join(harness.targets())}, got nothing" in done.stderr


def test_the_command_says_what_a_target_needs():
    command = [sys.executable, "-m", "tests.fuzz", "door"]
    environment = {name: value for name, value in os.environ.items() if name != "SPADELINE_LIBRARY_FILE"}
    done = subprocess.run(command, cwd=harness.ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "door: expected the environment variable SPADELINE_LIBRARY_FILE to name a file, got none" in done.stderr


def test_every_target_has_its_share():
    assert harness.targets() == sorted({*MUTATIONS, "door"})  # the door's share is with the library's tests


@pytest.mark.parametrize("name", MUTATIONS)
def test_seeds_and_changed_copies(name, tmp_path):
    tally = harness.fuzz(f"{harness.__package__}.{name}", tmp_path, seed=SEED, mutations=MUTATIONS[name])
    said = [f"seed {SEED}; {tally}", *(f"{failure}\n{failure.outcome.detail}" for failure in tally.failures)]
    assert not tally.failures, "\n".join(said)
