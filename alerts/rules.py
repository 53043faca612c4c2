"""When verdicts become alerts: pure functions of one line's state. No I/O, no clock of their own.

`step` decides what a verdict decides, in stream time (the verdicts' own time of capture), so that replaying the stream
gives the same alerts with the same ids. `tick` decides what only the passing of time decides: a line gone silent, a
camera gone, and the clear of a defect that no later verdict clears. Laws (tests/alerts/test_rules.py):

- at most one open alert of a kind and line; each raise is followed by exactly one clear, or is open at the end;
- `unknown` never clears a defect; passes alone raise nothing;
- a wall clock that is set back neither raises nor clears: the remembered times move with it (`_follow_clock`).
"""

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from alerts.config import AlertRules
from alerts.texts import camera_text, defect_text, silent_text, unknown_text
from storage.records import Alert, AlertKind, Change, Status, Transition, Verdict

SETTLE_S = 2.0
"""A tick trusts "nothing in flight" only this long after the fact: the line's count of captured frames comes with a
beat a second."""
_RUNS = 8  # runs remembered, to tell a straggler of an old run from a new run after the clock was set back
_NS = 1_000_000_000
_CAMERA = {"frozen": AlertKind.CAMERA_FROZEN, "dark": AlertKind.CAMERA_DARK}
_BY_TICK = frozenset({AlertKind.LINE_SILENT, AlertKind.CAMERA_LOST})
_PASS, _REJECT = ".", "x"


class RuleState(BaseModel):
    """All that the rules remember of one line; survives as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    line: str
    runs: tuple[str, ...] = ()
    """Runs seen, the current one last."""
    seq: int = -1
    """Highest number of the current run that somebody has looked at."""
    clock_ns: int = 0
    """Stream time: when that frame was captured."""
    tick_ns: int = 0
    """Wall clock of the last tick."""
    recent: str = ""
    """The last judged verdicts since a defect was cleared, newest last: `.` pass, `x` reject."""
    last_reject_ns: int = 0
    """Stream time."""
    streak: int = 0
    """Verdicts `unknown` in a row."""
    open: dict[AlertKind, Alert] = {}
    cool_until_ns: dict[AlertKind, int] = {}
    """No new alert of this kind before this time."""
    last_ids: dict[AlertKind, tuple[str, int]] = {}
    """The frame that named the last alert of a kind, and how many alerts it has named."""


@dataclass(frozen=True, slots=True)
class Signs:
    """What is known of a line besides its verdicts. Durations are measured with a monotonic clock.

    Attributes:
        silent_s: seconds since the last sign of life (beat or verdict).
        calm_s: seconds since the last verdict other than `pass` was handled.
        in_flight: frames captured that have no verdict yet.
        camera: condition of the camera as capture last reported it.
        run: the current run, None when the line was never heard of.
        seq: the last frame captured in it.
    """

    silent_s: float = 0.0
    calm_s: float = 0.0
    in_flight: int = 0
    camera: str = "ok"
    run: str | None = None
    seq: int = 0


Outcome = tuple[RuleState, list[Transition]]


def step(state: RuleState, verdict: Verdict, rules: AlertRules) -> Outcome:
    """Apply one verdict.

    Args:
        state: what is remembered of the verdict's line.
        verdict: the next one of the stream; order within a line may be that of several workers.
        rules: of this line.

    Returns:
        The new state and what changed, in order.
    """
    newest = False
    if verdict.status is not Status.UNKNOWN or verdict.reason in _CAMERA:
        state, newest = _follow_clock(state, verdict)
    if verdict.status is not Status.UNKNOWN:
        return _judged(state, verdict, rules, newest=newest)
    if verdict.reason in _CAMERA:
        return _unusable(state, verdict, rules, _CAMERA[verdict.reason], newest=newest)
    return _not_inspected(state, verdict, rules)


def tick(state: RuleState, signs: Signs, rules: AlertRules, *, now_ns: int) -> Outcome:
    """Apply the passing of time; to be called when all verdicts there are have been applied.

    Args:
        state: what is remembered of the line.
        signs: what is known of it now.
        rules: of this line.
        now_ns: wall clock, nanoseconds since the epoch. Names times for people and ends cool-downs; durations come
            from `signs`.

    Returns:
        The new state and what changed, in order.
    """
    state = _follow_tick(state, now_ns)
    out: list[Transition] = []
    silent = 0 < rules.silent_after <= signs.silent_s and signs.camera != "ended"
    name = f"{state.line}/{signs.run or 'none'}/{signs.seq}"
    for kind, wrong, text in (
        (AlertKind.LINE_SILENT, silent, silent_text(rules.silent_after)),
        (AlertKind.CAMERA_LOST, signs.camera == "lost", camera_text(AlertKind.CAMERA_LOST)),
    ):
        if kind in state.open and not wrong:
            state = _clear(state, kind, now_ns, rules, out)
        elif kind not in state.open and wrong and now_ns >= state.cool_until_ns.get(kind, 0):
            state = _raise(
                state, kind, name, Alert(id="", line=state.line, kind=kind, text=text, raised_ns=now_ns), out
            )
    over = signs.calm_s >= rules.clear_after + SETTLE_S
    if AlertKind.DEFECT in state.open and over and (silent or signs.in_flight == 0):
        state = _clear_defect(state, rules, out)
    return state, out


def _judged(state: RuleState, verdict: Verdict, rules: AlertRules, *, newest: bool) -> Outcome:
    out: list[Transition] = []
    at_ns = min(verdict.captured_ns, state.clock_ns)
    if AlertKind.DEFECT in state.open and at_ns >= _defect_over_ns(state, rules):
        state = _clear_defect(state, rules, out)
    if AlertKind.UNKNOWN_STREAK in state.open:
        state = _clear(state, AlertKind.UNKNOWN_STREAK, at_ns, rules, out)
    if newest:
        for kind in _CAMERA.values():
            if kind in state.open:
                state = _clear(state, kind, at_ns, rules, out)
    rejected = verdict.status is Status.REJECT
    recent = (state.recent + (_REJECT if rejected else _PASS))[-rules.raise_.n :]
    state = state.model_copy(update={"recent": recent, "streak": 0})
    if not rejected:
        return state, out
    state = state.model_copy(update={"last_reject_ns": max(state.last_reject_ns, at_ns)})
    if AlertKind.DEFECT in state.open:
        return _count(state, AlertKind.DEFECT), out
    count = recent.count(_REJECT)
    if count >= rules.raise_.k and at_ns >= state.cool_until_ns.get(AlertKind.DEFECT, 0):
        state = _raise_for(state, AlertKind.DEFECT, verdict, defect_text(verdict, rules), out, count=count)
    return state, out


def _unusable(state: RuleState, verdict: Verdict, rules: AlertRules, kind: AlertKind, *, newest: bool) -> Outcome:
    """Follow a camera that delivers pictures nobody can judge."""
    out: list[Transition] = []
    if kind in state.open:
        return _count(state, kind), out
    if newest:
        for other in _CAMERA.values():
            if other in state.open:
                state = _clear(state, other, state.clock_ns, rules, out)
        if state.clock_ns >= state.cool_until_ns.get(kind, 0):
            state = _raise_for(state, kind, verdict, camera_text(kind), out)
    return state, out


def _not_inspected(state: RuleState, verdict: Verdict, rules: AlertRules) -> Outcome:
    """Count frames nobody looked at. They clear nothing, and their times, which may be of giving up, move no clock."""
    out: list[Transition] = []
    kind = AlertKind.UNKNOWN_STREAK
    state = state.model_copy(update={"streak": state.streak + 1})
    if kind in state.open:
        return _count(state, kind), out
    at_ns = max(verdict.captured_ns, state.clock_ns)
    if 0 < rules.unknown_streak <= state.streak and at_ns >= state.cool_until_ns.get(kind, 0):
        state = _raise_for(state, kind, verdict, unknown_text(verdict, rules), out, count=state.streak)
    return state, out


def _follow_clock(state: RuleState, verdict: Verdict) -> tuple[RuleState, bool]:
    """Advance stream time. Returns whether the verdict is of the newest frame.

    Numbers only grow within a run, so a newer frame captured "earlier" means that the clock was set back by at least
    the difference: every remembered stream time moves back with it and no duration changes. An older frame that comes
    late (another worker, an older run) moves nothing.
    """
    current = bool(state.runs) and verdict.run == state.runs[-1]
    if current and verdict.seq <= state.seq:
        return state, False
    if not current and verdict.run in state.runs:
        return state, False
    back_ns = max(0, state.clock_ns - verdict.captured_ns)
    update: dict[str, object] = {"seq": verdict.seq, "clock_ns": verdict.captured_ns}
    if not current:
        update["runs"] = (*state.runs, verdict.run)[-_RUNS:]
    if back_ns:
        update["last_reject_ns"] = state.last_reject_ns - back_ns
        update["cool_until_ns"] = {
            kind: until if kind in _BY_TICK else until - back_ns for kind, until in state.cool_until_ns.items()
        }
    return state.model_copy(update=update), True


def _follow_tick(state: RuleState, now_ns: int) -> RuleState:
    """Advance the time of ticks, the same way."""
    back_ns = max(0, state.tick_ns - now_ns)
    update: dict[str, object] = {"tick_ns": now_ns}
    if back_ns:
        update["cool_until_ns"] = {
            kind: until - back_ns if kind in _BY_TICK else until for kind, until in state.cool_until_ns.items()
        }
    return state.model_copy(update=update)


def _defect_over_ns(state: RuleState, rules: AlertRules) -> int:
    return state.last_reject_ns + round(rules.clear_after * _NS)


def _clear_defect(state: RuleState, rules: AlertRules, out: list[Transition]) -> RuleState:
    """Clear as of `clear_after` past the last reject, whoever noticed it when: a tick and a replay then agree."""
    state = _clear(state, AlertKind.DEFECT, _defect_over_ns(state, rules), rules, out)
    return state.model_copy(update={"recent": ""})


def _clear(state: RuleState, kind: AlertKind, at_ns: int, rules: AlertRules, out: list[Transition]) -> RuleState:
    alert = state.open[kind]
    cleared_ns = max(at_ns, alert.raised_ns)  # for people; the clock may have been set back since the raise
    alert = alert.model_copy(update={"cleared_ns": cleared_ns})
    out.append(Transition(change=Change.CLEARED, alert=alert, at_ns=cleared_ns))
    cool_until_ns = at_ns + round(rules.cool_down * _NS)
    return state.model_copy(
        update={
            "open": {k: a for k, a in state.open.items() if k is not kind},
            "cool_until_ns": {**state.cool_until_ns, kind: cool_until_ns} if rules.cool_down else state.cool_until_ns,
        }
    )


def _raise_for(
    state: RuleState, kind: AlertKind, verdict: Verdict, text: str, out: list[Transition], *, count: int = 1
) -> RuleState:
    alert = Alert(
        id="",
        line=state.line,
        kind=kind,
        text=text,
        raised_ns=verdict.captured_ns,
        verdict=verdict.id,
        evidence=verdict.evidence,
        score=verdict.score,
        p_value=verdict.p_value,
        threshold=verdict.threshold,
        model=verdict.model,
        count=count,
    )
    return _raise(state, kind, verdict.id, alert, out)


def _raise(state: RuleState, kind: AlertKind, name: str, alert: Alert, out: list[Transition]) -> RuleState:
    """Open an alert named after a frame. A line can fall silent twice at one frame: the second one is `…~2`."""
    last_name, times = state.last_ids.get(kind, ("", 0))
    times = times + 1 if last_name == name else 1
    alert = alert.model_copy(update={"id": f"{name}/{kind}" + (f"~{times}" if times > 1 else "")})
    out.append(Transition(change=Change.RAISED, alert=alert, at_ns=alert.raised_ns))
    return state.model_copy(
        update={"open": {**state.open, kind: alert}, "last_ids": {**state.last_ids, kind: (name, times)}}
    )


def _count(state: RuleState, kind: AlertKind) -> RuleState:
    alert = state.open[kind]
    return state.model_copy(update={"open": {**state.open, kind: alert.model_copy(update={"count": alert.count + 1})}})
