from __future__ import annotations

import re
import sys
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import pytest
from spadeline.engine.environment import environment
from spadeline.engine.errors import DependencyError, InputError, OutputError
from spadeline.engine.json_data import to_json
from spadeline.engine.pages.markdown import markdown
from spadeline.engine.pages.page import write_page
from spadeline.engine.pages.sections import Chart, Section, Table, cell_text, plain
from spadeline.engine.pages.speed_charts import bar_chart
from spadeline.engine.pages.terminal_text import table_text, terminal_text

HOSTILE = "<script>alert(1)</script>&\"'"
VOID = {"meta", "br", "img", "path", "use", "rect"}


class Page(HTMLParser):
    """What a browser would see: tags with their attributes, the text, and tags that are still open."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.text, self.open = [], "", []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def written(tmp_path, *sections, **others):
    path = tmp_path / "page.html"
    facts = {"title": "Speed", "lead": "The takt is met.", "environment": to_json(environment(2))} | others
    write_page(path, sections=sections, **facts)
    return Page(path)


def a_section(name="Latency", **others):
    table = Table(
        f"{name} table", ("who", "p50, ms", "remark"), [("ours", 18.4, "x"), ("theirs", None, "y")], "A note."
    )
    chart = Chart(
        f"{name} chart", partial(bar_chart, {"ours": 2.0, "theirs": 1.0}, label="Bars", unit="frames a second")
    )
    return Section(
        **{"title": name, "text": "One.\n\nTwo.", "command": "spadeline bench r", "parts": [chart, table]} | others
    )


def test_a_page_loads_and_runs_nothing(tmp_path):
    page = written(tmp_path, a_section())
    names = {tag for tag, _ in page.tags}
    assert {"svg", "table", "nav"} <= names
    assert not names & {"script", "link", "iframe", "object", "base", "form"}
    assert page.open == []
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith("#")
        assert not any(name.startswith("on") for name in attributes)
    assert "url(http" not in page.source
    assert "@import" not in page.source
    assert "default-src 'none'" in page.source


def test_a_page_says_what_it_is_given_in_order(tmp_path):
    page = written(tmp_path, a_section("Latency"), a_section("Memory"), notices=["DRAWN FRAMES"])
    said = [
        "Speed",
        "DRAWN FRAMES",
        "The takt is met.",
        "One.",
        "Two.",
        "spadeline bench r",
        "18.4",
        "A note.",
        "python:",
    ]
    places = [page.text.index(text) for text in said]
    assert places == sorted(places)
    assert page.all("html")[0]["lang"] == "en"
    assert environment(2).processor in page.text
    assert re.search(r"memory\s*[\d.]+ GB", page.text)


def test_a_page_can_be_walked_with_keys_and_heard(tmp_path):
    page = written(tmp_path, a_section("Latency"), a_section("Memory"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))  # though both charts are the same drawing
    links = [link["href"].removeprefix("#") for link in page.all("a")]
    assert links == ["section-1", "section-2", "environment"]
    assert set(links) <= set(ids)
    assert all(section["aria-labelledby"] in ids for section in page.all("section"))
    assert all(drawing["role"] == "img" and drawing["aria-label"] for drawing in page.all("svg"))
    scrolling = [box for box in page.all("div") if "scroll" in box.get("class", "")]
    assert len(scrolling) == len(page.all("table")) == len(page.all("caption"))
    assert all(box["tabindex"] == "0" and box["aria-label"] for box in scrolling)
    assert all(cell.get("scope") in ("row", "col") for cell in page.all("th"))


def test_clips_and_markers_point_into_their_own_drawing(tmp_path):
    page = written(tmp_path, a_section("Latency"), a_section("Memory"))
    for drawing in re.findall(r"<svg.*?</svg>", page.source, re.DOTALL):
        own = set(re.findall(r'\bid="([^"]+)"', drawing))
        referred = set(re.findall(r'(?:url\(#|href="#)([^")]+)', drawing))
        assert referred
        assert referred <= own


def test_light_dark_paper_and_telephones_are_provided_for(tmp_path):
    source = written(tmp_path, a_section()).source
    light, dark = (
        set(re.findall(r"--[a-z0-9-]+(?=:)", part)) for part in source.split("prefers-color-scheme: dark")[:2]
    )
    assert light == dark
    used = set(re.findall(r"var\((--[a-z0-9-]+)\)", source))
    assert used <= light
    assert "@media print" in source
    assert "width=device-width" in source
    assert not re.search(r"#0\d0\d0\d|#1\d1\d1\d", source.split("</style>")[1])


def test_what_comes_from_outside_is_escaped(tmp_path):
    table = Table(HOSTILE, (HOSTILE, "b"), [(HOSTILE, HOSTILE)], HOSTILE)
    chart = Chart(HOSTILE, partial(bar_chart, {HOSTILE: 1.0}, label=HOSTILE, unit=HOSTILE), HOSTILE)
    section = Section(HOSTILE, HOSTILE, HOSTILE, [table, chart])
    page = written(
        tmp_path, section, title=HOSTILE, lead=HOSTILE, notices=[HOSTILE], environment={HOSTILE: {HOSTILE: HOSTILE}}
    )
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count("<script>") >= 17
    assert page.all("svg")[0]["aria-label"] == HOSTILE


def test_names_that_no_text_file_can_hold(tmp_path):
    chart = Chart("x", partial(bar_chart, {"a\udcffb": 1.0, "玉 $x$": 2.0}, label="x", unit="x"))
    page = written(tmp_path, Section("a\udcff", "", "", [chart]))
    assert "a?" in page.text
    assert "玉 $x$" in page.text


def test_numbers_are_aligned_right_and_names_are_not(tmp_path):
    table = Table(
        "t", ("K", "ms", "with unit", "text", "empty"), [(1, 2.5, "3 ms, 4 ×", "5 a", None), (2, 3, None, "b", None)]
    )
    page = written(tmp_path, Section("s", "", "", [table]))
    head = page.source[page.source.index("<thead") : page.source.index("</thead")]
    assert re.findall(r"<th scope=\"col\"( class=\"n\")?>(.*?)</th>", head) == [
        ("", "K"), (' class="n"', "ms"), (' class="n"', "with unit"), ("", "text"), (' class="n"', "empty"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (None, "–"),
        ("x", "x"),
        (1234, "1,234"),
        (18.4321, "18.4"),
        (0.5, "0.500"),
        (120.3, "120"),
        (5432.1, "5,432"),
        (0.0, "0.00"),
    ],
)
def test_cells_have_three_digits(cell, text):
    assert cell_text(cell) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        ("x_y", "x_y"),
        (True, "yes"),
        (1234, "1234"),
        (4.0, "4"),
        (0.123456, "0.1235"),
        ([], "–"),
        ({}, "–"),
        ((224, 320), "224, 320"),
        ({"layer1": [256, 56, 56], "layer2": [512, 28, 28]}, "layer1: (256, 56, 56), layer2: (512, 28, 28)"),
        (
            {"workers": 2, "threads_each": 1, "measured": [{"workers": 1, "frames_per_s": 45.678}]},
            "workers: 2, threads each: 1, measured: ((workers: 1, frames per s: 45.68))",
        ),
        ({"measured": []}, "measured: –"),
    ],
)
def test_facts_are_plain(value, text):
    assert plain(value) == text


def test_markdown_has_the_same_cells_and_no_marks_of_its_own():
    table = Table("t", ("", "a|b"), [("x_y*", 1.5), ("two\nlines", None)], "No <b>, `c` nor [d].")
    assert markdown(table).splitlines() == [
        "|  | a\\|b |",
        "| --- | ---: |",
        "| x\\_y\\* | 1.50 |",
        "| two lines | – |",
        "",
        "No \\<b>, \\`c\\` nor \\[d].",
    ]


def test_a_terminal_gets_the_same_cells_in_columns():
    table = Table("Times", ("", "ms", "remark"), [("ours", 1.5, "two\nlines"), ("theirs, too", None, None)], "–: none.")
    assert table_text(table).splitlines() == [
        "Times:",
        "                 ms  remark",
        "  ours         1.50  two lines",
        "  theirs, too     -  -",
        "  -: none.",
    ]


def test_a_terminal_gets_the_sections_without_charts_and_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    facts = Table("Facts", ("", ""), [("K", "3"), ("size", "x")])
    text = terminal_text([a_section(), Section("Facts", "", "", [facts, Table("t", ("a", "b"), [])])])
    assert text.splitlines() == [
        "Latency",
        "One.",
        "Two.",
        "Latency table:",
        "  who     p50, ms  remark",
        "  ours       18.4  x",
        "  theirs        -  y",
        "  A note.",
        "",
        "Facts",
        "  K     3",
        "  size  x",
    ]


def test_columns_that_nobody_fills_are_left_out():
    table = Table("t", ("a", "b", "c"), [(1, None, 2), (3, None, None)], "n").without_empty_columns()
    assert (table.head, table.rows, table.note) == (["a", "c"], [[1, 2], [3, None]], "n")


def test_a_table_without_rows_is_still_one(tmp_path):
    table = Table("t", ("a", "b"), [])
    assert markdown(table) == "| a | b |\n| --- | --- |"
    written(tmp_path, Section("s", "", "", [table]))


def test_rows_of_another_length_are_refused():
    with pytest.raises(InputError, match=r"^rows: expected 2 cells, got 1: \['x'\]$"):
        Table("t", ("a", "b"), [["x"]])


def test_a_page_that_can_not_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file/page.html: can't be written: "):
        write_page(tmp_path / "file" / "page.html", title="t", lead="l", sections=[], environment={})


def test_without_jinja2(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(DependencyError, match=r"^jinja2 is not installed: pip install 'spadeline\[eval\]'$"):
        written(tmp_path)


def test_a_processors_name_on_arm_is_the_boards_or_the_architectures(monkeypatch):
    """On Arm, Linux has no name for the processor."""
    files = {"/proc/cpuinfo": "processor\t: 0\nCPU part\t: 0xd42\n", "/proc/device-tree/model": "Jetson Orin\0"}

    def read_text(self, **_):
        if str(self) not in files:
            raise FileNotFoundError(str(self))
        return files[str(self)]

    monkeypatch.setattr(Path, "read_text", read_text)
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert environment(1).processor == "Jetson Orin"
    del files["/proc/device-tree/model"]
    assert environment(1).processor == "aarch64"
    files.clear()
    assert environment(1).processor == "aarch64"
