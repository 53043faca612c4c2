import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.accumulation import cusum, own_p_values
from inference.blocks import block_maxima
from inference.calibration import Calibration
from inference.false_alarms import parse_false_alarms


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=60), st.floats(1.01, 5))
def test_sums_are_those_of_the_recursion(p_values: list[float], slack: float) -> None:
    expected, s = [], 0.0
    for p in p_values:
        s = max(0.0, s - math.log(p) - slack)
        expected.append(s)
    assert cusum(p_values, slack) == pytest.approx(expected, abs=1e-9)


@given(st.lists(st.integers(0, 9).map(float), min_size=1, max_size=60), st.integers(1, 8))
def test_p_values_leave_out_the_block_a_frame_lies_in(frames: list[float], length: int) -> None:
    maxima = block_maxima(frames, length)
    blocks = [min(t // length, len(maxima) - 1) for t in range(len(frames))]
    expected = [
        (1 + sum(m >= score for b, m in enumerate(maxima) if b != own)) / (len(maxima) + 1)
        for score, own in zip(frames, blocks, strict=True)
    ]
    assert own_p_values(frames, sorted(maxima)) == pytest.approx(expected)


def good_video(frames: int, *, seed: int = 0) -> Calibration:
    return Calibration.of_video(np.random.default_rng(seed).normal(size=frames), frame_s=0.5)


def test_the_limit_of_sums_is_one_per_the_same_time_as_that_of_frames() -> None:
    calibration = good_video(20_000)
    asked = parse_false_alarms("1 per 20min")
    limit = calibration.limit(asked, slack=1.5)
    sums = calibration.accumulated(1.5, limit)
    assert limit.ways == sums.ways == 2
    assert limit.asked / limit.unit_s == pytest.approx(1 / 2400)
    assert sums.asked / sums.unit_s == pytest.approx(1 / 2400)
    assert limit.confidence == sums.confidence == 0.975
    assert calibration.basis(slack=1.5, limit=limit).limit == sums.threshold
    assert calibration.basis(limit=limit).limit is None


def test_good_video_seldom_reaches_the_limit_and_a_weak_lasting_defect_does() -> None:
    calibration = good_video(20_000)
    limit = calibration.limit(parse_false_alarms("1 per 20min"), slack=1.5)
    highest = calibration.basis(slack=1.5, limit=limit).limit
    again = np.random.default_rng(1).normal(size=20_000)

    def reached(scores: np.ndarray) -> np.ndarray:
        return np.flatnonzero(cusum([calibration.p_value(s) for s in scores], 1.5) > highest)

    assert len(set(reached(again) // 4800)) <= 4  # 8 stretches of 40 min, in each one alarm of this way is accepted
    weak = again[:400] + 2.0
    assert np.mean(weak > limit.threshold) < 0.2  # single frames hardly give it away
    assert reached(weak).size


def test_images_have_no_order_of_time_to_add_up_over() -> None:
    calibration = Calibration.of(np.arange(100), "split")
    limit = calibration.limit(parse_false_alarms("5%"), slack=1.5)
    assert limit.ways == 1
    assert limit.asked == 0.05
    assert calibration.accumulated(1.5, limit) is None
    assert calibration.basis(slack=1.5, limit=limit).limit is None
