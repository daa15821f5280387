"""The results of the commands as text for a terminal. No figure is computed."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..calibration import Threshold
from ..fitting.suspects import highest_scores
from ..folders.dataset import Dataset
from ..folders.normal_images import NormalImages
from ..images.frame_shape import sizes_text
from ..match.matcher import instruction_sets
from ..recipe.recipe import Recipe
from ..recipe.stored_codes import can_have_codes
from ..recipe.tuning_record import TuningRecord
from ..scale.comparing import ChangedImage, Comparison
from .terminal import escaped

if TYPE_CHECKING:
    from ...export import Quantization

MOST_PARTS = 20  # folders in a line
MOST_CHANGED = 20  # images of each kind of change


def summary_table(summary: Mapping[str, Any]) -> str:
    """Return an evaluation's main figures as text."""
    rows = [
        ("image ROCAUC by map maximum", summary["image_rocauc_by_map_score"]),
        ("image ROCAUC by embedding", summary["image_rocauc_by_image_score"]),
        ("pixel ROCAUC", summary["pixel_rocauc"]),
        ("AU-PRO to 0.3", summary["aupro_0.3"]),
        ("AU-PRO to 0.05", summary["aupro_0.05"]),
    ]
    lines = [f"{name:30} {'not defined' if value is None else f'{value:.4f}'}" for name, value in rows]
    counts = summary["confusion"]["pred_label"]
    lines.append(
        f"{'at the calibrated threshold':30} {counts['true_positives']} of "
        f"{counts['true_positives'] + counts['false_negatives']} abnormal found, {counts['false_positives']} of "
        f"{counts['false_positives'] + counts['true_negatives']} normal flagged"
    )
    flagged = {reason: sum(counts.values()) for reason, counts in summary["reasons"].items()}
    if any(flagged.values()):
        told = ", ".join(f"{reason} {count}" for reason, count in flagged.items() if count)
        lines.append(f"{'flagged for':30} {told}")
    total = summary["timings_s"]["total"]
    lines.append(f"{'time per image':30} p50 {total['p50'] * 1e3:.1f} ms, max {total['max'] * 1e3:.1f} ms")
    return "\n".join(lines)


def images_line(images: NormalImages) -> str:
    """Return in one line which normal images were taken from a folder, and which folders were left out."""
    parts = [
        f"{count} directly in it" if name == "." else f"{count} from {name}" for name, count in images.taken.items()
    ]
    left_out = f"; left out: {', '.join(images.left_out)}" if images.left_out else ""
    return f"{images.source}: normal images: {_some(parts)}{left_out}"


def dataset_line(dataset: Dataset) -> str:
    """Return in one line which labelled images were taken from a data set."""
    parts = [
        f"{taken.images} {'abnormal' if taken.label else 'normal'} from {taken.folder}"
        + (f" ({taken.with_mask} with masks)" if taken.with_mask else "")
        for taken in dataset.taken
    ]
    return f"{dataset.folder}: test images: {_some(parts)}"


def _some(parts: Sequence[str]) -> str:
    more = f", and {len(parts) - MOST_PARTS} more folders" if len(parts) > MOST_PARTS else ""
    return ", ".join(parts[:MOST_PARTS]) + more


def record_line(record: Mapping[str, Any]) -> str:
    """Return an image's record as one line: the verdict and what it is about, or the image's error."""
    if "error" in record:
        return escaped(str(record["error"]))
    label = "ANOMALOUS" if record["pred_label"] else "normal"
    reasons = f"  ({', '.join(record['reasons'])})" if record["reasons"] else ""
    undecided = "" if record["decided"] else "  undecided"
    name = escaped(record["image"])
    return f"{label:9} {record['pred_score']:10.4g} {len(record['regions']):3} regions  {name}{reasons}{undecided}"


def recipe_table(recipe: Recipe) -> str:
    """Return what a recipe holds as text: images, thresholds with their false-alarm rates, and what is missing."""
    angles = f" at {recipe.settings.angles} angles" if recipe.settings.angles > 1 else ""
    count = len(recipe.originals)
    lines = [f"{escaped(str(recipe.folder))}: {count} normal images{angles}, generation {recipe.generation}"]
    if not recipe.is_sealed:
        lines.append(
            f"  recipe.json is of version {recipe.version}, which holds no hash of itself: damage to it may pass; "
            "any change, such as spadeline calibrate, writes one"
        )
    lines += _frame_lines(recipe)
    if recipe.ignore is not None:
        lines.append(f"  {recipe.ignore.mean():.1%} of the image is never scored")
    if recipe.codes is None and can_have_codes(recipe.geometry):
        lines.append(
            "  no codes for the matcher, or of another version: it takes its slow path; spadeline codes makes them"
        )
    if recipe.tuning is not None:
        lines.append(f"  {_tuning_line(recipe.tuning)}")
    if recipe.calibration is None:
        lines.append("  no thresholds yet: spadeline calibrate")
    else:
        highest = highest_scores(recipe.calibration)
        for name, threshold, scores in (
            ("tau", recipe.calibration.tau, highest["image_scores"]),
            ("theta", recipe.calibration.theta, highest["map_scores"]),
        ):
            lines.append(f"  {name} {threshold.value:.6g}: {_vouched(threshold)} ({recipe.calibration.method})")
            if scores:
                lines.append("    highest scores: " + ", ".join(f"{image} {score:.4g}" for image, score in scores))
        if recipe.settings.label_rule == "either":
            lines.append(f"  either: {_vouched_together(recipe.calibration.tau, recipe.calibration.theta)}")
    return "\n".join(lines)


def _tuning_line(record: TuningRecord) -> str:
    """Return in one line why a recipe has its settings."""
    changed = f"changed {', '.join(record.changed)}" if record.changed else "changed nothing"
    extractors = f"with {record.extractors} extractors " if record.extractors > 1 else ""
    return (
        f"tuned on {record.date[:10]}: {record.tried} settings tried {extractors}on "
        f"{record.choosing_abnormal} abnormal and {record.choosing_good} good images, {changed}; of the others, "
        f"{record.found} of {record.final_abnormal} abnormal images found (before: {record.found_before}), "
        f"{record.false_alarms} of {record.final_good} good ones flagged (before: {record.false_alarms_before})"
    )


def _frame_lines(recipe: Recipe) -> Iterator[str]:
    """Yield lines about the frames of a recipe, and about what happens to other frames."""
    shape = {
        "error": "other proportions are an error",
        "warn": "other proportions get a warning",
        "any": "any is accepted",
    }
    if recipe.frame_sizes is None:
        yield "  frames of unknown sizes, as in recipes of version 1 and 2: any is accepted; fit anew to check them"
    else:
        yield f"  frames: {sizes_text(recipe.frame_sizes)}; {shape[recipe.settings.frame_shape]}"
    if recipe.settings.frame_check == "off":
        yield "  frame check off: a black, blurred or empty frame may pass as normal"
    elif recipe.frame_facts is None:
        yield "  no frame check: some images' facts are unknown, as in recipes of version 1 and 2; fit anew to have it"


def _vouched(threshold: Threshold) -> str:
    text = f"false-alarm rate {threshold.expected_rate:.2%} expected, below {threshold.bound:.2%} with "
    text += f"{threshold.confidence:.0%} confidence, from {threshold.images} images"
    if not threshold.supported:
        text += f"; too few for the {threshold.false_alarm_rate:.2%} asked for, which {threshold.images_needed} support"
    return text


def _vouched_together(tau: Threshold, theta: Threshold) -> str:
    """Add up the rates of both. More can't be said without knowing how often both flag the same frame."""
    confidence = max(0.0, tau.confidence + theta.confidence - 1)
    text = f"false-alarm rate {tau.expected_rate + theta.expected_rate:.2%} expected at the most, below "
    return text + f"{min(1.0, tau.bound + theta.bound):.2%} with {confidence:.0%} confidence"


def quantization_table(quantization: Quantization) -> str:
    """Return as text what int8 saves and costs."""
    cost, before_mb, after_mb = quantization.cost, quantization.float32_bytes / 1e6, quantization.int8_bytes / 1e6
    lines = [
        f"{escaped(str(quantization.path))}: int8, calibrated on {quantization.calibrated} normal images",
        f"  {before_mb:.1f} MB before, {after_mb:.1f} MB now",
        f"  {quantization.float32_per_int8:.1f} x the speed of float32 on this machine{_without_vnni()}",
        f"  {cost.held_out} other normal images: maps correlate with float32's by {cost.map_correlation:.4f} or more",
    ]
    if cost.score_shift is not None:
        lines.append(f"  their maxima move by {cost.score_shift:.2f} of their standard deviation at most")
    for name, (before, after) in cost.rocauc.items():
        lines.append(f"  {name.replace('_', ' ')}: {before:.4f} at float32, {after:.4f} at int8")
    return "\n".join(lines)


def _without_vnni() -> str:
    return "" if any("vnni" in name for name in instruction_sets()) else " (it has no VNNI: exact 16-bit sums)"


def comparison_text(comparison: Comparison) -> str:
    """Return as text how many images have the same verdict on both sides, and the first of those that haven't."""
    counts = comparison.counts
    lines = []
    for name, side in (("A", comparison.a), ("B", comparison.b)):
        complete = "" if side.complete else ", not complete"
        lines.append(
            f"{name}: {escaped(side.recipe)}, generation {side.generation}, {escaped(side.rows)}: "
            f"{side.images:,} images{complete}"
        )
    rows: dict[str, int] = {"both normal": counts.both_normal, "both anomalous": counts.both_anomalous}
    rows |= {str(change): count for change, count in counts.changed.items()}
    rows |= {"errors in both": counts.both_errors, "only in A": counts.only_in_a, "only in B": counts.only_in_b}
    lines += [f"  {name:20} {count:>10,}" for name, count in rows.items()]
    lines.append(comparison.sentence)
    if comparison.changed:
        lines.append(f"  {'scores / thresholds:':20} {'A':>6} {'B':>6}")
    for change, count in counts.changed.items():
        images = [image for image in comparison.changed if image.change == change][:MOST_CHANGED]
        lines += [_changed_line(comparison, image) for image in images]
        if count > len(images):
            lines.append(f"  … and {count - len(images):,} more {change}")
    return "\n".join(lines)


def _changed_line(comparison: Comparison, image: ChangedImage) -> str:
    """Return in one line an image and its scores in multiples of the thresholds."""
    multiples = []
    for side, verdict in ((comparison.a, image.a), (comparison.b, image.b)):
        score = verdict.pred_score
        multiples.append("error" if score is None else f"{score / max(side.threshold, sys.float_info.min):.3g}")
    return f"  {image.change:20} {multiples[0]:>6} {multiples[1]:>6}  {escaped(image.path)}"
