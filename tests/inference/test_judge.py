import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from inference.calibration import Calibration
from inference.job import Job
from inference.judge import Standard, judge, unknown
from inference.mapscale import MapScale
from ingest.wire import FrameHeader
from storage.records import Basis, Status, Verdict

STANDARD = Standard(model="m@1", threshold=0.5, calibration=Calibration(method="split", scores=(0.1, 0.2, 0.3)))
JOB = Job(
    peer=b"cam",
    header=FrameHeader(line="a", run="0" * 16, seq=7, wall_ns=1, mono_ns=1, shape=(4, 8, 3), part="p-7"),
    pixels=np.zeros((4, 8, 3), np.uint8),
    deadline=None,
)
MAP = np.zeros((4, 8), np.float32)


SCALE = MapScale(low=0.0, high=0.25)
LOOKED_AT = replace(
    STANDARD,
    calibration=Calibration(method="split", scores=(0.1, 0.2, 0.3), scale=SCALE),
    pixel_threshold=0.5,
    basis=Basis(n=3),
    slack=1.0,
)


def verdict_of(score, heat=MAP, standard=STANDARD):
    return judge(JOB, score=score, anomaly_map=heat, standard=standard, worker="w0", wall_ns=2)


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


@given(st.floats(0, 2, width=32))
def test_what_is_rejected_by_its_highest_pixel_has_a_region(score):
    heat = MAP.copy()
    heat[1:3, 4] = score
    verdict = verdict_of(score, heat, LOOKED_AT)
    assert (verdict.region is not None) == (verdict.status is Status.REJECT)
    assert verdict.basis == Basis(n=3)
    if verdict.region is not None:
        assert verdict.region.box == (4 / 8, 1 / 4, 5 / 8, 3 / 4)
        assert verdict.region.area == 2 / 32
        assert verdict.region.peak == pytest.approx(score * 0.4)


def test_one_value_is_no_map_and_an_older_calibration_knows_no_scale():
    assert verdict_of(9.0, np.full((1, 1), 9.0, np.float32), LOOKED_AT).region is None
    assert verdict_of(9.0, MAP + 9).region is None


def test_a_map_is_drawn_on_the_common_scale_or_as_it_is():
    drawn, threshold = LOOKED_AT.drawn(MAP + 0.5)
    assert threshold == pytest.approx(0.2)
    assert drawn == pytest.approx(np.full((4, 8), 0.2))
    heat = MAP + 1
    assert STANDARD.drawn(heat) == (heat, 0.5)


def test_a_frame_speaks_against_the_scene_beyond_the_slack_and_where_evidence_adds_up():
    weak, strong = verdict_of(0.25, standard=LOOKED_AT), verdict_of(0.35, standard=LOOKED_AT)
    assert [weak.p_value, strong.p_value] == [0.5, 0.25]
    assert not LOOKED_AT.speaks_against(weak)
    assert LOOKED_AT.speaks_against(strong)
    assert not STANDARD.speaks_against(strong)
    assert not LOOKED_AT.speaks_against(unknown(JOB, reason="late", worker="w0", wall_ns=2))


def test_what_was_not_inspected_has_a_reason_and_no_score():
    verdict = unknown(JOB, reason="late", worker="w0", wall_ns=2)
    assert (verdict.status, verdict.reason, verdict.score) == (Status.UNKNOWN, "late", None)


@pytest.mark.parametrize("status", [Status.PASS, Status.REJECT])
def test_a_verdict_without_a_score_cannot_exist(status):
    with pytest.raises(ValidationError, match="without a finite score"):
        Verdict(line="a", run="r", seq=0, status=status, captured_ns=1, judged_ns=1)
    with pytest.raises(ValidationError, match="without a reason"):
        Verdict(line="a", run="r", seq=0, status=Status.UNKNOWN, captured_ns=1, judged_ns=1)
