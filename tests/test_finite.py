"""No number that isn't finite becomes a verdict. Wherever it comes in, it is an error that names it."""

import json
import warnings

import numpy as np
import pytest
from PIL import Image
from spadeline.engine import Detector, FrameError, Settings, fit
from spadeline.engine.cli.main import main
from spadeline.engine.errors import InputError
from spadeline.engine.inspect.heatmap import LARGEST_DISTANCE, Heatmap
from spadeline.engine.inspect.scoring import Scorer

pytest.importorskip("faiss")
onnx = pytest.importorskip("onnx")

SIDE = 32
DARK, BRIGHT = 90, 255


def frame(seed, level=DARK):
    return np.clip(np.random.default_rng(seed).normal(level, 4, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)


def exploding(path, *, levels, embedding):
    """Write an extractor whose features grow with the light: small at DARK, 1e20 or more, or NaN, at BRIGHT."""
    helper, kind = onnx.helper, onnx.TensorProto.DataType.Value
    constants = {"light": 1 / 255, "power": 64.0, "huge": 1e24, "turn": -1.0, "limit": 0.7}
    nodes = [
        helper.make_node("Cast", ["image"], ["numbers"], to=kind("FLOAT")),
        helper.make_node("Transpose", ["numbers"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["planes", "light"], ["plain"]),
        helper.make_node("Pow", ["plain", "power"], ["steep"]),
        helper.make_node("Mul", ["steep", "huge"], ["explosive"]),
        helper.make_node("Mul", ["plain", "turn"], ["turned"]),
        helper.make_node("Add", ["turned", "limit"], ["room"]),
        helper.make_node("Sqrt", ["room"], ["undefined"]),
        helper.make_node("AveragePool", [levels], ["layer1"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("AveragePool", ["layer1"], ["layer2"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", [embedding], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["embedding"]),
    ]
    outputs = {
        "layer1": ["n", 3, SIDE // 4, SIDE // 4],
        "layer2": ["n", 3, SIDE // 8, SIDE // 8],
        "embedding": ["n", 3],
    }
    graph = helper.make_graph(
        nodes,
        "exploding",
        [helper.make_tensor_value_info("image", kind("UINT8"), ["n", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info(name, kind("FLOAT"), shape) for name, shape in outputs.items()],
        initializer=[onnx.numpy_helper.from_array(np.float32(value), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(scope="module", params=[("explosive", "plain"), ("plain", "explosive")], ids=["levels", "embedding"])
def recipe(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("finite")
    levels, embedding = request.param
    extractor = exploding(root / "exploding.onnx", levels=levels, embedding=embedding)
    (root / "good").mkdir()
    for seed in range(6):
        Image.fromarray(frame(seed)).save(root / f"good/{seed}.png")
    settings = Settings(k_score=2, k_gallery=3, sigma=1.5, storage="float32")
    fit(root / "good", root / "recipe", extractor=extractor, settings=settings, threads=1)
    return root / "recipe"


# --- the map ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1e39, np.inf, np.nan, 2 * LARGEST_DISTANCE])
@pytest.mark.parametrize("ignoring", [False, True])
def test_distances_that_no_map_can_hold_are_refused_by_name(value, ignoring):
    ignore = np.zeros((64, 64), bool) if ignoring else None
    if ignore is not None:
        ignore[:, :20] = True
    heatmap = Heatmap((16, 16), (64, 64), sigma=1.5, ignore=ignore)
    for distances in (np.full((16, 16), value), np.where(np.arange(256).reshape(16, 16) == 200, value, 1.0)):
        with pytest.raises(InputError) as caught:
            heatmap.anomaly_map(distances)
        assert str(caught.value) == (
            f"distances: expected numbers up to 1.7e+38, which a map of float32 holds, got {value:.3g}: the frame's "
            "features are beyond comparison with the normal images'"
        )


@pytest.mark.parametrize("sigma", [0, 1.5, 40.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_largest_distances_make_a_finite_map(sigma, dtype):
    ignore = np.zeros((64, 64), bool)
    ignore[:, :20] = True
    rng = np.random.default_rng(0)
    distances = (LARGEST_DISTANCE * rng.choice([1.0, 0.999, 0.0], (16, 16))).astype(dtype)
    for mask in (None, ignore):
        values = Heatmap((16, 16), (64, 64), sigma=sigma, ignore=mask).anomaly_map(distances)
        assert np.isfinite(values).all()
        assert values.max() <= 1.001 * LARGEST_DISTANCE


# --- a frame ---------------------------------------------------------------------------------------------------------


def test_such_a_frame_is_an_error_at_every_door(recipe, tmp_path, capsys):
    detector = Detector.load(recipe, device="cpu", threads=1)
    assert not detector.predict(frame(100)).pred_label
    with pytest.raises(InputError, match="expected numbers"):
        detector.predict(frame(100, BRIGHT))
    results = list(detector.stream([frame(100), frame(101, BRIGHT), frame(102)]))
    assert [isinstance(result, FrameError) for result in results] == [False, True, False]
    assert isinstance(results[1].error, InputError)
    Image.fromarray(frame(101, BRIGHT)).save(tmp_path / "bright.png")
    Image.fromarray(frame(102)).save(tmp_path / "dark.png")
    assert main(["predict", str(recipe), str(tmp_path), "--json"]) == 2
    bright, dark = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert "expected numbers" in bright["error"]
    assert dark["pred_label"] is False


@pytest.mark.parametrize("poisoned", [np.nan, np.inf])
def test_a_map_that_is_not_finite_gives_no_verdict(recipe, monkeypatch, poisoned):
    detector = Detector.load(recipe, device="cpu", threads=1)

    def anomaly_map(_self, _distances, *, root):
        values = np.zeros((SIDE, SIDE), np.float32)
        values[7, 9] = poisoned
        return values

    monkeypatch.setattr(Heatmap, "anomaly_map", anomaly_map)
    with pytest.raises(
        InputError, match=f"anomaly map: expected finite numbers, got {poisoned}: no verdict can be given"
    ):
        detector.predict(frame(100))


@pytest.mark.parametrize(("levels", "embedding"), [("undefined", "plain"), ("plain", "undefined")])
def test_features_that_are_not_numbers_give_no_verdict(tmp_path, levels, embedding, monkeypatch):
    extractor = exploding(tmp_path / "undefined.onnx", levels=levels, embedding=embedding)
    monkeypatch.setattr(
        "spadeline.engine.extract.extractor._check_outputs", lambda *_: None
    )  # the check's noise is as bright
    (tmp_path / "good").mkdir()
    for seed in range(4):
        Image.fromarray(frame(seed)).save(tmp_path / f"good/{seed}.png")
    settings = Settings(k_score=2, k_gallery=2)
    fit(tmp_path / "good", tmp_path / "recipe", extractor=extractor, settings=settings, threads=1)
    detector = Detector.load(tmp_path / "recipe", device="cpu", threads=1)
    with pytest.raises(InputError, match=r"expected (finite features|numbers)"):
        detector.predict(frame(100, BRIGHT))


# --- normal images ---------------------------------------------------------------------------------------------------


def test_a_normal_image_whose_score_is_not_finite_is_named(recipe, tmp_path):
    (tmp_path / "good").mkdir()
    for seed in range(4):
        Image.fromarray(frame(seed)).save(tmp_path / f"good/{seed}.png")
    Image.fromarray(frame(4, BRIGHT)).save(tmp_path / "good/glare.png")
    settings = Settings(k_score=2, k_gallery=3, storage="float32")
    extractor = next(recipe.glob("*.onnx"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match=r"image 'glare\.png'"):
            fit(tmp_path / "good", tmp_path / "recipe", extractor=extractor, settings=settings, threads=1)
    assert not (tmp_path / "recipe/recipe.json").exists()


def test_a_held_out_image_is_named_too(recipe, tmp_path, monkeypatch):
    (tmp_path / "good").mkdir()
    for seed in range(4):
        Image.fromarray(frame(seed)).save(tmp_path / f"good/{seed}.png")

    def score(*_arguments, **_options):
        raise InputError("anomaly map: expected finite numbers, got nan: no verdict can be given")

    monkeypatch.setattr(Scorer, "score", score)
    settings = Settings(k_score=2, k_gallery=2)
    with pytest.raises(InputError, match=r"image '\d\.png': anomaly map: expected finite numbers"):
        fit(
            tmp_path / "good", tmp_path / "recipe", extractor=next(recipe.glob("*.onnx")), settings=settings, threads=1,
            held_out=0.5,
        )  # fmt: skip
