"""Fuzzers of everything that spadeline reads. ``python -m tests.fuzz`` runs them, and ``test_fuzz.py`` for seconds.

Each module of this folder other than ``harness``, ``worker``, ``mutations`` and ``__main__`` is a target. It has exactly
these names:

    SECONDS: float                               # longest time of one attempt
    MEMORY_BYTES: int                            # most memory that one attempt may add to the process
    def corpus(folder: Path) -> None             # writes seeds, files or folders, each named after what it once broke
    def mutate(rng, case: Path, target: Path)    # writes a changed copy of a seed to a path that doesn't exist
    def attempt(case: Path) -> None              # returns or raises SpadelineError, and leaves the case as it is

Imports stand at the top of the module. In the first attempt, they would count as its time and memory.
"""
