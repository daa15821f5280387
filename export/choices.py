"""What an export can be asked for, and the check of its arguments. No torch or ONNX is imported."""

from __future__ import annotations

from typing import Any, Literal, get_args

from ..engine.errors import InputError

Precision = Literal["float32", "float16", "int8"]
BACKBONES = ("resnet18", "resnet34", "resnet50", "resnet101", "wide_resnet50_2", "wide_resnet101_2")
LEVELS = ("layer1", "layer2", "layer3", "layer4")
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
STRIDE = 32  # of layer4: with a size that isn't a multiple of it, a level isn't half of the one before
NEIGHBOURHOOD = 3  # an export's default
MOST_NEIGHBOURHOOD = 9  # the time of averaging grows with its square


def check_choices(
    backbone: str, levels: tuple[str, ...], input_size: Any, precision: str, embedding: str = LEVELS[-1]
) -> None:
    """Raise :class:`InputError` for the first argument that isn't allowed."""
    if backbone not in BACKBONES:
        raise InputError(f"backbone: expected one of {', '.join(BACKBONES)}, got {backbone!r:.100}")
    if not levels or levels != tuple(level for level in LEVELS if level in levels):
        raise InputError(
            f"levels: expected one or more of {', '.join(LEVELS)}, each once, in this order, got {levels!r:.100}"
        )
    is_pair = isinstance(input_size, tuple) and len(input_size) == 2
    if not is_pair or not all(type(side) is int and side > 0 and side % STRIDE == 0 for side in input_size):
        raise InputError(
            f"input_size: expected (height, width) in positive multiples of {STRIDE}, got {input_size!r:.100}"
        )
    if precision not in PRECISIONS:
        raise InputError(f"precision: expected one of {', '.join(PRECISIONS)}, got {precision!r:.100}")
    coarser = LEVELS[LEVELS.index(levels[-1]) :]
    if embedding not in coarser:
        raise InputError(
            f"embedding: expected the coarsest of levels or a coarser one, {', '.join(coarser)}, got {embedding!r:.100}"
        )


def chosen_neighbourhood(asked: Any, levels: tuple[str, ...], input_size: tuple[int, int]) -> int:
    """Return the neighbourhood asked for, checked; for None, the default or the largest that the levels allow."""
    stride = STRIDE >> (len(LEVELS) - 1 - LEVELS.index(levels[-1]))
    coarsest = (input_size[0] // stride, input_size[1] // stride)
    if asked is None:
        return min(NEIGHBOURHOOD, _largest(coarsest))
    check_neighbourhood(asked, coarsest)
    number: int = asked
    return number


def check_neighbourhood(neighbourhood: Any, coarsest: tuple[int, int]) -> None:
    """Raise :class:`InputError` unless it is odd and fits into a coarsest level of (height, width) positions."""
    most = _largest(coarsest)
    if type(neighbourhood) is not int or neighbourhood % 2 == 0 or not 1 <= neighbourhood <= most:
        raise InputError(
            f"neighbourhood: expected an odd number from 1 to {most}, with a coarsest level of "
            f"{coarsest[0]} x {coarsest[1]} positions, got {neighbourhood!r:.100}"
        )


def _largest(coarsest: tuple[int, int]) -> int:
    return min(MOST_NEIGHBOURHOOD, (min(coarsest) - 1) // 2 * 2 + 1)
