import json
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts import camera
from alerts.config import AlertRules
from alerts.rules import SETTLE_S, challenge, leave, step, tick
from alerts.state import RuleState, Signs
from storage.records import Alert, AlertKind, Basis, Challenge, Change, Region, Status, Transition, Verdict

NS = 1_000_000_000
START = 1_700_000_000 * NS
RUN = "0" * 15 + "1"
CONDITIONS = [*camera.KINDS]


def verdict(seq: int, status: str, at_s: float, reason: str = "late", run: str = RUN) -> Verdict:
    at_ns = START + round(at_s * NS)
    judged = status != "unknown"
    return Verdict(
        line="a",
        run=run,
        seq=seq,
        status=Status(status),
        reason=None if judged else reason,
        score={"pass": 0.1, "reject": 0.9}.get(status),
        threshold=0.5 if judged else None,
        model="m@1" if judged else None,
        captured_ns=at_ns,
        judged_ns=at_ns,
    )


def rules(**fields: object) -> AlertRules:
    return AlertRules.model_validate(fields)


def play(
    verdicts: Iterable[Verdict], of: AlertRules, state: RuleState | None = None
) -> tuple[RuleState, list[Transition]]:
    state = state or RuleState(line="a")
    out: list[Transition] = []
    for one in verdicts:
        state, changes = step(state, one, of)
        out += changes
    return state, out


def told(changes: Sequence[Transition]) -> list[tuple[str, str]]:
    return [(change.change.value, change.alert.kind.value) for change in changes]


def final_alerts(state: RuleState, changes: Sequence[Transition]) -> dict[str, Alert]:
    alerts = {change.alert.id: change.alert for change in changes}
    return alerts | {alert.id: alert for alert in state.open.values()}


# --- defects ---------------------------------------------------------------------------------------------------


def test_a_defect_is_raised_after_k_of_n() -> None:
    of = rules(**{"raise": "2 of 3"})
    _, changes = play([verdict(0, "reject", 0), verdict(1, "pass", 1), verdict(2, "pass", 2)], of)
    assert changes == []
    state, changes = play([verdict(0, "reject", 0), verdict(1, "pass", 1), verdict(2, "reject", 2)], of)
    assert told(changes) == [("raised", "defect")]
    alert = state.open[AlertKind.DEFECT]
    assert alert.id == f"a/{RUN}/2/defect"
    assert alert.verdict == f"a/{RUN}/2"
    assert alert.count == 2
    assert "0.9" in alert.text
    assert "0.5" in alert.text


def test_rejects_within_clear_after_are_one_alert_whose_count_grows() -> None:
    state, changes = play([verdict(i, "reject", 4 * i) for i in range(5)], rules(clear_after=5))
    assert told(changes) == [("raised", "defect")]
    assert state.open[AlertKind.DEFECT].count == 5


def test_it_clears_when_no_reject_was_seen_for_clear_after() -> None:
    of = rules(clear_after=5)
    verdicts = [verdict(0, "reject", 0), verdict(1, "pass", 4.9), verdict(2, "pass", 6)]
    state, changes = play(verdicts, of)
    assert told(changes) == [("raised", "defect"), ("cleared", "defect")]
    assert changes[1].alert.cleared_ns == START + 5 * NS
    assert state.open == {}


def test_a_reject_after_the_gap_is_a_new_alert() -> None:
    _, changes = play([verdict(0, "reject", 0), verdict(1, "reject", 60)], rules(clear_after=5))
    assert told(changes) == [("raised", "defect"), ("cleared", "defect"), ("raised", "defect")]
    assert changes[0].alert.id != changes[2].alert.id


def test_a_tick_clears_when_no_verdict_comes() -> None:
    of = rules(clear_after=5)
    state, _ = play([verdict(0, "reject", 0)], of)
    now = START + 100 * NS
    for too_early in (Signs(calm_s=5 + SETTLE_S - 0.1), Signs(calm_s=60, in_flight=1)):
        assert tick(state, too_early, of, now_ns=now)[1] == []
    state, changes = tick(state, Signs(calm_s=5 + SETTLE_S), of, now_ns=now)
    assert told(changes) == [("cleared", "defect")]
    assert changes[0].alert.cleared_ns == START + 5 * NS


def test_a_silent_line_clears_although_frames_are_in_flight() -> None:
    of = rules(clear_after=5, silent_after=10)
    state, _ = play([verdict(0, "reject", 0)], of)
    state, changes = tick(state, Signs(silent_s=10, calm_s=60, in_flight=3, run=RUN), of, now_ns=START + 60 * NS)
    assert told(changes) == [("raised", "line_silent"), ("cleared", "defect")]


def test_cool_down_holds_back_new_alerts() -> None:
    of = rules(clear_after=5, cool_down=20)
    verdicts = [verdict(0, "reject", 0), verdict(1, "reject", 10), verdict(2, "reject", 24.9), verdict(3, "reject", 25)]
    _, changes = play(verdicts, of)
    assert told(changes) == [("raised", "defect"), ("cleared", "defect"), ("raised", "defect")]
    assert changes[-1].alert.verdict == f"a/{RUN}/3"


def test_unknown_neither_clears_nor_counts() -> None:
    verdicts = [verdict(0, "reject", 0), *(verdict(i, "unknown", 10 * i) for i in range(1, 5))]
    state, changes = play(verdicts, rules(clear_after=5, unknown_streak=0))
    assert told(changes) == [("raised", "defect")]
    assert state.open[AlertKind.DEFECT].count == 1


def test_a_late_reject_of_an_older_frame_is_not_swallowed() -> None:
    verdicts = [verdict(0, "reject", 0), verdict(9, "pass", 9), verdict(1, "reject", 1), verdict(10, "pass", 10)]
    _, changes = play(verdicts, rules(clear_after=5))
    assert told(changes) == [("raised", "defect"), ("cleared", "defect")] * 2


def test_a_straggler_from_before_an_open_event_has_an_alert_of_its_own() -> None:
    verdicts = [verdict(20, "reject", 20), verdict(3, "reject", 3), verdict(21, "reject", 21), verdict(40, "pass", 40)]
    _, changes = play(verdicts, rules(clear_after=5))
    assert told(changes) == [("raised", "defect")] * 2 + [("cleared", "defect")] * 2
    event, straggler = changes[0].alert, changes[1].alert
    assert straggler.verdict == verdicts[1].id
    assert straggler.worst_verdict == verdicts[1].id
    assert changes[2].alert.id == straggler.id
    assert (changes[3].alert.id, changes[3].alert.count, changes[3].alert.started_ns) == (event.id, 2, event.started_ns)


def test_where_evidence_gathers_a_straggler_is_where_the_open_event_began() -> None:
    verdicts = [verdict(20, "reject", 20), verdict(21, "reject", 21), verdict(3, "reject", 3), verdict(40, "pass", 40)]
    _, changes = play(verdicts, rules(clear_after=5, **{"raise": "2 of 3"}))
    assert told(changes) == [("raised", "defect"), ("cleared", "defect")]
    assert changes[1].alert.started_ns == verdicts[2].captured_ns
    assert changes[1].alert.count == 3


@given(
    st.lists(st.tuples(st.sampled_from(["pass", "pass", "reject", "unknown"]), st.sampled_from([0.1, 1.0, 6.0]))),
    st.data(),
)
def test_every_reject_is_in_exactly_one_alert_in_whatever_order_they_come(
    frames: list[tuple[str, float]], data: st.DataObject
) -> None:
    at, verdicts = 0.0, []
    for seq, (status, pause) in enumerate(frames):
        at += pause
        verdicts.append(verdict(seq, status, at))
    late = data.draw(st.lists(st.integers(0, 5), min_size=len(verdicts), max_size=len(verdicts)))
    order = sorted(range(len(verdicts)), key=lambda seq: seq + late[seq])
    state, changes = play([verdicts[seq] for seq in order], rules(clear_after=0.5))
    alerts = [a for a in final_alerts(state, changes).values() if a.kind is AlertKind.DEFECT]
    for one in verdicts:
        if one.status is Status.REJECT:
            own = [a for a in alerts if a.verdict == one.id]
            around = [
                a for a in alerts if (a.started_ns or a.raised_ns) <= one.captured_ns <= (a.ended_ns or a.raised_ns)
            ]
            assert len(own) == 1 or (not own and around)


# --- the clock is set back -------------------------------------------------------------------------------------


def test_a_clock_set_back_keeps_durations() -> None:
    of = rules(clear_after=5)
    verdicts = [verdict(0, "reject", 100), verdict(1, "pass", 40), verdict(2, "pass", 44)]
    state, changes = play(verdicts, of)
    assert told(changes) == [("raised", "defect")]
    state, changes = play([verdict(3, "pass", 45)], of, state)
    assert told(changes) == [("cleared", "defect")]
    alert = changes[0].alert
    assert alert.cleared_ns is not None
    assert alert.cleared_ns >= alert.raised_ns


def test_a_camera_that_moved_to_a_host_whose_clock_is_behind_is_followed_once_it_goes_on_alone() -> None:
    of = rules(clear_after=5)
    earlier = "0" * 16
    moved = [verdict(i, "pass", 40 + i, run=earlier) for i in range(20)]
    state, changes = play([verdict(0, "reject", 100), *moved[:8]], of)
    assert told(changes) == [("raised", "defect")]
    assert state.runs[-1] == earlier
    state, changes = play(moved[8:], of, state)
    assert told(changes) == [("cleared", "defect")]
    _, changes = play([verdict(20, "reject", 61, run=earlier)], of, state)
    assert told(changes) == [("raised", "defect")]


@pytest.mark.parametrize("stragglers", [1, 7, 8, 30])
def test_stragglers_of_a_run_nobody_had_heard_of_blind_no_line(stragglers: int) -> None:
    of = rules(clear_after=5)
    now = [verdict(i, "reject" if i in (20, 60, 100) else "pass", 100 + i) for i in range(120)]
    late = [verdict(i, "pass", 90 + i / 100, run="0" * 16) for i in range(stragglers)]
    for at in (1, 21, 59):
        _, changes = play([*now[:at], *late, *now[at:]], of)
        raised = [change.alert.verdict for change in changes if change.change is Change.RAISED]
        assert raised == [now[i].id for i in (20, 60, 100)]
        assert told(changes)[-1] == ("cleared", "defect")


def test_a_straggler_of_an_old_run_moves_no_clock() -> None:
    of = rules(clear_after=5)
    new = "0" * 15 + "2"
    verdicts = [
        verdict(0, "pass", 0),
        verdict(0, "reject", 100, run=new),
        verdict(1, "pass", 1),
        verdict(1, "pass", 101, run=new),
    ]
    _, changes = play(verdicts, of)
    assert told(changes) == [("raised", "defect")]


def test_cool_down_moves_with_the_clock() -> None:
    of = rules(clear_after=1, cool_down=10)
    verdicts = [verdict(0, "reject", 100), verdict(1, "pass", 105), verdict(2, "pass", 50), verdict(3, "reject", 60)]
    _, changes = play(verdicts, of)
    assert told(changes) == [("raised", "defect"), ("cleared", "defect"), ("raised", "defect")]


def test_a_tick_after_the_clock_was_set_back_still_tells_of_silence() -> None:
    of = rules(silent_after=10, cool_down=30)
    state = RuleState(line="a")
    state, _ = tick(state, Signs(silent_s=10), of, now_ns=START + 1000 * NS)
    state, changes = tick(state, Signs(silent_s=0), of, now_ns=START + 1001 * NS)
    assert told(changes) == [("cleared", "line_silent")]
    state, changes = tick(state, Signs(silent_s=10), of, now_ns=START)
    assert changes == []
    state, changes = tick(state, Signs(silent_s=40), of, now_ns=START + 30 * NS)
    assert told(changes) == [("raised", "line_silent")]


# --- the other kinds -------------------------------------------------------------------------------------------


def test_unknown_streak() -> None:
    of = rules(unknown_streak=3)
    state, changes = play([verdict(i, "unknown", i, reason="no model") for i in range(4)], of)
    assert told(changes) == [("raised", "unknown_streak")]
    assert state.open[AlertKind.UNKNOWN_STREAK].count == 4
    assert "no model" in changes[0].alert.text
    _, changes = play([verdict(4, "pass", 4)], of, state)
    assert told(changes) == [("cleared", "unknown_streak")]


@pytest.mark.parametrize(("reason", "kind"), [("frozen", "camera_frozen"), ("dark", "camera_dark")])
def test_an_unusable_camera_has_its_own_alert_and_no_streak(reason: str, kind: str) -> None:
    of = rules(unknown_streak=3)
    state, changes = play([verdict(i, "unknown", i, reason=reason) for i in range(9)], of)
    assert told(changes) == [("raised", kind)]
    assert state.open[AlertKind(kind)].count == 9
    _, changes = play([verdict(9, "pass", 9)], of, state)
    assert told(changes) == [("cleared", kind)]


def test_a_pass_from_before_the_freeze_that_comes_late_clears_nothing() -> None:
    of = rules()
    state, _ = play([verdict(5, "unknown", 5, reason="frozen"), verdict(4, "pass", 4)], of)
    assert AlertKind.CAMERA_FROZEN in state.open


def test_from_frozen_to_dark() -> None:
    verdicts = [verdict(0, "unknown", 0, reason="frozen"), verdict(1, "unknown", 1, reason="dark")]
    _, changes = play(verdicts, rules())
    assert told(changes) == [("raised", "camera_frozen"), ("cleared", "camera_frozen"), ("raised", "camera_dark")]


def test_camera_lost_and_line_silent_come_from_ticks() -> None:
    of = rules(silent_after=10)
    state = RuleState(line="a")
    state, changes = tick(state, Signs(camera="lost", run=RUN, seq=7), of, now_ns=START)
    assert told(changes) == [("raised", "camera_lost")]
    assert changes[0].alert.id == f"a/{RUN}/7/camera_lost"
    state, changes = tick(state, Signs(silent_s=10, run=RUN, seq=7), of, now_ns=START + NS)
    assert told(changes) == [("raised", "line_silent"), ("cleared", "camera_lost")]
    assert state.open[AlertKind.LINE_SILENT].text.startswith("Line silent")


def test_silent_twice_at_one_frame_are_two_alerts() -> None:
    of = rules(silent_after=10)
    state = RuleState(line="a")
    ids = []
    for i in range(3):
        state, changes = tick(state, Signs(silent_s=10, run=RUN, seq=7), of, now_ns=START + i * NS)
        ids.append(changes[0].alert.id)
        state, _ = tick(state, Signs(run=RUN, seq=7), of, now_ns=START + i * NS)
    assert ids == [f"a/{RUN}/7/line_silent", f"a/{RUN}/7/line_silent~2", f"a/{RUN}/7/line_silent~3"]


def test_a_line_never_heard_of_is_silent_too() -> None:
    _, changes = tick(RuleState(line="a"), Signs(silent_s=10), rules(silent_after=10), now_ns=START)
    assert changes[0].alert.id == f"a/none/{START}/line_silent"


def test_silent_after_zero_is_never() -> None:
    assert tick(RuleState(line="a"), Signs(silent_s=1e9), rules(silent_after=0), now_ns=START)[1] == []


# --- laws ------------------------------------------------------------------------------------------------------


def decoded(number: int, *choices: Sequence[Any]) -> list[Any]:
    """Read a number as one choice from each: a draw of one number is much quicker than one of many choices."""
    picked = []
    for of in choices:
        number, i = divmod(number, len(of))
        picked.append(of[i])
    return picked


def some_rules(number: int) -> AlertRules:
    k, extra, clear, cool, streak, area, duration, cusum, hold, unfit, fit, drift = decoded(
        number,
        [1, 2, 3],
        [0, 1, 2, 3],
        [0, 1, 5],
        [0, 0, 4],
        range(5),
        [0, 0, 0.01],
        [0, 0, 0.5, 3],
        [None, {"slack": 1.2}, {"slack": 3}],
        [0, 0, 0.2],
        [0, 0.5, 2],
        [0, 1, 3],
        [0, 0.9, 0.98],
    )
    return rules(
        **{"raise": {"k": k, "n": k + extra}, "clear_after": clear, "cool_down": cool, "unknown_streak": streak},
        min_area=area,
        min_duration=duration,
        cusum=cusum,
        hold=hold,
        unfit_after=unfit,
        fit_after=fit,
        drift=drift,
    )


RULES = st.integers(0, 3 * 4 * 3 * 3 * 5 * 3 * 4 * 3 * 3 * 3 * 3 * 3 - 1).map(some_rules)
STATUSES = ["pass"] * 6 + ["reject"] * 4 + ["unknown"] * 6
REASONS = ["late", "no model", *CONDITIONS]
PAUSES = [0.0, 0.1, 0.5, 1.0, 4.0, 20.0]
P_VALUES = [None, 0.01, 0.01, 0.1, 0.5, 1.0]
BASES = [None, Basis(n=99), Basis(n=99, block_s=1.0, limit=4.0), Basis(n=19, limit=0.5)]
REGIONS = [None, *(Region(box=(0, 0, 1, 1), area=area, peak=0.5) for area in (0.005, 0.5))]
STEPS = st.lists(st.integers(0, 2**40), max_size=40)


@st.composite
def streams(draw: st.DrawFn, *, any_time: bool = True) -> list[Verdict]:
    """Verdicts in capture order, or (any_time) shuffled a little, of several runs, under a clock that jumps."""
    at, run, seq, verdicts, basis = 100.0, 1, 0, list[Verdict](), draw(st.sampled_from(BASES))
    for number in draw(STEPS):
        status, reason, pause, p, another, region, pictured, chance = decoded(
            number, STATUSES, REASONS, PAUSES, P_VALUES, BASES, REGIONS, [True, False], range(20)
        )
        at += pause
        if any_time and chance == 0:
            at -= 50
        if any_time and chance == 1:
            run, seq = run + 1, 0
        if chance == 3:
            basis = another
        one = verdict(seq, status, at, reason, run=f"{run:016x}")
        if status != "unknown":
            update: dict[str, object] = {"p_value": p, "basis": None if p is None else basis, "region": region}
            one = one.model_copy(update={**update, "evidence": f"e/{len(verdicts)}" if pictured else None})
        verdicts.append(one)
        if any_time and chance == 2:
            verdicts[-2:] = verdicts[-2:][::-1]
        seq += 1
    return verdicts


Happening = Verdict | Challenge | tuple[Signs, int]


@st.composite
def happenings(draw: st.DrawFn) -> list[Happening]:
    """A stream with ticks (what is known then, and the wall clock) and golden samples in between."""
    mixed: list[Happening] = []
    wall_ns, verdicts = START, draw(streams())
    numbers = draw(st.lists(st.integers(0, 2**20), min_size=len(verdicts), max_size=len(verdicts)))
    for one, number in zip(verdicts, numbers, strict=True):
        what, passed_s, silent, calm, flying, cam, image, worker, status = decoded(
            number,
            ["nothing"] * 4 + ["tick", "challenge"],
            [-100, 0, 1, 20],
            [0.0, 20.0],
            [0.0, 3.0, 60.0],
            [0, 1],
            ["ok", "lost", "ended"],
            ["x.png", "y.png"],
            ["w0", "w1"],
            [Status.PASS, Status.REJECT],
        )
        mixed.append(one)
        wall_ns += passed_s * NS
        if what == "tick":
            signs = Signs(silent_s=silent, calm_s=calm, in_flight=flying, camera=cam, run=one.run, seq=one.seq)
            mixed.append((signs, wall_ns))
        elif what == "challenge":
            golden = Challenge(
                line="a",
                image=image,
                expected="reject",
                status=status,
                worker=worker,
                occasion="asked",
                at_ns=wall_ns,
            )
            mixed.append(golden)
    return mixed


def happen(state: RuleState, what: Happening, of: AlertRules) -> tuple[RuleState, list[Transition]]:
    if isinstance(what, Verdict):
        return step(state, what, of)
    if isinstance(what, Challenge):
        return challenge(state, what, of)
    return tick(state, what[0], of, now_ns=what[1])


@given(happenings(), RULES)
def test_law_whatever_happens(story: list[Happening], of: AlertRules) -> None:
    state = RuleState(line="a")
    open_now: dict[AlertKind, Alert] = {}
    seen: set[str] = set()
    whole: list[Transition] = []
    for what in story:
        before = state
        state, changes = happen(state, what, of)
        assert happen(RuleState.model_validate_json(before.model_dump_json()), what, of) == (state, changes)
        whole += changes
        straggler: str | None = None
        for change in changes:
            alert = change.alert
            if change.change is Change.RAISED:
                assert straggler is None
                assert alert.id not in seen
                seen.add(alert.id)
                if alert.kind in open_now:
                    assert alert.kind is AlertKind.DEFECT
                    straggler = alert.id
                else:
                    open_now[alert.kind] = alert
            else:
                if straggler is not None:
                    assert alert.id == straggler
                    straggler = None
                else:
                    assert open_now.pop(alert.kind).id == alert.id
                assert alert.cleared_ns is not None
                assert alert.cleared_ns >= max(alert.raised_ns, alert.ended_ns or 0)
                if alert.kind is AlertKind.DEFECT:
                    assert not (isinstance(what, Verdict) and what.status is Status.UNKNOWN)
            assert alert.started_ns is not None
            assert alert.started_ns <= alert.raised_ns
            assert alert.ended_ns is None or alert.ended_ns >= alert.started_ns
            assert alert.text
        assert straggler is None
        assert len(set(open_now) & set(camera.KINDS.values())) <= 1
        assert {k: a.id for k, a in open_now.items()} == {k: a.id for k, a in state.open.items()}
        for kind, alert in state.open.items():
            assert alert.count >= open_now[kind].count
            assert alert.cleared_ns is None
        assert state.evidence.total >= 0
        assert (state.evidence.total > 0) == (state.evidence.total_ns is not None)
    again, replayed = RuleState(line="a"), []
    for what in story:
        again, changes = happen(again, what, of)
        replayed += changes
    assert (again, replayed) == (state, whole)


@given(streams(), RULES)
def test_law_the_worst_frame_is_one_of_the_event(verdicts: list[Verdict], of: AlertRules) -> None:
    known = {one.id: one for one in verdicts}
    state = RuleState(line="a")
    for one in verdicts:
        state, changes = step(state, one, of)
        for alert in [c.alert for c in changes if c.alert.kind is AlertKind.DEFECT] + [*state.open.values()]:
            if alert.kind is not AlertKind.DEFECT:
                continue
            assert alert.worst_verdict is not None
            worst = known[alert.worst_verdict]
            assert worst.score == alert.worst_score
            raising = known[alert.verdict or ""]
            assert (worst.p_value or 1, -(worst.score or 0)) <= (raising.p_value or 1, -(raising.score or 0))


@given(streams(), RULES)
def test_law_passes_alone_raise_no_defect(verdicts: list[Verdict], of: AlertRules) -> None:
    of = of.model_copy(update={"cusum": None})
    passes = [
        one.model_copy(update={"status": Status.PASS, "reason": None, "score": 0.1, "threshold": 0.5, "model": "m@1"})
        for one in verdicts
    ]
    assert {change.alert.kind for change in play(passes, of)[1]} <= {AlertKind.DRIFT}
    assert play(passes, of.model_copy(update={"drift": 0.0}))[1] == []


@given(streams(), RULES)
def test_law_every_reject_is_in_an_alert_when_one_is_enough(verdicts: list[Verdict], of: AlertRules) -> None:
    plain = {
        "raise_": rules().raise_,
        "cool_down": 0.0,
        "min_area": 0.0,
        "min_duration": 0.0,
        "cusum": None,
        "hold": 0.0,
    }
    of = of.model_copy(update=plain)
    defects = [a for a in final_alerts(*play(verdicts, of)).values() if a.kind is AlertKind.DEFECT]
    counted_at_clear = sum(alert.count for alert in defects)
    assert counted_at_clear == sum(one.status is Status.REJECT for one in verdicts)


@given(streams(any_time=False), RULES)
def test_law_ticks_only_clear_earlier_what_the_replay_clears(verdicts: list[Verdict], of: AlertRules) -> None:
    of = of.model_copy(update={"silent_after": 0.0})
    plain_state, plain = play(verdicts, of)
    state, out = RuleState(line="a"), []
    for one, following in zip(verdicts, [*verdicts, None][1:], strict=True):
        state, changes = step(state, one, of)
        out += changes
        if following is not None:
            calm_s = (following.captured_ns - one.captured_ns) / NS
            state, changes = tick(state, Signs(calm_s=calm_s, run=one.run), of, now_ns=following.captured_ns)
            out += changes
    ticked, expected = final_alerts(state, out), final_alerts(plain_state, plain)
    assert ticked.keys() == expected.keys()
    for (
        name,
        alert,
    ) in ticked.items():  # what the replay has not cleared yet, because unknown clears nothing, may differ
        assert expected[name].cleared_ns in (alert.cleared_ns, None)
        assert expected[name].count == alert.count


def test_the_state_of_a_version_that_knew_rejects_only_is_read_and_its_open_alert_still_cleared() -> None:
    opened, _ = play([verdict(0, "reject", 0)], rules())
    old = json.loads(opened.model_dump_json())
    evidence = old.pop("evidence")
    old |= {"recent": evidence["recent"], "last_reject_ns": evidence["last_ns"]}
    state = RuleState.model_validate_json(json.dumps(old))
    assert state.open == opened.open
    _, changes = play([verdict(i, "pass", i) for i in range(1, 60)], rules(), state)
    assert told(changes) == [("cleared", "defect")]


def test_a_line_taken_out_of_the_configuration_leaves_nothing_open_that_time_does_not_end() -> None:
    state, _ = play([verdict(0, "reject", 0), *(verdict(i, "unknown", i, "moved") for i in range(1, 90))], rules())
    assert {*state.open} > {AlertKind.DEFECT}
    state, changes = leave(state, rules(), now_ns=START + 100 * NS)
    assert {*state.open} == {AlertKind.DEFECT}
    assert {change.change for change in changes} == {Change.CLEARED}
