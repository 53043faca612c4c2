"""When verdicts become alerts: pure functions of one line's state. No I/O, no clock of their own.

`step` decides what a verdict decides, in stream time (the verdicts' own time of capture), so that replaying the stream
gives the same alerts with the same ids. `tick` decides what only the passing of time decides: a line gone silent, a
camera gone, and the clear of a defect that no later verdict clears. `challenge` decides what a golden sample decides.

Each kind of alert has a file in `alerts/kinds`, and what it is made of one beside this: `alerts.evidence` (defects),
`alerts.camera`, `alerts.drift`, `alerts.golden`. Laws (tests/alerts/test_rules.py):

- at most one open alert of a kind and line, and one of the camera's condition; each raise is followed by exactly one
  clear, or is open at the end; beside an open defect, one that comes late and was over before it is raised and cleared
  at once;
- `unknown` never clears a defect; passes alone raise none, unless evidence that adds up is asked for (`cusum`);
- a wall clock that is set back neither raises nor clears: the remembered times move with it (`alerts.clock`).
"""

from alerts.camera import kind_of
from alerts.clock import follow_stream, follow_ticks
from alerts.config import AlertRules
from alerts.kinds import camera, defect, drift, golden, uninspected
from alerts.opening import cleared, may_raise, raised
from alerts.state import Outcome, RuleState, Signs
from alerts.texts import camera_text, silent_text
from storage.records import Alert, AlertKind, Challenge, Held, Status, Transition, Verdict

SETTLE_S = 2.0
"""A tick trusts "nothing in flight" only this long after the fact: the line's count of captured frames comes with a
beat a second."""


def step(state: RuleState, verdict: Verdict, rules: AlertRules) -> Outcome:
    """Apply one verdict.

    Args:
        state: what is remembered of the verdict's line.
        verdict: the next one of the stream; order within a line may be that of several workers.
        rules: of this line.
    """
    out: list[Transition] = []
    kind = kind_of(verdict)
    if verdict.status is Status.UNKNOWN and kind is None:
        return uninspected.missed(state, verdict, rules, out), out
    before_ns = state.clock_ns if state.runs else verdict.captured_ns
    state, newest = follow_stream(state, verdict)
    elapsed_ns = max(0, state.clock_ns - before_ns)
    if kind is not None:
        state = camera.unfit(state, verdict, rules, kind, out, elapsed_ns=elapsed_ns, newest=newest)
    else:
        state = _judged(state, verdict, rules, out, elapsed_ns=elapsed_ns, newest=newest)
    return state, out


def tick(state: RuleState, signs: Signs, rules: AlertRules, *, now_ns: int) -> Outcome:
    """Apply the passing of time; to be called when all verdicts there are have been applied.

    Args:
        state: what is remembered of the line.
        signs: what is known of it now.
        rules: of this line.
        now_ns: wall clock, nanoseconds since the epoch. Names times for people and ends cool-downs; durations come
            from `signs`.
    """
    state = follow_ticks(state, now_ns)
    out: list[Transition] = []
    silent = 0 < rules.silent_after <= signs.silent_s and signs.camera != "ended"
    # A line that was never heard of has no frame to name its alert after; it may happen again, after Redis was lost.
    name = f"{state.line}/none/{now_ns}" if signs.run is None else f"{state.line}/{signs.run}/{signs.seq}"
    for kind, wrong, text in (
        (AlertKind.LINE_SILENT, silent, silent_text(rules.silent_after)),
        (AlertKind.CAMERA_LOST, signs.camera == "lost", camera_text(AlertKind.CAMERA_LOST)),
    ):
        if kind in state.open and not wrong:
            state = cleared(state, kind, now_ns, rules, out)
        elif wrong and may_raise(state, kind, now_ns):
            alert = Alert(id="", line=state.line, kind=kind, text=text, raised_ns=now_ns, started_ns=now_ns)
            state = raised(state, name, alert, out)
    over = signs.calm_s >= rules.clear_after + SETTLE_S
    if AlertKind.DEFECT in state.open and over and (silent or signs.in_flight == 0):
        state = defect.clear(state, rules, out)
    return state, out


def challenge(state: RuleState, challenge: Challenge, rules: AlertRules) -> Outcome:
    """Apply the result of a golden sample.

    Args:
        state: what is remembered of its line.
        challenge: the next one of the stream of challenges.
        rules: of this line.
    """
    out: list[Transition] = []
    return golden.shown(state, challenge, rules, out), out


def withdraw(state: RuleState, listed: frozenset[str], rules: AlertRules, *, now_ns: int) -> Outcome:
    """Apply that golden samples were removed.

    Args:
        state: what is remembered of their line.
        listed: those that are left.
        rules: of this line.
        now_ns: wall clock, nanoseconds since the epoch.
    """
    out: list[Transition] = []
    return golden.withdrawn(state, listed, rules, out, at_ns=now_ns), out


def leave(state: RuleState, rules: AlertRules, *, now_ns: int) -> Outcome:
    """Apply that a line was taken out of the configuration: what no time ends will be ended by nothing else.

    Args:
        state: what is remembered of the line.
        rules: for such lines.
        now_ns: wall clock, nanoseconds since the epoch.
    """
    out: list[Transition] = []
    for kind in [kind for kind in state.open if kind is not AlertKind.DEFECT]:
        # (`tick` ends that, once its last verdicts are in.)
        state = cleared(state, kind, now_ns, rules, out)
    return state, out


def _judged(
    state: RuleState, verdict: Verdict, rules: AlertRules, out: list[Transition], *, elapsed_ns: int, newest: bool
) -> RuleState:
    at_ns = min(verdict.captured_ns, state.clock_ns)
    if AlertKind.DEFECT in state.open and at_ns >= defect.over_ns(state, rules):
        state = defect.clear(state, rules, out)
    state = uninspected.judged(state, rules, out, at_ns=at_ns)
    if newest:
        state = camera.watch(state, None, rules, out, elapsed_ns=elapsed_ns)
        state = state.model_copy(update={"held": _held(state.held, verdict)})
    state = drift.judged(state, verdict, rules, out, at_ns=at_ns, newest=newest)
    return defect.judged(state, verdict, rules, out, at_ns=at_ns, newest=newest)


def _held(held: Held | None, verdict: Verdict) -> Held | None:
    """What the line is held to from this judged verdict on; the same object while nothing has changed."""
    if verdict.model is None or verdict.threshold is None:
        return held
    n_good = None if verdict.basis is None else verdict.basis.n
    if held is not None and (held.model, held.threshold, held.n_good) == (verdict.model, verdict.threshold, n_good):
        return held
    return Held(
        line=verdict.line,
        since_ns=verdict.captured_ns,
        model=verdict.model,
        threshold=verdict.threshold,
        n_good=n_good,
    )
