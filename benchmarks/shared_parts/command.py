"""What the command lines of all benchmarks share: parser, lines about the machine, report, errors in one sentence."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spadeline.engine.environment import environment
from spadeline.engine.errors import SpadelineError
from spadeline.engine.json_data import to_json

if TYPE_CHECKING:
    from page_parts.chapter import Chapter


def new_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser whose help begins with a script's docstring, with the option --json."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(usage="%(prog)s [options]", description=description, formatter_class=formatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="all figures, with the machine and the versions")
    return parser


def check_files(parser: argparse.ArgumentParser, *files: Path | None) -> None:
    """End the run before the work if a folder of the files to write doesn't exist."""
    for path in files:
        if path is not None and not path.absolute().parent.is_dir():
            parser.error(f"expected a folder that exists, got {path}")


def begin(benchmark: str, threads: int) -> dict[str, Any]:
    """Print the machine and the versions; return a report's first keys: benchmark, command, environment."""
    facts = to_json(environment(threads))
    print("{processor}, {cores} cores, {threads} threads, {date}".format(**facts))
    print(", ".join(f"{name} {version}" for name, version in facts["versions"].items()))
    return {"benchmark": benchmark, "command": shlex.join(["python", *sys.argv]), "environment": facts}


def write(document: dict[str, Any], path: Path | None) -> None:
    """Write a report as JSON, if a file was asked for."""
    if path is not None:
        path.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n")


def show(chapter: Callable[[Mapping[str, Any]], Chapter], document: Mapping[str, Any]) -> None:
    """Print a report's chapter of the page, made from the report as its file holds it."""
    print(f"\n{chapter(to_json(document)).text()}")


def run(main: Callable[[], None]) -> None:
    """Run a benchmark; print an error as one sentence after the script's name."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as for Ctrl-C, so that temporary files are removed
    try:
        main()
    except SpadelineError as error:
        raise SystemExit(f"{Path(sys.argv[0]).name}: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit(f"{Path(sys.argv[0]).name}: interrupted") from None
