"""Frames that nobody looked at, one after the other."""

from alerts.config import AlertRules
from alerts.opening import alert_for, cleared, gone_on, may_raise, raised
from alerts.state import RuleState
from alerts.texts import unknown_text
from storage.records import AlertKind, Transition, Verdict

_KIND = AlertKind.UNKNOWN_STREAK


def missed(state: RuleState, verdict: Verdict, rules: AlertRules, out: list[Transition]) -> RuleState:
    """Count one more. They clear nothing, and their times, which may be of giving up, move no clock."""
    first_ns = state.streak_ns if state.streak else verdict.captured_ns
    state = state.model_copy(update={"streak": state.streak + 1, "streak_ns": first_ns})
    if _KIND in state.open:
        return gone_on(state, _KIND, verdict.captured_ns)
    if 0 < rules.unknown_streak <= state.streak and may_raise(state, _KIND, max(verdict.captured_ns, state.clock_ns)):
        alert = alert_for(verdict, _KIND, unknown_text(verdict, rules), started_ns=first_ns, count=state.streak)
        state = raised(state, verdict.id, alert, out)
    return state


def judged(state: RuleState, rules: AlertRules, out: list[Transition], *, at_ns: int) -> RuleState:
    """Somebody looked at a frame."""
    if _KIND in state.open:
        state = cleared(state, _KIND, at_ns, rules, out)
    return state.model_copy(update={"streak": 0})
