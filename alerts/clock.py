"""Stream time and tick time of one line, under a wall clock that somebody may set back."""

from alerts.state import RuleState
from storage.records import AlertKind, Verdict

_RUNS = 8  # remembered, for people who look at a state
_PERSISTS = 8
"""So many verdicts in a row, none of the current run among them, are no stragglers of a run that has ended."""
_BY_WALL = frozenset({AlertKind.LINE_SILENT, AlertKind.CAMERA_LOST, AlertKind.GOLDEN_MISSED})
"""Kinds whose cool-down is a matter of the wall clock, not of stream time."""


def follow_stream(state: RuleState, verdict: Verdict) -> tuple[RuleState, bool]:
    """Advance stream time. Returns whether the verdict is of the newest frame.

    Numbers only grow within a run, so a newer frame captured "earlier" means that the clock was set back by at least
    the difference: every remembered stream time moves back with it and no duration changes. An older frame that comes
    late (another worker, an older run) moves nothing.

    A host names its runs so that each sorts after all before. So a run that sorts later is the newer one. One that
    sorts earlier is an older one's straggler, unless the camera has moved to a host whose clock is behind: then it goes
    on alone.
    """
    latest = state.runs[-1] if state.runs else ""
    current = verdict.run == latest
    if current and verdict.seq <= state.seq:
        return state.model_copy(update={"contender": None}) if state.contender else state, False
    if verdict.run < latest:
        before, count = state.contender or ("", 0)
        count = count + 1 if before == verdict.run else 1
        if count < _PERSISTS:
            return state.model_copy(update={"contender": (verdict.run, count)}), False
    back_ns = max(0, state.clock_ns - verdict.captured_ns)
    update: dict[str, object] = {"seq": verdict.seq, "clock_ns": verdict.captured_ns, "contender": None}
    if not current:
        update["runs"] = (*(run for run in state.runs if run != verdict.run), verdict.run)[-_RUNS:]
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
