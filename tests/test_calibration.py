import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta
from spadeline.engine.calibration import Threshold, false_alarm_bound, threshold
from spadeline.engine.errors import InputError


@pytest.mark.parametrize(
    ("n", "rate", "rank"),
    [
        (1, 0.5, 1),
        (19, 0.05, 19),  # (n + 1) * rate is exactly one image
        (20, 0.05, 20),
        (38, 0.05, 38),
        (39, 0.05, 38),
        (99, 0.01, 99),
        (99, 0.29, 71),  # 100 * 0.29 comes out below 29
        (199, 0.835, 33),  # 200 * (1 - 0.835) comes out above 33
        (2, 1 / 3, 2),
        (1000, 0.999, 2),
    ],
)
def test_is_the_documented_order_statistic(n, rate, rank):
    scores = np.random.default_rng(n).permutation(n).astype(np.float32)
    result = threshold(scores, false_alarm_rate=rate)
    assert result.value == rank - 1
    assert result.supported
    assert result.images == n
    assert result.expected_rate == pytest.approx((n + 1 - rank) / (n + 1))
    assert result.expected_rate <= rate + 1e-12


@pytest.mark.parametrize(("n", "rate"), [(1, 0.4), (18, 0.05), (98, 0.01), (5, 1e-9)])
def test_too_few_images_give_the_highest_score_and_say_so(n, rate):
    result = threshold(list(range(n)), false_alarm_rate=rate)
    assert result.value == n - 1
    assert not result.supported
    assert result.expected_rate == pytest.approx(1 / (n + 1))
    assert result.expected_rate > rate


@pytest.mark.parametrize(
    ("rate", "needed"), [(0.9, 1), (0.5, 1), (0.34, 2), (1 / 3, 2), (0.1, 9), (0.01, 99), (0.001, 999)]
)
def test_says_how_many_images_would_do(rate, needed):
    assert threshold([1.0], false_alarm_rate=rate).images_needed == needed
    assert threshold(np.arange(needed), false_alarm_rate=rate).supported
    assert needed == 1 or not threshold(np.arange(needed - 1), false_alarm_rate=rate).supported


@pytest.mark.parametrize("n", [1, 2, 10, 59, 1000])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99])
def test_bound_of_the_maximum_has_a_closed_form(n, confidence):
    assert false_alarm_bound(n, 1e-6, confidence=confidence) == pytest.approx(
        1 - (1 - confidence) ** (1 / n), rel=1e-12
    )


def test_bound_of_the_minimum_has_a_closed_form():
    result = threshold(np.arange(10.0), false_alarm_rate=0.95)
    assert result.value == 0  # rank ceil(11 * 0.05) = 1: true rate ~ Beta(10, 1), whose quantile is c ** (1 / 10)
    assert result.bound == pytest.approx(0.95 ** (1 / 10), rel=1e-12)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=80), st.floats(0.001, 0.999))
def test_keeps_what_it_promises_on_its_own_scores(scores, rate):
    result = threshold(scores, false_alarm_rate=rate)
    n = len(scores)
    assert result.value in scores
    assert sum(score > result.value for score in scores) <= math.floor((n + 1) * rate + 1e-9)
    rank = n + 1 - round(result.expected_rate * (n + 1))
    assert result.bound == pytest.approx(beta.ppf(result.confidence, n + 1 - rank, rank), rel=1e-9)


def test_bound_and_expected_rate_hold_on_simulated_lines():
    """Scores are uniform, so the true false-alarm rate of a threshold is 1 - value."""
    rng = np.random.default_rng(7)
    n, rate, trials = 60, 0.05, 4000
    results = [threshold(rng.random(n), false_alarm_rate=rate) for _ in range(trials)]
    true_rates = np.array([1 - result.value for result in results])
    covered = np.mean(true_rates <= results[0].bound)
    confidence = results[0].confidence
    assert abs(covered - confidence) < 4 * math.sqrt(confidence * (1 - confidence) / trials)
    # Four times the standard deviation of Beta(3, 58), divided by sqrt(trials).
    assert abs(true_rates.mean() - results[0].expected_rate) < 4 * beta.std(3, 58) / math.sqrt(trials)


@pytest.mark.parametrize(
    ("scores", "options", "text"),
    [
        ([], {}, "scores: expected one or more numbers, got float64 of shape (0,)"),
        ([[1.0]], {}, "scores: expected one or more numbers, got float64 of shape (1, 1)"),
        (["a"], {}, "scores: expected one or more numbers, got <U1 of shape (1,)"),
        ([1.0, math.nan], {}, "scores: expected finite numbers, got nan at index 1"),
        ([math.inf], {}, "scores: expected finite numbers, got inf at index 0"),
        ([1.0], {"false_alarm_rate": 0}, "false_alarm_rate: expected a number between 0 and 1"),
        ([1.0], {"false_alarm_rate": 1.0}, "both excluded, got 1.0"),
        ([1.0], {"false_alarm_rate": math.nan}, "false_alarm_rate: expected a finite number, got nan"),
        ([1.0], {"false_alarm_rate": "1%"}, "false_alarm_rate: expected a finite number, got '1%'"),
    ],
)
def test_refuses(scores, options, text):
    with pytest.raises(InputError) as error:
        threshold(scores, **{"false_alarm_rate": 0.1} | options)
    assert text in str(error.value)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"value": math.inf}, "value: expected a finite number, got inf"),
        ({"images": 0}, "images: expected an integer from 1 to 2147483647, got 0"),
        ({"bound": 1.5}, "bound: expected a finite number from 0 to 1, got 1.5"),
        ({"false_alarm_rate": 2.0}, "false_alarm_rate: expected a number between 0 and 1"),
        ({"confidence": 1}, "confidence: expected a number between 0 and 1"),
        ({"confidence": True}, "confidence: expected a finite number, got True"),
    ],
)
def test_threshold_checks_its_fields(changes, text):
    fields = {"value": 1.0, "false_alarm_rate": 0.1, "images": 9, "bound": 0.3}
    with pytest.raises(InputError) as error:
        Threshold(**fields | changes)
    assert text in str(error.value)
