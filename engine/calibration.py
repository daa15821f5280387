"""A threshold from the scores of normal images alone, and the false-alarm rate that so many images can support.

The threshold is one of the scores: an order statistic. No distribution of the scores is assumed. The only assumption is
that normal images and the frames to come are drawn alike and independently. Several shots of one part within a second
aren't independent, and make the bound too good. No anomalous image is needed. How the scores are made (leave-one-out,
held out) is not decided here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .checks import check_integer, check_number
from .errors import InputError


@dataclass(frozen=True)
class Threshold:
    """A score above which a frame is called anomalous, and how reliable it is.

    Attributes
    ----------
    value
        A frame is anomalous when its score is strictly greater.
    false_alarm_rate
        The wanted share of normal frames that are called anomalous, between 0 and 1.
    images
        Normal images that it was made from.
    bound
        Upper confidence bound of the true false-alarm rate, at the level ``confidence``.
    confidence
        That level, between 0 and 1.
    """

    value: float
    false_alarm_rate: float
    images: int
    bound: float
    confidence: float = 0.95

    def __post_init__(self) -> None:
        check_number("value", self.value)
        check_integer("images", self.images, low=1, high=2**31 - 1)
        check_number("bound", self.bound, low=0, high=1)
        _check_fraction("false_alarm_rate", self.false_alarm_rate)
        _check_fraction("confidence", self.confidence)

    @property
    def expected_rate(self) -> float:
        """The false-alarm rate to expect, on average over all draws of so many images."""
        return (self.images + 1 - _rank(self.images, self.false_alarm_rate)) / (self.images + 1)

    def check_made_from(self, scores: Sequence[float]) -> None:
        """Raise InputError unless these scores give this threshold, at its rate and confidence."""
        made = threshold(scores, false_alarm_rate=self.false_alarm_rate, confidence=self.confidence)
        # The value is one of the scores. The bound is computed, and may round otherwise in another scipy.
        if made.value != self.value or not math.isclose(made.bound, self.bound, rel_tol=1e-6, abs_tol=1e-12):
            raise InputError(
                f"expected {made.value!r} with a bound of {made.bound!r}, which the stored scores give, "
                f"got {self.value!r} with {self.bound!r}"
            )

    @property
    def supported(self) -> bool:
        """Whether so many images can support the wanted rate; if not, ``value`` is the highest score."""
        return _wanted_rank(self.images, self.false_alarm_rate) <= self.images


def threshold(
    scores: Sequence[float] | NDArray[np.floating], *, false_alarm_rate: float, confidence: float = 0.95
) -> Threshold:
    """Return the lowest score that keeps the false-alarm rate at the wanted one, or the highest score.

    With n scores it is the j-th smallest, ``j = ceil((n + 1) * (1 - false_alarm_rate))`` (split conformal
    prediction): the chance that a further normal image scores higher is then at most ``false_alarm_rate``.
    Where j exceeds n, the highest score is taken, whose rate is ``1 / (n + 1)``, and
    :attr:`Threshold.supported` is false. The true rate of the j-th smallest follows Beta(n - j + 1, j), or
    lies below it where scores tie; ``bound`` is its quantile at ``confidence``.

    Parameters
    ----------
    scores
        (n,) scores of normal images, finite.
    false_alarm_rate
        Wanted share of normal frames called anomalous, between 0 and 1.
    confidence
        Level of the bound, between 0 and 1.

    Raises
    ------
    InputError
        No scores, scores that aren't finite numbers, or a rate or confidence outside (0, 1).

    Examples
    --------
    >>> threshold([0.1, 0.4, 0.2], false_alarm_rate=0.25).value
    0.4
    """
    _check_fraction("false_alarm_rate", false_alarm_rate)
    _check_fraction("confidence", confidence)
    values = np.asarray(scores)
    if values.ndim != 1 or values.size == 0 or values.dtype.kind not in "fiu":
        raise InputError(f"scores: expected one or more numbers, got {values.dtype} of shape {values.shape}")
    if not np.isfinite(values).all():
        index = int(np.flatnonzero(~np.isfinite(values))[0])
        raise InputError(f"scores: expected finite numbers, got {values[index]} at index {index}")
    from scipy.special import betaincinv  # noqa: PLC0415 - slow to import, and who inspects doesn't need it

    n = values.size
    rank = _rank(n, false_alarm_rate)
    return Threshold(
        value=float(np.partition(values, rank - 1)[rank - 1]),
        false_alarm_rate=float(false_alarm_rate),
        images=n,
        bound=float(betaincinv(n - rank + 1, rank, confidence)),
        confidence=float(confidence),
    )


def _wanted_rank(images: int, false_alarm_rate: float) -> int:
    # A billionth of an image makes up for the rounding of decimals: 100 * 0.29 comes out below 29.
    return images + 1 - math.floor((images + 1) * false_alarm_rate + 1e-9)


def _rank(images: int, false_alarm_rate: float) -> int:
    return min(_wanted_rank(images, false_alarm_rate), images)


def _check_fraction(name: str, value: float) -> None:
    check_number(name, value)
    if not 0 < value < 1:
        raise InputError(f"{name}: expected a number between 0 and 1, both excluded, got {value!r:.100}")
