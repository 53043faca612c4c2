"""Golden samples that a model in service does not judge as a person said it must."""

from alerts.config import AlertRules
from alerts.golden import show
from alerts.opening import changed, cleared, gone_on, may_raise, raised
from alerts.state import RuleState
from alerts.texts import golden_text
from storage.records import Alert, AlertKind, Challenge, Transition

_KIND = AlertKind.GOLDEN_MISSED


def withdrawn(
    state: RuleState, listed: frozenset[str], rules: AlertRules, out: list[Transition], *, at_ns: int
) -> RuleState:
    """Forget results of samples that are not there any more: nobody will ever show them again.

    Args:
        state: what is remembered of the line.
        listed: the samples there are.
        rules: of this line.
        out: where transitions go.
        at_ns: now, wall clock, nanoseconds since the epoch.
    """
    kept = tuple(one for one in state.shown if one.image in listed)
    if _KIND not in state.open or len(kept) == len(state.shown):
        return state
    state = state.model_copy(update={"shown": kept})
    missed = [one for one in kept if one.missed]
    if not missed:
        return cleared(state, _KIND, at_ns, rules, out)
    return changed(state, state.open[_KIND].model_copy(update={"text": golden_text(missed)}))


def shown(state: RuleState, challenge: Challenge, rules: AlertRules, out: list[Transition]) -> RuleState:
    """Add one result. The alert is named by its number: challenges have no frames that could name it."""
    at_ns = challenge.at_ns
    state = state.model_copy(update={"shown": show(state.shown, challenge)})
    missed = [one for one in state.shown if one.missed]
    if _KIND in state.open:
        if not missed:
            return cleared(state, _KIND, at_ns, rules, out)
        if challenge.missed:
            state = gone_on(state, _KIND, at_ns)
        return changed(state, state.open[_KIND].model_copy(update={"text": golden_text(missed)}))
    if missed and may_raise(state, _KIND, at_ns):
        number = state.showings + 1
        alert = Alert(
            id="",
            line=state.line,
            kind=_KIND,
            text=golden_text(missed),
            raised_ns=at_ns,
            started_ns=min(one.at_ns for one in missed),
            ended_ns=at_ns,
            score=challenge.score,
            threshold=challenge.threshold,
            model=missed[-1].model,
            count=len(missed),
        )
        state = raised(state.model_copy(update={"showings": number}), f"{state.line}/golden/{number}", alert, out)
    return state
