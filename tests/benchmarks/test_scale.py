"""Archives: a run of the script, equality, rates of workers side by side, and the plan on paper."""

import json
import types

import pytest

from page_parts import sections
from scale_parts import contest
from scale_parts.archive import write_copies
from scale_parts.plain import Verdict
from scale_parts.plan import DRIVER, READING, WITH_MAPS, WRITING, plans
from scale_parts.spans import Span, steady_rate

from .scripts import run

REGION = (9, (0, 0, 3, 3), (1, 1), 0.5)


@pytest.mark.ray
@pytest.mark.xdist_group("ray")
def test_a_small_run(tmp_path, parts, extractor_path):
    pytest.importorskip("ray")
    pytest.importorskip("faiss")
    small = ("--workers", 1, "--need", "label", "--images", 32, "--repeats", 1, "--driver-images", 1024)
    plan = ("--gallery", 14, "--bad", 0.25, "--price", 0.5, "--json", tmp_path / "scale.json")
    done = run("--data", parts, "--extractor", extractor_path, *small, *plan, script="scale.py")
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads((tmp_path / "scale.json").read_text())
    (result,) = document["results"]
    alone, rays = result["rates"]
    assert [(row["need"], row["kind"], row["workers"]) for row in (alone, rays)] == [
        ("label", "plain", 1),
        ("label", "Ray", 1),
    ]
    assert min(alone["images_per_s"] + rays["images_per_s"]) > 0
    (whole,), (before,), (after,) = (rays[name] for name in ("whole_s", "before_s", "after_s"))
    assert 0 < before + after < whole
    (stages,) = result["stages"]
    assert stages["images"] == 32
    driver = result["driver"]
    assert driver["images_per_s"] > 0
    assert 0 < driver["writing_s_per_image"] < 1 / driver["images_per_s"]
    assert result["memory"]["gallery_images"] == 14
    assert [(row["gallery"], row["kind"]) for row in result["memory"]["rows"]] == [
        ("mapped", "Ray"),
        ("memory", "Ray"),
        ("mapped", "plain"),
    ]
    for row in result["memory"]["rows"]:
        (worker,) = row["each"]
        assert worker["resident_bytes"] >= worker["proportional_bytes"] > 1e7
        assert worker["resident_bytes"] > worker["own_bytes"] > 1e7
    (plan,) = result["plans"]
    assert plan["cost"] == 0.5 * plan["cores"]
    assert plan["cores"] == pytest.approx(1e6 / 3600 / rays["images_per_s"][0])
    assert set(sections.chapter(document, "scale").tables) == {
        "rates",
        "overhead",
        "stages",
        "memory",
        "plan",
        "resources",
    }
    assert "Before, all rows were found equal to Detector.predict's, to the last bit." in done.stdout


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"label": False}, "expected the label of Detector.predict, True, got False"),
        (
            {"pred_score": 2.0000000000000004},
            "expected the pred_score of Detector.predict, 2.0, got 2.0000000000000004",
        ),
        ({"image_score": 0.0}, "expected the image_score"),
        ({"map_score": None}, "expected the map_score"),
        ({"regions": ()}, "expected the regions"),
    ],
)
def test_another_verdict_ends_the_run(change, text):
    truth = {"a.png": Verdict(True, 2.0, 1.0, 2.0, (REGION,)), "b.png": Verdict(False, 1.0, 1.0, 1.0, ())}
    contest.check(truth, dict(truth), "Ray")
    with pytest.raises(SystemExit, match=f"^Ray: a.png: {text}.*no rate is worth reporting$"):
        contest.check(truth, truth | {"a.png": truth["a.png"]._replace(**change)}, "Ray")


@pytest.mark.parametrize("found", [{}, {"a.png": 1, "b.png": 1}])
def test_a_row_that_is_missing_or_too_many_ends_the_run(found):
    with pytest.raises(SystemExit, match=r"^Ray: expected a row for each image, got none or too many for 1 of them$"):
        contest.check({"a.png": 1}, found, "Ray")


def test_a_rate_counts_the_time_in_which_all_workers_are_busy():
    one = [Span(0, 2, 10), Span(2, 4, 10), Span(4, 6, 10)]
    late = [Span(3, 5, 4), Span(5, 9, 8)]
    assert steady_rate({1: one}) == 5
    # From 3 to 6: a half of one's second batch and its third one; all of the other's first and a quarter of its second.
    assert steady_rate({1: one, 2: late}) == pytest.approx((5 + 10 + 4 + 2) / 3)
    with pytest.raises(SystemExit, match="take more images"):
        steady_rate({1: one, 2: [Span(6, 7, 1)]})


def test_an_archive_has_its_share_of_defective_images_throughout(tmp_path):
    frames = []
    for name, label in (("g0", False), ("g1", False), ("b0", True)):
        path = tmp_path / f"{name}.png"
        path.write_text(name)
        frames.append(types.SimpleNamespace(path=path, label=label))
    paths = write_copies(frames, tmp_path / "archive", 8, bad_share=0.25)
    assert [path.read_text() for path in paths] == ["g0", "g1", "g0", "b0", "g1", "g0", "g1", "b0"]
    assert paths == sorted(paths)
    good = write_copies(frames[:2], tmp_path / "good", 3, bad_share=0.9)
    assert [path.read_text() for path in good] == ["g0", "g1", "g0"]
    bad = write_copies(frames[2:], tmp_path / "bad", 2, bad_share=0.1)
    assert [path.read_text() for path in bad] == ["b0", "b0"]


def a_result():
    def row(kind, workers, *images_per_s):
        return {"need": "label", "kind": kind, "workers": workers, "images_per_s": list(images_per_s)}

    around = {"before_s": [5.0], "after_s": [1.0], "whole_images_per_s": [40.0], "written_bytes_per_image": [125.0]}
    stages = {
        "read": 1,
        "decode": 2,
        "prepare": 0.5,
        "extract": 4,
        "retrieve": 0.5,
        "match": 1,
        "map": 0.5,
        "rest": 0.5,
    }
    each = [
        {"resident_bytes": 500e6, "own_bytes": 200e6, "proportional_bytes": 350e6},
        {"resident_bytes": 510e6, "own_bytes": 210e6, "proportional_bytes": 360e6},
    ]
    return {
        "data": "nuts",
        "network": "net",
        "archive": {"images": 400, "bad_share": 0.1, "bytes_per_image": 125_000.0},
        "rates": [
            row("plain", 1, 100.0, 80.0, 100.0),
            row("Ray", 1, 90.0, 80.0, 110.0) | around,
            row("plain", 2, 180.0, 160.0, 190.0),
            row("Ray", 2, 160.0, 128.0, 150.0) | around,
        ],
        "stages": [{"need": "label", "images": 400, "seconds": {name: 1e-3 * ms for name, ms in stages.items()}}],
        "driver": {
            "images_per_s": 2000.0,
            "own_s_per_image": 4e-4,
            "writing_s_per_image": 1e-5,
            "map_bytes_per_image": 250_000.0,
        },
        "memory": {
            "gallery_images": 5000,
            "rows": [{"gallery": "mapped", "kind": "Ray", "workers": 2, "each": each}],
            "left_out": {"memory, 2 workers": "they don't fit"},
        },
    }


def test_the_plan_on_paper():
    (plan,) = plans(a_result(), link_gbit=1.0, price=0.04)
    # Of the repeats' efficiencies, 160/200, 128/160 and 150/200, the median is 0.8; one process takes 10 ms.
    assert plan["core_s_per_image"] == pytest.approx(0.01)
    assert plan["efficiency"] == pytest.approx(0.8)
    assert plan["cores"] == pytest.approx(1e6 / 3600 * 0.01 / 0.8)
    assert plan["cost"] == pytest.approx(0.04 * plan["cores"])
    parts = {"decoding": 0.3, "backbone": 0.4, "search": 0.2}
    assert plan["cores_by_part"] == pytest.approx({name: share * plan["cores"] for name, share in parts.items()})
    full_at = {row["name"]: row["full_at"] for row in plan["resources"]}
    expected = {READING: 3.6e6, WRITING: 3.6e9, WITH_MAPS: 1.8e6, DRIVER: 7.2e6}  # 1 ms, 1 us, 2 ms, 0.5 ms an image
    assert full_at == pytest.approx(expected)
    assert plan["first"] == READING
    assert plan["own_bytes"] == 4 * 210e6
    (faster,) = plans(a_result(), link_gbit=10.0, price=None)
    assert faster["first"] == DRIVER
    assert faster["cost"] is None


def test_the_tables():
    result = a_result()
    result["plans"] = plans(result, link_gbit=1.0, price=None)
    document = {
        "benchmark": "scale",
        "command": "python x",
        "environment": {"processor": "a Chip"},
        "results": [result],
    }
    found = sections.chapter(document, "scale")
    assert found.finding == (
        "1,000,000 images an hour take 3.5 cores of a Chip (nuts, net, label), at an efficiency of 0.80 with 2 workers "
        "here. What is full first is the link that brings the files, at 3,600,000 images an hour."
    )
    subject = ("nuts", "net", "label")
    assert found.tables["rates"].rows[1] == (
        *(*subject, 2, "648,000", "540,000"),
        *("0.95 (0.90–1.00)", "0.80 (0.75–0.80)", "0.80 (0.79–0.89)"),
    )
    # One process takes 10 ms; two 11.11 each, and Ray's two 13.33.
    assert found.tables["overhead"].rows[1] == (*subject, 2, "10.00", "1.11", "2.22", 5.0, 1.0, "144,000")
    memory = ("nuts", "net", "5,000", "mapped", "Ray", 2, "510", "210", "300", "710")
    assert found.tables["memory"].rows == [memory]
    assert found.tables["memory"].note.endswith("memory, 2 workers: left out, they don't fit.")
    assert found.tables["plan"].head[-1] == "their workers' own memory, GB"  # no price, no cost
    assert found.tables["plan"].rows == [[*subject, "10.00", "0.80", "3.47", "1.04", "1.39", "0.69", "0.8"]]
    assert found.tables["resources"].rows[0] == (*subject, READING, "1,000.0", "27.78%", "3,600,000")
    assert "An image takes 400 µs of its processor time" in found.tables["resources"].note
    assert "and 10 µs of its main thread's time to write" in found.tables["resources"].note


@pytest.mark.parametrize(
    ("option", "text"),
    [
        (("--workers", 0), "--workers, --repeats: expected 1 to 1024"),
        (("--repeats", 0), "--workers, --repeats: expected 1 to 1024"),
        (("--workers", 1, 4, "--images", 127), "--images: expected 32 or more for each worker, got 127"),
        (("--driver-images", 1), "--driver-images, --gallery: expected 1024 or more, and 0 or more, got 1, 5000"),
        (("--bad", 1.5), "--bad, --link, --price: expected a share, more than 0, and 0 or more"),
        (("--link", 0), "--bad, --link, --price: expected"),
        (("--price", -1), "--bad, --link, --price: expected"),
        (("--data", "a/x", "b/x"), "--data: expected names that differ, got x x"),
        (("--json", "no/where"), "expected a folder that exists, got no/where"),
    ],
)
def test_options_that_make_no_sense(option, text):
    done = run("--data", "x", "--extractor", "n", *option, script="scale.py")
    assert done.returncode == 2
    assert text in done.stderr
