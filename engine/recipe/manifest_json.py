"""recipe.json: a recipe's manifest as strict JSON and back.

Format ``spadeline-recipe``, version 5. Every field is required. An unknown field is an error: it could change a score,
so a recipe with further fields needs a further version. NaN, infinities and repeated keys are refused. Text is escaped
to ASCII, so that any image name survives.

The file holds its own hash: its last field is the SHA-256 of all bytes before that field's line, so no bit of it can
change unseen. This guards against damage. It doesn't guard against malice, since whoever can write the file can write
another hash. The hash can be made without spadeline: ``head -n -2 recipe.json | sha256sum``.

Versions 1 to 4 are read, too. Version 4 has no record of tuning and no turned images, and version 3 no setting ``need``
either. Versions 1
and 2 don't hold that hash, so damage to them may pass; their images lack the hash of their pixels, their size and their
facts, and their thresholds the names of their images. Version 1 has no codes, level weights or ignore mask either.
Codes have a version of their own, since they change no score: codes of another version are passed over.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from ..calibration import Threshold
from ..checks import check_unique
from ..errors import InputError, RecipeError
from ..files import StoredFile
from ..images.frame_facts import FrameFacts
from ..settings import Settings
from .gallery import Geometry
from .ignore import IGNORE
from .manifest import FIRST_SEALED, VERSION, Manifest
from .records import Calibration, ImageRecord
from .tuning_record import TuningRecord

FORMAT = "spadeline-recipe"
# The versions that are read, each with the fields and files that came after it.
NEW_IN_2 = frozenset({"codes_version", "level_weights", IGNORE})
NEW_IN_3 = frozenset({"frame_check", "frame_shape", "size", "facts", "image_names", "pixels_sha256"})
NEW_IN_4 = frozenset({"need"})
NEW_IN_5 = frozenset({"tuning", "angles", "original", "degrees"})
LATER = {
    1: NEW_IN_2 | NEW_IN_3 | NEW_IN_4 | NEW_IN_5,
    2: NEW_IN_3 | NEW_IN_4 | NEW_IN_5,
    3: NEW_IN_4 | NEW_IN_5,
    4: NEW_IN_5,
    5: frozenset[str](),
}
SEAL = b'  "sha256": "%s"\n}\n'  # how a recipe.json with its own hash ends
# The most that a reader parses: 150,000 images or more, in less memory than ten times the file's bytes. Marks are the
# characters that begin a value or a name. A file that is full of them, such as [[],[],…], would take far more memory.
LARGEST_MANIFEST = 64 << 20  # bytes
MOST_MARKS = 1 << 22
MARKS = b"[{,:"

T = TypeVar("T")


def manifest_to_json(manifest: Manifest) -> bytes:
    """Return the content of recipe.json. InputError if it would be longer than a reader takes."""
    encoded = seal({"format": FORMAT, "version": VERSION} | asdict(manifest) | {"version": VERSION})
    if len(encoded) > LARGEST_MANIFEST or _marks(encoded) > MOST_MARKS:
        raise InputError(
            f"images: expected no more than fit a recipe.json of {LARGEST_MANIFEST} bytes, "
            f"got {len(manifest.images)}, which take {len(encoded)}"
        )
    return encoded


def _marks(encoded: bytes) -> int:
    """Count the marks. Those in texts count, too: few names have many."""
    return sum(encoded.count(mark) for mark in MARKS)


def seal(content: Mapping[str, Any]) -> bytes:
    """Encode the fields of a recipe.json, and append its own hash."""
    body = json.dumps(content, indent=2, allow_nan=False).removesuffix("\n}").encode("ascii") + b",\n"
    return body + _seal_of(body)


def _seal_of(body: bytes) -> bytes:
    return SEAL % hashlib.sha256(body).hexdigest().encode("ascii")


def manifest_from_json(encoded: bytes, path: Path) -> Manifest:
    """Read the content of the recipe.json at ``path``. RecipeError names the path and the field."""
    if (marks := _marks(encoded)) > MOST_MARKS:
        raise RecipeError(f"{path}: expected at most {MOST_MARKS} brackets, commas and colons, got {marks}")
    try:
        # Not by msgspec, which refuses lone surrogates, as names of files may hold, and lets repeated keys pass.
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
        raise InputError(f"expected version 1 to {VERSION} of the format, got {version!r:.100}")
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
        tuning=lambda part: None if part is None else _build(TuningRecord, part, changed=_tuples),
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
    """Make a dataclass from a JSON object that has exactly its fields.

    Parameters
    ----------
    kind
        The dataclass.
    content
        The JSON object.
    later
        Fields that came after the version of the format, and must be missing.
    parts
        How fields are converted that JSON doesn't have as they are.
    """
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
