"""How theta and tau follow from the scores of normal images alone, and how far such a threshold can be trusted.

A threshold is one of the scores, an order statistic. No distribution of the scores is assumed, only that the normal
images and the frames to come are drawn alike and independently. Shots of one part within a second are not, and make
the bound too low. No anomalous image is needed. The scores themselves (leave-one-out or held out) come from
``fitting/thresholds.py``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .checks import check_integer, check_number
from .errors import InputError

CONFIDENCE = 0.95  # of every threshold's bound


@dataclass(frozen=True)
class Threshold:
    """A score above which a frame is called anomalous, and the false alarms to expect of it.

    Attributes
    ----------
    value
        A frame is anomalous when its score is strictly greater.
    false_alarm_rate
        The wanted share of normal frames that are called anomalous, between 0 and 1.
    images
        The number of normal images that it was made from.
    bound
        Upper confidence bound of the true false-alarm rate.
    confidence
        The bound's confidence level, between 0 and 1.
    """

    value: float
    false_alarm_rate: float
    images: int
    bound: float
    confidence: float = CONFIDENCE

    def __post_init__(self) -> None:
        check_number("value", self.value)
        check_integer("images", self.images, low=1, high=2**31 - 1)
        check_number("bound", self.bound, low=0, high=1)
        check_rate(self.false_alarm_rate)
        _check_fraction("confidence", self.confidence)

    @property
    def expected_rate(self) -> float:
        """The expected false-alarm rate: its mean over all draws of ``images`` normal images."""
        return (self.images + 1 - _rank(self.images, self.false_alarm_rate)) / (self.images + 1)

    def check_made_from(self, scores: Sequence[float]) -> None:
        """Raise InputError unless these scores give this threshold, at its rate and confidence."""
        value = threshold(scores, false_alarm_rate=self.false_alarm_rate).value
        bound = false_alarm_bound(len(scores), self.false_alarm_rate, confidence=self.confidence)
        # The value is one of the scores. The bound is computed, and may round otherwise in another scipy.
        if value != self.value or not math.isclose(bound, self.bound, rel_tol=1e-6, abs_tol=1e-12):
            raise InputError(
                f"expected {value!r} with a bound of {bound!r}, which the stored scores give, "
                f"got {self.value!r} with {self.bound!r}"
            )

    @property
    def supported(self) -> bool:
        """Whether there are enough images for the wanted rate; if not, ``value`` is the highest score."""
        return _wanted_rank(self.images, self.false_alarm_rate) <= self.images

    @property
    def images_needed(self) -> int:
        """The smallest number of images that supports the wanted rate."""
        images = max(math.ceil(1 / self.false_alarm_rate) - 2, 1)  # one too few, or two
        while _wanted_rank(images, self.false_alarm_rate) > images:
            images += 1
        return images


def threshold(scores: Sequence[float] | NDArray[np.floating], *, false_alarm_rate: float) -> Threshold:
    """Return the lowest score that keeps the false-alarm rate at the wanted one, or the highest score.

    With n scores it is the j-th smallest, ``j = ceil((n + 1) * (1 - false_alarm_rate))`` (split conformal
    prediction): the chance that a further normal image scores higher is then at most ``false_alarm_rate``.
    Where j exceeds n, the highest score is taken, whose rate is ``1 / (n + 1)``, and
    :attr:`Threshold.supported` is false.

    Parameters
    ----------
    scores
        (n,) scores of normal images, finite.
    false_alarm_rate
        Wanted share of normal frames called anomalous, between 0 and 1.

    Raises
    ------
    InputError
        No scores, scores that aren't finite numbers, or a rate outside (0, 1).

    Examples
    --------
    >>> threshold([0.1, 0.4, 0.2], false_alarm_rate=0.25).value
    0.4
    """
    check_rate(false_alarm_rate)
    values = np.asarray(scores)
    if values.ndim != 1 or values.size == 0 or values.dtype.kind not in "fiu":
        raise InputError(f"scores: expected one or more numbers, got {values.dtype} of shape {values.shape}")
    if not np.isfinite(values).all():
        index = int(np.flatnonzero(~np.isfinite(values))[0])
        raise InputError(f"scores: expected finite numbers, got {values[index]} at index {index}")
    rank = _rank(values.size, false_alarm_rate)
    return Threshold(
        value=float(np.partition(values, rank - 1)[rank - 1]),
        false_alarm_rate=float(false_alarm_rate),
        images=values.size,
        bound=false_alarm_bound(values.size, false_alarm_rate, confidence=CONFIDENCE),
        confidence=CONFIDENCE,
    )


def false_alarm_bound(images: int, false_alarm_rate: float, *, confidence: float) -> float:
    """Return the upper confidence bound of a threshold's true false-alarm rate.

    The true rate of the j-th smallest of n scores follows Beta(n - j + 1, j), or lies below it where scores tie; the
    bound is that distribution's quantile at ``confidence``.

    Parameters
    ----------
    images
        Normal images that the threshold was made from.
    false_alarm_rate
        The rate that was wanted, between 0 and 1.
    confidence
        The bound's level, between 0 and 1.
    """
    from scipy.special import betaincinv  # noqa: PLC0415 - slow to import, and inspecting doesn't need it

    rank = _rank(images, false_alarm_rate)
    return float(betaincinv(images - rank + 1, rank, confidence))


def check_rate(false_alarm_rate: float) -> None:
    """Raise InputError unless a false-alarm rate lies between 0 and 1."""
    _check_fraction("false_alarm_rate", false_alarm_rate)


def _wanted_rank(images: int, false_alarm_rate: float) -> int:
    # A billionth of an image makes up for the rounding of decimals: 100 * 0.29 comes out below 29.
    return images + 1 - math.floor((images + 1) * false_alarm_rate + 1e-9)


def _rank(images: int, false_alarm_rate: float) -> int:
    return min(_wanted_rank(images, false_alarm_rate), images)


def _check_fraction(name: str, value: float) -> None:
    check_number(name, value)
    if not 0 < value < 1:
        raise InputError(f"{name}: expected a number between 0 and 1, both excluded, got {value!r:.100}")
