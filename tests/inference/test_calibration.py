import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import beta, binom

from inference.calibration import Calibration
from inference.false_alarms import parse_false_alarms
from inference.mapscale import MapScale
from inference.threshold import Threshold, scores_needed, span

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
@settings(deadline=None)  # a tail may be fitted
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
@settings(deadline=None)
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


def test_a_tail_that_fits_is_an_estimate_and_no_promise() -> None:
    rng = np.random.default_rng(1)
    truth = -math.log(1e-4)
    found = [Calibration.of(rng.exponential(size=600), "split").threshold(1e-4) for _ in range(120)]
    assert all(limit.extrapolated for limit in found)
    estimates = [limit for limit in found if limit.treatment == "tail"]
    assert len(estimates) > 100
    assert np.median([limit.threshold for limit in estimates]) == pytest.approx(truth, rel=0.15)
    for limit in found:
        assert limit.guaranteed_rate == pytest.approx(1 - 0.05 ** (1 / 600))
        assert (limit.treatment == "refused") == (limit.reason is not None)


def test_too_few_scores_or_a_tail_that_does_not_fit_are_refused_and_leave_the_highest_good_score() -> None:
    few = Calibration.of(np.arange(249), "split").threshold(1e-4)
    assert (few.treatment, few.threshold) == ("refused", 248)
    assert few.reason == "an estimate from the tail takes 250 good scores, there are 249"
    rng = np.random.default_rng(2)
    kinds = np.where(rng.random(1000) < 0.02, 8 + 0.3 * rng.normal(size=1000), rng.normal(size=1000))
    mixed = Calibration.of(kinds, "split").threshold(1e-4)
    assert (mixed.treatment, mixed.threshold) == ("refused", kinds.max())
    assert "generalised Pareto" in mixed.reason


@given(st.integers(0, 2**32 - 1), st.integers(250, 600), st.floats(1e-7, 2e-3))
@settings(max_examples=30, deadline=None)  # a tail is fitted
def test_an_estimate_is_never_below_the_highest_good_score(seed: int, n: int, rate: float) -> None:
    scores = np.random.default_rng(seed).normal(size=n)
    limit = Calibration.of(scores, "split").threshold(rate)
    assert limit.extrapolated
    assert limit.threshold >= scores.max()


def test_identical_scores_have_no_tail_to_extrapolate() -> None:
    limit = Calibration.of([3.0] * 10, "split").threshold(0.01)
    assert limit.threshold == 3.0
    assert limit.extrapolated


@given(SCORES)
@settings(deadline=None)
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


def test_a_threshold_is_there_at_once() -> None:
    calibration = Calibration.of(np.random.default_rng(0).normal(size=20_000), "split")
    calibration.threshold(1e-6)
    assert calibration.tail is calibration.tail  # fitted once


def test_statement_tells_promise_from_estimate_from_refusal() -> None:
    enough = Calibration.of(np.arange(100), "split").threshold(0.05)
    assert "at most 4.66 % of good images, with 95 % confidence from 100 good images" in enough.statement()
    assert "ESTIMATED" not in enough.statement()
    assert "at most about" in Calibration.of(np.arange(100), "cross").threshold(0.05).statement()
    few = Calibration.of(np.arange(20), "split").limit(parse_false_alarms("1 in 100"))
    assert "asked 1 in 100, which is 1 % of good images" in few.statement()
    assert "the highest good score: more cannot be said" in few.statement()
    assert few.lines()["to promise it"] == "279 more good images would do"
    assert few.lines()["to estimate it"] == "230 more good images may be enough"
    tail = Calibration.of(np.random.default_rng(0).exponential(size=500), "split").threshold(1e-4)
    assert "ESTIMATED" in tail.statement()
    assert "29456 more good images would do" in tail.statement()


def test_a_video_is_asked_and_promises_per_time() -> None:
    calibration = Calibration.of_video(np.random.default_rng(0).normal(size=8000), frame_s=0.2)
    assert calibration.unit == "block"
    assert calibration.block_s == calibration.decorrelation * 0.2
    limit = calibration.limit(parse_false_alarms("1 per 8h"))
    assert limit.asked == pytest.approx(calibration.block_s / 28800)
    said = limit.lines()
    assert said["asked"].startswith("1 per 8h, which is one per 8 h (")
    assert "at most one per" in said["guaranteed"]
    # Three times as long as the time between two false alarms that are accepted: -ln 0.05 is about 3.
    assert limit.n_needed * limit.unit_s == pytest.approx(3 * 28800, rel=0.01)
    assert "23.5 h more of good video" in said["to promise it"]


def test_whoever_accepts_more_than_one_in_each_block_gets_a_threshold_too() -> None:
    calibration = Calibration.of_video(np.random.default_rng(0).normal(size=1000), frame_s=60.0)
    assert calibration.limit(parse_false_alarms("1 per min")).asked == 0.5


def test_per_time_needs_a_rate_where_the_model_knows_none() -> None:
    images = Calibration.of(np.arange(100), "split")
    with pytest.raises(ValueError, match="state fps"):
        images.limit(parse_false_alarms("1 per 8h"))
    assert images.limit(parse_false_alarms("1 per h"), fps=0.01).asked == pytest.approx(1 / 36)
    silent = Calibration.of(np.arange(100), "split", decorrelation=10)
    assert silent.limit(parse_false_alarms("1 per h"), fps=2.0).asked == pytest.approx(5 / 3600)


def test_pixels_are_held_to_the_score_s_threshold_or_to_that_of_their_peaks() -> None:
    scale = MapScale(low=0.0, high=1.0)
    same = Calibration.of(np.arange(100), "split").model_copy(update={"scale": scale})
    limit = same.threshold(0.05)
    assert same.pixel_threshold(limit) == limit.threshold
    peaks = tuple(float(10 * i) for i in range(100))
    other = same.model_copy(update={"peaks": peaks})
    assert other.pixel_threshold(limit) == 10 * limit.threshold
    assert Calibration.of(np.arange(100), "split").pixel_threshold(limit) is None


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.04, "0.04 s"), (1, "1 s"), (100, "1.7 min"), (7600, "2.1 h"), (4e5, "4.6 days")]
)
def test_stretches_of_time_are_said_in_two_digits(seconds: float, said: str) -> None:
    assert span(seconds) == said
