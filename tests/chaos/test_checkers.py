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
DEFECT, AGAIN = 7, 8
"""A defect, and a good part that is rejected in the same event."""
LOST = 9


def sent(number, **changes):
    defaults = {"part": f"belt-0-{number}", "defect": number in (DEFECT, LOST), "orders": "ok", "taken": True}
    return Sent(boot=0, number=number, mono_ns=number * S, **(defaults | changes))


def verdict(seq, **changes):
    rejected = seq in (DEFECT, AGAIN)
    status = Status.REJECT if rejected else Status.UNKNOWN if seq == LOST else Status.PASS
    judged = {"score": 9.0 if rejected else 1.0, "threshold": 5.0, "model": MODEL, "part": f"belt-0-{seq}"}
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


def told(of, change="raised", **changes):
    fields = {"key": f"{of.id}:{change}", "body": "b", "alert": of.id, "kind": of.kind, "change": change}
    return Told(**(fields | {"evidence": "e", "pictured": True} | changes))


def telling(alerts):
    return [told(one, change) for one in alerts for change in ("raised", "cleared")]


def books():
    alerts = [alert(DEFECT, count=2), alert(LOST, AlertKind.UNKNOWN_STREAK)]
    state = LineState(line="belt", captured=12, passed=9, rejected=2, unknown=1)
    return Books(
        sent={"belt": [sent(number) for number in range(12)]},
        verdicts=[verdict(seq) for seq in range(12)],
        states={"belt": state},
        counted={"belt": Counts(9, 2, 1)},
        alerts=alerts,
        told=telling(alerts),
        models={"belt": MODEL},
        rescored={"belt/a/3": 1.0},
    )


def with_verdict(right, seq, *changed):
    return replace(right, verdicts=[v for v in right.verdicts if v.seq != seq] + list(changed))


def with_alerts(right, *alerts):
    return replace(right, alerts=list(alerts), told=telling(alerts))


def without(right, change, of):
    return replace(right, told=[one for one in right.told if (one.change, one.alert) != (change, right.alerts[of].id)])


def unshown(right):
    return [replace(one, pictured=False) if one.kind == AlertKind.DEFECT else one for one in right.told]


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
    "of a run that no camera began": (
        "unaccounted",
        lambda b: replace(b, verdicts=[*b.verdicts, verdict(4, run="00000000000000ff", part=None)]),
    ),
    "counted twice": ("miscounted", lambda b: replace(b, counted={"belt": Counts(10, 2, 1)})),
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
    "no alert": ("lost_alerts", lambda b: with_alerts(b, b.alerts[1])),
    "no alert of what was not seen": ("lost_alerts", lambda b: with_alerts(b, b.alerts[0])),
    "never delivered": ("lost_alerts", lambda b: without(b, "raised", 0)),
    "its end never delivered": ("lost_alerts", lambda b: without(b, "cleared", 0)),
    "two alerts": (
        "doubled_alerts",
        lambda b: replace(b, alerts=[*b.alerts, alert(DEFECT, id="belt/a/7/defect~2")]),
    ),
    "told differently": ("doubled_alerts", lambda b: replace(b, told=[*b.told, replace(b.told[0], body="c")])),
    "told of what is not": ("doubled_alerts", lambda b: replace(b, told=[*b.told, told(alert(8))])),
    "an alert about a pass": ("unfounded_alerts", lambda b: with_alerts(b, *b.alerts, alert(3))),
    "an alert about no verdict": ("unfounded_alerts", lambda b: with_alerts(b, *b.alerts, alert(77))),
    "an alert about what nobody saw": ("unfounded_alerts", lambda b: with_alerts(b, *b.alerts, alert(LOST))),
    "a reject too few": ("uncounted_rejects", lambda b: with_alerts(b, alert(DEFECT, count=1), b.alerts[1])),
    "a reject too many": ("uncounted_rejects", lambda b: with_alerts(b, alert(DEFECT, count=3), b.alerts[1])),
    "a reject in two alerts": (
        "uncounted_rejects",
        lambda b: with_alerts(b, *b.alerts, alert(AGAIN)),
    ),
    "no evidence": ("unpictured", lambda b: replace(b, told=unshown(b))),
}


@pytest.mark.parametrize("broken", BREAKS)
def test_what_is_broken_is_found(broken):
    promise, change = BREAKS[broken]
    assert PROMISES[promise](change(books()))


ALONE = [name for name, (promise, _) in BREAKS.items() if promise in ("unfounded_alerts", "uncounted_rejects")]


@pytest.mark.parametrize("broken", [*ALONE, "its end never delivered"])
def test_nothing_else_is_said_to_be_broken(broken):
    promise, change = BREAKS[broken]
    wrong = change(books())
    assert [name for name, check in PROMISES.items() if check(wrong)] == [promise]


def test_an_alert_that_is_not_over_owes_no_end():
    right = books()
    lasting = [one.model_copy(update={"cleared_ns": None}) for one in right.alerts]
    right = replace(right, alerts=lasting, told=[told(one) for one in lasting])
    assert PROMISES["lost_alerts"](right) == []


def rejects(*alerts, seqs):
    """Books of rejects only, in the order of the stream."""
    alerts = [alert(seq, count=count) for seq, count in alerts]
    return replace(books(), verdicts=[verdict(seq, status=Status.REJECT, score=9.0) for seq in seqs], alerts=alerts)


def test_a_reject_belongs_to_the_event_that_is_open():
    check = PROMISES["uncounted_rejects"]
    assert check(rejects((1, 3), seqs=(1, 2, 3))) == []
    assert check(rejects((1, 1), (5, 2), seqs=(1, 5, 6))) == []
    assert check(rejects((5, 3), (1, 1), seqs=(5, 1, 6, 7))) == []  # that of 1 was over before 5 and told at once
    assert check(rejects((1, 1), (5, 3), seqs=(1, 2, 5, 6)))
    assert check(rejects((1, 1), (5, 1), seqs=(1, 5, 6)))
    assert check(rejects(seqs=(1,)))


def test_a_repeated_delivery_is_no_second_alert():
    right = books()
    assert PROMISES["doubled_alerts"](replace(right, told=[*right.told, right.told[0]])) == []


def test_a_counted_skip_is_an_end_where_frames_may_be_skipped():
    right = with_verdict(books(), 4)
    state = right.states["belt"].model_copy(update={"passed": 8, "skipped": 1})
    right = replace(right, states={"belt": state}, counted={"belt": Counts(8, 2, 1)}, latest=frozenset({"belt"}))
    assert PROMISES["unaccounted"](right) == []
    assert PROMISES["unaccounted"](replace(right, states={"belt": state.model_copy(update={"skipped": 0})}))


def test_evidence_may_be_missing_only_while_the_disk_took_none():
    right = books()
    bare = replace(right, told=unshown(right))
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
