"""A defect: opened when the evidence suffices, one for each event, with the event's worst frame."""

from alerts.config import AlertRules
from alerts.evidence import NS, Evidence, weigh
from alerts.opening import alert_for, changed, cleared, gone_on, may_raise, raised
from alerts.state import RuleState
from alerts.texts import added_text, defect_text
from storage.records import Alert, AlertKind, Transition, Verdict

_KIND = AlertKind.DEFECT


def judged(
    state: RuleState, verdict: Verdict, rules: AlertRules, out: list[Transition], *, at_ns: int, newest: bool
) -> RuleState:
    """Add one judged verdict."""
    event = _KIND in state.open
    evidence, weighed = weigh(state.evidence, verdict, rules, at_ns=at_ns, newest=newest, event=event)
    state = state.model_copy(update={"evidence": evidence})
    if event:
        if weighed.goes_on:
            state = gone_on(state, _KIND, at_ns)
            state = changed(state, _with_worst(state.open[_KIND], evidence))
        return state
    if weighed.started_ns is None or not may_raise(state, _KIND, at_ns):
        return state
    if weighed.added_up is None:
        text = defect_text(verdict, rules)
    else:
        text = added_text(verdict, frames=weighed.count, total=weighed.added_up)
    alert = alert_for(verdict, _KIND, text, started_ns=weighed.started_ns, count=weighed.count)
    if alert.evidence is None and evidence.pictured is not None:
        alert = alert.model_copy(update={"evidence": evidence.pictured.evidence})
    return raised(state, verdict.id, _with_worst(alert, evidence), out)


def over_ns(state: RuleState, rules: AlertRules) -> int:
    """When an open defect is over, stream time: `clear_after` past the last frame that belongs to it."""
    return state.evidence.last_ns + round(rules.clear_after * NS)


def clear(state: RuleState, rules: AlertRules, out: list[Transition]) -> RuleState:
    """Clear as of `over_ns`, whoever noticed it when: a tick and a replay then agree."""
    state = cleared(state, _KIND, over_ns(state, rules), rules, out)
    return state.model_copy(update={"evidence": Evidence()})


def _with_worst(alert: Alert, evidence: Evidence) -> Alert:
    update: dict[str, object] = {}
    if evidence.worst is not None:
        update |= {"worst_verdict": evidence.worst.verdict, "worst_score": evidence.worst.score}
    if evidence.pictured is not None:
        update["worst_evidence"] = evidence.pictured.evidence
    return alert.model_copy(update=update)
