"""Fuzzers of everything that spadeline reads: run by ``python -m tests.fuzz``, and for seconds by ``test_fuzz.py``.

Every other module of this folder than ``harness``, ``worker``, ``mutations`` and ``__main__`` is a target. It offers
exactly these names:

    SECONDS: float                               # the most that one attempt may take
    MEMORY_BYTES: int                            # the most that one attempt may add to the process's memory
    def corpus(folder: Path) -> None             # writes seeds, files or folders, each named after what it once broke
    def mutate(rng, case: Path, target: Path)    # writes a changed copy of a seed to a path that isn't there
    def attempt(case: Path) -> None              # returns or raises SpadelineError; leaves the case as it is

What an attempt imports stands at the top of its module: within the first attempt it would count as that one's time
and memory.
"""
