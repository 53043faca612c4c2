import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.blocks import BLOCK, block_length, block_maxima, correlation_time


def test_correlation_time_of_independent_scores_is_short() -> None:
    assert correlation_time(np.random.default_rng(0).normal(size=2000)) <= 2


def test_correlation_time_of_an_autoregressive_process_is_the_known_one() -> None:
    # For x_t = a x_(t-1) + e the integrated time is (1 + a) / (1 - a).
    rng, a = np.random.default_rng(0), 0.9
    x = np.zeros(20_000)
    for t in range(1, x.size):
        x[t] = a * x[t - 1] + rng.normal()
    assert correlation_time(x) == pytest.approx(19, rel=0.2)


@pytest.mark.parametrize("scores", [[1.0], [2.0, 2.0, 2.0]])
def test_correlation_time_without_variation_is_one(scores: list[float]) -> None:
    assert correlation_time(scores) == 1


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=50), st.integers(1, 60))
def test_block_maxima_cover_every_score(scores: list[float], length: int) -> None:
    maxima = block_maxima(scores, length)
    assert len(maxima) == max(len(scores) // length, 1)
    assert max(maxima) == max(scores)
    assert all(m in scores for m in maxima)


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=80))
def test_a_block_is_one_frame_and_several_correlation_times_but_not_more_than_there_is(scores: list[float]) -> None:
    assert block_length(scores) == min(1 + math.ceil(BLOCK * (correlation_time(scores) - 1)), len(scores))
