"""What the documents say of the project is so: links, names, fields, messages. The site itself: mkdocs build --strict."""

import ast
import importlib.util
import re
import string
from dataclasses import fields
from pathlib import Path

import pytest
import spadeline.engine
import spadeline.export
from spadeline.engine.calibration import Threshold
from spadeline.engine.files import StoredFile
from spadeline.engine.images.frame_facts import FrameFacts
from spadeline.engine.recipe.gallery import Geometry
from spadeline.engine.recipe.manifest import Manifest
from spadeline.engine.recipe.records import Calibration, ImageRecord
from spadeline.engine.recipe.tuning_record import TuningRecord
from spadeline.engine.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "SECURITY.md", "benchmarks/README.md", "csrc/README.md")),
    *sorted(DOCS.rglob("*.md")),
]


def hook(name):
    pytest.importorskip("mkdocs")
    spec = importlib.util.spec_from_file_location(name, DOCS / "hooks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def without_code(text):
    return re.sub(r"```.*?```|`[^`\n]*`", lambda code: "" if "\n" in code[0] else "code", text, flags=re.DOTALL)


def anchors(path):
    """Return what a code host makes of a document's headings."""
    kept = string.ascii_lowercase + string.digits + "-_ "
    headings = re.findall(r"^#+ (.*)", re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL), re.MULTILINE)
    return {
        "".join(letter for letter in heading.lower() if letter in kept or letter > "\x7f").replace(" ", "-")
        for heading in headings
    }


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(path.read_text("utf-8"))):
        if ":" in target:
            continue
        file, _, anchor = target.partition("#")
        linked = (path.parent / file).resolve() if file else path
        assert linked.is_file(), f"{path}: {target}"
        assert not anchor or anchor in anchors(linked), f"{path}: {target}"


def test_readme_is_read_in_minutes():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150


def test_every_page_is_in_the_navigation():
    listed = set(re.findall(r"([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    assert {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")} <= listed


def test_every_public_name_is_in_the_reference():
    shown = (DOCS / "reference" / "python.md").read_text("utf-8") + hook("generated").errors()
    for module in (spadeline.engine, spadeline.export):
        missing = [name for name in module.__all__ if f"`{name}`" not in shown and f".{name}\n" not in shown]
        assert missing == []


def test_the_recipe_format_has_every_field():
    text = (DOCS / "reference" / "recipe-format.md").read_text("utf-8")
    for kind in (Manifest, Geometry, StoredFile, Calibration, Threshold, ImageRecord, FrameFacts, TuningRecord):
        for field in fields(kind):
            assert f"`{field.name}`" in text, f"{kind.__name__}.{field.name}"


def test_messages_to_look_up_are_those_of_the_code():
    """All pieces of a quoted message stand in one text of the code, where … is what the code fills in."""
    texts = [text for folder in ("engine", "export", "command") for text in texts_of(ROOT / folder)]
    texts += native_texts_of(ROOT / "csrc")
    rows = re.findall(r"^\| (`.*?) \|", (DOCS / "troubleshooting.md").read_text("utf-8"), re.MULTILINE)
    messages = [message for row in rows for message in re.findall(r"`(.*?)`", row)]
    assert len(messages) > 50
    unknown = []
    for message in messages:
        pieces = [piece.strip() for piece in message.split("…")]
        if not any(all(piece in text for piece in pieces) for text in texts):
            unknown.append(message)
    assert unknown == []


def native_texts_of(folder):
    """Return the text of each statement in C++ that has one, without what it fills in."""
    statements = [piece for path in folder.rglob("*.[ch]pp") for piece in path.read_text("utf-8").split(";")]
    return ["".join(re.findall(r'"((?:[^"\\\n]|\\.)*)"', statement)) for statement in statements]


def texts_of(folder):
    """Yield every text in a folder's modules, with … in place of what f-strings fill in."""
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_modules_to_read_are_there():
    text = (DOCS / "how-it-works" / "code.md").read_text("utf-8")
    names = re.findall(r"`((?:engine|export|command|csrc|tests|docs|benchmarks)/[\w/.]*)`", text)
    assert len(names) > 40
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_links_out_of_the_documentation_fit_the_site():
    rewritten = hook("repository").rewritten
    assert rewritten("[x](../../csrc/README.md#a)", "how-to/gpu.md") == "[x](../repository/csrc.md#a)"
    assert rewritten("[x](../docs/how-to/gpu.md)", "repository/csrc.md") == "[x](../how-to/gpu.md)"
    assert rewritten("[x](../README.md)", "repository/csrc.md") == "[x](../index.md)"
    assert rewritten("[the file](../engine/errors.py) and", "index.md") == "the file and"
    for untouched in ("[x](nowhere.md)", "[x](https://example.com/a)", "![x](pictures/overlay.jpg)"):
        assert rewritten(untouched, "index.md") == untouched


def test_generated_pages_have_all_that_there_is():
    generated = hook("generated")
    commands = generated.commands()
    for text in (
        "## spadeline bench",
        "`--takt SECONDS`",
        "`--device auto or cpu or cuda` | `auto` |",
        "| 0.95 |",
        "| required |",
    ):
        assert text in commands
    settings = generated.settings()
    for field in fields(Settings):
        row = next(line for line in settings.splitlines() if line.startswith(f"| `{field.name}` |"))
        assert all(cell.strip() for cell in row.strip("|").split("|")), row
    assert '`"squared"`, `"root"`' in settings
    assert "| &emsp;&emsp;`DownloadError` |  | Pretrained weights" in generated.errors()


def test_roles_become_links_where_a_page_has_the_name():
    linked = hook("roles").linked
    assert linked("see :class:`.Detector`.") == "see [`Detector`][spadeline.engine.Detector]."
    assert linked(":meth:`.Detector.load`") == "[`Detector.load`][spadeline.engine.Detector.load]"
    assert linked(":mod:`.frame_check`") == "`frame_check`"
