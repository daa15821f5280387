"""What a recipe records apart from its settings: the thresholds with their scores, and its normal images.

Every value is checked when the object is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ..calibration import Threshold
from ..checks import (
    check_choice,
    check_digest,
    check_instance,
    check_instances,
    check_number,
    check_shape,
    check_text,
    check_unique,
)
from ..errors import InputError
from ..images.frame_facts import FrameFacts
from ..images.frame_shape import Size
from ..images.structure import MAX_PIXELS

Method = Literal["leave-one-out", "held-out"]


@dataclass(frozen=True)
class Calibration:
    """The two thresholds and the scores of the normal images that they come from.

    Attributes
    ----------
    tau
        Threshold of the image score.
    theta
        Threshold of the anomaly map.
    method
        "leave-one-out": each image is scored without itself in the gallery. "held-out": the scores are those of normal
        images that the gallery doesn't hold.
    image_scores, map_scores
        One score for each image of the calibration, in the same order.
    image_names
        The names of the images, in that order. None: an older version made the thresholds.
    """

    tau: Threshold
    theta: Threshold
    method: Method
    image_scores: tuple[float, ...]
    map_scores: tuple[float, ...]
    image_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        check_choice("method", self.method, get_args(Method))
        for name, threshold, scores_name, scores in (
            ("tau", self.tau, "image_scores", self.image_scores),
            ("theta", self.theta, "map_scores", self.map_scores),
        ):
            check_instance(name, threshold, Threshold)
            check_instances(scores_name, scores, float)
            for index, score in enumerate(scores):
                check_number(f"{scores_name}[{index}]", score)
            if len(scores) != threshold.images:
                raise InputError(f"{scores_name}: expected {name}'s {threshold.images} scores, got {len(scores)}")
        if self.image_names is not None:
            check_instances("image_names", self.image_names, str)
            for index, name in enumerate(self.image_names):
                check_text(f"image_names[{index}]", name)
            check_unique("image_names", self.image_names)
            if len(self.image_names) != len(self.map_scores):
                raise InputError(
                    f"image_names: expected one for each of {len(self.map_scores)} scores, got {len(self.image_names)}"
                )


@dataclass(frozen=True)
class ImageRecord:
    """One normal image of the gallery.

    Attributes
    ----------
    name
        Unique in its recipe. It may be any text and any POSIX file name.
    sha256
        SHA-256 of the source file's bytes, in lower-case hex. None: there was no file.
    pixels_sha256
        SHA-256 of the image's pixels, as :func:`.copies.pixels_digest` makes it. Copies in different formats have the
        same one. None: an older version stored the image.
    size
        (height, width) of the frame as read. None: unknown, as in recipes of version 1 or 2.
    facts
        Facts for the frame check. None: unknown, as in recipes of version 1 or 2.
    original
        Name of the image that this one was turned from; ``sha256`` is then that of its file. None: it stands as it was
        read.
    degrees
        The angle that it was turned by, counter-clockwise.
    """

    name: str
    sha256: str | None = None
    pixels_sha256: str | None = None
    size: Size | None = None
    facts: FrameFacts | None = None
    original: str | None = None
    degrees: float = 0.0

    def __post_init__(self) -> None:
        check_text("image name", self.name)
        for field in ("sha256", "pixels_sha256"):
            if (digest := getattr(self, field)) is not None:
                check_digest(f"image {self.name!r:.100}: {field}", digest)
        if self.size is not None:
            check_shape(f"image {self.name!r:.100}: size", self.size, height=MAX_PIXELS, width=MAX_PIXELS)
        if self.facts is not None:
            check_instance(f"image {self.name!r:.100}: facts", self.facts, FrameFacts)
        if self.original is not None:
            check_text(f"image {self.name!r:.100}: original", self.original)
        check_number(f"image {self.name!r:.100}: degrees", self.degrees, low=0, high=360)
        if (self.original is None) != (self.degrees == 0):
            raise InputError(
                f"image {self.name!r:.100}: expected degrees above 0 if, and only if, it has an original, "
                f"got {self.degrees:g} and {self.original!r:.100}"
            )

    def turned(self, degrees: float, facts: FrameFacts | None) -> ImageRecord:
        """Return the record of this image turned by an angle; the facts are the turned image's."""
        name = f"{self.name}, turned by {degrees:g} degrees"
        return ImageRecord(name, self.sha256, size=self.size, facts=facts, original=self.name, degrees=degrees)
