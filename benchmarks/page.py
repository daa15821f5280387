"""One page of all benchmarks' documents, and the tables of README and docs/ from the same ones.

    python benchmarks/page.py --html benchmarks.html                # of benchmarks/results/*.json
    python benchmarks/page.py --into README.md --into docs          # writes the tables anew
    python benchmarks/page.py --into README.md --into docs --check  # says which differ

A Markdown file's table stands between `<!-- table: FILE/NAME -->` and `<!-- end -->`. FILE is a document's name without
.json, and NAME one of its tables'; `--tables` lists them. Nothing is measured here.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from spadeline.engine.errors import InputError
from spadeline.engine.pages.markdown import markdown
from spadeline.engine.pages.page import write_page
from spadeline.engine.pages.sections import Section, Table

from page_parts.chapter import Chapter
from page_parts.sections import KINDS, chapter
from shared_parts import command

RESULTS = Path(__file__).with_name("results")
_OPENING = re.compile(r"^<!-- table: ", re.MULTILINE)
_MARKED = re.compile(
    r"^(<!-- table: (?P<name>\S+) -->\n)(?:(?!<!-- table: ).)*?^(<!-- end -->)$", re.MULTILINE | re.DOTALL
)


def main() -> None:
    """Write the page and the tables that were asked for; exit with 1 if --check finds tables that differ."""
    options = _options()
    documents = read(options.documents or sorted(RESULTS.glob("*.json")))
    chapters = {name: chapter(document, name) for name, document in documents.items()}
    if options.html is not None:
        write(options.html, documents, chapters)
    if options.tables:
        print("\n".join(tables(chapters)))
    for path in markdown_files(options.into):
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: expected a Markdown file, got: {error}") from error
        renewed, differing = with_tables(text, tables(chapters), path.name)
        if differing and options.check:
            raise SystemExit(f"{path}: differs from the documents: {', '.join(differing)}; run page.py --into {path}")
        if differing:
            path.write_text(renewed, encoding="utf-8")


def markdown_files(paths: Sequence[Path]) -> list[Path]:
    """Return the files among the paths, and the Markdown files below the folders among them."""
    return [file for path in paths for file in (sorted(path.rglob("*.md")) if path.is_dir() else [path])]


def read(paths: Sequence[Path]) -> dict[str, Any]:
    """Return documents by their files' names without .json, in the page's order.

    Raises
    ------
    InputError
        No documents, two files of one name, or a file that isn't JSON.
    """
    if not paths:
        raise InputError(f"documents: expected at least one, got none, neither named nor in {RESULTS}")
    documents: dict[str, Any] = {}
    for path in paths:
        if path.stem in documents:
            raise InputError(f"{path}: expected names that differ, got {path.stem} twice")
        try:
            documents[path.stem] = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: expected a benchmark's JSON document, got: {error}") from error
    order = list(KINDS)

    def position(name: str) -> tuple[int, bool]:
        kind = documents[name].get("benchmark") if isinstance(documents[name], Mapping) else None
        return order.index(kind) if kind in order else 0, name != kind  # first the one that is named like its kind

    return {name: documents[name] for name in sorted(documents, key=position)}


def write(path: Path, documents: Mapping[str, Any], chapters: Mapping[str, Chapter]) -> None:
    """Write the page."""
    titles = [made.section.title for made in chapters.values()]
    sections: list[Section] = [
        replace(made.section, title=f"{made.section.title} ({name})")
        if titles.count(made.section.title) > 1
        else made.section
        for name, made in chapters.items()
    ]
    findings = [made.finding for made in chapters.values() if made.finding]
    write_page(
        path,
        title="spadeline: benchmarks",
        lead="\n\n".join(dict.fromkeys(findings)) or "Measured on the machine below.",
        sections=sections,
        environment=common({name: document["environment"] for name, document in documents.items()}),
    )


def common(environments: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return shared facts by key, and other facts by key and document; each version is a fact of its own."""
    flat = {
        name: {key: value for key, value in environment.items() if key != "versions"} | environment["versions"]
        for name, environment in environments.items()
    }
    shared: dict[str, Any] = {}
    for key in dict.fromkeys(key for facts in flat.values() for key in facts):
        values = {name: facts[key] for name, facts in flat.items() if key in facts}
        alike = len(values) == len(flat) and len(set(map(str, values.values()))) == 1
        shared[key] = next(iter(values.values())) if alike else values
    return shared


def tables(chapters: Mapping[str, Chapter]) -> dict[str, Table]:
    """Return the tables that a Markdown file may take, by the names that its markers have."""
    return {f"{file}/{name}": table for file, made in chapters.items() for name, table in made.tables.items()}


def with_tables(text: str, known: Mapping[str, Table], file: str) -> tuple[str, list[str]]:
    """Return a file's text with each marked table made anew, and the names of those that differed.

    Raises
    ------
    InputError
        A marker that nothing ends, or that names no known table.
    """
    differing = []

    def renewed(found: re.Match[str]) -> str:
        name = found["name"]
        if name not in known:
            raise InputError(f"{file}: expected a table of {', '.join(known) or 'none'}, got {name}")
        made = f"{found[1]}{markdown(known[name])}\n{found[3]}"
        if made != found[0]:
            differing.append(name)
        return made

    done, count = _MARKED.subn(renewed, text)
    if (markers := len(_OPENING.findall(text))) != count:
        raise InputError(f"{file}: expected an end for each of {markers} tables, got {count}")
    return done, differing


def _options() -> argparse.Namespace:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("documents", nargs="*", type=Path, metavar="FILE.json", help="default: those in results/")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the page")
    parser.add_argument(
        "--into",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="renew the tables of a Markdown file or folder",
    )
    parser.add_argument("--check", action="store_true", help="with --into: only say which tables differ")
    parser.add_argument("--tables", action="store_true", help="list the tables that a Markdown file may take")
    options = parser.parse_args()
    if options.html is None and not options.into and not options.tables:
        parser.error("expected --html, --into or --tables, got none")
    if options.check and not options.into:
        parser.error("--check: expected --into with it, got none")
    return options


if __name__ == "__main__":
    command.run(main)
