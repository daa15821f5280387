from __future__ import annotations

import json
from dataclasses import replace

import pytest
from spadeline.engine.bench.bench_report import bench_text, throughput_parts, write_bench_page
from spadeline.engine.bench.documents import BenchDocument
from spadeline.engine.bench.takt import judge_takt, takt_sentence
from spadeline.engine.json_data import from_json, to_json

from ..pages.test_page import Page
from .example import STORED, a_bench, frame_latency, way


def test_a_document_is_the_json_that_was_stored_in_keys_and_values():
    document = from_json(BenchDocument, STORED)
    assert json.loads(json.dumps(to_json(document), allow_nan=False)) == STORED
    assert list(to_json(document)) == list(STORED)
    assert document.latency[0].percentiles_s()["p99.9"] == STORED["latency"][0]["p99.9_s"]


def test_documents_of_other_versions_are_read():
    """A key with a default may be missing, and unknown keys are passed over."""
    earlier = STORED | {"later": 1, "throughput": [{k: v for k, v in STORED["throughput"][0].items() if k != "depth"}]}
    del earlier["command"]
    document = from_json(BenchDocument, earlier)
    assert (document.command, document.throughput[0].depth) == ("", None)
    assert from_json(BenchDocument, without_needs(STORED)) == from_json(BenchDocument, STORED)
    with pytest.raises(KeyError, match="takt_s"):
        from_json(BenchDocument, {key: value for key, value in STORED.items() if key != "takt_s"})


def without_needs(document):
    """Return a document as it was written before there were needs and deadlines."""
    later = {"need", "deadline_s", "rounds", "neighbourhood", "undecided", "undecided_share", "passes"}
    if isinstance(document, dict):
        return {key: without_needs(value) for key, value in document.items() if key not in later}
    return [without_needs(part) for part in document] if isinstance(document, list) else document


def test_a_need_and_a_deadline_are_told_with_the_undecided_frames():
    assert "They are exact in everything (need map).\n" in bench_text(a_bench())
    times = replace(frame_latency(), undecided=7)
    batched = replace(way("predict_batch", 60.0, batch=8), undecided_share=0.25)
    text = bench_text(a_bench(need="label", deadline_s=0.02, latency=(times,), throughput=(batched,)))
    told = "exact in the label (need label), unless the deadline of 20.0 ms ended the search: 7 of 1,000 runs were undecided."
    assert told in " ".join(text.split())
    assert "25.0 %" in text
    assert "undecided" not in bench_text(a_bench(need="mask"))


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (a_bench(0.05), "The takt of 50.0 ms is met: all but 1 % of 1,000 runs took at most 40.0 ms, 20 % of it to spare (median 20.0 ms)."),
        (a_bench(0.04), "The takt of 40.0 ms is met: all but 1 % of 1,000 runs took at most 40.0 ms, 0 % of it to spare (median 20.0 ms)."),
        (a_bench(0.025), "The takt of 25.0 ms is missed: all but 1 % of 1,000 runs took up to 40.0 ms, 1.60 times the takt (median 20.0 ms). The median is within it: look at what makes the slow ones slow. A stream keeps up with it, 70.0 frames a second, if a result may come later than the next part."),
        (a_bench(0.01), "The takt of 10.0 ms is missed: all but 1 % of 1,000 runs took up to 40.0 ms, 4.00 times the takt (median 20.0 ms). A stream doesn't keep up with it either: 70.0 frames a second."),
        (a_bench(0.01, throughput=()), "The takt of 10.0 ms is missed: all but 1 % of 1,000 runs took up to 40.0 ms, 4.00 times the takt (median 20.0 ms)."),
        (a_bench(0.05, latency=(frame_latency(p99=None),)), "The takt of 50.0 ms is met: the slowest of 1,000 runs took at most 50.0 ms, 0 % of it to spare (median 20.0 ms)."),
        (a_bench(), "From the camera's frame to the result: 20.0 ms (median); all but 1 % of 1,000 runs took at most 40.0 ms. A takt of that or more is met; --takt SECONDS judges yours."),
    ],
)  # fmt: skip
def test_the_verdict_on_a_takt(document, said):
    assert takt_sentence(document) == said


@pytest.mark.parametrize(
    ("document", "judged"),
    [
        (a_bench(0.05), {"percentile": 99, "seconds": 0.04, "met": True, "met_by_stream": True}),
        (a_bench(0.025), {"percentile": 99, "seconds": 0.04, "met": False, "met_by_stream": True}),
        (a_bench(0.01), {"percentile": 99, "seconds": 0.04, "met": False, "met_by_stream": False}),
        (a_bench(0.05, throughput=()), {"percentile": 99, "seconds": 0.04, "met": True, "met_by_stream": None}),
        (a_bench(latency=(frame_latency(p99=None),)), {"percentile": 100, "seconds": 0.05, "met": None, "met_by_stream": None}),
    ],
)  # fmt: skip
def test_the_verdict_as_figures(document, judged):
    assert to_json(judge_takt(document)) == judged


def test_a_bench_page_has_what_an_engineer_asks(tmp_path):
    document = a_bench(0.05)
    write_bench_page(tmp_path / "bench.html", document)
    page = Page(tmp_path / "bench.html")
    said = [
        "Is nuts fast enough here?", takt_sentence(document), "3 frames (frames) of 256 x 320", "spadeline bench nuts frames",
        "from the prepared frame", "too few runs for this percentile", "50 %", "Take int8.", "Frames differ.",
        "predict_batch", "2 x 1", "start to first result, s", "0.600", "400", "k gallery", document.environment.processor,
    ]  # fmt: skip
    places = [page.text.index(text) for text in said]
    assert places[:6] == sorted(places[:6])
    assert "takt 50.0 ms" in page.text
    assert "The frames were drawn" not in page.text
    assert len(page.all("svg")) == 3


def test_drawn_frames_are_said_loudly(tmp_path):
    document = a_bench()
    document = replace(document, frames=replace(document.frames, source="drawn", drawn=True))
    write_bench_page(tmp_path / "bench.html", document)
    assert bench_text(document).startswith("The frames were drawn, not taken by a camera")
    page = Page(tmp_path / "bench.html")
    notice = next(i for i, (_, attributes) in enumerate(page.tags) if attributes.get("class") == "notice")
    assert "The frames were drawn, not taken by a camera" in page.text
    assert notice < next(i for i, (tag, _) in enumerate(page.tags) if tag == "svg")


def test_columns_that_nobody_fills_are_left_out():
    _, table = throughput_parts(a_bench().throughput[:1])
    assert table.head == ["mode", "threads", "frames/s"]
