"""Parts with a small bright spot, as a data set's folder, and settings that miss the spots."""

import numpy as np
import pytest
from PIL import Image
from spadeline.engine import Detector, Settings
from spadeline.engine.images.reading import read_image
from spadeline.engine.tuning import search
from spadeline.engine.tuning.halves import Named, split

from shared_parts.drawn import part

# They smooth more than a spot is wide. The frame check, which no setting here changes, mustn't find the spots.
SETTINGS = Settings(k_score=3, k_gallery=8, sigma=8.0, frame_check="off", storage="float32")
GOOD, SPOTTED = range(300, 308), range(400, 412)


def spotted(seed):
    picture = part(seed)[0].astype(np.float64)
    top, left = np.random.default_rng([seed, 1]).integers(20, 70, 2)
    picture[top : top + 3, left : left + 3] += 35
    return np.clip(picture, 0, 255).astype(np.uint8)


def write(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def write_labelled(folder):
    """Write a data set of 8 good parts and 12 with a spot, and return its folder."""
    for seed in GOOD:
        write(folder / "test" / "good" / f"{seed}.png", part(seed)[0])
    for seed in SPOTTED:
        write(folder / "test" / "spot" / f"{seed}.png", spotted(seed))
    return folder


def halves_of(folder):
    paths = sorted((folder / "test").glob("*/*.png"))
    named = [Named(path.relative_to(folder).as_posix(), path.parent.name, path.parent.name != "good") for path in paths]
    return [[paths[index] for index in half] for half in split(named)]


def flagged(recipe, paths):
    """Return how many abnormal and how many good images a detector of the recipe flags."""
    detector = Detector.load(recipe.folder, device="cpu", threads=1)
    found = [path.parent.name for path in paths if detector.predict(read_image(path)).pred_label]
    return len(found) - found.count("good"), found.count("good")


def try_few_settings(monkeypatch):
    """Change sigma alone: a search takes long."""
    for name in ("WINDOWS", "NEIGHBOURS", "KAPPAS", "FACTORS"):
        monkeypatch.setattr(search, name, ())
    monkeypatch.setattr(search, "get_args", lambda _: ("map",))


def edited(source, target, edit):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(source)
    edit(model.graph)
    onnx.save(model, target)
    return target


def write_blind(source, target):
    """Write an extractor that sees the frame's margin alone, where no defect is."""
    onnx = pytest.importorskip("onnx")
    seen = np.zeros((1, 1, 64, 64), np.float32)
    seen[..., :8] = 1 / 32
    scale = onnx.numpy_helper.from_array(seen, "scale")
    return edited(source, target, lambda graph: graph.initializer[0].CopyFrom(scale))
