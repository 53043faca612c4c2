"""An overloaded line judges what its workers manage, in time, instead of everything too late."""

from collections import deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.frame import Frame
from ingest.ledger import Ledger
from ingest.turnaround import Turnaround

PICTURE = np.zeros((2, 5, 3), np.uint8)
STEP_S = 0.005
SECONDS = 20


def watched(*, arrivals, services, deadline_s, granted=40, policy="every"):
    """Frames judged in time and too late, of the last three quarters, by a worker that takes `services` a second."""
    book = Ledger(policy=policy, capacity=10**9, deadline_s=deadline_s)
    queue, born, credit = deque(), [], 0.0
    in_time = late = 0
    for step in range(int(SECONDS / STEP_S)):
        now = step * STEP_S
        while len(born) < arrivals * now:
            book.admit(Frame("line", "0" * 16, len(born), 0, int(now * 1e9), PICTURE))
            born.append(now)
        book.expire(now)
        while book.room("w", granted) > 0 and (frame := book.send("w", now)) is not None:
            queue.append(frame.seq)
        credit = min(credit + services * STEP_S, 1.0)
        while queue and credit >= 1:
            credit -= 1
            seq = queue.popleft()
            if now > SECONDS / 4:
                good = now - born[seq] <= deadline_s
                in_time, late = in_time + good, late + (not good)
            book.settle([(seq, seq)], now)
        for gap in book.gaps(now):
            book.settle(gap.ranges, now)
    return in_time, late


@pytest.mark.parametrize("policy", ["every", "latest"])
@pytest.mark.parametrize("deadline_s", [0.2, 1.0, 4.0])
@pytest.mark.parametrize("services", [10, 40, 120])
def test_overload_leaves_most_of_what_is_judged_in_time(policy, deadline_s, services):
    in_time, late = watched(arrivals=200, services=services, deadline_s=deadline_s, policy=policy)
    assert in_time > 0.7 * (in_time + late)
    assert in_time > 0.6 * services * SECONDS * 0.75


def test_a_line_that_keeps_up_is_not_held_back():
    in_time, late = watched(arrivals=30, services=100, deadline_s=1.0)
    assert late == 0
    assert in_time >= 0.98 * 30 * SECONDS * 0.75


def test_without_a_deadline_nothing_is_bounded():
    turnaround = Turnaround(None)
    window = turnaround.window
    for number in range(100):
        turnaround.returned(0.0, float(number), under_way=5)
    assert (turnaround.window, turnaround.usual_s) == (window, 0.0)


def test_one_pause_is_no_rule():
    turnaround = Turnaround(4.0)
    for number in range(20):
        turnaround.returned(number, number + 0.1, under_way=1)
    turnaround.returned(20, 23.5, under_way=3)
    turnaround.returned(20.2, 23.5, under_way=2)
    assert turnaround.usual_s < 0.2
    assert turnaround.window >= 1


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(1, 100)), max_size=200), st.floats(0.01, 10))
def test_something_is_always_under_way_and_half_the_deadline_stays(flights, deadline_s):
    turnaround, now = Turnaround(deadline_s), 0.0
    for took, under_way in flights:
        now += 0.01
        turnaround.returned(now - took, now, under_way=under_way)
        assert turnaround.window >= 1
        assert 0 <= turnaround.usual_s <= deadline_s / 2
