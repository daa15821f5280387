"""What is live after kills at any moment.

Run as a script, this file is the process that kills writers: a process that forks must not have started a thread.
"""

import contextlib
import itertools
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from spadeline.engine.recipe.changes import set_calibration

from .changed_folders import BEFORE, CHANGES, create, furnished, held, names_in, tidy

ROOT = Path(__file__).resolve().parents[2]
KILLS, FEWEST_KILLS = 120, 20  # the wanted number, and the number that a slow disk must reach in KILLING_S
KILLING_S = 90.0
LONGEST_S = 600.0  # bound of a script's time, which depends on the disk, since a stop is made at each step


def run_as_script(task, folder, seed=0):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", "-m", "tests.recipe.test_kills", task, str(folder), str(seed)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=LONGEST_S, env=environment, check=False
    )
    assert done.returncode == 0, f"seed {seed}: {done.stderr}"
    return json.loads(done.stdout)


def in_child(change, folder, *, kill_after_s=None):
    """Change a folder in a forked child. Return its exit status, negative if it was killed, and how long it lived."""
    started = time.perf_counter()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            change(folder)
            os._exit(0)
        os._exit(1)
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), time.perf_counter() - started


def kill_at_random(root, seed):
    """Kill creations, in an empty folder and over a recipe, and every other change at random moments."""
    delays, counts = np.random.default_rng(seed), {"trials": 0, "kills": 0, "before": 0, "after": 0, "swept": 0}
    kinds = ("empty", *CHANGES)
    template, bare = furnished(root / "template", recipe=True), furnished(root / "bare", recipe=False)
    changes = {"empty": CHANGES["create"]} | CHANGES
    lengths_s = {}
    for kind in kinds:  # first without kills, to learn how long a change takes on this disk
        folder = shutil.copytree(bare if kind == "empty" else template, root / kind)
        status, length_s = in_child(changes[kind][0], folder)
        assert status == 0, kind
        lengths_s[kind] = [length_s]
    end_s = time.monotonic() + KILLING_S
    while counts["kills"] < KILLS and (time.monotonic() < end_s or counts["kills"] < FEWEST_KILLS):
        kind = kinds[counts["trials"] % len(kinds)]
        change, after = changes[kind]
        folder = shutil.copytree(bare if kind == "empty" else template, root / f"{counts['trials']}")
        before = held(folder)
        delay_s = delays.uniform(0, 1.1 * statistics.median(lengths_s[kind][-9:]))
        status, length_s = in_child(change, folder, kill_after_s=delay_s)
        assert status in (0, -signal.SIGKILL), (kind, status)
        if status == 0:
            lengths_s[kind].append(length_s)
        content = held(folder)
        assert content in ((before, after) if status else (after,)), (kind, status, delay_s, content)
        counts["trials"] += 1
        counts["kills"] += status != 0
        counts["before" if content == before else "after"] += 1
        counts["swept"] += not tidy(folder)
        if content is None:
            create(folder)
        else:
            set_calibration(folder, None)
        assert tidy(folder), (kind, delay_s, names_in(folder))
        shutil.rmtree(folder)
    return counts


def exit_at_each_step(root, _seed):
    """Stop each change before its 1st, 2nd, … system call that alters the disk, until one is complete."""
    steps = {}
    template = furnished(root / "template", recipe=True)
    for kind, (change, after) in CHANGES.items():
        if kind == "replace":  # it takes long, and has the steps of "create" but for one file
            continue
        outcomes = []
        while "through" not in outcomes:
            folder = shutil.copytree(template, root / f"{kind}-{len(outcomes)}")
            status, _ = in_child(stopping_before(len(outcomes), change), folder)
            content = held(folder)
            assert content in (BEFORE, after), (kind, len(outcomes), content)
            assert status in (0, 7), (kind, len(outcomes), status)
            outcomes.append("through" if status == 0 else "before" if content == BEFORE else "after")
            set_calibration(folder, None)
            assert tidy(folder), (kind, len(outcomes), names_in(folder))
        steps[kind] = outcomes
    return steps


def stopping_before(step, change):
    """Return the change, modified to end its process instead of its step-th system call that alters the disk."""
    calls = itertools.count()

    def stopping(call):
        def stop_or_call(*arguments, **options):
            if next(calls) == step:
                os._exit(7)
            return call(*arguments, **options)

        return stop_or_call

    def stopped(folder):
        for name in ("write", "fsync", "replace", "rename", "unlink", "remove", "mkdir", "rmdir"):
            setattr(os, name, stopping(getattr(os, name)))
        change(folder)

    return stopped


def test_kills_leave_the_recipe_before_or_after(tmp_path):
    seed = int(np.random.default_rng().integers(10**6))
    counts = run_as_script("kill_at_random", tmp_path, seed)
    sys.stdout.write(f"seed {seed}: {counts}\n")
    assert FEWEST_KILLS <= counts["kills"] <= KILLS
    # There must have been kills before and after the switch, or the test proves nothing.
    assert counts["swept"] > counts["kills"] // 10
    assert counts["before"] > counts["kills"] // 10
    assert counts["after"] > 0


def test_a_stop_before_any_system_call_leaves_the_recipe_before_or_after(tmp_path):
    for kind, outcomes in run_as_script("exit_at_each_step", tmp_path).items():
        # There is one switch, and it isn't undone.
        assert outcomes == sorted(outcomes, key=("before", "after", "through").index), kind
        assert outcomes.count("before") > 15, kind
        assert outcomes.count("after") > 2, kind


if __name__ == "__main__":
    task, root, seed = sys.argv[1:]
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a forking process must not have threads"
    json.dump(globals()[task](Path(root), int(seed)), sys.stdout)
