"""Every setting: what changes a score or a verdict, and what results are exact in. All of them are declared here.

A field of :class:`Settings` holds a setting's default, limits, text and command-line form. The check of its value, its
option of ``spadeline fit`` and ``spadeline calibrate``, and its entry in the documentation are made from the field, by
way of :func:`all_settings`.

Values are checked when the object is made, so a Settings that exists can be used, wherever it came from. Whether a
value suits the images at hand (more neighbours than images, say) is decided where it is used.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from textwrap import fill, indent
from typing import Literal, get_args

from .checks import check_choice
from .declared import Setting, about, declared

FrameShape = Literal["error", "warn", "any"]
Framing = Literal["whole", "paper"]
Upsampling = Literal["nearest", "bilinear"]
Distance = Literal["squared", "root"]
Storage = Literal["float32", "float16"]
LabelRule = Literal["map", "image", "either"]
FrameCheck = Literal["on", "off"]
Need = Literal["map", "mask", "label"]
Preset = Literal["default", "paper"]

MOST_ANGLES = 72  # one every 5 degrees; a gallery grows with them
MOST_IMAGES = 2**31 - 1  # image ids are int32 in the matcher
MOST_NEIGHBOURS = 1000  # the matcher's results are (h, w, kappa): a recipe must not ask for unbounded memory
LARGEST_WINDOW = 2**31 - 1
LARGEST_SIGMA = 1000.0  # pixels; the smoothing kernel is 8 sigma long
MOST_LEVELS = 4
# The descriptions that faiss accepts, or refuses with an error. Others that its grammar allows end the process or take
# all of its memory, and the indexes they describe do nothing more for embeddings as few and as short as these.
INDEX_FACTORY = r"(PCA[1-9][0-9]{0,3},)?(Flat|SQ8|SQfp16|LSH|HNSW([2-9]|[1-9][0-9]{1,2})|IVF[1-9][0-9]{0,6},(Flat|SQ8))"
SMALLEST_WEIGHT, LARGEST_WEIGHT = 1e-6, 1e6  # a level outside this range is better left out, or taken alone


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every setting that changes a score or a verdict, and what results are exact in."""

    framing: Framing = field(
        default="whole",
        metadata=about(
            "the whole frame, or the paper's resize and centre crop",
            details='``"whole"``: the whole frame is resized to the input size. ``"paper"``: the frame is resized to '
            "8/7 of the input size and its centre is cropped.",
            built_in=True,
        ),
    )
    angles: int = field(
        default=1,
        metadata=about(
            "number of angles at which each normal image is kept, for parts that lie at any angle",
            details="The images are turned about the frame's centre by equal parts of a full circle. A part that is "
            "defective because of its angle then counts as normal.",
            limits=(1, MOST_ANGLES),
            metavar="N",
            built_in=True,
        ),
    )
    k_score: int = field(
        default=5,
        metadata=about(
            "number of nearest normal images whose mean squared distance is the image score",
            details="It is clamped to the number of images.",
            limits=(1, MOST_IMAGES),
            metavar="N",
        ),
    )
    k_gallery: int = field(
        default=50,
        metadata=about(
            "number of nearest normal images whose pixels form the gallery, which is searched for matches",
            details="It is clamped to the number of images.",
            limits=(1, MOST_IMAGES),
            metavar="N",
        ),
    )
    kappa: int = field(
        default=1,
        metadata=about(
            "number of nearest gallery pixels whose distances are averaged into a pixel's score",
            limits=(1, MOST_NEIGHBOURS),
            metavar="N",
        ),
    )
    window: int | None = field(
        default=None,
        metadata=about(
            "how far away a match may lie in y and in x",
            unit="pixels of the coarsest level",
            limits=(0, LARGEST_WINDOW),
            unset="whole image",
            metavar="PIXELS",
        ),
    )
    level_weights: tuple[float, ...] | None = field(
        default=None,
        metadata=about(
            "one factor for each level's squared distance, finest level first",
            details="The distance of two pixels is the sum over the levels of weight times squared L2 distance. Each "
            f"weight is {SMALLEST_WEIGHT:g} to {LARGEST_WEIGHT:g}. A list becomes a tuple.",
            limits=(SMALLEST_WEIGHT, LARGEST_WEIGHT),
            most=MOST_LEVELS,
            form=f"1 to {MOST_LEVELS} numbers, one a level",
            unset="all 1",
            metavar="W",
        ),
    )
    upsampling: Upsampling = field(
        default="nearest",
        metadata=about("how coarse levels reach the finest grid: values are repeated, or interpolated"),
    )
    distance: Distance = field(
        default="squared",
        metadata=about("squared L2 distances, as in the paper, or their square root"),
    )
    sigma: float = field(
        default=4.0,
        metadata=about(
            "standard deviation of the Gaussian that smooths the anomaly map",
            unit="pixels of the extractor's input",
            limits=(0, LARGEST_SIGMA),
            metavar="PIXELS",
        ),
    )
    index_factory: str = field(
        default="Flat",
        metadata=about(
            "description of the faiss index that retrieves the nearest normal images",
            details='``"Flat"`` is exact. Others are for very many images: ``"SQ8"``, ``"SQfp16"``, ``"LSH"``, '
            '``"HNSW32"``, ``"IVF64,Flat"`` or ``"IVF64,SQ8"``, with numbers of your own, also behind ``"PCA64,"``.',
            pattern=INDEX_FACTORY,
            form="Flat, SQ8, SQfp16, LSH, HNSW<2 to 999>, IVF<lists>,Flat or IVF<lists>,SQ8, or one of them behind "
            "PCA<dimensions>",
            metavar="INDEX",
        ),
    )
    storage: Storage = field(
        default="float16",
        metadata=about(
            "number type of the stored gallery",
            details='``"float16"`` takes half the room. On a pretrained ResNet it moved no pixel of an anomaly map by '
            'more than 1e-4 of its maximum. Features beyond 65504 need ``"float32"``.',
            built_in=True,
        ),
    )
    label_rule: LabelRule = field(
        default="map",
        metadata=about(
            "what makes a frame anomalous: the anomaly map above theta, the image score above tau, or either"
        ),
    )
    frame_check: FrameCheck = field(
        default="on",
        metadata=about(
            "whether a frame is also anomalous if it is far darker, brighter, flatter or less sharp than all normal "
            "images, or like none of them",
            details="Its limits stand in :mod:`.frame_check`.",
        ),
    )
    frame_shape: FrameShape = field(
        default="error",
        metadata=about(
            "what happens to a frame whose proportions, height to width, differ from those of all normal images",
            details='``"error"``: it is refused. ``"warn"``: it is accepted with a warning. ``"any"``: it is accepted.',
        ),
    )
    need: Need = field(
        default="map",
        metadata=about(
            "what results are exact in, where a call asks for nothing else: the anomaly map, its mask, or the label",
            details='``"mask"``: also the label, and box and area of the regions. ``"label"``: the label alone. These '
            'are as with ``"map"``. The search ends as soon as they are proven, and the rest is an upper bound: see '
            ":class:`.Result`. Thresholds don't depend on it.",
        ),
    )

    def __post_init__(self) -> None:
        for each in all_settings():
            object.__setattr__(self, each.name, each.checked(getattr(self, each.name)))


@cache
def all_settings() -> tuple[Setting, ...]:
    """Return what is declared of each setting, in the order of the fields of :class:`Settings`."""
    return declared(Settings)


def preset(name: Preset) -> Settings:
    """Return settings by name: ``"default"``, or ``"paper"``, the protocol of SPADE's paper (arXiv 2005.02357).

    The paper resizes and crops, and has one number of nearest images for both the image score and the gallery. Its
    levels aren't averaged: export its extractor with a neighbourhood of 1.

    Raises
    ------
    InputError
        Another name.
    """
    check_choice("preset", name, get_args(Preset))
    return Settings(framing="paper", k_score=50, k_gallery=50, kappa=1, sigma=4.0) if name == "paper" else Settings()


def _attributes() -> str:
    """Return the settings as a docstring's section, for ``help(Settings)``."""
    entries = (f"{each.name} : {each.values}\n{indent(fill(each.text, 100), '    ')}" for each in all_settings())
    return indent("\n".join(["", "", "Attributes", "----------", *entries, ""]), "    ")


Settings.__doc__ = f"{Settings.__doc__}{_attributes()}"
