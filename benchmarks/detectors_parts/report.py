"""What detectors.py says: one row a detector, accuracy beside speed, and who was left out why."""

from __future__ import annotations

from typing import Any

from detectors_parts.judging import AUPRO

HEAD = (
    "image",
    "by map",
    "pixel",
    "AU-PRO",
    "p50 ms",
    "p95",
    "p99",
    "max",
    "frames/s",
    "runs",
    "model MB",
    "memory MB",
)


def print_result(result: dict[str, Any]) -> None:
    """Print the table and what belongs to it."""
    height, width = result["input_size"]
    print(
        f"\n{result['backbone']}, {result['weights']} weights, input {height} x {width}; "
        f"{result['images']} normal images, SPADE searches {result['gallery_images']}; {result['frames']} frames"
    )
    if result["peers"]:
        print("peers: " + ", ".join(f"{name} {version}" for name, version in result["peers"].items()))
    print("ROCAUC by the detector's own image score, by its map's maximum, and of pixels")
    print(f"{'':32}" + "".join(f"{title:>10}" for title in HEAD))
    for row in result["rows"]:
        print(f"{row['name']:32}" + "".join(f"{cell:>10}" for cell in _cells(row)))
    for row in result["rows"]:
        if row["difference_to_spadeline"] is not None:
            print(f"{row['name']}: maps and scores are spadeline's within {row['difference_to_spadeline']:.1e}")
        if row["precision"] != "float32":
            print(f"{row['name']}: computes in {row['precision']}")
        if row["image_rocauc_by_embedding"] is not None:
            print(f"{row['name']}: image ROCAUC by the embedding {row['image_rocauc_by_embedding']:.3f}")
    for name, reason in result["left_out"].items():
        print(f"{name}: left out, {reason}")


def _cells(row: dict[str, Any]) -> list[str]:
    shares = [row[key] for key in ("image_rocauc", "image_rocauc_by_map", "pixel_rocauc", AUPRO)]
    times = [row["latency"][key] for key in ("p50_s", "p95_s", "p99_s", "max_s")]
    sizes = [row["model_bytes"], row["peak_bytes"]]
    return [
        *("" if share is None else f"{share:.3f}" for share in shares),
        *("" if seconds is None else f"{1e3 * seconds:.1f}" for seconds in times),
        f"{row['frames_per_s']:.2f}",
        str(row["latency"]["runs"]),
        *(f"{size / 1e6:.0f}" for size in sizes),
    ]
