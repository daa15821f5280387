"""One matcher alone in a process: its peak memory, and its instructions under callgrind.

It maps the gallery's files, as a detector maps a recipe's, from a folder that :func:`save` has written. This command
matches the folder's queries in turns and prints the process's memory as JSON:

    python alone.py FOLDER --path pruned --instruction-set avx2 --threads 1 --kappa 1 --matches 2
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from spadeline.engine.match.codes import LevelCodes
from spadeline.engine.match.matcher import Matcher
from spadeline.engine.resources import process_memory

if TYPE_CHECKING:
    from matcher_parts.features import Levels
    from matcher_parts.ours import OurPath, Stored

COUNTED = 2  # matches after the first, which also allocates the workspaces


def main() -> None:
    """Run the matcher, and print the memory that it took."""
    parser = argparse.ArgumentParser(description="One matcher alone, on a gallery that benchmarks/matcher.py saved.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--path", required=True)
    parser.add_argument("--instruction-set", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--kappa", type=int, required=True)
    parser.add_argument("--matches", type=int, required=True)
    options = parser.parse_args()
    stages = {"imported": process_memory()._asdict()}
    sizes = [tuple(size) for size in json.loads((options.folder / "sizes.json").read_text())]
    cells = [np.load(options.folder / f"cells-{level}.npy", mmap_mode="r") for level in range(len(sizes))]
    matcher = Matcher.from_cells(
        cells,
        sizes,
        codes=[_load_codes(options.folder, level) for level in range(len(sizes))],
        threads=options.threads,
        path=options.path,
        instruction_set=options.instruction_set,
    )
    count = len(list(options.folder.glob("query-*-0.npy")))
    queries = [
        [np.load(options.folder / f"query-{i}-{level}.npy") for level in range(len(sizes))] for i in range(count)
    ]
    out = (np.empty(sizes[0]), np.empty((*sizes[0], options.kappa, 3), np.int32))
    stages["opened"] = process_memory()._asdict()
    for index in range(options.matches):
        matcher.match(queries[index % count], range(len(cells[0])), kappa=options.kappa, out=out)
        if index == 0:
            stages["matched_once"] = process_memory()._asdict()
    stages["matched"] = process_memory()._asdict()
    print(json.dumps(stages))


def _load_codes(folder: Path, level: int) -> LevelCodes:
    def load(name: str) -> Any:
        path = folder / f"{name}-{level}.npy"
        return np.load(path, mmap_mode="r") if path.exists() else None

    return LevelCodes(load("basis"), load("projected"), load("rotated"))


def save(folder: Path, stored: Stored, queries: list[Levels]) -> None:
    """Write a gallery with its codes, and queries, for a process of its own."""
    (folder / "sizes.json").write_text(json.dumps(stored.sizes))
    for level, (cells, codes) in enumerate(zip(stored.cells, stored.codes, strict=True)):
        np.save(folder / f"cells-{level}.npy", cells)
        for name in ("basis", "projected", "rotated"):
            array = getattr(codes, name)
            if array is not None:
                np.save(folder / f"{name}-{level}.npy", array)
    for index, query in enumerate(queries):
        for level, features in enumerate(query):
            np.save(folder / f"query-{index}-{level}.npy", features)


def memory(folder: Path, path: OurPath, instruction_set: str, *, threads: int, kappa: int) -> dict[str, Any]:
    """Match every query of the folder in a process of its own and return its memory.

    ``imported_bytes`` is the most that was resident before the gallery was opened; ``peak_bytes`` is the most until the
    end, with those of the gallery's pages that were read. ``grown_bytes`` is what the matches after the first added to
    the memory that belongs to no file.
    """
    matches = len(list(folder.glob("query-*-0.npy")))
    stages = json.loads(_run([], folder, path, instruction_set, threads, kappa, matches))
    return {
        "imported_bytes": stages["imported"]["peak_bytes"],
        "peak_bytes": stages["matched"]["peak_bytes"],
        "grown_bytes": stages["matched"]["own_bytes"] - stages["matched_once"]["own_bytes"],
    }


def instructions(folder: Path, instruction_set: str, *, kappa: int) -> int:
    """Return the instructions of one pruned match of the folder's query, on one thread, by callgrind.

    Two runs are counted, one with ``COUNTED`` more matches: the difference holds nothing else.
    """
    counts = []
    for matches in (1, 1 + COUNTED):
        report = folder / "callgrind.out"
        valgrind = ["valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={report}"]
        _run(valgrind, folder, "pruned", instruction_set, 1, kappa, matches)
        counts.append(int(re.findall(r"^(?:totals|summary): (\d+)", report.read_text(), re.MULTILINE)[-1]))
    return (counts[1] - counts[0]) // COUNTED


def _run(
    before: list[str], folder: Path, path: str, instruction_set: str, threads: int, kappa: int, matches: int
) -> str:
    options = {"path": path, "instruction-set": instruction_set, "threads": threads, "kappa": kappa, "matches": matches}
    arguments = [f"--{name}={value}" for name, value in options.items()]
    # Other hashes in each run would change how many instructions Python itself takes.
    environment = os.environ | {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*before, sys.executable, __file__, str(folder), *arguments],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise SystemExit(
            f"{Path(__file__).name}: {done.stderr.strip().splitlines()[-1] if done.stderr else done.returncode}"
        )
    return done.stdout


if __name__ == "__main__":
    main()
