"""A leak that matters is seen in an hour's run, and noise is not taken for one."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.soak.judging import after_warm_up, grows
from tests.soak.samples import Sample
from tests.soak.slope import LEAK_MB_PER_H, Trend, slope

EVERY_S = 5.0
HOUR_S = 3600.0
seeds = st.integers(0, 2**32 - 1)


def hour(seed, *, base, leak=0.0, from_s=720.0, noise=1.0):
    """Resident memory of a process as it looks: white noise, a slow sawtooth, a tide of some minutes; and a leak."""
    draw = np.random.default_rng(seed)
    at_s = np.arange(from_s, HOUR_S, EVERY_S)
    sawtooth = 3.0 * ((at_s / draw.uniform(20, 90)) % 1.0)
    tide = 0.5 * np.sin(2 * np.pi * at_s / draw.uniform(100, 200) + draw.uniform(0, 6))
    return at_s, base + noise * (sawtooth + tide + draw.normal(0, 1.0, len(at_s))) + leak * at_s / HOUR_S


@given(seed=seeds, base=st.sampled_from([15.0, 120.0, 600.0, 900.0]), leak=st.floats(LEAK_MB_PER_H, 500))
@settings(max_examples=100, deadline=None)
def test_a_leak_of_ten_megabytes_an_hour_is_caught_in_an_hour(seed, base, leak):
    found = slope(*hour(seed, base=base, leak=leak))
    assert found.trend is Trend.GROWS
    assert found.low <= found.mb_per_h <= found.high
    assert found.mb_per_h == pytest.approx(leak, abs=4)


@given(seed=seeds, base=st.sampled_from([15.0, 120.0, 900.0]))
@settings(max_examples=100, deadline=None)
def test_noise_without_a_leak_is_flat(seed, base):
    assert slope(*hour(seed, base=base)).trend is Trend.FLAT


def test_memory_that_falls_or_stays_to_the_byte_is_flat():
    at_s, mb = hour(1, base=300.0, leak=-40.0)
    assert slope(at_s, mb).trend is Trend.FLAT
    assert slope(at_s, np.full_like(at_s, 12.5)).trend is Trend.FLAT


def test_one_peak_does_not_make_a_slope():
    at_s, mb = hour(2, base=300.0)
    mb[-30:-10] += 200.0
    assert slope(at_s, mb).trend is Trend.FLAT


def steps(at_s, minutes, height):
    """What is taken in pieces of `height` MB at these minutes."""
    return height * np.sum([at_s >= 60 * minute for minute in minutes], axis=0)


@given(seed=seeds, minute=st.floats(13, 59), base=st.sampled_from([600.0, 900.0]))
@settings(max_examples=100, deadline=None)
def test_one_step_of_an_allocator_is_no_leak(seed, minute, base):
    at_s, mb = hour(seed, base=base, noise=0.3)  # as a worker's is
    assert slope(at_s, mb + steps(at_s, [minute], 0.009 * base)).trend is Trend.FLAT


@given(seed=seeds, first=st.floats(13, 25), every=st.floats(5, 17))
@settings(max_examples=100, deadline=None)
def test_a_leak_that_comes_in_steps_is_not_flat(seed, first, every):
    at_s, mb = hour(seed, base=900.0)
    assert slope(at_s, mb + steps(at_s, np.arange(first, 60, every), 6.0)).trend is not Trend.FLAT


def test_a_step_that_is_more_than_an_allocators_is_not_taken_out():
    at_s, mb = hour(5, base=900.0)
    assert slope(at_s, mb + steps(at_s, [35], 40.0)).trend is not Trend.FLAT


def test_a_run_too_short_or_too_noisy_to_rule_a_leak_out_is_not_flat():
    draw = np.random.default_rng(3)
    at_s = np.arange(0, 60, EVERY_S)
    assert slope(at_s, 300 + draw.normal(0, 2, len(at_s))).trend is Trend.UNCLEAR
    assert slope(at_s[:3], [1, 2, 3]).trend is Trend.UNCLEAR
    assert slope([], []).trend is Trend.UNCLEAR
    hours, _ = hour(4, base=300.0)
    assert slope(hours, 300 + draw.normal(0, 150, len(hours))).trend is Trend.UNCLEAR


@given(seed=seeds, scale=st.floats(0.1, 10), shift=st.floats(-1000, 1000))
@settings(max_examples=30, deadline=None)
def test_the_slope_follows_its_unit_and_ignores_where_time_and_memory_begin(seed, scale, shift):
    at_s, mb = hour(seed, base=300.0, leak=30.0)
    one, other = slope(at_s, mb), slope(at_s + shift, scale * mb + shift)
    assert other.mb_per_h == pytest.approx(scale * one.mb_per_h, rel=1e-6, abs=1e-6)
    assert other.low == pytest.approx(scale * one.low, rel=1e-6, abs=1e-6)


def test_descriptors_grow_when_the_last_quarter_reaches_higher_than_the_second():
    steady = [9, 20, 24, 24] + [24, 25, 24, 25] * 3
    assert not grows(steady)
    assert not grows([])
    assert not grows([5, 6, 7])
    assert not grows([*steady[:-1], 26])  # one that was just being accepted
    assert grows([*steady[:-6], *[26] * 6])
    assert grows(list(range(40)))
    assert not grows([40, *[12] * 39])  # high at the start only


def test_the_warm_up_is_a_third_but_never_more_than_twenty_minutes_or_half():
    def first_judged(minutes):
        samples = [Sample(at_s=at, roles={}) for at in np.arange(0, minutes * 60 + 1, 5)]
        return after_warm_up(samples)[0].at_s / 60

    assert first_judged(60) == 20
    assert first_judged(480) == 20
    assert first_judged(30) == 10
    assert first_judged(12) == 5
    assert first_judged(4) == 2
    assert not math.isnan(first_judged(600))
