"""A search that ends early comes to the verdict of the whole map: for every need, label rule, theta and deadline."""

import time
from dataclasses import replace

import numpy as np
import pytest
from spadeline.engine.calibration import Threshold
from spadeline.engine.images.resizing import Placement
from spadeline.engine.inspect.chains import Scored
from spadeline.engine.inspect.scoring import Scorer
from spadeline.engine.inspect.verdict import Judge
from spadeline.engine.recipe.records import Calibration
from spadeline.engine.settings import Settings

from ..recipes import GEOMETRY, create_small, features_of, mask

pytest.importorskip("faiss")

NAMES = tuple(f"normal {index}" for index in range(9))
QUERIES = ("defect", "normal 3", "another defect")  # the second is an image of the recipe, so that its map is 0
PLACEMENT = Placement(1.0, 1.0, top=0.0, left=0.0)
CASES = {
    "plain": {},
    "mask": {"ignore": True},
    "kappa and window": {"kappa": 3, "window": 1},
    "root, no smoothing, weights": {"distance": "root", "sigma": 0, "level_weights": (0.5, 2.0, 1.0)},
    "float16": {"storage": "float16", "sigma": 1.5},
    "bilinear": {"upsampling": "bilinear"},
}


class Frame:
    """A frame of drawn features that is scored and judged by any thresholds."""

    def __init__(self, recipe, name):
        features = features_of(name)
        levels = tuple(level[0] for level in features.levels)
        # Half of a normal image, so that the map has low and high parts.
        own = tuple(level[0] for level in features_of("normal 1").levels)
        self.levels = [
            np.where(np.arange(a.shape[2]) < a.shape[2] // 2, a, b) for a, b in zip(levels, own, strict=True)
        ]
        self.embedding = features.embedding[0]
        self._recipe = recipe
        self.map = self.judged(theta=1.0).anomaly_map
        self.image_score = self.judged(theta=1.0).image_score

    def judged(self, *, theta, tau=1.0, rule="map", need="map", within_s=None):
        """Return the result by these thresholds."""
        vouched = {"false_alarm_rate": 0.1, "images": 2, "bound": 0.8}
        made = Calibration(
            Threshold(value=tau, **vouched), Threshold(value=theta, **vouched), "leave-one-out", (1.0, 1.0), (1.0, 1.0)
        )
        recipe = replace(self._recipe, calibration=made, settings=replace(self._recipe.settings, label_rule=rule))
        scorer = Scorer(recipe, threads=1)
        retrieved = scorer.retrieve(self.embedding)
        deadline = None if within_s is None else time.perf_counter() + within_s
        scores = scorer.search(self.levels, retrieved, need=need, deadline=deadline)
        return Judge(recipe, scorer).result(Scored(scores, GEOMETRY["input_size"], PLACEMENT, None, {}), need)

    def thetas(self):
        """Values of the map from its whole range, each also missed by the smallest step, and what lies outside of it."""
        values = np.unique(self.map)
        for value in values[np.linspace(0, len(values) - 1, 3).astype(int)]:
            yield from (float(np.nextafter(value, np.float32(-1))), float(value), np.nextafter(float(value), 1e9))
        yield 2 * float(values[-1]) + 1


@pytest.fixture(scope="module", params=CASES)
def frames(request, tmp_path_factory):
    changes = dict(CASES[request.param])
    options = {"ignore": mask()} if changes.pop("ignore", False) else {}
    settings = Settings(**{"storage": "float32", "k_gallery": 6, "k_score": 3, "frame_check": "off"} | changes)
    folder = tmp_path_factory.mktemp("drawn")
    (folder / "extractor.onnx").write_bytes(b"never run")
    options["extractor_path"] = folder / "extractor.onnx"
    recipe = create_small(folder / "recipe", *NAMES, settings=settings, **options)
    return [Frame(recipe, name) for name in QUERIES]


def assert_bounds(result, frame):
    assert (result.lower_map <= frame.map).all()
    assert (frame.map <= result.anomaly_map).all()
    assert result.map_score == result.anomaly_map.max()
    assert np.isfinite(result.pred_score)


def assert_same_mask(result, whole):
    np.testing.assert_array_equal(result.pred_mask, whole.pred_mask)
    areas = [sorted((region.box, region.area) for region in each.regions) for each in (result, whole)]
    assert areas[0] == areas[1]
    assert result.reasons == whole.reasons


@pytest.mark.parametrize("rule", ["map", "either", "image"])
def test_label_and_mask_are_the_whole_map_s(frames, rule):
    labels = set()
    for frame in frames:
        for theta in frame.thetas():
            for tau in (frame.image_score / 2, frame.image_score * 2):
                whole = frame.judged(theta=theta, tau=tau, rule=rule)
                assert (whole.anomaly_map == frame.map).all()
                threshold = {"map": theta, "either": 1.0, "image": tau}[rule]
                labels.add(whole.pred_label)
                for need in ("mask", "label"):
                    result = frame.judged(theta=theta, tau=tau, rule=rule, need=need)
                    assert (result.need, result.decided) == (need, True)
                    assert result.pred_label == whole.pred_label, (theta, tau, need)
                    assert (result.pred_score > threshold) == result.pred_label
                    assert result.image_score == whole.image_score
                    assert_bounds(result, frame)
                    if need == "mask":
                        assert_same_mask(result, whole)
    assert labels == {False, True}


@pytest.mark.parametrize("need", ["map", "mask", "label"])
def test_no_deadline_hides_a_defect(frames, need):
    for frame in frames:
        for theta in frame.thetas():
            whole = frame.judged(theta=theta)
            for within_s in (0, 1e-5, 1e-4, 10):
                result = frame.judged(theta=theta, need=need, within_s=within_s)
                assert result.pred_label >= whole.pred_label
                assert (result.pred_mask >= whole.pred_mask).all()
                assert (result.pred_score > theta) == result.pred_label
                assert_bounds(result, frame)
                if result.decided:
                    assert result.pred_label == whole.pred_label
                if result.decided and need != "label":
                    assert_same_mask(result, whole)
                if result.decided and need == "map":
                    np.testing.assert_array_equal(result.lower_map, frame.map)
                    np.testing.assert_array_equal(result.anomaly_map, frame.map)
            assert result.decided  # within ten seconds
