"""A run is good only if it did what it was to do; what limits it is in its last line."""

from dataclasses import replace

import pytest

from tests.chaos.report import last_line, report
from tests.chaos.striking import Struck
from tests.chaos.test_checkers import books

GOOD = Struck([("kill worker", 0.2), ("kill redis", 4.0), ("hang", 40.0)])


def judged(struck=GOOD, right=None, *, asked=3, stopped=False, left_out=()):
    return report(right or books(), struck, asked=asked, stopped=stopped, seed=0, left_out=left_out)


def test_all_that_was_asked_for_was_done_and_kept():
    found = judged()
    assert found["ok"]
    assert last_line(found) == "every promise was kept"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"right": replace(books(), counted={})}, "1 miscounted"),
        ({"struck": Struck([*GOOD.recoveries[:2], ("hang", None)])}, "1 faults not recovered from"),
        ({"struck": Struck([("a", 0.1), ("b", 5.0), ("c", 9.0)])}, "median recovery 5.0 s, not below 5 s"),
        ({"asked": 4}, "only 3 of 4 faults hit anything"),
        ({"struck": Struck(missed=[("hang", 0.1)])}, "nothing was hit"),
        ({"struck": Struck(), "stopped": True}, "nothing was hit"),
        ({"struck": Struck(GOOD.recoveries, [("hang", None)])}, "1 faults not recovered from"),
    ],
)
def test_what_is_short_of_it_is_said(changes, said):
    found = judged(**changes)
    assert not found["ok"]
    assert last_line(found).startswith(f"NOT good enough: {said}")


def test_a_run_that_was_stopped_says_how_far_it_went():
    found = judged(asked=500, stopped=True)
    assert found["ok"]
    assert last_line(found) == "every promise was kept; as far as it went: it was stopped after 3 of 500 faults"
    assert "stopped" not in last_line(judged(stopped=True))  # after the last one: nothing is missing


def test_what_was_left_out_is_named_beside_what_was_kept():
    found = judged(left_out=["clock step", "network cut"])
    assert found["ok"]
    assert last_line(found).endswith("left out, because this machine does not allow it: clock step, network cut")


def test_what_hit_nothing_is_named():
    assert judged(Struck(GOOD.recoveries, [("hang", 0.3)]))["hit_nothing"] == ["hang"]
