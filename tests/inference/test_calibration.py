import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import beta, binom

from inference.calibration import (
    Calibration,
    Threshold,
    block_maxima,
    decorrelation_time,
    parse_false_alarms,
    scores_needed,
)

SCORES = st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=400)
TIED = st.lists(st.integers(0, 5).map(float), min_size=1, max_size=400)
RATES = st.floats(1e-6, 0.9)
CONFIDENCES = st.floats(0.05, 0.999)


@pytest.mark.parametrize(
    ("n", "rate", "rank"),
    [(299, 0.01, 1), (1000, 0.01, 5), (10_000, 0.01, 84), (2995, 0.001, 1), (10_000, 0.001, 5)],
)
def test_rank_matches_published_counts(n: int, rate: float, rank: int) -> None:
    limit = Calibration.of(np.arange(n), "split").threshold(rate)
    assert limit.threshold == n - rank  # the r-th largest of 0 … n-1
    assert not limit.extrapolated


@pytest.mark.parametrize(("rate", "needed"), [(0.05, 59), (0.01, 299), (0.001, 2995), (0.0001, 29956)])
def test_scores_needed_are_the_published_ones(rate: float, needed: int) -> None:
    assert scores_needed(rate) == needed
    assert not Calibration.of(np.arange(needed), "split").threshold(rate).extrapolated
    assert Calibration.of(np.arange(needed - 1), "split").threshold(rate).extrapolated


@given(SCORES | TIED, RATES, CONFIDENCES)
def test_promise_is_kept_and_the_next_rank_would_break_it(scores: list[float], rate: float, confidence: float) -> None:
    calibration = Calibration.of(scores, "split")
    limit = calibration.threshold(rate, confidence)
    n = len(scores)
    rejected = sum(s > limit.threshold for s in scores)  # < r, and fewer when scores are tied
    if limit.extrapolated:
        assert n < limit.n_needed
        assert rejected == 0
        assert limit.guaranteed_rate == pytest.approx(1 - (1 - confidence) ** (1 / n))
        assert limit.guaranteed_rate > rate * (1 - 1e-9)
    else:
        assert n >= limit.n_needed
        assert limit.threshold in calibration.scores
        assert limit.guaranteed_rate <= rate * (1 + 1e-9)
        rank = next(r for r in range(n, 0, -1) if beta.cdf(rate, r, n + 1 - r) >= confidence * (1 - 1e-12))
        assert limit.threshold == pytest.approx(calibration.scores[n - rank])
        assert rejected <= rank - 1


@given(SCORES, RATES)
def test_asking_for_fewer_false_alarms_never_lowers_the_threshold(scores: list[float], rate: float) -> None:
    calibration = Calibration.of(scores, "split")
    assert calibration.threshold(rate / 2).threshold >= calibration.threshold(rate).threshold


@given(SCORES | TIED, st.floats(-1e7, 1e7))
def test_p_value_is_its_definition(scores: list[float], score: float) -> None:
    expected = (1 + sum(c >= score for c in scores)) / (len(scores) + 1)
    assert Calibration.of(scores, "split").p_value(score) == expected


@given(SCORES, st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_p_value_falls_as_the_score_rises(scores: list[float], score: float, more: float) -> None:
    calibration = Calibration.of(scores, "split")
    assert calibration.p_value(score + more) <= calibration.p_value(score)


@pytest.mark.parametrize("tied", [False, True])
def test_share_of_calibrations_that_break_the_promise_is_bounded(tied: bool) -> None:
    # 2000 lines calibrate on 200 good images each; the true rate of each is known from the distribution.
    rng = np.random.default_rng(0)
    rate, confidence, lines, n = 0.05, 0.9, 2000, 200
    broken = 0
    for _ in range(lines):
        scores = rng.uniform(size=n)
        scores = np.floor(scores * 40) if tied else scores
        limit = Calibration.of(scores, "split").threshold(rate, confidence)
        true_rate = 1 - (limit.threshold + 1) / 40 if tied else 1 - limit.threshold
        broken += true_rate > rate + 1e-12
    allowed = binom.ppf(1 - 1e-6, lines, 1 - confidence)
    assert broken <= allowed
    if not tied:  # the promise is not bought by needless caution: the share is near what was accepted
        assert broken >= binom.ppf(1e-6, lines, 0.05)


def test_extrapolated_tail_of_exponential_scores_is_about_right() -> None:
    rng = np.random.default_rng(1)
    truth = -math.log(1e-4)
    found = [Calibration.of(rng.exponential(size=300), "split").threshold(1e-4) for _ in range(200)]
    assert all(limit.extrapolated for limit in found)
    assert np.median([limit.threshold for limit in found]) == pytest.approx(truth, rel=0.1)


def test_identical_scores_have_no_tail_to_extrapolate() -> None:
    limit = Calibration.of([3.0] * 10, "split").threshold(0.01)
    assert limit.threshold == 3.0
    assert limit.extrapolated


@given(SCORES)
def test_json_round_trip_is_exact(scores: list[float]) -> None:
    calibration = Calibration.of(scores, "cross", decorrelation=7)
    assert Calibration.model_validate_json(calibration.model_dump_json()) == calibration
    assert Calibration.model_validate(calibration.model_dump(mode="json")) == calibration
    limit = calibration.threshold(0.02)
    assert Threshold.model_validate_json(limit.model_dump_json()) == limit


@pytest.mark.parametrize("scores", [[], [math.nan], [1.0, math.inf]])
def test_unusable_scores_are_refused(scores: list[float]) -> None:
    with pytest.raises(ValidationError):
        Calibration.of(scores, "split")


def test_scores_out_of_order_are_refused() -> None:
    with pytest.raises(ValidationError, match="sort them"):
        Calibration(method="split", scores=(2.0, 1.0))


def test_a_score_that_is_no_number_gets_no_p_value() -> None:
    with pytest.raises(ValueError, match="unknown"):
        Calibration.of([1.0], "split").p_value(math.nan)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, math.nan])
def test_impossible_rates_are_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Calibration.of([1.0], "split").threshold(rate)


def test_statement_tells_promise_from_guess() -> None:
    enough = Calibration.of(np.arange(100), "split").threshold(0.05)
    assert "at most 4.66 %" in enough.statement()
    assert "EXTRAPOLATED" not in enough.statement()
    assert "about" in enough.statement(approximate=True)
    few = Calibration.of(np.arange(20), "split").threshold(0.01)
    assert "EXTRAPOLATED" in few.statement()
    assert "needs 299" in few.statement()


@pytest.mark.parametrize(
    ("text", "fps", "share"),
    [
        ("5%", None, 0.05),
        ("0.5 %", None, 0.005),
        ("10ppm", None, 1e-5),
        ("1 in 1000", None, 1e-3),
        ("0.01", None, 0.01),
        (".01", None, 0.01),
        ("1e-4", None, 1e-4),
        ("1 per 8h", 10.0, 1 / (8 * 3600 * 10)),
        ("2 per day", 1.0, 2 / 86400),
        ("1 per 30 min", 2.0, 1 / 3600),
        ("3 per 2 Hours", 1.0, 3 / 7200),
        ("1 per 10s", 25.0, 1 / 250),
    ],
)
def test_false_alarms_are_understood(text: str, fps: float | None, share: float) -> None:
    assert parse_false_alarms(text, fps) == pytest.approx(share)


@pytest.mark.parametrize(
    ("text", "fps", "says"),
    [
        ("1 per 8h", None, "state fps"),
        ("5", None, "between 0 and 1"),
        ("0%", None, "between 0 and 1"),
        ("1 in 0", None, "0 frames"),
        ("1 per 8ms", 10.0, "not understood"),
        ("seldom", None, "not understood"),
        ("", None, "not understood"),
        ("-1%", None, "not understood"),
        ("1 per 0h", 5.0, "spans no frames"),
        ("10 per s", 5.0, "between 0 and 1"),
    ],
)
def test_unclear_false_alarms_are_refused_with_the_mend(text: str, fps: float | None, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_false_alarms(text, fps)


def test_decorrelation_time_of_independent_scores_is_short() -> None:
    assert decorrelation_time(np.random.default_rng(0).normal(size=2000)) <= 2


def test_decorrelation_time_of_an_autoregressive_process_is_the_known_one() -> None:
    # For x_t = a x_(t-1) + e the integrated time is (1 + a) / (1 - a).
    rng, a = np.random.default_rng(0), 0.9
    x = np.zeros(20_000)
    for t in range(1, x.size):
        x[t] = a * x[t - 1] + rng.normal()
    assert decorrelation_time(x) == pytest.approx(19, rel=0.2)


@pytest.mark.parametrize("scores", [[1.0], [2.0, 2.0, 2.0]])
def test_decorrelation_time_without_variation_is_one(scores: list[float]) -> None:
    assert decorrelation_time(scores) == 1


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=50), st.integers(1, 60))
def test_block_maxima_cover_every_score(scores: list[float], length: int) -> None:
    maxima = block_maxima(scores, length)
    assert len(maxima) == max(len(scores) // length, 1)
    assert max(maxima) == max(scores)
    assert all(m in scores for m in maxima)
