from __future__ import annotations

import importlib
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from spadeline.engine.environment import environment
from spadeline.engine.errors import InputError
from spadeline.engine.json_data import to_json
from spadeline.engine.pages.markdown import markdown
from spadeline.engine.pages.terminal_text import table_text

import page
from page_parts import sections
from page_parts.matcher_details import runs_table

from ..bench.example import STORED, a_bench, frame_latency
from ..pages.test_page import Page
from .scripts import BENCHMARKS, SMALL, run

README = BENCHMARKS.parent / "README.md"
RESULTS = BENCHMARKS / "results"


@pytest.fixture(scope="module")
def matched(tmp_path_factory):
    """The matcher's own document, of drawn features that defeat pruning."""
    path = tmp_path_factory.mktemp("matched") / "matcher.json"
    done = run(*SMALL, "-K", 2, 4, "--features", "random", "--peers", "numpy", "--memory", "--json", path)
    assert done.returncode == 0, done.stderr
    return path


def saved(folder, name, document):
    path = folder / f"{name}.json"
    path.write_text(json.dumps(document))
    return path


def made(*arguments):
    command = [sys.executable, str(BENCHMARKS / "page.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def latency(p50_s):
    return to_json(frame_latency(p50_s))


def a_contest():
    shares = {"image_rocauc": 0.95, "image_rocauc_by_map": 1.0, "image_rocauc_by_embedding": None, "aupro_0.3": 0.88}
    sizes = {"model_bytes": 7e7, "peak_bytes": 9e8, "frames_per_s": 10.0, "difference_to_spadeline": None}
    rows = [
        {"name": name, "pixel_rocauc": pixel, "latency": latency(seconds)} | shares | sizes
        for name, pixel, seconds in (("spadeline", 0.992, 0.03), ("PatchCore", 0.985, 0.2), ("PaDiM", 0.968, 0.07))
    ]
    about = {
        "images": 50,
        "gallery_images": 50,
        "frames": 10,
        "input_size": [224, 224],
        "backbone": "resnet18",
        "weights": "random",
        "peers": {},
    }
    result = about | {"rows": rows, "left_out": {"SPADE, torch": "it ran out of memory"}}
    return {
        "benchmark": "detectors",
        "command": "python x",
        "environment": to_json(environment(2)),
        "results": [result],
    }


def test_one_page_of_several_documents(tmp_path, matched):
    bench = saved(tmp_path, "nuts", to_json(a_bench(0.05)))
    again = saved(tmp_path, "again", json.loads(matched.read_text()))
    done = made(again, matched, bench, "--html", tmp_path / "page.html")
    assert done.returncode == 0, done.stderr
    seen = Page(tmp_path / "page.html")
    heads = ["Recipe nuts", "The matcher (matcher)", "The matcher (again)", "Environment"]
    assert [seen.text.index(head) for head in heads] == sorted(seen.text.index(head) for head in heads)
    assert "nuts: The takt of 50.0 ms is met" in seen.text
    assert json.loads(matched.read_text())["command"] in " ".join(seen.text.split())
    for text in (
        "Time against K: random features, input 32, kappa = 2",
        "slope",
        "Where pruning fails",
        "NumPy matmul",
    ):
        assert text in seen.text
    assert "K = 4, kappa = 2" in seen.text
    ids = [attributes["id"] for _, attributes in seen.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_the_matchers_table_has_medians_ratios_and_slowest_queries():
    def row(name, median_s, **others):
        worst = {"query": "a", "median_s": 2 * median_s}
        if "against_yardstick" in others:
            worst["against_yardstick"] = others["against_yardstick"] / 2
        spread = {"min_s": median_s / 2, "max_s": 1.5 * median_s, "runs": 50}
        return {"name": name, "median_s": median_s, "queries": 10, "worst": worst} | spread | others

    result = {
        "features": "real", "size": 224, "images": 50, "real_images": 50, "kappa": 1, "queries": 10, "yardstick": "faiss",
        "rows": [row("pruned avx2", 0.0184, against_yardstick=291.7), row("faiss", 5.36, against_yardstick=1.0)],
        "left_out": {"torch": "it ran out of memory"}, "bytes": {"float32": {"levels": 2e8, "codes": 5e7}},
    }  # fmt: skip
    document = {"benchmark": "matcher", "command": "python x", "results": [result], "growth": []}
    found = sections.chapter(document, "m")
    assert markdown(found.tables["times"]).splitlines() == [
        "|  | K = 50, kappa = 1 |",
        "| --- | ---: |",
        "| pruned avx2 | 18.4 ms, 292 × |",
        "| pruned avx2, slowest query | 36.8 ms, 146 × |",
        "| faiss | 5.36 s, 1.0 × |",
        "",
        "×: speed relative to faiss. Medians over 10 queries. torch: left out, it ran out of memory.",
    ]
    assert found.tables["brief"].rows == [("spadeline, pruned path", "18.4 ms, 292 ×"), ("faiss", "5.36 s, 1.0 ×")]
    assert found.finding == (
        "The matcher finds the nearest of all pixels of 50 images in 18.4 ms, 292 × the speed of faiss, with the same distances."
    )
    *_, row, _, note = table_text(runs_table([result])).splitlines()
    assert row.split()[-5:] == ["a", "36.8", "ms", "146", "×"]
    assert note.endswith(
        "The yardstick's times spread widely: its ratios mean little; measure again on a machine without load."
    )


def test_detectors_have_accuracy_beside_speed_and_say_who_is_left_out():
    found = sections.chapter(a_contest(), "d")
    assert found.finding == (
        "With resnet18 spadeline takes 30.0 ms a frame at a pixel ROCAUC of 0.992; "
        "PaDiM, the fastest other, 70.0 ms a frame at a pixel ROCAUC of 0.968."
    )
    lines = markdown(found.tables["detectors"]).splitlines()
    assert lines[3].startswith("| PatchCore | 0.950 | 1.000 | – | 0.985 | 0.880 | 200 |")
    assert lines[-1] == "SPADE, torch: left out, it ran out of memory."
    assert markdown(found.tables["brief"]).splitlines()[3] == "| PatchCore | 0.950 | 0.985 | 0.880 | 200 |"


@pytest.mark.parametrize("measured", [False, True])
def test_a_gpus_times_by_both_clocks_and_its_chain(measured):
    clocks = {
        "wall_s": {"p50": 0.004, "p95": 0.005, "p99": 0.006},
        "device_s": {"p50": 0.002, "p95": 0.003, "p99": 0.003},
    }
    rows = [
        {"name": "pruned", "runs": 9, "yardstick_per_wall": 3.0, "yardstick_per_device": 4.0} | clocks,
        {"name": "torch fp32", "runs": 9, "wall_s": clocks["wall_s"]},
    ]
    result = {
        "features": "real",
        "images": 50,
        "kappa": 1,
        "batch": 8,
        "size": 224,
        "real_images": 50,
        "storage": "float16",
        "queries": 10,
        "rows": rows,
        "left_out": {"torch fp16": "it overflows"},
    }
    chain = {"not_measured": "there are no images"}
    if measured:
        walls = {"p50": 0.005, "p95": 0.006, "p99": 0.007, "max": 0.009}
        ran = dict.fromkeys(
            ("chain", "images", "backbone", "weights", "precision", "extractor", "matcher", "matcher_device"), "x"
        )
        chain = {
            "wall_s": walls,
            "frames_per_s": 250.0,
            "stages_s": {"extract": 0.003, "match": 0.001},
            "runs": 9,
            "batch": 8,
            "detector": ran,
        }
    document = {
        "benchmark": "gpu",
        "command": "python x",
        "gpu": {"architecture": "sm_90", "name": "A GPU"},
        "results": [result],
    }
    found = sections.chapter(document | {"chain": chain}, "gpu")
    assert found.tables["times"].rows == [
        ["real", 50, 1, 8, 224, "pruned", 2.0, 3.0, 3.0, "4.0 ×", 4.0, 5.0, 6.0, "3.0 ×", 9],
        ["real", 50, 1, 8, 224, "torch fp32", None, None, None, None, 4.0, 5.0, 6.0, None, 9],
    ]
    assert found.tables["times"].note == (
        "Features in float16, 10 queries. Up to 50 images are as taken. Ratios to torch fp16. Exact: share of the neighbours that are the nearest. "
        "torch fp16: left out, it overflows."
    )
    if measured:
        assert found.finding == "On the A GPU a frame takes 5.00 ms, p99 7.00 ms."
        assert found.tables["chain"].rows == [("extract", 3.0), ("match", 1.0)]
    else:
        assert found.section.text == "Built for sm_90.\n\nThe chain wasn't measured: there are no images."


def test_an_extractors_speed_and_what_int8_costs():
    rows = [
        {"network": "models/thin.onnx", "precision": precision, "threads": 2, "input_size": [224, 224], "file_bytes": 2e7,
         "provider": "CPUExecutionProvider", "provider_times_s": {}, "latency": latency(seconds), "float32_per_this": 0.03 / seconds}
        for precision, seconds in (("float32", 0.03), ("int8", 0.01))
    ]  # fmt: skip
    rows[1] |= {
        "calibration_images": 50,
        "map_correlation": 0.9987,
        "rocauc": {"pixel_rocauc": {"float32": 0.9917, "int8": 0.9915}},
    }
    found = sections.chapter({"benchmark": "extractor", "command": "python x", "results": rows}, "e")
    assert found.finding == "In int8 on 2 threads, against float32: thin 10.0 ms, 3.0 ×."
    assert found.tables["cost"].rows == [("thin", 50, "0.9987", "0.9917 → 0.9915")]
    assert found.tables["times"].rows[1][:5] == ("thin", "int8", 2, "224 × 224", 10.0)


def test_the_frame_check_s_finds_are_added_and_its_false_alarms_are_shares():
    def found(images, **counts):
        return {"extractor": "resnet18", "images": images, "frame": "black", "frames": 2, "reasons": {}} | counts

    alarms = [
        {"extractor": "resnet18", "images": "nuts", "learnt_from": count, "normal_images": 50, "share": {"any": share}}
        for count, share in ((10, 0.0125), (40, 0.0))
    ]
    document = {
        "benchmark": "frame_check", "command": "python x", "false_alarms": alarms,
        "found": [found("nuts", map=0, either=1, check=2), found("bolts", map=1, either=2, check=2)],
    }  # fmt: skip
    tables = sections.chapter(document, "f").tables
    assert tables["found"].rows == [("black", 4, 1, 3, 4)]
    assert tables["found"].note == "Sums over products (2) and networks (1)."
    assert tables["false_alarms"].head[1:] == ("learnt from 10", "learnt from 40")
    assert tables["false_alarms"].rows == [("nuts, resnet18", "1.25%", "0.00%")]
    assert set(sections.chapter(document | {"found": []}, "f").tables) == {"false_alarms"}


def test_environments_that_differ_say_where():
    one = to_json(environment(1))
    other = one | {"threads": 2, "versions": one["versions"] | {"torch": "9.9"}}
    shared = page.common({"a": one, "b": other})
    assert shared["processor"] == one["processor"]
    assert shared["threads"] == {"a": 1, "b": 2}
    assert shared["torch"]["b"] == "9.9"
    assert "versions" not in shared


def test_a_fact_that_one_document_lacks_is_not_shared():
    one = to_json(environment(1))
    other = one | {"versions": {name: version for name, version in one["versions"].items() if name != "numpy"}}
    shared = page.common({"a": one, "b": other})
    assert shared["numpy"] == {"a": one["versions"]["numpy"]}
    assert shared["python"] == one["versions"]["python"]


def test_extractors_of_one_name_have_tables_each():
    figures = {
        "image_rocauc_by_image_score": 0.9,
        "image_rocauc_by_map_score": 0.9,
        "pixel_rocauc": 0.9,
        "aupro_0.3": 0.9,
    }
    files = ["a/net.onnx", "b/net.onnx", "c/other.onnx"]
    facts = {"backbone": "x", "weights": "x", "precision": "float32", "provider": "CPU", "input_size": [224, 224]}
    point = {"data": "nuts", "protocol": "paper", "knob": None, "value": None}
    document = {
        "benchmark": "accuracy", "command": "python x", "extractors": [facts | {"file": file} for file in files],
        "data": [{"name": "nuts", "missing": [], "classes": {}, "left_out": {}}],
        "results": [point | {"extractor": file, "class": "nuts", "figures": figures, "not_computed": {}} for file in files],
        "means": [point | {"extractor": file, "figures": figures} for file in files],
        "paper": {"source": "x", "extractor": "x", "pixel_rocauc": {}, "figures": figures},
    }  # fmt: skip
    tables = sections.chapter(document, "accuracy").tables
    assert list(tables) == ["nuts-paper-a/net", "nuts-paper-b/net", "nuts-paper-other"]


def test_a_bench_from_python_has_no_command():
    document = {key: value for key, value in STORED.items() if key != "command"}
    assert sections.chapter(document, "bench").section.command == ""


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ('{"benchmark": "other"}', "x: expected a document of one of bench, pipeline, "),
        ("[]", "got None as its benchmark"),
        ('{"benchmark": "matcher"}', "x: expected a document as matcher.py writes it, got KeyError('results')"),
        ("{", "x.json: expected a benchmark's JSON document, got: "),
    ],
)
def test_what_no_benchmark_wrote_is_named(tmp_path, content, text):
    (tmp_path / "x.json").write_text(content)
    done = made(tmp_path / "x.json", "--html", tmp_path / "page.html")
    assert done.returncode != 0
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ([], "expected --html, --into or --tables, got none"),
        (["--html", "x", "--check"], "--check: expected --into with it, got none"),
        (["nowhere.json", "--tables"], "nowhere.json: expected a benchmark's JSON document, got: "),
    ],
)
def test_options_that_make_no_sense(options, text):
    done = made(*options)
    assert done.returncode != 0
    assert text in done.stderr


def test_two_files_of_one_name(tmp_path):
    with pytest.raises(InputError, match=r"b/x.json: expected names that differ, got x twice$"):
        page.read([saved(tmp_path, "x", {}), Path(tmp_path, "b", "x.json")])


def test_no_documents_at_all():
    with pytest.raises(InputError, match=r"^documents: expected at least one, got none, neither named nor in "):
        page.read([])


def test_a_files_tables_are_made_anew(tmp_path, matched):
    file = tmp_path / "README.md"
    file.write_text("Before\n<!-- table: matcher/times -->\n| old |\n<!-- end -->\nAfter | the table |\n")
    checked = made(matched, "--into", file, "--check")
    assert checked.returncode == 1
    assert f"{file}: differs from the documents: matcher/times" in checked.stderr
    assert "| old |" in file.read_text()
    assert made(matched, "--into", file).returncode == 0
    text = file.read_text()
    table = sections.chapter(json.loads(matched.read_text()), "matcher").tables["times"]
    assert text == f"Before\n<!-- table: matcher/times -->\n{markdown(table)}\n<!-- end -->\nAfter | the table |\n"
    assert made(matched, "--into", file, "--check").returncode == 0
    assert made(matched, "--into", tmp_path, "--check").returncode == 0
    assert made(matched, "--tables").stdout.splitlines() == ["matcher/times", "matcher/worst-case", "matcher/memory"]


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path, matched):
    done = made(matched, "--into", tmp_path / "README.md")
    assert done.returncode == 1
    assert done.stderr.startswith(f"page.py: {tmp_path / 'README.md'}: expected a Markdown file, got: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- table: x/y -->\n<!-- end -->\n", "R: expected a table of none, got x/y"),
        ("<!-- table: x/y -->\n", "R: expected an end for each of 1 tables, got 0"),
        ("<!-- table: x/y -->\n<!-- table: x/z -->\n<!-- end -->\n", "R: expected a table of none, got x/z"),
    ],
)
def test_markers_that_mean_nothing(text, message):
    with pytest.raises(InputError) as caught:
        page.with_tables(text, {}, "R")
    assert str(caught.value) == message


def test_a_marker_within_a_sentence_is_none():
    text = "A table stands between `<!-- table: FILE/NAME -->` and `<!-- end -->`.\n"
    assert page.with_tables(text, {}, "R") == (text, [])


def test_the_projects_own_tables_are_those_of_its_documents():
    names = sorted(RESULTS.glob("*.json"))
    documents = page.read(names) if names else {}
    chapters = {name: sections.chapter(document, name) for name, document in documents.items()}
    known = page.tables(chapters)
    for path in page.markdown_files([README, README.with_name("docs"), BENCHMARKS / "README.md"]):
        _, differing = page.with_tables(path.read_text(encoding="utf-8"), known, path.name)
        assert differing == []


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_the_commands_of_the_projects_documents_are_still_understood(path, monkeypatch, tmp_path):
    python, script, *options = shlex.split(json.loads(path.read_text())["command"])
    assert python == "python"
    assert (BENCHMARKS.parent / script).is_file()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [script, *options])
    benchmark = importlib.import_module(Path(script).stem)
    if hasattr(benchmark, "instruction_sets"):  # as on the machine that measured
        monkeypatch.setattr(benchmark, "instruction_sets", lambda: ("avx512vnni", "avx512", "avx2", "scalar"))
    assert benchmark._options().json == Path(options[options.index("--json") + 1])
