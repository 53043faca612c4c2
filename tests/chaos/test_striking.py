"""What hits nothing is tried again, and does not count."""

import threading

import pytest

from tests.chaos import striking
from tests.chaos.faults import Fault
from tests.chaos.striking import strike_all


class FakePlant:
    """Is well, or never again."""

    def __init__(self, recovery=0.1):
        self._recovery = recovery

    def await_well(self, **_):
        return self._recovery

    def ailing(self, _):
        return "belt"


def kind(name, hits):
    """A fault that hits or misses as `hits` says, then goes on with the last of them."""
    outcomes = list(hits)

    def strike(_plant, _draw):
        hit = outcomes.pop(0) if len(outcomes) > 1 else outcomes[0]
        return (lambda: None) if hit else None

    return Fault(name, strike)


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(striking, "_HIT_S", 0.05)
    monkeypatch.setattr(striking, "_AGAIN_S", 0.001)


def run(*kinds, faults=4, plant=None, stop=None):
    return strike_all(plant or FakePlant(), kinds, faults=faults, seed=0, stop=stop or threading.Event())


def test_a_fault_is_struck_again_until_it_hits():
    struck = run(kind("late", [False, False, True]))
    assert (struck.recoveries, struck.missed) == ([("late", 0.1)] * 4, [])


def test_what_never_hits_is_named_and_not_counted():
    struck = run(kind("never", [False]), kind("ever", [True]))
    assert {name for name, _ in struck.recoveries} == {"ever"}
    assert len(struck.recoveries) == 4
    assert 3 <= len(struck.missed) <= 4


def test_a_plant_that_nothing_hits_is_given_up():
    struck = run(kind("never", [False]))
    assert struck.recoveries == []
    assert len(struck.missed) == 8


@pytest.mark.parametrize("hits", [True, False])
def test_a_plant_that_is_not_well_again_is_noted(hits):
    assert run(kind("bad", [hits]), faults=1, plant=FakePlant(None)).not_recovered == (1 if hits else 2)


def test_it_ends_when_it_is_told_to():
    stop = threading.Event()

    def strike(_plant, _draw):
        stop.set()
        return lambda: None

    assert run(Fault("last", strike), stop=stop).recoveries == [("last", 0.1)]
