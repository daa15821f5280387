"""benchmarks/embed.py with the library that these tests build."""

import json

import pytest

from page_parts import sections

from ..benchmarks.scripts import run

pytestmark = pytest.mark.xdist_group("door")


@pytest.fixture(autouse=True)
def _without_sanitizers(sanitizers):
    if sanitizers:
        pytest.skip("the program has a malloc() of its own, and so has the address sanitizer")


def test_a_short_run(installed, tmp_path, parts, extractor_path):
    options = ("--data", parts, "--extractor", extractor_path, "--threads", 2, "--frames", 50, "--inspectors", 1, 2)
    written = ("--rate-seconds", 0.1, "--json", tmp_path / "embed.json")
    done = run("--installed", installed, *options, *written, script="embed.py")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads((tmp_path / "embed.json").read_text())
    (result,) = document["results"]
    rows = {(row["need"], row["group"]): row for row in result["rows"]}
    assert list(rows) == [(need, group) for need in ("label", "map") for group in ("good", "defective")]
    for row in rows.values():
        assert row["frames"] == 4
        runs = {name: figures["latency"]["runs"] for name, figures in row["contestants"].items()}
        assert runs == {"C++": 50, "Python": 50, "backbone alone": 48}
        for name in ("C++", "Python"):
            figures = row["contestants"][name]
            assert list(figures["stages_s"]) == ["prepare", "extract", "retrieve", "match", "map", "rest"]
            assert 0 < sum(figures["stages_s"].values()) < 2 * figures["latency"]["p50_s"]
    sides = [(row["need"], row["inspectors"]) for row in result["throughput"]]
    assert sides == [("label", 1), ("map", 1), ("label", 2), ("map", 2)]
    for row in result["throughput"]:
        assert row["frames_per_s"] > 10
        assert 1e7 < row["resident_bytes"] < 1e9
    for counted in result["allocations"].values():
        assert counted["library"] == 0
        assert counted["all"] > 0  # ONNX Runtime's
    assert "From C++ a frame's label takes " in done.stdout
    tables = sections.chapter(document, "embed").tables
    assert list(tables) == ["latency", "stages", "throughput", "allocations"]
    assert [row[:5] for row in tables["latency"].rows[:3]] == [
        ("parts0", "averages", "label", "good", name) for name in ("C++", "Python", "backbone alone")
    ]
    assert [len(table.rows) for table in tables.values()] == [12, 8, 4, 2]


def test_a_recipe_that_the_library_refuses_is_one_sentence(installed, tmp_path, recipe_folder):
    from embed_parts import program

    built = program.build(installed, tmp_path / "build")
    (tmp_path / "frames").write_bytes(b"")
    with (
        pytest.raises(program.ProgramError, match=r"^embed: .*frames: expected frames, got none$"),
        program.start(built, recipe_folder, tmp_path / "frames", inspectors=1, threads=1),
    ):
        pass
