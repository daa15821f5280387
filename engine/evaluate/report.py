"""An evaluation as one self-contained HTML page: figures, curves, and the images that went wrong.

The page loads nothing and runs nothing: it contains its pictures and charts. All text from outside, such as file names,
is escaped. All figures come from ``evaluation.summary()``; none is computed here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..files import replace_file
from ..images.reading import read_image
from ..images.resizing import as_rgb
from ..pages.page import render
from ..pages.pictures import Case, data_url, heat_picture, normal_picture, thumbnail
from ..pages.score_charts import histogram
from ..pages.sections import environment_table, plain
from ..units import four_digits
from .charts import pro_chart, roc_chart
from .evaluation import PRO_LIMITS, Evaluation, Missing, Outcome, Score
from .truth import defect_mask

MOST_CASES = 8  # wrong verdicts that are shown of each kind
FEWEST_CASES = 4  # images that are shown at least: if fewer are wrong, the right ones nearest to the threshold follow
_TRUTH_RGB = (0, 255, 0)
_NAMES: dict[Score, str] = {"map_score": "map maximum", "image_score": "image score"}
_SYMBOLS: dict[Score, str] = {"map_score": "θ", "image_score": "τ"}


def write_report(
    path: str | os.PathLike[str],
    evaluation: Evaluation,
    *,
    title: str,
    normal_images: str | os.PathLike[str] | None = None,
    notices: Sequence[str] = (),
) -> None:
    """Write the page as a whole, or nothing of it; missing folders are made.

    Parameters
    ----------
    path
        The HTML file; one that is there is replaced.
    title
        Heading of the page.
    normal_images
        The folder that the recipe was fitted on, to show the nearest normal images; None: only their names.
    notices
        Important sentences, which the page shows first.

    Raises
    ------
    InputError
        An image or a mask of the test set can't be read any more.
    OutputError
        The file can't be written; one that was there is as before.
    DependencyError
        jinja2 or matplotlib isn't installed.
    """
    folder = None if normal_images is None else Path(normal_images)
    page = render(
        "report.html",
        filters={"number": four_digits, "rate": _rate, "milliseconds": _milliseconds, "plain": plain},
        title=title,
        notices=notices,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        summary=evaluation.summary(),
        environment={row[0]: row[1] for row in environment_table(evaluation.environment).rows},
        charts=_charts(evaluation),
        false_alarms=[_case(evaluation, outcome, folder) for outcome in _worst(evaluation, abnormal=False)],
        misses=[_case(evaluation, outcome, folder) for outcome in _worst(evaluation, abnormal=True)],
    )
    replace_file(Path(path), page)


def _worst(evaluation: Evaluation, *, abnormal: bool) -> list[Outcome]:
    """Return images of one class: the wrong verdicts first, then the right ones nearest to the threshold."""
    of_class = [outcome for outcome in evaluation.outcomes if outcome.image.label == abnormal]
    sign = 1 if abnormal else -1
    ranked = sorted(of_class, key=lambda o: (o.pred_label == abnormal, sign * o.pred_score))
    wrong = sum(outcome.pred_label != abnormal for outcome in ranked)
    return ranked[: min(max(wrong, FEWEST_CASES), MOST_CASES)]


def _case(evaluation: Evaluation, outcome: Outcome, normal_images: Path | None) -> Case:
    pictures = _pictures(evaluation, outcome)
    nearest = outcome.nearest_normal
    normal = normal_picture(nearest, _file_below(normal_images, nearest.original or nearest.name))
    if normal is not None:
        pictures["nearest normal image"] = normal
    flagged, passed = ("caught", "miss") if outcome.image.label else ("false alarm", "passed")
    reasons = f" ({', '.join(outcome.reasons)})" if outcome.reasons else ""
    return Case(
        name=os.path.relpath(outcome.image.path, evaluation.dataset.folder),
        wrong=outcome.pred_label != outcome.image.label,
        verdict=(flagged if outcome.pred_label else passed) + reasons,
        scores=tuple(
            (name, getattr(outcome, score), _SYMBOLS[score], evaluation.thresholds[score])
            for score, name in _NAMES.items()
        ),
        nearest_normal=nearest.name,
        pictures={caption: data_url(picture) for caption, picture in pictures.items()},
    )


def _pictures(evaluation: Evaluation, outcome: Outcome) -> dict[str, NDArray[np.uint8]]:
    """Return thumbnails by caption. Lines are drawn on the thumbnails: they stay sharp and cost less."""
    frame = as_rgb(read_image(outcome.image.path))
    small = thumbnail(frame)
    recipe, theta = evaluation.recipe, evaluation.calibration.theta.value
    heat = heat_picture(frame, outcome.anomaly_map, theta, framing=recipe.settings.framing, ignore=recipe.ignore)
    if not outcome.image.mask_paths:
        return {"frame": small, "anomaly map": heat}
    defect = defect_mask(outcome.image, (frame.shape[0], frame.shape[1]))
    return {"frame, true defect outlined": _outlined(small, defect), "anomaly map": heat}


def _charts(evaluation: Evaluation) -> list[tuple[str, str | Missing]]:
    """Return the title of each chart, and its SVG or why there is none."""
    charts = [("Images: ROC", _image_roc(evaluation))]
    pixels = evaluation.pixel_curves
    if isinstance(pixels, Missing):
        charts += [("Pixels: ROC", pixels), ("Pixels: per-region overlap", pixels)]
    else:
        pixel_roc, pro = pixels
        charts.append(("Pixels: ROC", roc_chart({"all pixels": pixel_roc}, {}, what="pixels")))
        charts.append(("Pixels: per-region overlap", pro_chart(pro, PRO_LIMITS)))
    for score, name in _NAMES.items():
        values, threshold = evaluation.scores[score], evaluation.thresholds[score]
        normal, abnormal = values[~evaluation.labels], values[evaluation.labels]
        chart = histogram(normal, abnormal, threshold, what=name, symbol=_SYMBOLS[score])
        charts.append((f"Images: {name}", chart))
    return charts


def _image_roc(evaluation: Evaluation) -> str | Missing:
    """Return both scores' ROC curves, with the point of the recipe's threshold on each."""
    curves, points = {}, {}
    for score, name in _NAMES.items():
        curve = evaluation.image_rocs[score]
        if isinstance(curve, Missing):
            return curve
        flagged = evaluation.scores[score] > evaluation.thresholds[score]
        curves[name] = curve
        points[_SYMBOLS[score]] = (
            float(np.mean(flagged[~evaluation.labels])),
            float(np.mean(flagged[evaluation.labels])),
        )
    return roc_chart(curves, points, what="images")


def _outlined(small: NDArray[np.uint8], defect: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Outline a mask of the frame's size; averaging over area keeps a defect finer than the thumbnail's pixels."""
    size = (small.shape[1], small.shape[0])
    touched = cv2.resize(defect.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
    outlines, _ = cv2.findContours(touched.view(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(small.copy(), outlines, -1, _TRUTH_RGB, 1), np.uint8)


def _file_below(folder: Path | None, name: str) -> Path | None:
    """Return the path of a normal image below a folder; None if there is none or it lies outside of the folder."""
    if folder is None:
        return None
    try:
        path = (folder / name).resolve()
        return path if path.is_relative_to(folder.resolve()) and path.is_file() else None
    except (OSError, ValueError):  # a name that no file can have
        return None


def _rate(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _milliseconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1e3:.1f}"
