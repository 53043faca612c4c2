"""Scores that are no longer those of the calibration."""

from alerts import drift
from alerts.config import AlertRules
from alerts.drift import Drift
from alerts.opening import alert_for, cleared, gone_on, may_raise, raised
from alerts.state import RuleState
from alerts.texts import drift_text
from storage.records import AlertKind, Transition, Verdict

_KIND = AlertKind.DRIFT


def judged(
    state: RuleState, verdict: Verdict, rules: AlertRules, out: list[Transition], *, at_ns: int, newest: bool
) -> RuleState:
    """Bet on one judged verdict. The newest frame decides which calibration the line is held against."""
    test = state.drift
    if newest and (test is None or not test.about(verdict) or rules.drift == 0):
        if _KIND in state.open:
            state = cleared(state, _KIND, at_ns, rules, out)
        test = Drift.against(verdict) if rules.drift else None
    if test is None or verdict.p_value is None or not test.about(verdict):
        return state.model_copy(update={"drift": test})
    defect = AlertKind.DEFECT in state.open
    test = drift.observe(test, verdict, verdict.p_value, at_ns=at_ns, newest=newest, defect=defect)
    if _KIND in state.open:
        if test.reaches(drift.DOUBT):
            state, test = gone_on(state, _KIND, at_ns), test.anew()
        elif test.scores >= drift.SETTLED:
            state = cleared(state, _KIND, at_ns, rules, out)
    elif test.reaches(1 / rules.drift) and may_raise(state, _KIND, at_ns):
        alert = alert_for(verdict, _KIND, drift_text(verdict, rising=test.rising), started_ns=at_ns)
        state, test = raised(state, verdict.id, alert, out), test.anew()
    return state.model_copy(update={"drift": test})
