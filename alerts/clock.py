"""Stream time and tick time of one line, under a wall clock that somebody may set back."""

from alerts.state import RuleState
from storage.records import AlertKind, Verdict

_RUNS = 8  # runs remembered, to tell a straggler of an old run from a new run after the clock was set back
_BY_WALL = frozenset({AlertKind.LINE_SILENT, AlertKind.CAMERA_LOST, AlertKind.GOLDEN_MISSED})
"""Kinds whose cool-down is a matter of the wall clock, not of stream time."""


def follow_stream(state: RuleState, verdict: Verdict) -> tuple[RuleState, bool]:
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
        update["evidence"] = state.evidence.moved_back(back_ns)
        update["fitness"] = state.fitness.moved_back(back_ns)
        update["drift"] = None if state.drift is None else state.drift.moved_back(back_ns)
        update["cool_until_ns"] = {
            kind: until if kind in _BY_WALL else until - back_ns for kind, until in state.cool_until_ns.items()
        }
    return state.model_copy(update=update), True


def follow_ticks(state: RuleState, now_ns: int) -> RuleState:
    """Advance the time of ticks, the same way."""
    back_ns = max(0, state.tick_ns - now_ns)
    update: dict[str, object] = {"tick_ns": now_ns}
    if back_ns:
        update["cool_until_ns"] = {
            kind: until - back_ns if kind in _BY_WALL else until for kind, until in state.cool_until_ns.items()
        }
    return state.model_copy(update=update)
