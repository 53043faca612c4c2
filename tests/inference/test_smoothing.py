import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from scipy.signal import lfilter

from inference.smoothing import LineSmoother, Smoother
from ingest.wire import FrameHeader

VALUES = st.floats(-1e3, 1e3, width=32)


@given(
    nps.arrays(np.float32, st.tuples(st.integers(1, 12), st.just(3), st.just(4)), elements=VALUES), st.integers(2, 9)
)
def test_maps_are_filtered_as_by_scipy_and_scored_by_their_highest_value(maps, frames):
    smoother = Smoother(frames)
    a = 2 / (frames + 1)
    expected = lfilter([a], [1, a - 1], maps.astype(np.float64), axis=0, zi=(1 - a) * maps[None, 0].astype(np.float64))[
        0
    ]
    for anomaly_map, wanted in zip(maps, expected, strict=True):
        smoothed, score = smoother.add(anomaly_map, float(anomaly_map.mean()))
        assert smoothed.dtype == np.float32
        np.testing.assert_allclose(smoothed, wanted, rtol=1e-4, atol=1e-3)
        assert score == smoothed.max()


@pytest.mark.parametrize(("shape", "pixel_maps"), [((1, 1), True), ((4, 4), False)])
def test_without_pixel_maps_scores_are_averaged(shape, pixel_maps):
    smoother = Smoother(3)
    scores = [smoother.add(np.full(shape, 9.0, np.float32), score, pixel_maps)[1] for score in (1.0, 2.0, 4.0)]
    assert scores == [1.0, 1.5, 2.75]


@given(st.lists(st.floats(allow_nan=True), max_size=5))
def test_one_frame_stands_alone_with_the_detectors_own_score(scores):
    smoother = Smoother(1)
    for score in scores:
        anomaly_map = np.zeros((2, 2), np.float32)
        same_map, same_score = smoother.add(anomaly_map, score)
        assert same_map is anomaly_map
        assert same_score == score or (math.isnan(same_score) and math.isnan(score))


def test_a_blink_is_damped_and_what_stays_comes_through():
    smoother, calm, hot = Smoother(5), np.zeros((4, 4), np.float32), np.full((4, 4), 3.0, np.float32)
    assert smoother.add(calm, 0.0)[1] == 0
    assert smoother.add(hot, 3.0)[1] == pytest.approx(1.0)
    assert [smoother.add(hot, 3.0)[1] for _ in range(12)][-1] == pytest.approx(3.0, rel=0.01)
    smoother.reset()
    assert smoother.add(calm, 0.0)[1] == 0


def test_the_average_can_be_asked_without_being_changed():
    smoother = Smoother(3)
    smoother.add(np.zeros((2, 2), np.float32), 0.0)
    assert [smoother.blend(np.full((2, 2), 2.0, np.float32), 2.0)[1] for _ in range(3)] == [1.0] * 3


@given(
    nps.arrays(np.float32, (2, 3), elements=st.floats(width=32)),
    st.floats(),
    st.sampled_from([True, False]),
)
def test_whatever_a_frame_holds_the_next_ones_are_judged(anomaly_map, score, pixel_maps):
    smoother, calm = Smoother(3), np.ones((2, 3), np.float32)
    smoother.add(calm, 1.0, pixel_maps)
    finite = bool(np.isfinite(anomaly_map).all()) and math.isfinite(score)
    assert math.isfinite(smoother.add(anomaly_map, score, pixel_maps)[1]) == finite
    after, after_score = smoother.add(calm, 1.0, pixel_maps)
    assert np.isfinite(after).all()
    assert math.isfinite(after_score)
    if not finite:
        assert after_score == 1.0


def test_a_span_of_no_frames_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        Smoother(0)


def header(seq, *, run=0, seconds=None):
    mono_ns = round((0.04 * seq if seconds is None else seconds) * 1e9)
    return FrameHeader(line="a", run=f"{run:016x}", seq=seq, wall_ns=1, mono_ns=mono_ns, shape=(2, 2, 3))


def scores(smoother, *frames):
    return [smoother.add(frame, np.full((2, 2), value, np.float32), 0.0)[1] for frame, value in frames]


def test_frames_of_a_run_belong_together_and_those_that_are_missing_change_nothing():
    assert scores(LineSmoother(3, frame_s=0.04), (header(0), 0.0), (header(1), 2.0), (header(7), 3.0)) == [0, 1, 2]


def test_it_begins_anew_with_a_run_and_after_a_while():
    smoother = LineSmoother(3, frame_s=0.04)
    assert scores(smoother, (header(0), 0.0), (header(0, run=1), 2.0), (header(1, run=1, seconds=1.5), 4.0)) == [
        0,
        2,
        4,
    ]


def test_a_while_is_as_long_as_the_average_of_a_slow_camera():
    smoother = LineSmoother(3, frame_s=2.0)
    frames = [(header(0, seconds=0), 0.0), (header(1, seconds=6), 2.0), (header(2, seconds=12.1), 4.0)]
    assert scores(smoother, *frames) == [0, 1, 4]


def test_it_begins_anew_when_the_camera_was_unfit_but_not_when_that_is_told_late():
    smoother = LineSmoother(3, frame_s=0.04)
    assert scores(smoother, (header(0), 0.0), (header(2), 2.0)) == [0, 1]
    smoother.interrupt(header(1))
    assert scores(smoother, (header(3), 3.0)) == [2]
    smoother.interrupt(header(4))
    assert scores(smoother, (header(5), 8.0)) == [8]


def test_a_frame_that_was_overtaken_is_scored_and_leaves_no_trace():
    smoother = LineSmoother(3, frame_s=0.04)
    assert scores(smoother, (header(0, run=1), 0.0), (header(5, run=1), 2.0), (header(3, run=1), 9.0)) == [0, 1, 5]
    assert scores(smoother, (header(99), 7.0), (header(6, run=1), 3.0)) == [7, 2]
