"""Golden samples: one alert while any sample was last judged wrongly by any worker."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from alerts import golden
from alerts.config import AlertRules
from alerts.rules import challenge
from alerts.state import RuleState
from storage.records import AlertKind, Challenge, Status, Transition

DAY = 86_400 * 1_000_000_000
START = 1_700_000_000 * 1_000_000_000


def shown(image: str, status: str, *, worker: str = "w0", at_ns: int = START, **fields: Any) -> Challenge:
    given = {
        "line": "a",
        "image": image,
        "expected": "reject",
        "status": Status(status),
        "score": 0.3,
        "threshold": 0.5,
        "model": "bottle@3",
        "worker": worker,
        "occasion": "shift",
        "at_ns": at_ns,
    }
    return Challenge.model_validate({**given, **fields})


def play(*challenges: Challenge, state: RuleState | None = None) -> tuple[RuleState, list[Transition]]:
    state, out = state or RuleState(line="a"), []
    for one in challenges:
        state, changes = challenge(state, one, AlertRules())
        out += changes
    return state, out


def told(changes: list[Transition]) -> list[str]:
    return [change.change.value for change in changes]


def test_a_missed_sample_raises_until_it_is_found_again() -> None:
    state, changes = play(shown("dent.png", "pass"), shown("scratch.png", "reject"))
    assert told(changes) == ["raised"]
    alert = state.open[AlertKind.GOLDEN_MISSED]
    assert alert.id == "a/golden/1/golden_missed"
    assert "dent.png is pass instead of reject (worker w0, model bottle@3)" in alert.text
    assert (alert.started_ns, alert.ended_ns, alert.model) == (START, START, "bottle@3")
    later = START + 10
    state, changes = play(
        shown("dent.png", "pass", at_ns=later), shown("scratch.png", "reject", at_ns=later), state=state
    )
    assert changes == []
    assert state.open[AlertKind.GOLDEN_MISSED].ended_ns == later
    state, changes = play(shown("dent.png", "reject", at_ns=START + 20), state=state)
    assert told(changes) == ["cleared"]
    state, changes = play(shown("dent.png", "pass", at_ns=START + 30), state=state)
    assert state.open[AlertKind.GOLDEN_MISSED].id == "a/golden/2/golden_missed"


def test_a_sample_that_was_removed_is_not_missed_any_more() -> None:
    state, _ = play(shown("dent.png", "pass"), shown("scratch.png", "reject"))
    _, changes = play(shown("scratch.png", "reject", at_ns=START + 10), state=state)
    assert told(changes) == ["cleared"]


def test_a_sample_that_must_pass_and_one_that_could_not_be_judged_are_missed_too() -> None:
    for missed in (shown("good.png", "reject", expected="pass"), shown("x.png", "unknown", reason="late", score=None)):
        assert told(play(missed)[1]) == ["raised"]


def test_another_worker_s_success_clears_nothing() -> None:
    state, _ = play(shown("dent.png", "pass", worker="w0"), shown("dent.png", "reject", worker="w1"))
    assert AlertKind.GOLDEN_MISSED in state.open
    _, changes = play(shown("dent.png", "reject", worker="w0"), state=state)
    assert told(changes) == ["cleared"]


def test_the_text_follows_what_is_missed() -> None:
    state, _ = play(*(shown(f"{i}.png", "pass") for i in range(5)))
    alert = state.open[AlertKind.GOLDEN_MISSED]
    assert alert.count == 5
    assert alert.text.startswith("Golden sample missed: 0.png is pass")
    assert "and 2 more" in alert.text
    state, _ = play(shown("1.png", "pass", at_ns=START + 9), state=state)
    assert state.open[AlertKind.GOLDEN_MISSED].text.startswith("Golden sample missed: 1.png is pass")
    assert "more" not in state.open[AlertKind.GOLDEN_MISSED].text


def test_a_worker_that_is_gone_is_forgotten_after_a_day() -> None:
    state, _ = play(shown("dent.png", "pass", worker="gone"))
    state, changes = play(shown("dent.png", "reject", at_ns=START + DAY), state=state)
    assert changes == []
    _, changes = play(shown("dent.png", "reject", at_ns=START + DAY + 1), state=state)
    assert told(changes) == ["cleared"]


def test_memory_is_bounded() -> None:
    state, _ = play(*(shown(f"{i}.png", "reject") for i in range(golden.REMEMBERED + 50)))
    assert len(state.shown) == golden.REMEMBERED
    assert state.shown[-1].image == f"{golden.REMEMBERED + 49}.png"


SHOWINGS = st.lists(
    st.tuples(st.sampled_from(["w0", "w1"]), st.lists(st.sampled_from(["reject", "pass", "unknown"]), min_size=1)),
    max_size=12,
)


@given(SHOWINGS)
def test_law_an_alert_is_open_exactly_while_something_is_missed(showings: list[tuple[str, list[str]]]) -> None:
    state, ids = RuleState(line="a"), []
    last: dict[str, bool] = {}
    for at, (worker, statuses) in enumerate(showings):
        changed = 0
        for image, status in enumerate(sorted(statuses, key=lambda status: status == "reject")):
            reason = "late" if status == "unknown" else None
            one = shown(f"{image}.png", status, worker=worker, at_ns=START + at, reason=reason)
            state, changes = challenge(RuleState.model_validate_json(state.model_dump_json()), one, AlertRules())
            ids += [change.alert.id for change in changes if change.change.value == "raised"]
            changed += len(changes)
        last[worker] = any(status != "reject" for status in statuses)
        assert (AlertKind.GOLDEN_MISSED in state.open) == any(last.values())
        assert changed <= 1
    assert len(ids) == len(set(ids))
