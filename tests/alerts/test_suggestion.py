import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.proportion import Share, counted
from alerts.suggestion import NEEDED_GOOD, NEEDED_TRUE, NoSuggestion, Suggestion, effect, suggest
from storage.records import Alert, AlertKind, Label

NOW = counted(10, 1000)
SCORES = st.integers(0, 30).map(float)


def alerts(scores: list[float], label: Label, model: str = "m@2", first: int = 0) -> list[Alert]:
    return [
        Alert(
            id=f"a/1/{number}/defect",
            line="a",
            kind=AlertKind.DEFECT,
            text="Defect.",
            raised_ns=number,
            score=0.0,
            worst_score=score,
            threshold=-1.0,
            model=model,
            label=label,
        )
        for number, score in enumerate(scores, first)
    ]


def asked(good: list[float], true: list[float], *, losing: int = 0, escapes: int = 0) -> Suggestion | NoSuggestion:
    return suggest(
        alerts(good, Label.FALSE_ALARM),
        alerts(true, Label.TRUE_DEFECT, first=1000),
        overkill=NOW,
        escapes=escapes,
        losing=losing,
    )


@settings(deadline=None)
@given(
    st.lists(SCORES, min_size=NEEDED_GOOD, max_size=15),
    st.lists(SCORES, min_size=NEEDED_TRUE, max_size=15),
    st.integers(0, 15),
)
def test_no_other_threshold_removes_more(good: list[float], true: list[float], losing: int) -> None:
    """Against brute force over all thresholds there are."""
    best = 0
    for threshold in {*good, *true}:
        if sum(score <= threshold for score in true) <= losing:
            best = max(best, sum(score <= threshold for score in good))
    said = asked(good, true, losing=losing)
    if isinstance(said, NoSuggestion):
        assert best == 0
        assert "every false alarm scores above" in said.because
        return
    assert said.removed == best == sum(score <= said.threshold for score in good)
    assert said.lost == sum(score <= said.threshold for score in true) <= losing
    assert (said.good, said.true, said.model, said.current) == (len(good), len(true), "m@2", -1.0)
    assert all(a.removed < b.removed and a.lost < b.lost for a, b in itertools.pairwise(said.steps))
    everyone = alerts(good, Label.KNOWN_VARIATION) + alerts(true, Label.TRUE_DEFECT, first=1000)
    found = effect(everyone, "m@2", said.threshold)
    assert (found.removed, found.lost) == (said.removed, said.lost)


def test_what_it_predicts() -> None:
    said = asked([1.0, 2.0, 3.0, 4.0, 20.0], [float(score) for score in range(10, 20)], escapes=2)
    assert isinstance(said, Suggestion)
    assert (said.threshold, said.removed, said.lost) == (4.0, 4, 0)
    assert said.overkill.value == pytest.approx(0.01 / 5)
    assert said.overkill.low < 0.002 < said.overkill.high < NOW.high
    assert said.escape == counted(2, 12)


def test_too_few_labels_are_no_grounds() -> None:
    said = asked([1.0] * (NEEDED_GOOD - 1), [5.0] * NEEDED_TRUE)
    assert isinstance(said, NoSuggestion)
    assert "too few labels" in said.because
    assert f"{NEEDED_GOOD - 1} false alarms" in said.because
    assert isinstance(asked([1.0] * NEEDED_GOOD, [5.0] * (NEEDED_TRUE - 1)), NoSuggestion)
    assert isinstance(asked([1.0] * NEEDED_GOOD, [5.0] * NEEDED_TRUE), Suggestion)
    assert isinstance(asked([], []), NoSuggestion)


def test_scores_of_another_model_are_on_another_scale() -> None:
    good = alerts([1.0] * 9, Label.FALSE_ALARM, model="m@1") + alerts([2.0] * 9, Label.FALSE_ALARM, first=100)
    said = suggest(good, alerts([5.0] * 12, Label.TRUE_DEFECT, first=1000), overkill=NOW, escapes=0)
    assert isinstance(said, Suggestion)
    assert said.good == 9


def test_overkill_that_is_not_known_stays_so() -> None:
    unknown = Share(value=None, low=0, high=0.5)
    good = alerts([1.0] * 9, Label.FALSE_ALARM)
    said = suggest(good, alerts([5.0] * 12, Label.TRUE_DEFECT, first=1000), overkill=unknown, escapes=0)
    assert isinstance(said, Suggestion)
    assert said.overkill.value is None
