import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from inference.calibration import Calibration
from inference.job import Job
from inference.judge import Standard, judge, unknown
from ingest.wire import FrameHeader
from storage.records import Status, Verdict

STANDARD = Standard(model="m@1", threshold=0.5, calibration=Calibration(method="split", scores=(0.1, 0.2, 0.3)))
JOB = Job(
    peer=b"cam",
    header=FrameHeader(line="a", run="0" * 16, seq=7, wall_ns=1, mono_ns=1, shape=(4, 8, 3), part="p-7"),
    pixels=np.zeros((4, 8, 3), np.uint8),
    deadline=None,
)
MAP = np.zeros((4, 8), np.float32)


def verdict_of(score, heat=MAP):
    return judge(JOB, score=score, anomaly_map=heat, standard=STANDARD, worker="w0", wall_ns=2)


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_only_a_finite_score_at_or_below_the_threshold_passes(score):
    verdict = verdict_of(score)
    if not math.isfinite(score):
        assert (verdict.status, verdict.reason) == (Status.UNKNOWN, "score not finite")
    else:
        assert verdict.status is (Status.REJECT if score > 0.5 else Status.PASS)
        assert 0 < verdict.p_value <= 1
        assert (verdict.model, verdict.part, verdict.id) == ("m@1", "p-7", f"a/{'0' * 16}/7")


def test_the_peak_is_the_middle_of_the_hottest_cell():
    heat = MAP.copy()
    heat[3, 0] = 9
    assert verdict_of(1.0, heat).map_peak == (0.5 / 8, 3.5 / 4)


def test_what_was_not_inspected_has_a_reason_and_no_score():
    verdict = unknown(JOB, reason="late", worker="w0", wall_ns=2)
    assert (verdict.status, verdict.reason, verdict.score) == (Status.UNKNOWN, "late", None)


@pytest.mark.parametrize("status", [Status.PASS, Status.REJECT])
def test_a_verdict_without_a_score_cannot_exist(status):
    with pytest.raises(ValidationError, match="without a finite score"):
        Verdict(line="a", run="r", seq=0, status=status, captured_ns=1, judged_ns=1)
    with pytest.raises(ValidationError, match="without a reason"):
        Verdict(line="a", run="r", seq=0, status=Status.UNKNOWN, captured_ns=1, judged_ns=1)
