"""Workers of a stream: what each one has, how many there are, and how warming up measures that."""

import json
from concurrent.futures import ThreadPoolExecutor

import faiss
import pytest
from spadeline.engine import Detector, InputError, SpadelineError
from spadeline.engine.extract.extractor import Extractor
from spadeline.engine.inspect.chains import HostChain
from spadeline.engine.inspect.scoring import Scorer
from spadeline.engine.inspect.workers import Team, frames_per_s
from spadeline.engine.recipe.recipe import Recipe

from .streams import BAD, FRAMES, Inspection
from .test_detector import assert_same

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


def test_several_streams_share_the_workers(detector):
    alone = [detector.predict(frame) for frame in FRAMES]
    streams = [detector.stream(iter(FRAMES * 3)) for _ in range(3)]
    for results, expected in zip(zip(*streams, strict=True), alone * 3, strict=True):  # in turns, from one thread
        for result in results:
            assert_same(result, expected)
    with ThreadPoolExecutor(3) as callers:
        for results in callers.map(lambda _: list(detector.stream(FRAMES * 3)), range(3)):
            for result, expected in zip(results, alone * 3, strict=True):
                assert_same(result, expected)


def test_a_team_takes_no_more_frames_at_once_than_it_has_members():
    inspection = Inspection()
    team = Team([lambda frame, color: inspection(frame)] * 2)
    with ThreadPoolExecutor(8) as callers:
        list(callers.map(lambda index: team.predict(index, color="auto"), range(50)))
    assert inspection.most_at_once <= 2
    failing = Team([lambda frame, color: 1 // 0])
    for _ in range(2):  # a member that failed is idle again
        with pytest.raises(ZeroDivisionError):
            failing.predict(0, color="auto")


def test_each_worker_has_one_thread(recipe_folder, monkeypatch):
    """This holds for faiss, too, whose setting each thread has for itself; all workers share the gallery's index."""
    seen = []
    predict = Detector._predict
    monkeypatch.setattr(
        Detector, "_predict", lambda self, frame, **how: seen.append((self, faiss.omp_get_max_threads())) or
        predict(self, frame, **how)
    )  # fmt: skip
    detector = Detector.load(recipe_folder, device="cpu", threads=2)
    list(detector.stream(FRAMES * 4))
    members = {member for member, _ in seen}
    assert detector not in members
    assert 1 <= len(members) <= 2
    assert {member.info["threads"] for member in members} == {1}
    assert len({id(member.extractor) for member in members}) == 1
    assert {member.extractor._session.get_session_options().intra_op_num_threads for member in members} == {1}
    assert {id(member._chain.scorer.retrieval._index) for member in members} == {
        id(detector._chain.scorer.retrieval._index)
    }
    assert {member._chain._preparation._resizer.native.threads for member in members} == {1}
    assert detector._chain._preparation._resizer.native.threads == 2
    assert {threads for _, threads in seen[-2:]} == {1}  # of a thread that has searched before
    assert faiss.omp_get_max_threads() == 2


def test_workers_share_an_extractor_of_another_provider(recipe_folder, extractor_path, monkeypatch):
    """A GPU or OpenVINO may round differently from the CPU: all workers call the extractor that predict calls."""
    extractor = Extractor(extractor_path, device="cpu", threads=2)
    assert extractor.on_one_thread() is not extractor
    monkeypatch.setattr(extractor, "provider", "OpenVINOExecutionProvider")
    assert extractor.on_one_thread() is extractor
    recipe = Recipe.load(recipe_folder)
    detector = Detector(HostChain(recipe, extractor, Scorer(recipe, threads=2)))
    for result, frame in zip(detector.stream(FRAMES), FRAMES, strict=True):
        assert_same(result, detector.predict(frame))


def test_the_split_is_the_most_workers_until_it_is_measured(recipe_folder):
    detector = Detector.load(recipe_folder, device="cpu", threads=2)
    default = {"workers": 2, "threads_each": 1, "chosen": "default", "measured": []}
    assert detector.info["split"] == default
    list(detector.stream(FRAMES))
    assert detector.info["split"] == default
    alone = [detector.predict(frame) for frame in FRAMES]
    detector.warm_up(FRAMES[:2])
    split = json.loads(json.dumps(detector.info))["split"]
    assert split["chosen"] == "measured"
    assert [(way["workers"], way["threads_each"]) for way in split["measured"]] == [(1, 2), (2, 1)]
    fastest = max(split["measured"], key=lambda way: way["frames_per_s"])
    assert fastest["frames_per_s"] > 0
    assert (split["workers"], split["threads_each"]) == (fastest["workers"], fastest["threads_each"])
    for result, expected in zip(detector.stream(FRAMES), alone, strict=True):
        assert_same(result, expected)
    assert Detector.load(recipe_folder, device="cpu", threads=1).info["split"]["workers"] == 1


@pytest.mark.parametrize("fastest", [1, 2, 4])
def test_the_fastest_number_of_workers_wins(recipe_folder, monkeypatch, fastest):
    """Each candidate is tried with its number of workers; streams then have as many as the fastest."""
    detector = Detector.load(recipe_folder, device="cpu", threads=4)
    tried = {}

    def rates(ways, frames):
        tried.update({workers: [way(frame) for frame in frames] for workers, way in ways.items()})
        return {workers: float(workers == fastest) for workers in ways}

    monkeypatch.setattr("spadeline.engine.inspect.workers.frames_per_s", rates)
    detector.warm_up(FRAMES[:1])
    assert list(tried) == [1, 2, 4]
    split = detector.info["split"]
    assert (split["workers"], split["threads_each"]) == (fastest, 4 if fastest == 1 else 1)
    team = detector._split._team
    assert (None if team is None else team._idle.qsize()) == (None if fastest == 1 else fastest)  # no others are kept
    expected = detector.predict(FRAMES[0])
    for results in (*tried.values(), detector.stream(FRAMES[:1])):
        assert_same(next(iter(results)), expected)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_split_that_was_given_stays(recipe_folder, workers):
    detector = Detector.load(recipe_folder, device="cpu", threads=2, workers=workers)
    given = {"workers": workers, "threads_each": 3 - workers}
    assert detector.info["split"] == {**given, "chosen": "given", "measured": []}
    detector.warm_up(FRAMES[:1])
    split = detector.info["split"]
    (measured,) = split.pop("measured")
    assert split == {**given, "chosen": "given"}
    assert measured == {**given, "frames_per_s": measured["frames_per_s"]}


@pytest.mark.parametrize("workers", [0, 3, True, 1.5])
def test_workers_that_make_no_sense_are_refused(recipe_folder, workers):
    with pytest.raises(InputError, match=f"workers: expected an integer from 1 to 2, got {workers}"):
        Detector.load(recipe_folder, device="cpu", threads=2, workers=workers)


def test_warming_up_needs_good_frames(detector):
    with pytest.raises(InputError, match="frames: expected at least one, got none"):
        detector.warm_up([])
    with pytest.raises(InputError, match="frame: expected a uint8 array, got float32"):
        detector.warm_up([FRAMES[0], BAD])


def test_all_candidates_get_the_same_frames_from_all_over():
    seen = {1: [], 2: []}
    rates = frames_per_s({workers: seen[workers].append for workers in seen}, range(100))
    assert set(rates) == {1, 2}
    for taken in seen.values():
        assert sorted(set(taken)) == [0, 25, 50, 75]
        assert taken.count(0) == taken.count(75)


def test_a_frame_that_fails_while_it_is_measured_ends_the_measurement():
    def fail(frame):
        raise SpadelineError(f"frame {frame}")

    with pytest.raises(SpadelineError, match="frame 5"):
        frames_per_s({1: fail}, [5])
