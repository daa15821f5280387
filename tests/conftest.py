"""A small inspection task that needs no network and no torch: images, an extractor, a recipe."""

from pathlib import Path

import pytest
import spadeline.engine  # noqa: F401 - before any test imports ONNX Runtime: its telemetry is off
from PIL import Image

from shared_parts.drawn import INPUT_SIDE, part, write_small_extractor

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
SIZE = INPUT_SIDE
# Seeds of the noise of good parts, to fit on and to test. None of them stands out from the others by chance.
ALIKE = (1, 14, 18, 22, 34, 39, 41, 42, 45, 51, 53, 54)
ALIKE_TOO = (115, 129, 130, 117)
LONGEST_NAME = 120  # of an argument, in a test's name


def tagged(source, target, *, turned):
    """Copy a picture. If turned, it is stored as by a camera held upright: on its side, with EXIF orientation 6."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(source) as image:
        exif = image.getexif()
        exif[0x0112] = 6 if turned else 1
        (image.transpose(Image.Transpose.ROTATE_90) if turned else image).save(target, exif=exif)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Refuse to run if tests of one group may go to several processes: each would build what the group shares."""
    if getattr(config.option, "loadgroup", False):
        grouped = [item for item in items if item.get_closest_marker("xdist_group")]
        if lost := [item.nodeid for item in grouped if "@" not in item.nodeid.rpartition("]")[2]]:
            raise RuntimeError(f"expected pytest-xdist to know the groups of tests, got {lost[0]} without its group")


def pytest_make_parametrize_id(val, argname):
    """Name a long argument by its length: a test's name may hold 64 MB of it otherwise."""
    return f"{argname}-of-{len(val)}" if isinstance(val, str | bytes) and len(val) > LONGEST_NAME else None


def pytest_report_header():
    from .gpu import FOUND

    return f"GPU: {FOUND}"


@pytest.fixture(scope="session")
def parts(tmp_path_factory):
    """A folder in MVTec AD's layout: 12 good parts to fit on, 4 good and 4 scratched ones to test."""
    root = tmp_path_factory.mktemp("parts")
    noise = dict(zip((*range(12), *range(100, 104)), ALIKE + ALIKE_TOO, strict=True))
    for folder, seeds, scratched in (
        ("train/good", range(12), False),
        ("test/good", range(100, 104), False),
        ("test/scratch", range(200, 204), True),
    ):
        (root / folder).mkdir(parents=True)
        for seed in seeds:
            picture, mask = part(noise.get(seed, seed), scratched=scratched)
            Image.fromarray(picture).save(root / folder / f"{seed:03}.png")
            if scratched:
                (root / "ground_truth" / "scratch").mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(root / "ground_truth" / "scratch" / f"{seed:03}_mask.png")
    return root


@pytest.fixture(scope="session")
def extractor_path(tmp_path_factory):
    """An ONNX file with three levels that keeps the extractor's contract."""
    pytest.importorskip("onnx")
    path = tmp_path_factory.mktemp("extractor") / "averages.onnx"
    write_small_extractor(path)
    return path


@pytest.fixture(scope="session")
def recipe_folder(tmp_path_factory, parts, extractor_path):
    """A recipe fitted on the good parts. Tests that change a recipe make their own."""
    pytest.importorskip("faiss")
    from spadeline.engine import Settings, fit

    folder = tmp_path_factory.mktemp("recipe") / "parts"
    settings = Settings(k_score=3, k_gallery=8, kappa=2, sigma=1.5)
    fit(parts / "train" / "good", folder, extractor=extractor_path, settings=settings, false_alarm_rate=0.1, threads=2)
    return folder


@pytest.fixture(scope="session")
def hazelnut():
    """The real images and the real network, if they lie beside the project."""
    if not (SHARED / "hazelnut_reduced").is_dir() or not (SHARED / "resnet50_thin.onnx").is_file():
        pytest.skip("no hazelnut images and pretrained ResNet beside the project")
    return SHARED / "hazelnut_reduced", SHARED / "resnet50_thin.onnx"
