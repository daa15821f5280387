"""Images added to a recipe: under which names, to which recipe, and what that changes."""

import shutil

import numpy as np
import onnx
import pytest
from PIL import Image
from spadeline.engine import Detector, InputError, Recipe, RecipeError, add, fit
from spadeline.engine.fitting import fitting as fitting_module

from ..conftest import part
from .conftest import SETTINGS


def test_a_name_that_is_taken_is_refused_before_the_work(recipe, parts, tmp_path, monkeypatch):
    for name, source in (("003.png", "100.png"), ("new.png", "101.png")):
        shutil.copy(parts / "test" / "good" / source, tmp_path / name)
    images = [tmp_path / "003.png", tmp_path / "new.png"]
    shutil.rmtree(tmp_path / "folder", ignore_errors=True)
    (tmp_path / "folder").mkdir()
    for path in images:
        shutil.copy(path, tmp_path / "folder")
    monkeypatch.setattr(fitting_module, "Extractor", lambda *_, **__: pytest.fail("opened the extractor"))
    text = (
        r"^images: expected names that the recipe doesn't hold yet, got '003\.png': --rename adds them under free names, "
        "spadeline remove takes the old ones out$"
    )
    with pytest.raises(InputError, match=text):
        add(recipe.folder, tmp_path / "folder", threads=1)
    assert Recipe.load(recipe.folder).images == recipe.images
    monkeypatch.undo()
    added = add(recipe.folder, tmp_path / "folder", rename=True, threads=1)
    assert [image.name for image in added.images[12:]] == ["003-2.png", "new.png"]
    shutil.copy(parts / "test" / "good" / "102.png", tmp_path / "folder" / "003.png")
    with pytest.warns(UserWarning, match=r"^1 of 2 images is an exact copy"):
        added = add(recipe.folder, tmp_path / "folder", rename=True, threads=1)
    assert [image.name for image in added.images[14:]] == ["003-3.png"]


def test_adding_a_falsely_alarmed_image_ends_the_alarm(recipe, tmp_path):
    odd, _ = part(900, scratched=True)
    Image.fromarray(odd).save(tmp_path / "odd.png")
    assert Detector.load(recipe.folder, device="cpu", threads=1).predict(odd).pred_label
    added = add(recipe.folder, tmp_path / "odd.png", threads=1)
    assert added.images[-1].name == "odd.png"
    assert added.calibration == recipe.calibration
    result = Detector.load(recipe.folder, device="cpu", threads=1).predict(odd)
    assert not result.pred_label
    assert result.map_score == 0
    with pytest.warns(UserWarning, match=r"^1 of 1 images is an exact copy and left out: odd.png of odd.png$"):
        assert add(recipe.folder, tmp_path / "odd.png", threads=1).generation == added.generation


def test_images_are_not_added_to_a_recipe_that_another_network_has_replaced(recipe, parts, tmp_path, monkeypatch):
    """Only this check can find it: both networks' features have the same shapes."""
    other = tmp_path / "other.onnx"
    model = onnx.load(recipe.extractor_path)
    scale = next(tensor for tensor in model.graph.initializer if tensor.name == "scale")
    scale.CopyFrom(onnx.numpy_helper.from_array(np.float32(1 / 16), "scale"))
    onnx.save(model, other)
    opened = fitting_module.Extractor

    def replaced_meanwhile(*arguments, **options):
        monkeypatch.setattr(fitting_module, "Extractor", opened)
        extractor = opened(*arguments, **options)
        fit(parts / "train" / "good", recipe.folder, extractor=other, settings=SETTINGS, threads=1, overwrite=True)
        return extractor

    monkeypatch.setattr(fitting_module, "Extractor", replaced_meanwhile)
    with pytest.raises(RecipeError, match="the recipe was replaced meanwhile; add the images again"):
        add(recipe.folder, parts / "test" / "good" / "100.png", threads=1)
    assert len(add(recipe.folder, parts / "test" / "good" / "100.png", threads=1).images) == 13
