"""``threads=None`` takes the processors that the process may use, not all of the machine."""

import os
from pathlib import Path

import numpy as np
import pytest
from spadeline.engine import Matcher, resources

ALLOWED = len(os.sched_getaffinity(0))


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Make control groups a/b/c of version 2; the process is in c. A call sets the quota of a group, in processors."""
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    (tmp_path / "own").write_text("4:memory:/elsewhere\n0::/a/b/c\n")
    monkeypatch.setattr(resources, "CONTROL_GROUPS", tmp_path)
    monkeypatch.setattr(resources, "OWN_GROUP", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))

    def grant(folder, quota):
        granted = "max" if quota is None else str(int(100_000 * quota))
        (tmp_path / folder / "cpu.max").write_text(f"{granted} 100000\n")

    return grant


def test_a_control_groups_quota_counts_wherever_it_is_set(groups):
    assert resources.processors() == 8  # no group has files
    groups("a/b/c", None)
    assert resources.processors() == 8
    groups("a/b/c", 16)
    assert resources.processors() == 8
    groups("a/b/c", 2.5)
    assert resources.processors() == 3
    groups("a", 2)
    assert resources.processors() == 2
    groups(".", 0.25)  # in a container, this is the outermost group
    assert resources.processors() == 1


@pytest.mark.parametrize("own", [None, "", "4:memory:/a\n", "0::/\n", "0::/gone\n", "0::/../../outside\n"])
def test_without_a_quota_it_is_the_affinity(groups, tmp_path, own):
    groups("a/b/c", 1)
    (tmp_path / "own").unlink() if own is None else (tmp_path / "own").write_text(own)
    assert resources.processors() == 8


def test_threads_default_to_it(monkeypatch):
    gallery = [np.zeros((1, 4, 4, 4), np.float32)]
    assert Matcher(gallery).threads == resources.processors() <= ALLOWED
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5})
    monkeypatch.setattr(resources, "_quota", lambda: 64.0)
    assert Matcher(gallery).threads == 3


def test_a_process_has_resident_own_and_peak_memory():
    memory = resources.process_memory()
    assert memory == pytest.approx(resources.process_memory(os.getpid()), rel=0.05)
    assert 1e6 < memory.own_bytes < memory.resident_bytes <= memory.peak_bytes


def test_memory_that_the_system_does_not_tell_is_zero(monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "VmRSS:\t    2 kB\n")
    assert resources.process_memory() == (2048, 0, 0)
