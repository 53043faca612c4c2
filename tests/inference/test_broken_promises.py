"""Which promises a line cannot have, and why."""

import pytest

from inference.broken_promises import broken_promises
from inference.calibration import Calibration
from inference.config import JudgeConfig
from inference.false_alarms import parse_false_alarms

SCORES = tuple(n / 1000 for n in range(1000))
IMAGES = Calibration(method="split", scores=SCORES)
VIDEO = Calibration(method="split", scores=SCORES, decorrelation=2, frame_s=0.04, sequence=SCORES)


def broken(calibration, asked="1%", **line):
    judge = JudgeConfig(line="a", model="m", false_alarms=parse_false_alarms(asked), **line)
    return list(broken_promises(calibration, calibration.limit(judge.false_alarms, fps=judge.fps), judge))


@pytest.mark.parametrize("calibration", [IMAGES, VIDEO])
def test_a_promise_that_holds_needs_no_word(calibration):
    assert broken(calibration, fps=25.5) == []


def test_too_few_good_scores_are_told():
    [found] = broken(IMAGES, "1 in 100000")
    assert "1000 good images" in found.why


def test_more_frames_than_were_calibrated_on_are_more_chances():
    [found] = broken(VIDEO, fps=50)
    assert found.why.startswith("was calibrated at 25 frames a second, the line has 50")


def test_images_have_no_order_of_time_to_add_up_over():
    [found] = broken(IMAGES, slack=1.5)
    assert "calibrate it on a video" in found.mend
    assert broken(VIDEO, slack=1.5) == []
