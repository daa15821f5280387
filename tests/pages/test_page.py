from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from spadeline.engine.bench.bench_page import throughput_parts, write_bench_page
from spadeline.engine.bench.takt import judge, verdict
from spadeline.engine.environment import environment
from spadeline.engine.errors import DependencyError, InputError, OutputError
from spadeline.engine.pages.page import Chart, Section, Table, cell_text, markdown, plain, write_page
from spadeline.engine.pages.speed_charts import bar_chart

HOSTILE = "<script>alert(1)</script>&\"'"
VOID = {"meta", "br", "img", "path", "use", "rect"}


class Page(HTMLParser):
    """What a browser would see: tags with their attributes, the text, and what isn't closed."""

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
    facts = {"title": "Speed", "lead": "The takt is met.", "environment": environment(2)} | others
    write_page(path, sections=sections, **facts)
    return Page(path)


def a_section(name="Latency", **others):
    table = Table(
        f"{name} table", ("who", "p50, ms", "remark"), [("ours", 18.4, "x"), ("theirs", None, "y")], "A note."
    )
    chart = Chart(f"{name} chart", bar_chart({"ours": 2.0, "theirs": 1.0}, label="Bars", unit="frames a second"))
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
    assert environment(2)["processor"] in page.text
    assert re.search(r"memory\s*[\d.]+ GB", page.text)


def test_a_page_can_be_walked_with_keys_and_heard(tmp_path):
    page = written(tmp_path, a_section("Latency"), a_section("Memory"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))  # both charts are one drawing
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
    chart = Chart(HOSTILE, bar_chart({HOSTILE: 1.0}, label=HOSTILE, unit=HOSTILE), HOSTILE)
    section = Section(HOSTILE, HOSTILE, HOSTILE, [table, chart])
    page = written(
        tmp_path, section, title=HOSTILE, lead=HOSTILE, notices=[HOSTILE], environment={HOSTILE: {HOSTILE: HOSTILE}}
    )
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count("<script>") >= 17
    assert page.all("svg")[0]["aria-label"] == HOSTILE


def test_names_that_no_text_file_can_hold(tmp_path):
    chart = Chart("x", bar_chart({"a\udcffb": 1.0, "玉 $x$": 2.0}, label="x", unit="x"))
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
    """Linux has no name for it there."""
    files = {"/proc/cpuinfo": "processor\t: 0\nCPU part\t: 0xd42\n", "/proc/device-tree/model": "Jetson Orin\0"}

    def read_text(self, **_):
        if str(self) not in files:
            raise FileNotFoundError(str(self))
        return files[str(self)]

    monkeypatch.setattr(Path, "read_text", read_text)
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert environment(1)["processor"] == "Jetson Orin"
    del files["/proc/device-tree/model"]
    assert environment(1)["processor"] == "aarch64"
    files.clear()
    assert environment(1)["processor"] == "aarch64"


def latency(p50=0.02, p99: float | None = 0.04, longest=0.05, **others):
    figures = {"runs": 1000, "mean_s": p50, "std_s": 0.001, "min_s": p50 / 2, "p50_s": p50, "p95_s": p50 * 1.5}
    stages = {"prepare": 0.001, "extract": 0.01, "retrieve": 0.001, "match": 0.007, "map": 0.001}
    stages_s = {stage: {"p50_s": seconds, "mean_s": seconds} for stage, seconds in stages.items()}
    tail = {"p99_s": p99, "p99.9_s": None, "max_s": longest}
    return figures | tail | {"from": "camera frame", "stages_s": stages_s} | others


def a_bench(takt_s=None, **others):
    return {
        "benchmark": "bench", "command": "spadeline bench nuts frames", "environment": environment(2), "takt_s": takt_s,
        "recipe": {"name": "nuts", "images": 50, "input_size": [224, 224], "backbone": "resnet18", "precision": "int8",
                   "settings": {"k_gallery": 50, "window": None}},
        "detector": {"recipe": "nuts", "matcher": "pruned", "split": None},
        "frames": {"count": 3, "drawn": False, "source": "frames", "names": ["a", "b", "c"], "sizes": [[256, 320]]},
        "latency": [latency(), latency(**{"from": "prepared frame"})],
        "throughput": [
            {"mode": "predict", "batch": None, "split": None, "threads": 2, "frames_per_s": 50.0},
            {"mode": "predict_batch", "batch": 8, "split": None, "threads": 2, "frames_per_s": 60.0},
            {"mode": "stream", "batch": None, "split": {"workers": 2, "threads_each": 1}, "threads": 2, "frames_per_s": 70.0},
        ],
        "start": {"import_s": 0.3, "load_s": 0.2, "first_result_s": 0.1, "process_to_first_result_s": 0.6,
                  "resident_bytes": 3 * 10**8, "peak_bytes": 4 * 10**8},
        "advice": [{"stage": "extract", "share": 0.5, "text": "Take int8."}, {"stage": "tail", "share": None, "text": "Frames differ."}],
    } | others  # fmt: skip


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (a_bench(0.05), "The takt of 50.0 ms is met: all but 1 % of 1,000 runs took at most 40.0 ms, 20 % of it to spare (median 20.0 ms)."),
        (a_bench(0.04), "The takt of 40.0 ms is met: all but 1 % of 1,000 runs took at most 40.0 ms, 0 % of it to spare (median 20.0 ms)."),
        (a_bench(0.025), "The takt of 25.0 ms is missed: all but 1 % of 1,000 runs took up to 40.0 ms, 1.60 times the takt (median 20.0 ms). The median is within it: look at what makes the slow ones slow. A stream keeps up with it, 70.0 frames a second, if a result may come later than the next part."),
        (a_bench(0.01), "The takt of 10.0 ms is missed: all but 1 % of 1,000 runs took up to 40.0 ms, 4.00 times the takt (median 20.0 ms). Nor does a stream keep up with it: 70.0 frames a second."),
        (a_bench(0.01, throughput=[]), "The takt of 10.0 ms is missed: all but 1 % of 1,000 runs took up to 40.0 ms, 4.00 times the takt (median 20.0 ms)."),
        (a_bench(0.05, latency=[latency(p99=None)]), "The takt of 50.0 ms is met: the slowest of 1,000 runs took at most 50.0 ms, 0 % of it to spare (median 20.0 ms)."),
        (a_bench(), "From the camera's frame to the result: 20.0 ms (median); all but 1 % of 1,000 runs took at most 40.0 ms. A takt of that or more is met; --takt SECONDS judges yours."),
    ],
)  # fmt: skip
def test_the_verdict_on_a_takt(document, said):
    assert verdict(document) == said


@pytest.mark.parametrize(
    ("document", "judged"),
    [
        (a_bench(0.05), {"percentile": 99, "seconds": 0.04, "met": True, "met_by_stream": True}),
        (a_bench(0.025), {"percentile": 99, "seconds": 0.04, "met": False, "met_by_stream": True}),
        (a_bench(0.01), {"percentile": 99, "seconds": 0.04, "met": False, "met_by_stream": False}),
        (a_bench(0.05, throughput=[]), {"percentile": 99, "seconds": 0.04, "met": True, "met_by_stream": None}),
        (a_bench(latency=[latency(p99=None)]), {"percentile": 100, "seconds": 0.05, "met": None, "met_by_stream": None}),
    ],
)  # fmt: skip
def test_the_verdict_as_figures(document, judged):
    assert judge(document) == judged


def test_a_bench_page_has_what_an_engineer_asks(tmp_path):
    document = a_bench(0.05)
    write_bench_page(tmp_path / "bench.html", document)
    page = Page(tmp_path / "bench.html")
    said = [
        "Is nuts fast enough here?", verdict(document), "3 frames (frames) of 256 x 320", "spadeline bench nuts frames",
        "from the prepared frame", "too few runs for this percentile", "50 %", "Take int8.", "Frames differ.",
        "predict_batch", "2 x 1", "start to first result, s", "0.600", "400", "k gallery", environment(2)["processor"],
    ]  # fmt: skip
    places = [page.text.index(text) for text in said]
    assert places[:6] == sorted(places[:6])
    assert "takt 50.0 ms" in page.text
    assert "The frames were drawn" not in page.text
    assert len(page.all("svg")) == 3


def test_drawn_frames_are_said_loudly(tmp_path):
    document = a_bench()
    write_bench_page(
        tmp_path / "bench.html", document | {"frames": document["frames"] | {"source": "drawn", "drawn": True}}
    )
    page = Page(tmp_path / "bench.html")
    notice = next(i for i, (_, attributes) in enumerate(page.tags) if attributes.get("class") == "notice")
    assert "The frames were drawn, not taken by a camera" in page.text
    assert notice < next(i for i, (tag, _) in enumerate(page.tags) if tag == "svg")


def test_columns_that_nobody_fills_are_left_out():
    _, table = throughput_parts(a_bench()["throughput"][:1])
    assert table.head == ["mode", "threads", "frames/s"]
