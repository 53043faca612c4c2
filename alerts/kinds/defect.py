"""A defect: opened when the evidence suffices, one for each event, with the event's worst frame."""

from alerts.config import AlertRules
from alerts.evidence import NS, Evidence, Sighting, counts, weigh
from alerts.opening import alert_for, changed, cleared, gone_on, may_raise, raised, told_at_once
from alerts.state import RuleState
from alerts.texts import added_text, defect_text
from storage.records import Alert, AlertKind, Transition, Verdict

_KIND = AlertKind.DEFECT


def judged(
    state: RuleState, verdict: Verdict, rules: AlertRules, out: list[Transition], *, at_ns: int, newest: bool
) -> RuleState:
    """Add one judged verdict."""
    event = _KIND in state.open
    if event and not newest and _apart(state, verdict, rules, at_ns=at_ns):
        alert = alert_for(verdict, _KIND, defect_text(verdict, rules), started_ns=at_ns)
        told_at_once(verdict.id, _with_worst(alert, _alone(verdict)), out)
        return state
    evidence, weighed = weigh(state.evidence, verdict, rules, at_ns=at_ns, newest=newest, event=event)
    state = state.model_copy(update={"evidence": evidence})
    if event:
        if weighed.goes_on:
            state = gone_on(state, _KIND, at_ns)
            alert = _with_worst(state.open[_KIND], evidence)
            if evidence.first_ns is not None and at_ns < evidence.first_ns:  # a straggler: it began with that one
                alert = alert.model_copy(update={"started_ns": min(alert.started_ns or at_ns, at_ns)})
                state = state.model_copy(update={"evidence": evidence.model_copy(update={"first_ns": at_ns})})
            state = changed(state, alert)
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
    state = state.model_copy(update={"evidence": evidence.model_copy(update={"first_ns": weighed.started_ns})})
    return raised(state, verdict.id, _with_worst(alert, evidence), out)


def _apart(state: RuleState, verdict: Verdict, rules: AlertRules, *, at_ns: int) -> bool:
    """Whether a reject that comes late was over before the open event began: another part, with an alert of its own.

    Only where one reject suffices. Where evidence must gather, what a frame would have decided in its place is not
    known any more: it counts for the open event, which then began with it.
    """
    first_ns = state.evidence.first_ns
    suffices = rules.raise_.k == 1 and rules.min_duration == 0 and counts(verdict, rules)
    return suffices and first_ns is not None and at_ns + round(rules.clear_after * NS) < first_ns


def _alone(verdict: Verdict) -> Evidence:
    seen = Sighting.of(verdict)
    return Evidence(worst=seen, pictured=None if seen.evidence is None else seen)


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
