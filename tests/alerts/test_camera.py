"""A camera that is unfit: one alert that says exactly that, soon, and none from a flicker."""

from collections.abc import Iterable

import pytest

from alerts.camera import KINDS
from alerts.config import AlertRules
from alerts.pages.moment import KINDS as SHOWN
from alerts.rules import step
from alerts.state import RuleState
from alerts.texts import camera_text
from ingest.frame import Condition
from storage.records import AlertKind, Change, Status, Transition, Verdict

NS = 1_000_000_000
START = 1_700_000_000 * NS
RUN = "0" * 15 + "1"
MARKS = {"m": "moved", "o": "occluded", "b": "blurred", "d": "dark", "f": "frozen", "l": "light", "?": "late"}


def frames(pattern: str, *, fps: float = 10, first: int = 0) -> list[Verdict]:
    """`.` pass, `x` reject, a letter a condition."""
    verdicts = []
    for seq, mark in enumerate(pattern, start=first):
        at_ns = START + round(seq * NS / fps)
        judged = mark in ".x"
        verdicts.append(
            Verdict(
                line="a",
                run=RUN,
                seq=seq,
                status=Status({".": "pass", "x": "reject"}.get(mark, "unknown")),
                reason=None if judged else MARKS[mark],
                score={".": 0.1, "x": 0.9}.get(mark),
                threshold=0.5 if judged else None,
                model="m@1" if judged else None,
                captured_ns=at_ns,
                judged_ns=at_ns,
            )
        )
    return verdicts


def play(
    verdicts: Iterable[Verdict], state: RuleState | None = None, of: AlertRules | None = None
) -> tuple[RuleState, list[Transition]]:
    state, out = state or RuleState(line="a"), []
    for one in verdicts:
        state, changes = step(state, one, of or AlertRules())
        out += changes
    return state, out


def told(changes: Iterable[Transition]) -> list[tuple[str, str, float]]:
    """Change, kind and stream time in seconds."""
    return [(c.change.value, c.alert.kind.value.removeprefix("camera_"), (c.at_ns - START) / NS) for c in changes]


def test_each_condition_that_spoils_a_picture_has_its_kind_its_text_and_its_icon() -> None:
    elsewhere = {Condition.OK, Condition.LOST, Condition.ENDED, Condition.CORRUPT}
    assert KINDS.keys() == {condition.value for condition in Condition} - {c.value for c in elsewhere}
    texts = [camera_text(kind) for kind in (*KINDS.values(), AlertKind.CAMERA_LOST)]
    assert len(set(texts)) == len(texts)
    assert set(SHOWN) == set(AlertKind)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("....mmmmmmmmmm", [("raised", "moved", 0.9)]),  # 0.5 s from its first frame
        ("....mmmm......", []),
        ("..m.....m.......m..", []),  # single frames
        ("..m.......m.......m" * 20, []),
        ("." + "m." * 20, [("raised", "moved", 2.1)]),  # every other frame
        ("mmmmmmmm" + "." * 20, [("raised", "moved", 0.5), ("cleared", "moved", 1.7)]),  # 1 s past the last one
        ("mmmmmmmm" + "....m" * 20, [("raised", "moved", 0.5)]),  # not fit for a whole second
        ("fff", [("raised", "frozen", 0.0)]),  # capture has waited already
        ("mmmmmmmmoommoommoooommm", [("raised", "moved", 0.5)]),  # one alert at a time, without flapping
        (
            "mmmmmmmm" + "o" * 20,
            [("raised", "moved", 0.5), ("cleared", "moved", 1.7), ("raised", "occluded", 1.7)],
        ),
        ("bb" + "m" * 10, [("raised", "moved", 0.5)]),  # the commonest names it
        ("b" * 4 + "m" * 10, [("raised", "moved", 0.7)]),
        ("????????????????", [("raised", "unknown_streak", 0.9)]),
        ("mm???mm", [("raised", "moved", 0.5)]),  # what was late says nothing about the camera
    ],
)
def test_what_becomes_an_alert(pattern: str, expected: list[tuple[str, str, float]]) -> None:
    assert told(play(frames(pattern))[1]) == expected


@pytest.mark.parametrize("mark", "mobdlf")
def test_an_alert_comes_within_two_seconds_and_no_other_does(mark: str) -> None:
    _, changes = play(frames("." * 20 + mark * 50 + "." * 30))
    (raised, kind, at), (cleared, same, _) = told(changes)
    assert (raised, cleared, kind) == ("raised", "cleared", same) == ("raised", "cleared", MARKS[mark])
    assert 2.0 <= at <= 4.0


def test_parts_slower_than_the_patience() -> None:
    assert told(play(frames("..d..d", fps=0.5))[1]) == []
    assert told(play(frames("..dd", fps=0.5))[1]) == [("raised", "dark", 6.0)]


def test_the_alert_counts_and_dates_its_frames() -> None:
    state, _ = play(frames("." + "m" * 8))
    alert = state.open[AlertKind.CAMERA_MOVED]
    assert alert.count == 8
    assert (alert.started_ns, alert.ended_ns) == (START + NS // 10, START + 8 * NS // 10)
    assert alert.score is None


def test_conditions_count_for_no_streak_and_raise_no_defect() -> None:
    _, changes = play(frames("m" * 100))
    assert [change.alert.kind for change in changes] == [AlertKind.CAMERA_MOVED]


def test_a_straggler_says_nothing_of_the_camera_now() -> None:
    late = frames("m" * 8)
    state, changes = play([*frames("." * 5, first=10), *late])
    assert changes == []
    assert state.fitness.spells == {}


def test_a_clock_set_back_neither_shortens_nor_lengthens_it() -> None:
    before, after = frames("...mmm"), frames("mmmmmm" + "." * 15, first=6)
    back = [one.model_copy(update={"captured_ns": one.captured_ns - 3600 * NS}) for one in after]
    state, changes = play([*before, *back])
    plain, expected = play([*before, *after])
    assert [c.change for c in changes] == [c.change for c in expected] == [Change.RAISED, Change.CLEARED]
    assert abs(int(changes[0].alert.id.split("/")[2]) - int(expected[0].alert.id.split("/")[2])) <= 1
    assert state.fitness == plain.fitness


def test_it_is_never_lost_by_a_restart() -> None:
    verdicts = frames("..mm.mmm..oooooo....mmmmmmmmmm" + "." * 15)
    state, changes = RuleState(line="a"), []
    for one in verdicts:
        state, more = step(RuleState.model_validate_json(state.model_dump_json()), one, AlertRules())
        changes += more
    assert (state, changes) == play(verdicts)
    assert len(changes) >= 2


def test_both_patiences_may_be_nothing() -> None:
    at_once = AlertRules(unfit_after=0, fit_after=0)
    _, changes = play(frames(".m.mm."), of=at_once)
    assert told(changes) == [
        ("raised", "moved", 0.1),
        ("cleared", "moved", 0.1),
        ("raised", "moved", 0.3),
        ("cleared", "moved", 0.4),
    ]
