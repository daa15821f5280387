"""Which sizes have a frame's proportions, and what happens to frames of other proportions."""

import json
import shutil
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from spadeline.engine import Detector, FrameError, Settings, _native, add, calibrate, fit
from spadeline.engine.bench.bench import bench
from spadeline.engine.cli.main import main
from spadeline.engine.errors import InputError
from spadeline.engine.images.frame_shape import FrameShapes, mixed_proportions, sizes_text
from spadeline.engine.images.resizing import place
from spadeline.engine.recipe.recipe import Recipe

from ..conftest import SIZE, part

WIDE = part(300)[0][:64]
REFUSED = "expected the proportions of 96 x 96, as in fit, got 64 x 96"


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ((256, 256), (256, 256), True),
        ((256, 256), (512, 512), True),
        ((256, 256), (256, 192), False),
        ((250, 620), (249, 620), True),
        ((250, 620), (125, 310), True),
        ((250, 620), (500, 1240), True),
        ((250, 620), (248, 620), False),
        ((1080, 1920), (1088, 1920), False),
        ((1080, 1920), (135, 240), True),
        ((1024, 1224), (224, 268), True),
        ((480, 640), (640, 480), False),
    ],
)
def test_proportions(a, b, same):
    assert _native.same_proportions(a, b) == _native.same_proportions(b, a) == same


@given(st.integers(8, 5000), st.integers(8, 5000), st.floats(0.01, 1), st.sampled_from([round, int]))
def test_whatever_rounds_a_scaled_side_keeps_the_proportions(height, width, scale, rounded):
    small = (rounded(height * scale), rounded(width * scale))
    if min(small) >= 8:
        assert _native.same_proportions((height, width), small)
        assert not mixed_proportions([(height, width), small])


def test_other_proportions_are_refused_with_a_remedy():
    shapes = FrameShapes([(256, 256), (512, 512)], rule="error", prepared=None)
    shapes.check((256, 256, 3))
    shapes.check((1024, 1024))
    with pytest.raises(InputError) as caught:
        shapes.check((256, 192, 3))
    assert str(caught.value) == (
        "frame: expected the proportions of 256 x 256, as in fit, got 256 x 192: was the camera's region changed? Fit "
        "anew with frames like this one, or take any with: spadeline calibrate --frame-shape any"
    )


def test_the_rule_decides():
    with pytest.warns(UserWarning, match="expected the proportions of 256 x 256, as in fit, got 256 x 192"):
        FrameShapes([(256, 256)], rule="warn", prepared=None).check((256, 192))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FrameShapes([(256, 256)], rule="any", prepared=None).check((256, 192))
        FrameShapes([(250, 620)], rule="error", prepared=(224, 224)).check((224, 224, 3))
        FrameShapes([], rule="error", prepared=None).check((256, 192))
        FrameShapes([(256, 256), (256, 192)], rule="error", prepared=None).check((512, 384))


def test_sizes_come_with_their_numbers():
    sizes = [(256, 192), *[(256, 256)] * 3]
    assert sizes_text(sizes) == "3 of 256 x 256, 1 of 256 x 192"
    assert mixed_proportions(sizes)
    assert not mixed_proportions([(256, 256), (128, 128)])
    assert not mixed_proportions([])


# --- a recipe's frames ------------------------------------------------------------------------------------------------


@pytest.fixture
def own(recipe_folder, tmp_path):
    """A copy of the recipe that tests may change."""
    pytest.importorskip("faiss")
    return shutil.copytree(recipe_folder, tmp_path / "own")


@pytest.fixture
def wide(tmp_path):
    Image.fromarray(WIDE).save(tmp_path / "wide.png")
    return tmp_path / "wide.png"


def test_a_frame_of_other_proportions_is_that_frame_s_error(recipe_folder):
    pytest.importorskip("faiss")
    detector = Detector.load(recipe_folder, device="cpu", threads=2)
    with pytest.raises(InputError, match=REFUSED):
        detector.predict(WIDE)
    square = part(300)[0].repeat(2, axis=0).repeat(2, axis=1)  # another size, the same proportions
    results = list(detector.stream([square, WIDE, square]))
    assert isinstance(results[1], FrameError)
    assert REFUSED in str(results[1].error)
    assert not results[0].pred_label
    assert not results[2].pred_label


def test_a_frame_of_the_extractor_s_input_size_was_prepared_by_the_caller(extractor_path, tmp_path):
    pytest.importorskip("faiss")
    (tmp_path / "images").mkdir()
    for seed in range(3):
        Image.fromarray(part(seed)[0][:50]).save(tmp_path / f"images/{seed}.png")
    settings = Settings(k_score=2, k_gallery=2)
    fit(tmp_path / "images", tmp_path / "recipe", extractor=extractor_path, settings=settings, threads=1)
    detector = Detector.load(tmp_path / "recipe", device="cpu", threads=1)
    frame = part(300)[0][:50]
    prepared, _ = place(frame, (SIZE, SIZE), framing="whole")
    assert detector.predict(prepared).map_score == detector.predict(frame).map_score
    with pytest.raises(InputError, match="expected the proportions of 50 x 96, as in fit, got 96 x 96"):
        detector.predict(part(300)[0])


def test_the_setting_decides(own):
    calibrate(own, changes={"frame_shape": "warn"}, threads=1)
    detector = Detector.load(own, device="cpu", threads=1)
    with pytest.warns(UserWarning, match=REFUSED):
        warned = detector.predict(WIDE)
    calibrate(own, changes={"frame_shape": "any"}, threads=1)
    taken = Detector.load(own, device="cpu", threads=1).predict(WIDE)
    assert taken.map_score == warned.map_score


def test_predict_and_eval_refuse_it_and_exit_with_2(own, wide, parts, tmp_path, capsys):
    assert main(["predict", str(own), str(wide), "--json"]) == 2
    record = json.loads(capsys.readouterr().out)
    assert set(record) == {"image", "error"}
    assert REFUSED in record["error"]
    assert main(["calibrate", str(own), "--frame-shape", "any"]) == 0
    assert main(["predict", str(own), str(wide)]) in (0, 1)
    assert main(["calibrate", str(own), "--frame-shape", "error"]) == 0
    dataset = shutil.copytree(parts, tmp_path / "parts")
    shutil.copy(wide, dataset / "test/good/wide.png")
    capsys.readouterr()
    assert main(["eval", str(own), str(dataset)]) == 2
    assert f"wide.png: frame: {REFUSED}" in capsys.readouterr().err


@pytest.mark.filterwarnings(
    "ignore::spadeline.engine.fitting.suspects.SuspectWarning"
)  # an image without others of its shape is a suspect
def test_add_refuses_it_until_it_is_allowed_and_knows_it_then(own, wide):
    before = Recipe.load(own).generation
    with pytest.raises(InputError, match=f"wide.png: frame: {REFUSED}"):
        add(own, [wide], device="cpu", threads=1)
    assert Recipe.load(own).generation == before
    calibrate(own, changes={"frame_shape": "any"}, threads=1)
    add(own, [wide], device="cpu", threads=1)
    calibrate(own, changes={"frame_shape": "error"}, threads=1)
    Detector.load(own, device="cpu", threads=1).predict(WIDE)


@pytest.mark.filterwarnings(
    "ignore::spadeline.engine.fitting.suspects.SuspectWarning"
)  # an image without others of its shape is a suspect
def test_fit_warns_of_mixed_proportions_with_counts(parts, wide, extractor_path, tmp_path, capsys):
    pytest.importorskip("faiss")
    paths = [*sorted((parts / "train/good").iterdir())[:5], wide]
    how = {"extractor": extractor_path, "threads": 1, "settings": Settings(k_score=2, k_gallery=2)}
    with pytest.warns(UserWarning, match=r"differ in their proportions \(5 of 96 x 96, 1 of 64 x 96\)"):
        recipe = fit(paths, tmp_path / "recipe", **how)
    assert set(recipe.frame_sizes) == {(96, 96), (64, 96)}
    Detector.load(tmp_path / "recipe", device="cpu", threads=1).predict(WIDE)
    assert main(["info", str(tmp_path / "recipe")]) == 0
    assert "frames: 5 of 96 x 96, 1 of 64 x 96; other proportions are an error" in capsys.readouterr().out


def test_bench_draws_frames_that_the_recipe_takes(extractor_path, tmp_path):
    pytest.importorskip("faiss")
    for seed in range(3):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(part(seed)[0][:50]).save(tmp_path / f"images/{seed}.png")
    settings = Settings(k_score=2, k_gallery=2)
    fit(tmp_path / "images", tmp_path / "recipe", extractor=extractor_path, settings=settings, threads=1)
    document = bench(tmp_path / "recipe", runs=3, warm_up=0, seconds=0.5, threads=1)
    assert document.frames.sizes == ((533, 1024),)
