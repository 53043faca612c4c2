"""Each checker finds what it is there to find: books that are right, then broken in one place."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.history import Counts
from storage.records import Alert, AlertKind, LineState, Status, Verdict
from tests.chaos import camera
from tests.chaos.books import Books, Sent, Told
from tests.chaos.checkers import PROMISES

MODEL = "plate@1"
S = 1_000_000_000
DEFECT = 7
LOST = 9


def sent(number, **changes):
    defaults = {"part": f"belt-0-{number}", "defect": number in (DEFECT, LOST), "orders": "ok", "taken": True}
    return Sent(boot=0, number=number, mono_ns=number * S, **(defaults | changes))


def verdict(seq, **changes):
    status = Status.REJECT if seq == DEFECT else Status.UNKNOWN if seq == LOST else Status.PASS
    judged = {"score": 9.0 if seq == DEFECT else 1.0, "threshold": 5.0, "model": MODEL, "part": f"belt-0-{seq}"}
    fields = {"reason": "late"} if status is Status.UNKNOWN else judged
    return Verdict(
        **(
            {"line": "belt", "run": "a", "seq": seq, "status": status, "captured_ns": seq * S, "judged_ns": 0}
            | fields
            | changes
        )
    )


def alert(seq, kind=AlertKind.DEFECT, **changes):
    name = f"belt/a/{seq}"
    fields = {"id": f"{name}/{kind}", "line": "belt", "kind": kind, "text": "t", "raised_ns": seq * S, "verdict": name}
    return Alert(**(fields | {"cleared_ns": seq * S + 1} | changes))


def told(of, **changes):
    fields = {"key": f"{of.id}:raised", "body": "b", "alert": of.id, "kind": of.kind, "change": "raised"}
    return Told(**(fields | {"evidence": "e", "pictured": True} | changes))


def books():
    alerts = [alert(DEFECT), alert(LOST, AlertKind.UNKNOWN_STREAK)]
    state = LineState(line="belt", captured=12, passed=10, rejected=1, unknown=1)
    return Books(
        sent={"belt": [sent(number) for number in range(12)]},
        verdicts=[verdict(seq) for seq in range(12)],
        states={"belt": state},
        counted={"belt": Counts(10, 1, 1)},
        alerts=alerts,
        told=[told(one) for one in alerts],
        models={"belt": MODEL},
        rescored={"belt/a/3": 1.0},
    )


def with_verdict(right, seq, *changed):
    return replace(right, verdicts=[v for v in right.verdicts if v.seq != seq] + list(changed))


def test_right_books_are_right():
    assert {promise: check(books()) for promise, check in PROMISES.items()} == {promise: [] for promise in PROMISES}


BREAKS = {
    "no verdict": ("unaccounted", lambda b: with_verdict(b, 4)),
    "two verdicts": ("unaccounted", lambda b: replace(b, verdicts=[*b.verdicts, verdict(4)])),
    "a verdict of nothing": ("unaccounted", lambda b: replace(b, verdicts=[*b.verdicts, verdict(77)])),
    "still open": (
        "unaccounted",
        lambda b: replace(b, states={"belt": b.states["belt"].model_copy(update={"captured": 13})}),
    ),
    "a skip where none may be": (
        "unaccounted",
        lambda b: replace(b, states={"belt": b.states["belt"].model_copy(update={"skipped": 1, "captured": 13})}),
    ),
    "no counters": ("unaccounted", lambda b: replace(b, states={})),
    "counted twice": ("miscounted", lambda b: replace(b, counted={"belt": Counts(11, 1, 1)})),
    "a defect passed": (
        "wrong_pass",
        lambda b: with_verdict(b, DEFECT, verdict(DEFECT, status=Status.PASS, score=1.0)),
    ),
    "above the threshold": ("wrong_pass", lambda b: with_verdict(b, 3, verdict(3, score=6.0))),
    "another model": ("wrong_pass", lambda b: with_verdict(b, 3, verdict(3, model="plate@2"))),
    "another picture": ("wrong_pass", lambda b: with_verdict(b, 3, verdict(3, part="belt-0-4"))),
    "no picture": ("wrong_pass", lambda b: with_verdict(b, 3, verdict(3, part=None))),
    "another score": ("wrong_pass", lambda b: replace(b, rescored={"belt/a/3": 1.1})),
    "in the dark": (
        "wrong_pass",
        lambda b: replace(b, sent={"belt": [sent(n, orders=camera.DARK if n == 3 else "ok") for n in range(12)]}),
    ),
    "a reason nobody knows": ("strange_reasons", lambda b: with_verdict(b, LOST, verdict(LOST, reason="gremlins"))),
    "no alert": ("lost_alerts", lambda b: replace(b, alerts=b.alerts[1:], told=b.told[1:])),
    "no alert of what was not seen": ("lost_alerts", lambda b: replace(b, alerts=b.alerts[:1], told=b.told[:1])),
    "never delivered": ("lost_alerts", lambda b: replace(b, told=b.told[1:])),
    "two alerts": (
        "doubled_alerts",
        lambda b: replace(b, alerts=[*b.alerts, alert(DEFECT, id="belt/a/7/defect~2")]),
    ),
    "told differently": ("doubled_alerts", lambda b: replace(b, told=[*b.told, replace(b.told[0], body="c")])),
    "told of what is not": ("doubled_alerts", lambda b: replace(b, told=[*b.told, told(alert(8))])),
    "no evidence": ("unpictured", lambda b: replace(b, told=[replace(b.told[0], pictured=False), b.told[1]])),
}


@pytest.mark.parametrize("broken", BREAKS)
def test_what_is_broken_is_found(broken):
    promise, change = BREAKS[broken]
    assert PROMISES[promise](change(books()))


def test_a_repeated_delivery_is_no_second_alert():
    right = books()
    assert PROMISES["doubled_alerts"](replace(right, told=[*right.told, right.told[0]])) == []


def test_a_counted_skip_is_an_end_where_frames_may_be_skipped():
    right = with_verdict(books(), 4)
    state = right.states["belt"].model_copy(update={"passed": 9, "skipped": 1})
    right = replace(right, states={"belt": state}, counted={"belt": Counts(9, 1, 1)}, latest=frozenset({"belt"}))
    assert PROMISES["unaccounted"](right) == []
    assert PROMISES["unaccounted"](replace(right, states={"belt": state.model_copy(update={"skipped": 0})}))


def test_evidence_may_be_missing_only_while_the_disk_took_none():
    right = books()
    bare = replace(right, told=[replace(right.told[0], pictured=False), right.told[1]])
    assert PROMISES["unpictured"](replace(bare, blind=[(DEFECT * S, DEFECT * S)])) == []
    assert PROMISES["unpictured"](replace(bare, blind=[(0, DEFECT * S - 1)]))


def test_the_last_picture_of_a_killed_capture_may_or_may_not_have_been_numbered():
    right = books()
    torn = replace(right, sent={"belt": [*right.sent["belt"], sent(12, taken=False)]})
    assert PROMISES["unaccounted"](torn) == []
    assert PROMISES["unaccounted"](replace(right, sent={"belt": [*right.sent["belt"], sent(12)]}))


@given(st.integers(0, 2**31), st.integers(0, 400))
def test_defects_are_apart_from_each_other(boot, block):
    numbers = [n for n in range(block * camera.BLOCK, (block + 3) * camera.BLOCK) if camera.defective(boot, n)]
    assert len(numbers) == 3
    assert all(later - sooner > camera.APART for sooner, later in pairwise(numbers))
