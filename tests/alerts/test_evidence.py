"""Defects of a line: what counts, what adds up, what lasts, and what the alert says of the event."""

import json
import math
import random
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.config import AlertRules
from alerts.evidence import Evidence, weigh
from alerts.rules import step
from alerts.state import RuleState
from storage.records import Alert, AlertKind, Basis, Region, Status, Transition, Verdict

NS = 1_000_000_000
START = 1_700_000_000 * NS
RUN = "0" * 15 + "1"
FPS = 10


def frame(seq: int, status: str, p: float | None = None, **fields: Any) -> Verdict:
    judged = status != "unknown"
    at_ns = START + seq * NS // FPS
    given = {
        "line": "a",
        "run": RUN,
        "seq": seq,
        "status": Status(status),
        "reason": None if judged else "moved",
        "score": {"pass": 0.1, "reject": 0.9}.get(status),
        "threshold": 0.5 if judged else None,
        "model": "m@1" if judged else None,
        "p_value": p,
        "captured_ns": at_ns,
        "judged_ns": at_ns,
    }
    return Verdict.model_validate({**given, **fields})


def rules(**fields: object) -> AlertRules:
    return AlertRules.model_validate({"drift": 0, **fields})


def play(
    verdicts: Iterable[Verdict], of: AlertRules, state: RuleState | None = None
) -> tuple[RuleState, list[Transition]]:
    state, out = state or RuleState(line="a"), []
    for one in verdicts:
        state, changes = step(state, one, of)
        out += changes
    return state, out


def told(changes: Iterable[Transition]) -> list[tuple[str, str]]:
    return [(change.change.value, change.alert.kind.value) for change in changes]


def frames(pattern: str, **fields: Any) -> list[Verdict]:
    """`x` reject, `.` pass, `?` unfit."""
    named = {"x": "reject", ".": "pass", "?": "unknown"}
    return [frame(seq, named[mark], **(fields if mark == "x" else {})) for seq, mark in enumerate(pattern)]


# --- size ------------------------------------------------------------------------------------------------------


def region(area: float, box: tuple[float, float, float, float] = (0, 0, 0.2, 0.2)) -> Region:
    return Region(box=box, area=area, peak=0.4)


def test_too_small_is_no_hit_and_keeps_nothing_open() -> None:
    of = rules(min_area="0.5%", clear_after="1s")
    assert play(frames("xxx", region=region(0.0049)), of)[1] == []
    large, small = frames("x", region=region(0.005)), frames("." + "x" * 20, region=region(0.004))[1:]
    assert told(play([*large, *small], of)[1]) == [("raised", "defect"), ("cleared", "defect")]


def test_a_reject_whose_size_is_not_known_counts() -> None:
    assert told(play(frames("x"), rules(min_area="0.5%"))[1]) == [("raised", "defect")]


@pytest.mark.parametrize(
    ("box", "place"),
    [
        ((0.0, 0.0, 0.2, 0.2), "in the upper left"),
        ((0.4, 0.0, 0.6, 0.2), "at the top"),
        ((0.8, 0.4, 1.0, 0.6), "on the right"),
        ((0.1, 0.1, 0.9, 0.9), "in the centre"),
        ((0.9, 0.9, 1.0, 1.0), "in the lower right"),
    ],
)
def test_the_text_says_where_and_how_large(box: tuple[float, float, float, float], place: str) -> None:
    _, changes = play(frames("x", region=region(0.012, box)), rules())
    assert f"Defect {place}, 1.2 % of the picture: score 0.9 is above the threshold 0.5." in changes[0].alert.text


# --- duration --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "raise_", "raised_at"),
    [
        ("xxxxxxxx", "1 of 1", 5),
        ("xxxx.xxxxxxxx", "1 of 1", 10),  # begins anew after a pass
        ("x.x.x.x.x.x.x", "2 of 3", 6),  # a chain of hits
        ("x..............x", "1 of 2", None),
        ("xxx?xxxxxxxx", "1 of 1", 9),  # an unfit frame interrupts
    ],
)
def test_evidence_must_last(pattern: str, raise_: str, raised_at: int | None) -> None:
    of = rules(**{"raise": raise_, "min_duration": "500ms"})
    _, changes = play(frames(pattern), of)
    assert [int(change.alert.id.split("/")[2]) for change in changes] == ([] if raised_at is None else [raised_at])
    if raised_at is not None:
        started = changes[0].alert.started_ns
        assert started is not None
        assert changes[0].alert.raised_ns - started >= NS // 2


# --- evidence that adds up -------------------------------------------------------------------------------------

CUSUM = rules(cusum={"slack": 1.5}, clear_after="1s", **{"raise": "10000 of 10000"})


def weak(seq: int, p: float, *, limit: float | None = 10.0, n: int = 999, **fields: Any) -> Verdict:
    return frame(seq, "pass", p, basis=Basis(n=n, block_s=1.0, limit=limit), **fields)


def test_weak_evidence_adds_up() -> None:
    quiet = [weak(seq, 0.5) for seq in range(20)]
    event = [weak(seq, 0.02, evidence=f"e/{seq}" if seq == 22 else None) for seq in range(20, 30)]
    after = [weak(seq, 0.5) for seq in range(30, 80)]
    state, changes = play([*quiet, *event, *after], CUSUM)
    assert told(changes) == [("raised", "defect"), ("cleared", "defect")]
    first, last = changes[0].alert, changes[1].alert
    assert first.verdict == f"a/{RUN}/24"  # 5 * (-ln 0.02 - 1.5) is above 10 for the first time
    assert first.started_ns == event[0].captured_ns
    assert first.count == 5
    assert "5 frames in a row are each a little unusual; their evidence adds up to 12.1, good frames stay below 10" in (
        first.text
    )
    assert first.evidence == last.worst_evidence == "e/22"
    assert last.ended_ns is not None
    assert last.ended_ns >= event[-1].captured_ns
    assert last.cleared_ns == last.ended_ns + NS
    assert state.evidence == Evidence() or state.evidence.total >= 0


def test_no_limit_no_cusum() -> None:
    for verdicts in (
        [weak(seq, 0.001, limit=None) for seq in range(50)],
        [frame(seq, "pass", 0.001) for seq in range(50)],
    ):
        state, changes = play(verdicts, CUSUM)
        assert (changes, state.evidence.total) == ([], 0.0)
    assert play([weak(seq, 0.001) for seq in range(50)], rules())[1] == []


def test_a_long_event_is_over_as_soon_as_a_short_one() -> None:
    ends = []
    for length in (20, 2000):
        event = [weak(seq, 0.001) for seq in range(length)]
        after = [weak(seq, 0.5) for seq in range(length, length + 100)]
        _, changes = play([*event, *after], CUSUM)
        assert told(changes) == [("raised", "defect"), ("cleared", "defect")]
        ended = changes[1].alert.ended_ns
        assert ended is not None
        ends.append(ended - event[-1].captured_ns)
    assert ends[0] == ends[1] < 2 * NS


def test_a_straggler_and_an_unfit_frame_do_not_add_up() -> None:
    state, _ = play([weak(5, 0.02)], CUSUM)
    total = state.evidence.total
    state, _ = play([weak(3, 0.02)], CUSUM, state)
    assert state.evidence.total == total > 0
    state, _ = play([frame(6, "unknown")], CUSUM, state)
    assert state.evidence.total == 0
    assert state.evidence.total_ns is None


@given(st.lists(st.floats(0.001, 1), max_size=60), st.floats(1.01, 5), st.floats(0, 20))
def test_the_sum_is_pages_and_never_negative(p: list[float], slack: float, limit: float) -> None:
    """Against the closed form of a reflected walk: S_t = max over s <= t of the increments after s."""
    of = rules(cusum={"slack": slack}, **{"raise": "10000 of 10000"})
    evidence, steps = Evidence(), [-math.log(value) - slack for value in p]
    for t, value in enumerate(p):
        one = weak(t, value, limit=limit)
        evidence, weighed = weigh(evidence, one, of, at_ns=one.captured_ns, newest=True, event=False)
        exact = max(sum(steps[s : t + 1]) for s in range(t + 2))
        if exact > limit + 1e-9:
            assert weighed.started_ns is not None
            return
        assert evidence.total >= 0
        assert evidence.total == pytest.approx(exact, abs=1e-9)
        assert weighed.started_ns is None or exact > limit - 1e-9


def test_good_frames_rarely_reach_the_limit() -> None:
    """Uniform p-values: S behaves like the waiting time of a queue, P(S > x) falls off exponentially."""
    chance, of = random.Random(0), rules(cusum={"slack": 2.0}, **{"raise": "10000 of 10000"})
    evidence, above = Evidence(), 0
    for t in range(20_000):
        one = weak(t, (1 + chance.randrange(1000)) / 1000, limit=1e9)
        evidence, _ = weigh(evidence, one, of, at_ns=one.captured_ns, newest=True, event=False)
        above += evidence.total > 10
    # Lundberg: E exp(r (X - 2)) = 1 for X exponential gives r = 0.797, P(S > 10) <= exp(-7.97)
    assert above / 20_000 < 3 * math.exp(-7.97)


# --- hysteresis and the course of an event ---------------------------------------------------------------------


def test_an_event_goes_on_while_p_is_low() -> None:
    of = rules(hold="5%", clear_after="500ms")
    weakly = [frame(seq, "pass", 0.04) for seq in range(1, 30)]
    verdicts = [frame(0, "reject", 0.001), *weakly, *(frame(seq, "pass", 0.5) for seq in range(30, 60))]
    _, changes = play(verdicts, of)
    assert told(changes) == [("raised", "defect"), ("cleared", "defect")]
    assert changes[1].alert.ended_ns == weakly[-1].captured_ns
    assert changes[1].alert.count == 30
    assert play([one for one in verdicts if one.status is Status.PASS], of)[1] == []


def defect(changes: list[Transition]) -> Alert:
    return changes[-1].alert


def test_start_end_and_worst_frame_of_an_event() -> None:
    of = rules(**{"raise": "2 of 5", "clear_after": "1s"})
    verdicts = [
        frame(0, "pass", 0.5),
        frame(1, "reject", 0.01, score=0.8, evidence="e/1"),
        frame(2, "pass", 0.5),
        frame(3, "reject", 0.02, score=0.7, evidence="e/3"),
        frame(4, "reject", 0.001, score=0.95),
        frame(5, "reject", 0.001, score=0.99, evidence="e/5"),
        frame(6, "reject", 0.001, score=0.98, evidence="e/6"),
        *(frame(seq, "pass", 0.5) for seq in range(7, 30)),
    ]
    _, changes = play(verdicts, of)
    assert told(changes) == [("raised", "defect"), ("cleared", "defect")]
    first, last = changes[0].alert, changes[1].alert
    assert (first.started_ns, first.raised_ns) == (verdicts[1].captured_ns, verdicts[3].captured_ns)
    assert (first.worst_verdict, first.worst_evidence) == (f"a/{RUN}/1", "e/1")
    assert first.text.endswith("(2 of the last 5 rejected).")
    assert last.ended_ns == verdicts[6].captured_ns
    assert (last.worst_verdict, last.worst_score, last.worst_evidence) == (f"a/{RUN}/5", 0.99, "e/5")
    assert last.count == 5


def test_the_worst_frame_may_have_no_picture() -> None:
    verdicts = [frame(0, "reject", 0.01, evidence="e/0"), frame(1, "reject", 0.001)]
    state, _ = play(verdicts, rules())
    alert = state.open[AlertKind.DEFECT]
    assert (alert.worst_verdict, alert.worst_evidence) == (f"a/{RUN}/1", "e/0")


def test_one_event_leaves_nothing_to_the_next() -> None:
    of = rules(clear_after="500ms")
    far = [frame(0, "reject", 0.001), *(frame(seq, "pass", 0.5) for seq in range(1, 20)), frame(20, "reject", 0.01)]
    state, changes = play(far, of)
    assert told(changes) == [("raised", "defect"), ("cleared", "defect"), ("raised", "defect")]
    assert state.open[AlertKind.DEFECT].worst_verdict == f"a/{RUN}/20"
    assert state.open[AlertKind.DEFECT].started_ns == far[-1].captured_ns


def test_an_unfit_camera_ends_no_event() -> None:
    verdicts = [frame(0, "reject"), *(frame(seq, "unknown") for seq in range(1, 200))]
    state, changes = play(verdicts, rules(clear_after="1s"))
    assert told(changes) == [("raised", "defect"), ("raised", "camera_moved")]
    state, changes = play([frame(200, "pass")], rules(clear_after="1s"), state)
    assert told(changes) == [("cleared", "defect")]


def test_evidence_from_before_the_camera_was_unfit_is_dropped() -> None:
    of = rules(**{"raise": "2 of 3"})
    assert told(play(frames("x" + "?" * 10 + "x"), of)[1]) == [("raised", "camera_moved")]
    assert told(play(frames("x?x"), of)[1]) == [("raised", "defect")]  # a flicker undoes no reject


def test_the_state_of_an_older_version_is_read() -> None:
    state, _ = play([frame(0, "reject")], rules())
    old = json.loads(
        state.model_dump_json(exclude={"evidence", "fitness", "drift", "shown", "showings", "held", "streak_ns"})
    )
    for alert in old["open"].values():
        for name in ("started_ns", "ended_ns", "worst_verdict", "worst_score", "worst_evidence"):
            del alert[name]
    old |= {"recent": "x", "last_reject_ns": START}
    read = RuleState.model_validate_json(json.dumps(old))
    assert read.evidence == Evidence(recent="x", last_ns=START)
    read, changes = play([frame(1, "reject", evidence="e/1"), frame(100, "pass")], rules(), read)
    assert told(changes) == [("cleared", "defect")]
    assert (defect(changes).count, defect(changes).worst_evidence) == (2, "e/1")
