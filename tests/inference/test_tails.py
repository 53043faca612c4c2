import math

import numpy as np
import pytest
from scipy.stats import genpareto, goodness_of_fit

from inference.tails import LEAST, MANY, Tail, anderson_darling, fit_pareto, fit_tail

SHAPES = [-0.4, -0.1, 0.0, 0.3, 0.8]


def ascending(values: np.ndarray) -> tuple[float, ...]:
    return tuple(np.sort(values).tolist())


@pytest.mark.parametrize("shape", SHAPES)
def test_the_estimator_finds_the_law_that_was_drawn_from(shape: float) -> None:
    drawn = np.sort(genpareto.rvs(shape, scale=3.0, size=(300, 200), random_state=np.random.default_rng(0)), axis=1)
    found, scale = fit_pareto(drawn)
    assert found.mean() == pytest.approx(shape, abs=0.04)
    assert scale.mean() == pytest.approx(3.0, rel=0.04)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_estimator_agrees_with_maximum_likelihood_on_much_data(shape: float) -> None:
    drawn = np.sort(genpareto.rvs(shape, scale=0.5, size=4000, random_state=np.random.default_rng(1)))
    expected, _, expected_scale = genpareto.fit(drawn, floc=0)
    found, scale = fit_pareto(drawn[None])
    assert found[0] == pytest.approx(expected, abs=0.03)
    assert scale[0] == pytest.approx(expected_scale, rel=0.04)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_statistic_is_that_of_scipy(shape: float) -> None:
    x = np.sort(genpareto.rvs(0.2, size=80, random_state=np.random.default_rng(2)))
    x = x[x < 0.99 / -shape] if shape < 0 else x
    known = {"c": shape, "loc": 0.0, "scale": 1.0}
    expected = goodness_of_fit(genpareto, x, known_params=known, statistic="ad", n_mc_samples=1).statistic
    assert anderson_darling(x[None], np.array([shape]), np.array([1.0]))[0] == pytest.approx(expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_quantiles_are_those_of_the_law(shape: float) -> None:
    tail = Tail(start=5.0, shape=shape, scale=2.0, n=1000, excesses=np.zeros(50), p_value=1.0)
    law = genpareto(shape, loc=5.0, scale=2.0)
    for rate in (0.04, 1e-3, 1e-5):
        assert tail.quantile(rate) == pytest.approx(law.isf(rate * 1000 / 50))
    assert tail.expected() == pytest.approx(law.ppf((np.arange(50) + 0.5) / 50))


def test_a_law_is_rejected_about_as_often_as_it_should_be() -> None:
    rng = np.random.default_rng(3)
    rejected = [not fit_tail(ascending(genpareto.rvs(0.1, size=400, random_state=rng))).fits for _ in range(150)]
    assert 0.01 <= np.mean(rejected) <= 0.12


def test_a_second_kind_of_good_part_in_the_tail_is_noticed() -> None:
    rng = np.random.default_rng(4)
    kinds = [
        np.where(rng.random(1000) < 0.02, 8 + 0.3 * rng.normal(size=1000), rng.normal(size=1000)) for _ in range(9)
    ]
    assert not any(fit_tail(ascending(scores)).fits for scores in kinds)


def test_units_of_the_scores_do_not_matter_and_the_same_scores_give_the_same_tail() -> None:
    scores = np.random.default_rng(5).gumbel(size=700)
    one, same, other = (fit_tail(ascending(values)) for values in (scores, scores, 1e-7 * scores - 3e-6))
    assert one.p_value == same.p_value
    assert other.p_value == pytest.approx(one.p_value, abs=0.02)
    assert other.shape == pytest.approx(one.shape, abs=1e-6)
    assert other.quantile(1e-4) == pytest.approx(1e-7 * one.quantile(1e-4) - 3e-6)


def test_too_few_or_too_many_equal_scores_have_no_tail() -> None:
    rng = np.random.default_rng(6)
    assert fit_tail(ascending(rng.normal(size=MANY - 1))) is None
    assert fit_tail(ascending(rng.normal(size=MANY))) is not None
    assert fit_tail((1.0,) * 1000) is None
    assert fit_tail(ascending(np.append(np.zeros(970), rng.random(30)))) is None  # only 30 stand out


def test_ties_at_the_start_of_the_tail_move_it_down() -> None:
    rng = np.random.default_rng(7)
    tail = fit_tail(ascending(np.concatenate([rng.random(900), np.full(60, 1.0), 1 + rng.exponential(size=40)])))
    assert tail is not None
    assert tail.excesses.size >= LEAST
    assert (tail.excesses > 0).all()
    assert math.isfinite(tail.quantile(1e-6))
