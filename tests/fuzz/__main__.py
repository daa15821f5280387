"""Fuzz targets for a chosen time.

    python -m tests.fuzz                          # all targets, a minute each
    python -m tests.fuzz images --seconds 14400   # one target, for four hours
    python -m tests.fuzz images --case FILE       # one case, such as one that was kept

Run it from the repository's root, with spadeline installed. The target door compares the C library with Python; it needs
the environment variable SPADELINE_LIBRARY_FILE, which names libspadeline.so. Exit code 1: an attempt failed, and its case
is kept.
"""

import argparse
import contextlib
import importlib
import os
import secrets
import sys
import tempfile
from pathlib import Path

from . import harness

NEEDED = {"door": "SPADELINE_LIBRARY_FILE"}  # the environment variable that a target needs


def main():
    options = _options()
    sys.path += harness.PATHS
    if options.case:
        raise SystemExit(_again(options.targets[0], options.case))
    seed = secrets.randbelow(2**32) if options.seed is None else options.seed
    keep = options.keep or Path(tempfile.mkdtemp(prefix="spadeline-fuzz-"))
    keep.mkdir(parents=True, exist_ok=True)
    print(f"seed {seed}; {options.seconds:g} s for each of {', '.join(options.targets)}; failures are kept in {keep}")
    tallies = []
    for target in options.targets:
        _say(f"{target} …")
        module = f"{__package__}.{target}"
        tallies.append(harness.fuzz(module, keep, seed=seed, seconds=options.seconds, say=_say))
        _say(tallies[-1])
    attempts = sum(sum(tally.kinds.values()) for tally in tallies)
    failures = sum(len(tally.failures) for tally in tallies)
    print(f"{len(tallies)} targets, {attempts:,} attempts, {failures} sorts of failures")
    with contextlib.suppress(OSError):  # the folder may not be empty
        keep.rmdir()
    raise SystemExit(failures > 0)


def _say(what):
    print(what, flush=True)


def _again(target, case):
    """Attempt one case, print the outcome, and return whether it failed."""
    module = f"{__package__}.{target}"
    with (
        tempfile.TemporaryDirectory(prefix="spadeline-fuzz-") as work,
        harness.Worker(module, importlib.import_module(module), Path(work)) as worker,
    ):
        outcome = worker.attempt(case.absolute())
    print(f"{outcome.kind}, {outcome.where}\n{outcome.detail}")
    return outcome.failed


def _options():
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__, formatter_class=formatter)
    known = harness.targets()
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(known)}; default: all")
    parser.add_argument("--seconds", type=float, default=60.0, metavar="S", help="for each target (default: 60)")
    parser.add_argument("--seed", type=int, metavar="N", help="of the random changes; default: drawn, and printed")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="for failures' cases; default: a temporary one")
    parser.add_argument("--case", type=Path, metavar="PATH", help="attempt this case of one target alone, and say all")
    options = parser.parse_args()
    if unknown := sorted(set(options.targets) - set(known)):
        parser.error(f"expected targets of {', '.join(known)}, got {', '.join(unknown)}")
    if options.case and len(options.targets) != 1:
        parser.error(f"--case: expected one target with it, got {len(options.targets)}")
    unset = {name: variable for name, variable in NEEDED.items() if not os.environ.get(variable)}
    for name in set(options.targets) & set(unset):
        parser.error(f"{name}: expected the environment variable {unset[name]} to name a file, got none")
    options.targets = options.targets or [name for name in known if name not in unset]
    return options


if __name__ == "__main__":
    main()
