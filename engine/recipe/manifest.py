"""recipe.json: everything a recipe says about itself, as strict JSON and back.

Format ``spadeline-recipe``, version 3. Every field is required, and an unknown one is an error: it could
change a score, so a recipe with further fields needs a further version. NaN, infinities and repeated keys are
refused. Text is escaped to ASCII, so that any image name survives. Whether the files that it names are there,
:mod:`.changes` finds out.

The file vouches for itself: its last field but for the closing brace is the SHA-256 of all bytes before that line, and
no bit of it can change unseen. It guards against damage, not against malice: whoever can write the file can write
another hash. Without us: ``head -n -2 recipe.json | sha256sum``.

Versions 1 and 2 are read, too. Neither holds that hash, so damage to them may pass; version 1 knew no codes, no level
weights and no ignore mask, so it has none of them; neither knew images by their pixels, nor thresholds their images.
Codes have a version of their own, since they change no score: a
recipe whose codes are of another version has none for us.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from ..calibration import Threshold
from ..checks import check_instance, check_instances, check_integer, check_text, check_unique
from ..errors import InputError, RecipeError
from ..files import StoredFile
from ..images.frame_facts import FrameFacts
from ..match.codes import CODES_VERSION
from ..settings import Settings
from .gallery import EMBEDDINGS, Geometry
from .ignore import IGNORE
from .records import Calibration, ImageRecord
from .stored_codes import can_have_codes, code_arrays, code_roles

FORMAT = "spadeline-recipe"
VERSION = 3
FIRST_SEALED = 3  # the first version that holds its own hash
# The versions that are read, each with the fields and files that came after it.
NEW_IN_2 = frozenset({"codes_version", "level_weights", IGNORE})
NEW_IN_3 = frozenset({"frame_check", "frame_shape", "size", "facts", "image_names", "pixels_sha256"})
LATER = {1: NEW_IN_2 | NEW_IN_3, 2: NEW_IN_3, 3: frozenset[str]()}
SEAL = b'  "sha256": "%s"\n}\n'  # how a sealed recipe.json ends
# All that a reader will parse: 150,000 images or more, in less memory than ten times the file's bytes. Marks are the
# characters that begin a value or a name: a file that is full of them, such as [[],[],…], would take far more.
LARGEST_MANIFEST = 64 << 20  # bytes
MOST_MARKS = 1 << 22
MARKS = b"[{,:"
EXTRACTOR = "extractor"
LAST_GENERATION = 10**18 - 1
GENERATION = "[1-9][0-9]{0,17}"  # as it stands in file names
NUMBERED = rf"-({GENERATION})\.(onnx|npy)$"  # what a name of a recipe's file ends with

T = TypeVar("T")


def extractor_name(generation: int) -> str:
    """Return the extractor's file name."""
    return f"extractor-{generation}.onnx"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What recipe.json says.

    Attributes
    ----------
    spadeline_version
        Of the spadeline that created the recipe.
    created
        When it was created: UTC, ISO 8601. Adding and removing images keeps it.
    generation
        Counts up whenever the stored features change.
    settings
        Every setting that changes a score.
    geometry
        The shapes of the extractor's input and outputs.
    files
        The recipe's other files: ``"extractor"``, ``"embeddings"``, each level by its name; ``"ignore"`` if there is
        a mask, and the codes, such as ``"rotated-layer1"``, if there are any. Each name holds the generation that
        wrote it.
    codes_version
        Of the matcher's codes; None: there are none.
    calibration
        tau and theta and how they came about; None before the recipe was calibrated.
    images
        The normal images, in the gallery's order: an image's id is its index here.
    version
        Of the format that it was read from; written is always the newest.
    """

    spadeline_version: str
    created: str
    generation: int
    settings: Settings
    geometry: Geometry
    files: Mapping[str, StoredFile]
    codes_version: int | None = None
    calibration: Calibration | None
    images: tuple[ImageRecord, ...]
    version: int = field(default=VERSION, compare=False)

    def __post_init__(self) -> None:
        check_text("spadeline_version", self.spadeline_version, longest=100)
        _check_utc("created", self.created)
        check_integer("generation", self.generation, low=1, high=LAST_GENERATION)
        check_instance("settings", self.settings, Settings)
        check_instance("geometry", self.geometry, Geometry)
        check_level_weights(self.settings, self.geometry)
        if self.codes_version is not None:
            check_integer("codes_version", self.codes_version, low=1, high=2**31 - 1)
        if self.calibration is not None:
            check_instance("calibration", self.calibration, Calibration)
        check_instances("images", self.images, ImageRecord)
        if not self.images:
            raise InputError("images: expected one or more, got none")
        check_unique("images", (image.name for image in self.images))
        self._check_files()

    @property
    def is_sealed(self) -> bool:
        """Whether recipe.json held its own hash, which was checked: damage to it can't have passed."""
        return self.version >= FIRST_SEALED

    @property
    def frame_sizes(self) -> tuple[tuple[int, int], ...] | None:
        """(height, width) of each image's frame; None: not all of them are known."""
        known = tuple(image.size for image in self.images if image.size is not None)
        return known if len(known) == len(self.images) else None

    @property
    def frame_facts(self) -> tuple[FrameFacts, ...] | None:
        """What the frame check needs of each image; None: not all of them are known."""
        known = tuple(image.facts for image in self.images if image.facts is not None)
        return known if len(known) == len(self.images) else None

    @property
    def has_codes(self) -> bool:
        """Whether there are codes, and of the version that is used here."""
        return self.codes_version == CODES_VERSION

    def _check_files(self) -> None:
        """Names are compared with the only ones they may be, so none can lead out of the folder."""
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
            # Features are of this generation; the other files may be older or, codes made later, newer.
            generation = self.generation if role in features else "<generation>"
            expected = f"{role}-{generation}.{'onnx' if role == EXTRACTOR else 'npy'}"
            if not re.fullmatch(expected.replace(".", r"\.").replace("<generation>", GENERATION), file.name):
                raise InputError(f"files: {role}: expected the name {expected}, got {file.name!r:.100}")

    def changed(self, **changes: Any) -> Manifest:
        """Return a manifest with some fields replaced, never one of a derived class."""
        return Manifest(**{each.name: getattr(self, each.name) for each in fields(Manifest)} | changes)


def check_level_weights(settings: Settings, geometry: Geometry) -> None:
    """Raise InputError unless the settings weigh each of the geometry's levels, or none."""
    weights, names = settings.level_weights, geometry.level_names
    if weights is not None and len(weights) != len(names):
        raise InputError(
            f"level_weights: expected {len(names)}, one for each of {', '.join(names)}, got {len(weights)}"
        )


def to_json(manifest: Manifest) -> bytes:
    """Return the content of recipe.json; InputError when it would be longer than any reader takes."""
    encoded = seal({"format": FORMAT, "version": VERSION} | asdict(manifest) | {"version": VERSION})
    if len(encoded) > LARGEST_MANIFEST or _marks(encoded) > MOST_MARKS:
        raise InputError(
            f"images: expected no more than fit a recipe.json of {LARGEST_MANIFEST} bytes, "
            f"got {len(manifest.images)}, which take {len(encoded)}"
        )
    return encoded


def _marks(encoded: bytes) -> int:
    """Count the marks, those in texts included: few names have many."""
    return sum(encoded.count(mark) for mark in MARKS)


def seal(content: Mapping[str, Any]) -> bytes:
    """Encode a recipe.json's fields, and its own hash behind them."""
    body = json.dumps(content, indent=2, allow_nan=False).removesuffix("\n}").encode("ascii") + b",\n"
    return body + _seal_of(body)


def _seal_of(body: bytes) -> bytes:
    return SEAL % hashlib.sha256(body).hexdigest().encode("ascii")


def from_json(encoded: bytes, path: Path) -> Manifest:
    """Read the content of the recipe.json at ``path``; RecipeError naming the path and the field."""
    if (marks := _marks(encoded)) > MOST_MARKS:
        raise RecipeError(f"{path}: expected at most {MOST_MARKS} brackets, commas and colons, got {marks}")
    try:
        content = json.loads(encoded.decode("utf-8"), object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
        return _manifest(content, encoded)
    except InputError as error:
        raise RecipeError(f"{path}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{path}: expected strict JSON: {error}") from error


def _manifest(content: object, encoded: bytes) -> Manifest:
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise InputError(f"expected an object of format {FORMAT!r}")
    version = content.get("version")
    if type(version) is not int or version not in LATER:
        known = ", ".join(map(str, LATER))
        raise InputError(f"expected version {known} of the format, those read here, got {version!r:.100}")
    if version >= FIRST_SEALED:
        _check_seal(encoded)
        del content["sha256"]
    later = LATER[version]
    return _build(
        Manifest,
        content,
        later,
        settings=lambda part: _build(Settings, part, later, level_weights=_tuples),
        geometry=lambda part: _build(Geometry, part, level_names=_tuples, level_shapes=_tuples, input_size=_tuples),
        files=lambda part: _files(part, later),
        calibration=lambda part: None if part is None else _calibration(part, later),
        images=lambda part: _images(part, later),
    )


def _check_seal(encoded: bytes) -> None:
    body = encoded[: -len(SEAL % (b"0" * 64))]
    if body + _seal_of(body) != encoded:
        raise InputError(
            "expected to end with the SHA-256 of what precedes it, got another end: it was damaged, or edited by hand; "
            "restore it from a copy, and change settings with: spadeline calibrate"
        )


def _files(content: object, later: Collection[str]) -> dict[str, StoredFile]:
    if not isinstance(content, dict):
        raise InputError(f"expected an object, got {content!r:.100}")
    if unknown := sorted(content.keys() & later):
        raise InputError(f"{unknown[0]!r:.100} is unknown")
    return {role: _named(role, lambda part: _build(StoredFile, part), part) for role, part in content.items()}


def _images(content: object, later: Collection[str]) -> tuple[ImageRecord, ...]:
    if not isinstance(content, list):
        raise InputError(f"expected a list, got {content!r:.100}")
    return tuple(
        _named(f"image {index}", lambda part: _build(ImageRecord, part, later, size=_tuples, facts=_facts), part)
        for index, part in enumerate(content)
    )


def _facts(content: object) -> FrameFacts | None:
    return None if content is None else _build(FrameFacts, content)


def _calibration(content: object, later: Collection[str]) -> Calibration:
    def of_threshold(part: object) -> Threshold:
        return _build(Threshold, part)

    lists = dict.fromkeys(("image_scores", "map_scores", "image_names"), _tuples)
    return _build(Calibration, content, later, tau=of_threshold, theta=of_threshold, **lists)


def _build(kind: type[T], content: object, later: Collection[str] = (), **parts: Callable[[object], object]) -> T:
    """Make a dataclass of a JSON object that has exactly its fields, without later ones, some converted first."""
    names = {each.name for each in fields(kind)} - set(later)  # type: ignore[arg-type]
    if not isinstance(content, dict):
        raise InputError(f"expected an object, got {content!r:.100}")
    if missing := sorted(names - content.keys()):
        raise InputError(f"{missing[0]} is missing")
    if unknown := sorted(content.keys() - names):
        raise InputError(f"{unknown[0]!r:.100} is unknown")
    values = {name: _named(name, parts[name], part) if name in parts else part for name, part in content.items()}
    return kind(**values)


def _named(name: str, read: Callable[[object], T], part: object) -> T:
    try:
        return read(part)
    except InputError as error:
        raise InputError(f"{name:.100}: {error}") from error


def _tuples(value: object) -> object:
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    check_unique("keys", (key for key, _ in pairs))
    return dict(pairs)


def _refuse_constant(name: str) -> NoReturn:
    raise InputError(f"expected finite numbers, got {name}")


def _check_utc(name: str, value: object) -> None:
    check_text(name, value, longest=100)
    try:
        utc = datetime.fromisoformat(str(value)).utcoffset() == timedelta(0)
    except ValueError:
        utc = False
    if not utc:
        raise InputError(f"{name}: expected a time in UTC as ISO 8601, got {value!r:.100}")
