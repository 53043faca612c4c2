import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.asking import asking_for
from inference.calibration import Calibration
from inference.false_alarms import parse_false_alarms

IMAGES = Calibration.of(np.random.default_rng(0).gamma(3, 1, 400), "split")
VIDEO = Calibration.of_video(np.random.default_rng(1).gamma(3, 1, 3000), frame_s=0.5)
SHARE, PER_TIME = parse_false_alarms("1%"), parse_false_alarms("1 per 8h")


CASES = {
    "images": (IMAGES, SHARE),
    "images per time": (IMAGES, PER_TIME),
    "video": (VIDEO, SHARE),
    "video per time": (VIDEO, PER_TIME),
}


@settings(deadline=None)
@given(st.floats(7, 11), st.sampled_from(sorted(CASES)))
def test_what_it_says_to_ask_for_comes_to_that_threshold_and_a_little_more_does_not(wanted: float, name: str) -> None:
    calibration, like = CASES[name]
    found = asking_for(wanted, calibration, like=like, fps=2)
    assert found is not None
    asked, limit = found
    again = parse_false_alarms(asked.text)
    assert (again.share is None) == (like.share is None)
    assert calibration.limit(again, fps=2).threshold == limit.threshold >= wanted
    more = {name: value * 1.02 for name, value in (("share", asked.share), ("per_s", asked.per_s)) if value is not None}
    assert calibration.limit(asked.model_copy(update=more), fps=2).threshold < wanted


def test_evidence_that_adds_up_has_its_half() -> None:
    (alone, _), (half, limit) = (
        found for slack in (None, 1.5) if (found := asking_for(6, VIDEO, like=SHARE, slack=slack)) is not None
    )
    assert half.share is not None
    assert alone.share is not None
    assert half.share > alone.share
    assert VIDEO.limit(half, slack=1.5).threshold == limit.threshold


def test_a_threshold_beyond_what_few_scores_can_say() -> None:
    few = Calibration.of([1.0, 2.0, 3.0], "split")
    assert asking_for(2.5, few, like=SHARE) is not None
    assert asking_for(3.5, few, like=SHARE) is None


def test_per_time_needs_to_know_how_often() -> None:
    with pytest.raises(ValueError, match="state fps"):
        asking_for(5, IMAGES, like=PER_TIME)
