import numpy as np
import pytest

from inference.calibration import Calibration
from inference.engine import Judgement
from inference.inspection import Inspection, Inspector
from inference.job import Job
from inference.judge import Standard
from ingest.wire import FrameHeader
from storage.records import Status

GOOD = tuple(n / 100 for n in range(100))
SMOOTHED = Standard(
    model="m@1", threshold=1.0, calibration=Calibration(method="split", scores=GOOD, smoothing=3, frame_s=0.04)
)


def frame(seq, reason=None, standard=SMOOTHED):
    header = FrameHeader(line="a", run="0" * 16, seq=seq, wall_ns=seq, mono_ns=seq * 10**7, shape=(2, 2, 3))
    return Inspection(Job(b"cam", header, np.zeros((2, 2, 3), np.uint8), None), standard, reason)


def answers(*values):
    scores = np.array(values, np.float32)
    return Judgement(scores, np.broadcast_to(scores[:, None, None], (len(scores), 2, 2)))


def test_answers_go_to_the_frames_that_were_judged():
    frames = [frame(0), frame(1, "late"), frame(2, "no model", standard=None), frame(3)]
    concluded = Inspector("w0").conclude(frames, answers(0.25, 1.75), wall_ns=9)
    assert [judged.verdict.status for judged in concluded] == [Status.PASS, Status.UNKNOWN, Status.UNKNOWN, Status.PASS]
    assert [judged.verdict.reason for judged in concluded] == [None, "late", "no model", None]
    assert [judged.verdict.score for judged in concluded] == [0.25, None, None, 1.0]
    assert [judged.standard for judged in concluded] == [SMOOTHED, None, None, SMOOTHED]
    assert concluded[3].anomaly_map.max() == 1.0
    assert all(judged.verdict.seq == judged.job.header.seq for judged in concluded)


def test_a_failed_detector_passes_nothing_and_what_was_refused_keeps_its_reason():
    concluded = Inspector("w0").conclude([frame(0), frame(1, "moved")], None, wall_ns=9)
    assert [judged.verdict.reason for judged in concluded] == ["detector failed", "moved"]


@pytest.mark.parametrize(
    ("reason", "expected"), [("late", 1.0), ("detector failed", 1.0), ("moved", 2.0), ("dark", 2.0)]
)
def test_the_average_goes_on_over_what_is_missing_but_not_over_an_unfit_camera(reason, expected):
    inspector = Inspector("w0")
    inspector.conclude([frame(0), frame(1, reason)], answers(0.0), wall_ns=9)
    [judged] = inspector.conclude([frame(2)], answers(2.0), wall_ns=9)
    assert judged.verdict.score == expected


def test_a_value_that_is_not_finite_is_unknown_and_leaves_no_trace():
    concluded = Inspector("w0").conclude([frame(n) for n in range(3)], answers(0.0, np.nan, 2.0), wall_ns=9)
    assert [judged.verdict.reason for judged in concluded] == [None, "score not finite", None]
    assert concluded[2].verdict.score == 1.0


def test_another_model_begins_anew():
    inspector = Inspector("w0")
    inspector.conclude([frame(0)], answers(0.0), wall_ns=9)
    other = Standard(model="m@2", threshold=1.0, calibration=SMOOTHED.calibration)
    [judged] = inspector.conclude([frame(1, standard=other)], answers(2.0), wall_ns=9)
    assert (judged.verdict.score, judged.verdict.model) == (2.0, "m@2")
