import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom

from alerts.proportion import clopper_pearson, counted, percent

CONFIDENCE = st.floats(0.5, 0.999)


@st.composite
def counts(draw: st.DrawFn) -> tuple[int, int]:
    of = draw(st.one_of(st.integers(0, 40), st.integers(0, 2_000_000)))
    return draw(st.one_of(st.integers(0, of), st.integers(0, min(of, 20)))), of


@settings(max_examples=200, deadline=None)
@given(counts(), CONFIDENCE)
def test_it_is_the_interval_of_beta_quantiles(count: tuple[int, int], confidence: float) -> None:
    hits, of = count
    low, high = clopper_pearson(hits, of, confidence)
    miss = (1 - confidence) / 2
    assert low == pytest.approx(float(beta.ppf(miss, hits, of - hits + 1)) if hits else 0.0, rel=1e-6, abs=1e-12)
    assert high == pytest.approx(float(beta.isf(miss, hits + 1, of - hits)) if hits < of else 1.0, rel=1e-6, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.floats(0.01, 0.99))
def test_whatever_the_share_the_interval_holds_it_as_often_as_promised(of: int, share: float) -> None:
    """Not simulated: the probability of every count is known."""
    covered = 0.0
    for hits in range(of + 1):
        low, high = clopper_pearson(hits, of, 0.9)
        covered += binom.pmf(hits, of, share) * (low <= share <= high)
    assert covered >= 0.9 - 1e-9


def test_nothing_counted_says_nothing() -> None:
    assert counted(0, 0).model_dump() == {"value": None, "low": 0, "high": 1}


@pytest.mark.parametrize(("hits", "of", "confidence"), [(-1, 3, 0.9), (4, 3, 0.9), (1, 3, 1.0), (1, 3, 0.0)])
def test_what_is_no_count(hits: int, of: int, confidence: float) -> None:
    with pytest.raises(ValueError, match="is no count"):
        clopper_pearson(hits, of, confidence)


def test_for_people() -> None:
    assert [percent(share) for share in (0, 2.5e-6, 0.0421, 1)] == ["0 %", "2.5 ppm", "4.21 %", "100 %"]
    assert str(counted(1, 10)) == "10 % (0.253 % to 44.5 %)"
    assert str(counted(0, 0)).startswith("unknown")
    assert math.isclose(counted(1, 10).high, 0.44501612, rel_tol=1e-6)
