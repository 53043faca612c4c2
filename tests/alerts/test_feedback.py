"""Estimates: what holds however alerts are labelled, and that intervals hold the truth where it is known."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.feedback import FEW, Record, estimate
from alerts.proportion import clopper_pearson
from storage.history import Counts
from storage.records import Alert, AlertKind, Label

GOOD = (Label.FALSE_ALARM, Label.KNOWN_VARIATION)
LABELS = st.sampled_from([None, *Label])


def alert(number: int, label: Label | None, count: int = 1) -> Alert:
    return Alert(
        id=f"a/1/{number}/defect",
        line="a",
        kind=AlertKind.DEFECT,
        text="Defect.",
        raised_ns=number,
        score=1.0,
        model="m@1",
        count=count,
        label=label,
    )


def record(labelled: Sequence[tuple[Label | None, int]], *, passed: int, unseen: int = 0, escapes: int = 0) -> Record:
    alerts = [alert(number, label, count) for number, (label, count) in enumerate(labelled)]
    rejected = unseen + sum(one.count for one in alerts)
    return Record(Counts(passed=passed, rejected=rejected), alerts, escapes)


EVENTS = st.lists(st.tuples(LABELS, st.integers(1, 30)), max_size=20)


@settings(deadline=None)
@given(EVENTS, st.integers(0, 2000), st.integers(0, 10), st.integers(0, 5))
def test_estimates_are_shares_within_their_intervals(
    events: list[tuple[Label | None, int]], passed: int, unseen: int, escapes: int
) -> None:
    said = estimate(record(events, passed=passed, unseen=unseen, escapes=escapes))
    for share in (said.overkill, said.precision, said.escape):
        assert 0 <= share.low <= share.high <= 1
        if share.value is not None:
            assert share.low <= share.value + 1e-12
            assert share.value <= share.high + 1e-12
    assert said.true_defects + said.false_alarms + said.known_variations + said.unlabelled == said.alerts == len(events)


@settings(deadline=None)
@given(EVENTS, st.integers(1, 2000), st.integers(0, 10), st.data())
def test_one_more_false_alarm_never_lowers_the_overkill(
    events: list[tuple[Label | None, int]], passed: int, unseen: int, data: st.DataObject
) -> None:
    """Whether it was not labelled before or, relabelled, a true defect."""
    others = [number for number, (label, _) in enumerate(events) if label not in GOOD]
    if not others:
        return
    number = data.draw(st.sampled_from(others))
    relabelled = [(data.draw(st.sampled_from(GOOD)), n) if i == number else (x, n) for i, (x, n) in enumerate(events)]
    before, after = (estimate(record(each, passed=passed, unseen=unseen)).overkill for each in (events, relabelled))
    assert after.value is not None
    assert before.value is None or after.value >= before.value - 1e-12
    assert after.low >= before.low - 1e-12


@settings(deadline=None)
@given(EVENTS, st.integers(1, 2000))
def test_a_false_alarm_and_a_known_variation_are_the_same_to_the_overkill(
    events: list[tuple[Label | None, int]], passed: int
) -> None:
    other = [(Label.FALSE_ALARM if label is Label.KNOWN_VARIATION else label, n) for label, n in events]
    assert estimate(record(events, passed=passed)).overkill == estimate(record(other, passed=passed)).overkill


def test_parts_all_labelled_are_plain_counting() -> None:
    said = estimate(record([(Label.FALSE_ALARM, 1)] * 3 + [(Label.TRUE_DEFECT, 1)] * 17, passed=998, escapes=1))
    assert said.overkill.value == pytest.approx(3 / 1000)
    # What passed and was a defect is no good part.
    assert (said.overkill.low, said.overkill.high) == clopper_pearson(3, 1000)
    assert (said.precision.value, said.few) == (0.85, False)
    assert said.escape.value == pytest.approx(1 / 18)
    assert (said.escape.low, said.escape.high) == clopper_pearson(1, 18)


def test_nothing_labelled_says_that_anything_is_possible() -> None:
    said = estimate(record([(None, 1)] * 50, passed=950))
    assert said.overkill.value is None
    assert said.overkill.low == 0
    assert said.overkill.high >= 0.05
    assert (said.precision.low, said.precision.high) == (0, 1)
    assert said.few


def test_no_alert_and_no_reject_is_no_overkill() -> None:
    said = estimate(record([], passed=1000))
    assert (said.overkill.value, said.overkill.low) == (0, 0)
    assert said.overkill.high == clopper_pearson(0, 1000)[1]
    assert estimate(Record()).overkill.value is None


def test_frames_of_one_event_are_no_independent_witnesses() -> None:
    parts = estimate(record([(Label.FALSE_ALARM, 1)] * 50, passed=9950)).overkill
    event = estimate(record([(Label.FALSE_ALARM, 50)], passed=9950)).overkill
    assert parts.value == event.value
    assert event.low < parts.low < parts.high < event.high


def test_rejects_nobody_was_shown_widen_the_interval() -> None:
    events = [(Label.TRUE_DEFECT, 1)] * 30
    seen, unseen = (estimate(record(events, passed=1000, unseen=n)).overkill for n in (0, 20))
    assert unseen.low == seen.low == 0
    assert unseen.high > 0.02


def test_frames_of_an_event_that_passed_are_no_overkill() -> None:
    """Ten frames of a false alarm, of which evidence that adds up kept nine going without a reject."""
    events = [alert(1, Label.FALSE_ALARM, 10), alert(2, Label.TRUE_DEFECT, 10)]
    said = estimate(Record(Counts(passed=998, rejected=2), events)).overkill
    assert said.value == pytest.approx(1 / 999)


def test_few_labels_are_said_to_be_few() -> None:
    assert estimate(record([(Label.FALSE_ALARM, 1)] * (FEW - 1), passed=10)).few
    assert not estimate(record([(Label.FALSE_ALARM, 1)] * FEW, passed=10)).few


@pytest.mark.parametrize(("length", "labelled"), [(1, 1.0), (1, 0.3), (6, 1.0), (6, 0.3)])
def test_intervals_hold_the_truth(length: int, labelled: float) -> None:
    """Lines whose true overkill, precision and escape rate are known; some alerts are labelled, by chance."""
    rng = np.random.default_rng([length, round(10 * labelled)])
    units, rate, defects, caught = 4000, 0.004, 20, 0.8
    held = dict.fromkeys(("overkill", "precision", "escape"), 0)
    repeats = 150
    for _ in range(repeats):
        false = rng.poisson(units * rate / length)
        true, missed = (int(n) for n in rng.multinomial(rng.poisson(defects), [caught, 1 - caught]))
        lengths = rng.geometric(1 / length, false + true) if length > 1 else np.ones(false + true, int)
        kinds = [Label.FALSE_ALARM] * false + [Label.TRUE_DEFECT] * true
        said = [kind if rng.random() < labelled else None for kind in kinds]
        events = list(zip(said, map(int, lengths), strict=True))
        passed = units - int(lengths[:false].sum()) + missed
        result = estimate(record(events, passed=passed, escapes=missed))
        mean_true = defects * caught
        precision = mean_true / (mean_true + units * rate / length)
        held["overkill"] += result.overkill.low <= rate <= result.overkill.high
        held["precision"] += result.precision.low <= precision <= result.precision.high
        held["escape"] += result.escape.low <= 1 - caught <= result.escape.high
    # 95 % promised; three standard errors of 150 repeats are 5 %.
    assert min(held.values()) >= 0.90 * repeats, held
