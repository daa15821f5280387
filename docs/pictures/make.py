"""The pictures of these pages, made by the real program from drawn parts, so that nobody's licence applies to them.

    python docs/pictures/make.py extractor.onnx  # needs chromium for the pictures of HTML pages

The parts are steel flanges with six holes. Some have a scratch, a stain, or a hole that wasn't drilled.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

HERE = Path(__file__).parent
SIDE, FINER = 256, 4  # pixels; drawn so many times as large, then made smaller
GOOD, TESTED = 60, 8
SHOWN = "test/scratch/002.png"
PAGES = {"report": (1000, 1150), "bench": (1000, 1150)}  # width and height of the part that is shown


def main() -> None:
    """Draw parts, fit, inspect, and write the pictures beside this file."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        draw_parts(folder / "flanges")
        _spadeline(folder, "fit", "flanges", "--recipe", "recipe", "--extractor", str(Path(sys.argv[1]).resolve()))
        _spadeline(folder, "predict", "recipe", f"flanges/{SHOWN}", "--overlays", "overlays", may_find=True)
        _spadeline(folder, "eval", "recipe", "flanges", "--html", "report.html")
        options = ("--takt", "0.2", "--seconds", "10", "--html", "bench.html")
        _spadeline(folder, "bench", "recipe", "flanges/test", *options)
        _write_overlay(folder / "flanges" / SHOWN, folder / "overlays" / Path(SHOWN).name)
        for page, size in PAGES.items():
            _write_page(folder / f"{page}.html", size)


def draw_parts(root: Path) -> None:
    """Write a data set in MVTec AD's layout, masks included."""
    kinds = [("train/good", GOOD), ("test/good", TESTED)]
    kinds += [(f"test/{defect}", TESTED) for defect in ("scratch", "stain", "no_hole")]
    for number, (kind, count) in enumerate(kinds):
        defect = Path(kind).name
        (root / kind).mkdir(parents=True)
        for index in range(count):
            rng = np.random.default_rng([number, index])
            picture, mask = draw_part(rng, defect)
            Image.fromarray(picture).save(root / kind / f"{index:03}.png")
            if defect != "good":
                (root / "ground_truth" / defect).mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(root / "ground_truth" / defect / f"{index:03}_mask.png")


def draw_part(rng: np.random.Generator, defect: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a flange as (SIDE, SIDE, 3) RGB, and its defect's mask, (SIDE, SIDE) of 0 and 255."""
    side = SIDE * FINER
    middle = side / 2 + rng.normal(0, 2 * FINER, 2)
    turned = rng.normal(0, 0.03)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    dy, dx = (y - np.float32(middle[0])) / side, (x - np.float32(middle[1])) / side
    radius, angle = np.hypot(dy, dx), np.arctan2(dy, dx)
    gray = 46 + cv2.GaussianBlur(rng.normal(0, 30, (side, side)).astype(np.float32), (0, 0), 5)  # the belt
    brushed = cv2.GaussianBlur(rng.normal(0, 1, (1, 900)).astype(np.float32), (0, 0), 1.2)[0]
    steel = 150 + 9 * brushed[(radius * 1700).astype(int) % 900] + 34 * np.cos(2 * (angle - turned - 0.7))
    gray = _disc(gray, steel, radius, 0.41)
    gray += 60 * np.exp(-(((radius - 0.40) * 140) ** 2)) - 45 * np.exp(-(((radius - 0.25) * 160) ** 2))  # rim, groove
    mask = np.zeros((side, side), np.uint8)
    undrilled = int(rng.integers(6)) if defect == "no_hole" else None
    gray = _disc(gray, 26, radius, 0.13)
    for hole in range(6):
        place = turned + hole * np.pi / 3
        away = np.hypot(dy - 0.325 * np.sin(place), dx - 0.325 * np.cos(place))
        if hole == undrilled:
            mask[away < 0.036] = 255
        else:
            gray = _disc(gray, 26, away, 0.036) + 40 * np.exp(-(((away - 0.042) * 260) ** 2))
    if defect in ("scratch", "stain"):
        gray, mask = _marked(rng, gray, defect, middle[::-1])
    tinted = gray[..., None] * np.array([0.97, 1.0, 1.04], np.float32)
    small = cv2.resize(tinted, (SIDE, SIDE), interpolation=cv2.INTER_AREA) + rng.normal(0, 2, (SIDE, SIDE, 3))
    kept = cv2.resize(mask, (SIDE, SIDE), interpolation=cv2.INTER_AREA) > 127
    return small.clip(0, 255).astype(np.uint8), kept.astype(np.uint8) * 255


def _disc(gray: NDArray[Any], inside: NDArray[Any] | float, away: NDArray[Any], radius: float) -> NDArray[Any]:
    """Lay a disc over a picture, its edge softened."""
    share = ((radius - away) * 200 + 0.5).clip(0, 1)
    return gray * (1 - share) + inside * share


def _marked(
    rng: np.random.Generator, gray: NDArray[Any], defect: str, middle: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Draw a scratch or a stain on the face; return the picture and the defect's mask."""
    side = SIDE * FINER
    at, out = rng.uniform(0, 2 * np.pi), rng.uniform(0.19, 0.31)
    place = middle + side * out * np.array([np.cos(at), np.sin(at)])
    mark = np.zeros((side, side), np.float32)
    if defect == "scratch":
        along = side * rng.uniform(0.05, 0.09) * np.array([np.cos(at + 1), np.sin(at + 1)])
        path = np.array([place - along, place + rng.normal(0, 0.01 * side, 2), place + along]).round().astype(np.int32)
        cv2.polylines(mark, [path], isClosed=False, color=1.0, thickness=int(1.6 * FINER), lineType=cv2.LINE_AA)
        gray = gray + 80 * mark - 50 * np.roll(mark, (FINER, FINER), (0, 1))
    else:
        axes = (rng.uniform(0.02, 0.045, 2) * side).astype(int).tolist()
        cv2.ellipse(mark, place.astype(int).tolist(), axes, float(rng.uniform(0, 180)), 0, 360, 1.0, -1)
        mark = cv2.GaussianBlur(mark, (0, 0), 2 * FINER)
        gray = gray * (1 - 0.4 * mark)
    return gray, (mark > 0.5).astype(np.uint8) * 255


def _spadeline(folder: Path, *arguments: str, may_find: bool = False) -> None:
    done = subprocess.run([sys.executable, "-m", "spadeline.command", *arguments], cwd=folder, check=False)  # noqa: S603
    if done.returncode not in ((0, 1) if may_find else (0,)):
        raise SystemExit(f"spadeline {' '.join(arguments)}: expected it to succeed, got exit code {done.returncode}")


def _write_overlay(part: Path, overlay: Path) -> None:
    """Put the part and its overlay side by side."""
    pictures = [Image.open(path).convert("RGB").resize((2 * SIDE, 2 * SIDE)) for path in (part, overlay)]
    both = Image.new("RGB", (4 * SIDE + 16, 2 * SIDE), "white")
    both.paste(pictures[0], (0, 0))
    both.paste(pictures[1], (2 * SIDE + 16, 0))
    both.save(HERE / "overlay.jpg", quality=85)


def _write_page(page: Path, size: tuple[int, int]) -> None:
    """Picture a page's upper part, with few colours: text stays sharp, and the file small."""
    shot = page.with_suffix(".png")
    options = ["--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={size[0]},{size[1]}"]
    subprocess.run(["chromium", *options, f"--screenshot={shot}", page.as_uri()], check=True, capture_output=True)  # noqa: S603, S607
    Image.open(shot).convert("RGB").quantize(128).save(HERE / f"{page.stem}.png", optimize=True)


if __name__ == "__main__":
    main()
