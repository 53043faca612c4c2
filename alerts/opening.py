"""How an alert begins, goes on and ends: the only place where one is opened or closed."""

from alerts.config import AlertRules
from alerts.evidence import NS
from alerts.state import RuleState
from storage.records import Alert, AlertKind, Change, Transition, Verdict


def may_raise(state: RuleState, kind: AlertKind, at_ns: int) -> bool:
    """Whether no alert of this kind is open, nor its cool-down running."""
    return kind not in state.open and at_ns >= state.cool_until_ns.get(kind, 0)


def alert_for(verdict: Verdict, kind: AlertKind, text: str, *, started_ns: int, count: int = 1) -> Alert:
    """An alert that a verdict raises; it has no id yet."""
    return Alert(
        id="",
        line=verdict.line,
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
        started_ns=min(started_ns, verdict.captured_ns),
        ended_ns=verdict.captured_ns,
    )


def raised(state: RuleState, name: str, alert: Alert, out: list[Transition]) -> RuleState:
    """Open an alert named after a frame. A line can fall silent twice at one frame: the second one is `…~2`."""
    kind = alert.kind
    last_name, times = state.last_ids.get(kind, ("", 0))
    times = times + 1 if last_name == name else 1
    alert = alert.model_copy(update={"id": f"{name}/{kind}" + (f"~{times}" if times > 1 else "")})
    out.append(Transition(change=Change.RAISED, alert=alert, at_ns=alert.raised_ns))
    return state.model_copy(
        update={"open": {**state.open, kind: alert}, "last_ids": {**state.last_ids, kind: (name, times)}}
    )


def told_at_once(name: str, alert: Alert, out: list[Transition]) -> None:
    """Raise and clear an alert that is over already, beside whatever is open.

    It is never open, not even between the two: the history holds one open alert of a kind at most.
    """
    over_ns = max(alert.raised_ns, alert.ended_ns or 0)
    alert = alert.model_copy(update={"id": f"{name}/{alert.kind}", "cleared_ns": over_ns})
    out.append(Transition(change=Change.RAISED, alert=alert, at_ns=alert.raised_ns))
    out.append(Transition(change=Change.CLEARED, alert=alert, at_ns=over_ns))


def cleared(state: RuleState, kind: AlertKind, at_ns: int, rules: AlertRules, out: list[Transition]) -> RuleState:
    """Close an alert as of a time, which is what its cool-down counts from."""
    alert = state.open[kind]
    cleared_ns = max(at_ns, alert.raised_ns, alert.ended_ns or 0)  # for people; the clock may have been set back
    alert = alert.model_copy(update={"cleared_ns": cleared_ns})
    out.append(Transition(change=Change.CLEARED, alert=alert, at_ns=cleared_ns))
    cool_until_ns = at_ns + round(rules.cool_down * NS)
    return state.model_copy(
        update={
            "open": {k: a for k, a in state.open.items() if k is not kind},
            "cool_until_ns": {**state.cool_until_ns, kind: cool_until_ns} if rules.cool_down else state.cool_until_ns,
        }
    )


def gone_on(state: RuleState, kind: AlertKind, at_ns: int) -> RuleState:
    """Count one more frame of an open alert, captured at `at_ns`."""
    alert = state.open[kind]
    ended_ns = max(alert.raised_ns if alert.ended_ns is None else alert.ended_ns, at_ns)
    return changed(state, alert.model_copy(update={"count": alert.count + 1, "ended_ns": ended_ns}))


def changed(state: RuleState, alert: Alert) -> RuleState:
    """Replace an open alert."""
    return state.model_copy(update={"open": {**state.open, alert.kind: alert}})
