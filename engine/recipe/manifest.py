"""Everything a recipe says about itself: the class Manifest, and the checks that its parts agree.

How it is written as recipe.json and read back stands in :mod:`.manifest_json`. Whether the files that it names are
there, and hold what they should, is found out when they are opened, by :mod:`.recipe`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from ..checks import check_instance, check_instances, check_integer, check_text, check_unique, check_utc
from ..errors import InputError
from ..files import StoredFile
from ..images.frame_facts import FrameFacts
from ..match.codes import CODES_VERSION
from ..settings import Settings
from .gallery import EMBEDDINGS, Geometry
from .ignore import IGNORE
from .records import Calibration, ImageRecord
from .stored_codes import can_have_codes, code_arrays, code_roles
from .tuning_record import TuningRecord

VERSION = 5  # the version of the format that is written
FIRST_SEALED = 3  # the first version of recipe.json that holds its own hash
EXTRACTOR = "extractor"
LAST_GENERATION = 10**18 - 1
GENERATION = "[1-9][0-9]{0,17}"  # a generation in file names
NUMBERED = rf"-({GENERATION})\.(onnx|npy)$"  # how the name of a recipe's file ends


def extractor_name(generation: int) -> str:
    """Return the extractor's file name."""
    return f"extractor-{generation}.onnx"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything that a recipe says about itself.

    Attributes
    ----------
    spadeline_version
        Version of the spadeline that created the recipe.
    created
        When it was created: UTC, ISO 8601. Adding and removing images keeps it.
    generation
        A number that grows whenever the stored features change.
    settings
        Every setting that changes a score.
    geometry
        The shapes of the extractor's input and outputs.
    files
        The recipe's other files by their roles: ``"extractor"``, ``"embeddings"``, and each level by its name;
        ``"ignore"`` if there is a mask, and the codes, such as ``"rotated-layer1"``, if there are any. Each file's name
        holds the generation that wrote it.
    codes_version
        Version of the matcher's codes. None: there are none.
    calibration
        The thresholds tau and theta, and how they were made. None: the recipe isn't calibrated.
    tuning
        Why the settings were chosen. None: nobody tuned them, or they were changed since.
    images
        The normal images, in the gallery's order, each followed by those that were turned from it. The id of an image
        is its index.
    version
        Version of the format that it was read from. The newest version is always the one that is written.
    """

    spadeline_version: str
    created: str
    generation: int
    settings: Settings
    geometry: Geometry
    files: Mapping[str, StoredFile]
    codes_version: int | None = None
    calibration: Calibration | None
    tuning: TuningRecord | None = None
    images: tuple[ImageRecord, ...]
    version: int = field(default=VERSION, compare=False)

    def __post_init__(self) -> None:
        check_text("spadeline_version", self.spadeline_version, longest=100)
        check_utc("created", self.created)
        check_integer("generation", self.generation, low=1, high=LAST_GENERATION)
        check_instance("settings", self.settings, Settings)
        check_instance("geometry", self.geometry, Geometry)
        check_level_weights(self.settings, self.geometry)
        if self.codes_version is not None:
            check_integer("codes_version", self.codes_version, low=1, high=2**31 - 1)
        if self.calibration is not None:
            check_instance("calibration", self.calibration, Calibration)
        if self.tuning is not None:
            check_instance("tuning", self.tuning, TuningRecord)
        check_instances("images", self.images, ImageRecord)
        if not self.images:
            raise InputError("images: expected one or more, got none")
        check_unique("images", (image.name for image in self.images))
        self._check_originals()
        self._check_files()

    @property
    def is_sealed(self) -> bool:
        """Whether recipe.json held its own hash. The hash was checked, so recipe.json has no damage."""
        return self.version >= FIRST_SEALED

    @property
    def originals(self) -> tuple[ImageRecord, ...]:
        """The images that aren't turned."""
        return tuple(image for image in self.images if image.original is None)

    @property
    def families(self) -> tuple[range, ...]:
        """The indices of each image that isn't turned and of all that were turned from it."""
        return tuple(self.family(index) for index, image in enumerate(self.images) if image.original is None)

    def family(self, index: int) -> range:
        """Return the indices of an image that isn't turned and of all that were turned from it."""
        end = index + 1
        while end < len(self.images) and self.images[end].original is not None:
            end += 1
        return range(index, end)

    @property
    def frame_sizes(self) -> tuple[tuple[int, int], ...] | None:
        """(height, width) of each image's frame, without turned ones. None: not all of them are known."""
        known = tuple(image.size for image in self.originals if image.size is not None)
        return known if len(known) == len(self.originals) else None

    @property
    def frame_facts(self) -> tuple[FrameFacts, ...] | None:
        """The facts of each image that the frame check needs. None: not all of them are known."""
        known = tuple(image.facts for image in self.images if image.facts is not None)
        return known if len(known) == len(self.images) else None

    @property
    def has_codes(self) -> bool:
        """Whether there are codes of the version that this spadeline uses."""
        return self.codes_version == CODES_VERSION

    def _check_originals(self) -> None:
        """Raise InputError unless each turned image follows its original, as :meth:`family` expects."""
        original = None
        for image in self.images:
            if image.original is None:
                original = image.name
            elif image.original != original:
                raise InputError(
                    f"image {image.name!r:.100}: expected to follow its original {image.original!r:.100}, "
                    f"got it behind {original!r:.100}"
                )

    def _check_files(self) -> None:
        """Raise InputError unless each file has the only name that it may have, which can't lead out of the folder."""
        features = (EMBEDDINGS, *self.geometry.level_names)
        required, optional = [EXTRACTOR, *features], [IGNORE]
        if self.has_codes:
            if not can_have_codes(self.geometry):
                channels = ", ".join(str(shape[0]) for shape in self.geometry.level_shapes)
                raise InputError(f"codes_version: expected none for levels of {channels} channels, got {CODES_VERSION}")
            required += code_arrays(self.geometry, len(self.images))
        elif self.codes_version is not None:
            optional += code_roles(self.geometry)
        if not set(required) <= set(self.files) <= {*required, *optional}:
            raise InputError(
                f"files: expected {', '.join(required)}, possibly {', '.join(optional)}, "
                f"got {', '.join(self.files):.1000}"
            )
        for role, file in self.files.items():
            # Features are of this generation. The other files may be older, and codes that were made later are newer.
            generation = self.generation if role in features else "<generation>"
            expected = f"{role}-{generation}.{'onnx' if role == EXTRACTOR else 'npy'}"
            if not re.fullmatch(expected.replace(".", r"\.").replace("<generation>", GENERATION), file.name):
                raise InputError(f"files: {role}: expected the name {expected}, got {file.name!r:.100}")

    def changed(self, **changes: Any) -> Manifest:
        """Return a manifest with some fields replaced. It is never of a derived class."""
        return Manifest(**{each.name: getattr(self, each.name) for each in fields(Manifest)} | changes)


def check_level_weights(settings: Settings, geometry: Geometry) -> None:
    """Raise InputError unless the settings give a weight to each level of the geometry, or to none."""
    weights, names = settings.level_weights, geometry.level_names
    if weights is not None and len(weights) != len(names):
        raise InputError(
            f"level_weights: expected {len(names)}, one for each of {', '.join(names)}, got {len(weights)}"
        )
