"""A camera that delivers pictures nobody can judge: one alert at a time, named after what is wrong with it."""

from alerts import camera
from alerts.camera import KINDS
from alerts.config import AlertRules
from alerts.evidence import Evidence
from alerts.opening import alert_for, cleared, gone_on, may_raise, raised
from alerts.state import RuleState
from alerts.texts import camera_text
from storage.records import AlertKind, Transition, Verdict


def unfit(
    state: RuleState,
    verdict: Verdict,
    rules: AlertRules,
    kind: AlertKind,
    out: list[Transition],
    *,
    elapsed_ns: int,
    newest: bool,
) -> RuleState:
    """Add a frame for which the camera was unfit. Evidence of a defect that was gathering is interrupted by it."""
    if newest:
        state = watch(state, kind, rules, out, elapsed_ns=elapsed_ns)
        event = AlertKind.DEFECT in state.open
        state = state.model_copy(update={"evidence": state.evidence.interrupted(event=event)})
        if state.drift is not None:
            state = state.model_copy(update={"drift": state.drift.interrupted()})
    if kind in state.open:
        return gone_on(state, kind, min(verdict.captured_ns, state.clock_ns))
    another = any(other in state.open for other in KINDS.values())
    if not newest or another or not state.fitness.names(kind, rules) or not may_raise(state, kind, state.clock_ns):
        return state
    spell = state.fitness.spells[kind]
    alert = alert_for(verdict, kind, camera_text(kind), started_ns=spell.first_ns, count=spell.frames)
    if AlertKind.DEFECT not in state.open:  # what did not suffice before may have been the camera
        state = state.model_copy(update={"evidence": Evidence()})
    return raised(state, verdict.id, alert, out)


def watch(
    state: RuleState, kind: AlertKind | None, rules: AlertRules, out: list[Transition], *, elapsed_ns: int
) -> RuleState:
    """Follow the camera's condition, and clear what is over."""
    fitness, over = camera.watch(state.fitness, kind, rules, at_ns=state.clock_ns, elapsed_ns=elapsed_ns)
    state = state.model_copy(update={"fitness": fitness})
    for other in KINDS.values():
        if other in state.open and other is not kind and other not in fitness.spells:
            state = cleared(state, other, over.get(other, state.clock_ns), rules, out)
    return state
