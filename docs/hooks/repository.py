"""Links from the site to the rest of the repository: documents that lie elsewhere become pages, other files plain text.

The same relative links work on a code host, where the repository itself is browsed. A link to nothing is left as it
is, so that ``mkdocs build --strict`` refuses it.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

# Documents outside docs/, and what the site calls them.
PAGES = {
    "CHANGELOG.md": "repository/changelog.md",
    "SECURITY.md": "repository/security.md",
    "benchmarks/README.md": "repository/benchmarks.md",
    "csrc/README.md": "repository/csrc.md",
}
ROOT = Path(__file__).resolve().parents[2]
_LINK = re.compile(r"(?<!!)\[(?P<text>[^\]\n]*)\]\((?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the documents outside docs/."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Make a page's links to the repository's files fit the site."""
    return rewritten(markdown, page.file.src_uri)


def rewritten(markdown: str, page: str) -> str:
    """Return a page's text with its links to files outside docs/ made to fit the site.

    Parameters
    ----------
    page
        The page's path in the site, as ``how-to/gpu.md``.
    """
    sources = {to: source for source, to in PAGES.items()}
    own = sources.get(page, f"docs/{page}")  # where the text lies in the repository

    def changed(link: re.Match[str]) -> str:
        if ":" in link["target"]:
            return link[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(own), link["target"]))
        if target == "README.md":
            place = "index.md"
        elif target in PAGES:
            place = PAGES[target]
        elif target.startswith("docs/"):
            place = target.removeprefix("docs/")
        elif (ROOT / target).exists():
            return link["text"]
        else:
            return link[0]
        return f"[{link['text']}]({posixpath.relpath(place, posixpath.dirname(page) or '.')}{link['anchor'] or ''})"

    return _LINK.sub(changed, markdown)
