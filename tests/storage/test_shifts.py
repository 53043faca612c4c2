from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.config import StorageConfig
from storage.history import Counts, History
from storage.labels import Labels
from storage.records import AlertKind, Held, Label
from storage.shifts import Shifts
from tests.shiftday import MINUTE_NS, NS, alert, commit

T = 1_700_000_040 * NS  # on a whole minute
HOUR = 60 * MINUTE_NS


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    history = History.open(StorageConfig(data=tmp_path))
    yield history
    history.close()


def test_a_new_history_knows_nothing(history: History) -> None:
    shifts = Shifts(history)
    assert shifts.lines(since_ns=0, until_ns=T) == []
    assert shifts.reasons("a", since_ns=0, until_ns=T) == {}
    assert shifts.alerts("a", since_ns=0, until_ns=T) == []
    assert shifts.held("a", since_ns=0, until_ns=T) == []
    assert shifts.notes("a", since_ns=0, until_ns=T) == {}


def test_alerts_are_those_going_on_at_some_time_of_it(history: History) -> None:
    over = alert("a", AlertKind.DEFECT, T - HOUR, seconds=3600, number=0)  # cleared as the period begins
    into = alert("a", AlertKind.DEFECT, T - 5 * NS, seconds=10, number=1)
    inside = alert("a", AlertKind.DEFECT, T + 20 * NS, seconds=1, number=2)
    early = alert("a", AlertKind.CAMERA_DARK, T + HOUR - NS // 4, seconds=9, number=3)  # raised after the period's end
    later = alert("a", AlertKind.CAMERA_MOVED, T + HOUR, seconds=9, number=4)
    open_since_ages = alert("a", AlertKind.DRIFT, T - 1000 * HOUR, seconds=None, number=5)
    elsewhere = alert("b", AlertKind.DEFECT, T, seconds=1, number=6)
    commit(history, [over, into, inside, early, later, open_since_ages, elsewhere])
    shifts = Shifts(history)
    assert shifts.alerts("a", since_ns=T, until_ns=T + HOUR) == [open_since_ages, into, inside, early]
    assert shifts.lines(since_ns=T, until_ns=T + HOUR) == ["a", "b"]
    assert shifts.lines(since_ns=T + 2 * HOUR, until_ns=T + 3 * HOUR) == ["a"]


def test_every_minute_touched_counts(history: History) -> None:
    first = T // MINUTE_NS
    commit(
        history,
        [],
        minutes={("c", first + 3): Counts(1)},
        reasons={
            ("a", first - 1, "late"): 100,
            ("a", first, "late"): 1,
            ("a", first + 1, "dark"): 5,
            ("a", first + 1, "late"): 2,
            ("a", first + 2, "late"): 100,
            ("b", first, "late"): 100,
        },
    )
    shifts = Shifts(history)
    assert list(shifts.reasons("a", since_ns=T, until_ns=T + MINUTE_NS + 1).items()) == [("dark", 5), ("late", 3)]
    assert shifts.lines(since_ns=T, until_ns=T + 3 * MINUTE_NS) == []
    assert shifts.lines(since_ns=T, until_ns=T + 3 * MINUTE_NS + 1) == ["c"]


def test_what_was_in_force_when_it_began_comes_first(history: History) -> None:
    times = [T - 2 * HOUR, T - HOUR, T + NS, T + HOUR]
    held = [Held(line="a", since_ns=at, model=f"m@{n}", threshold=-1.5 * n) for n, at in enumerate(times)]
    commit(history, [], held=[*held, Held(line="b", since_ns=T + 1, model="m@9", threshold=9)])
    shifts = Shifts(history)
    assert shifts.held("a", since_ns=T, until_ns=T + HOUR) == held[1:3]
    assert shifts.held("a", since_ns=T + NS, until_ns=T + 2 * HOUR) == held[2:]
    assert [one.model for one in shifts.held("b", since_ns=T, until_ns=T + HOUR)] == ["m@9"]
    assert shifts.held("b", since_ns=0, until_ns=T) == []


def test_the_last_note_of_an_alert_counts(history: History) -> None:
    ours = alert("a", AlertKind.DEFECT, T, seconds=1, number=0)
    theirs = alert("b", AlertKind.DEFECT, T, seconds=1, number=0)
    silent = alert("a", AlertKind.DEFECT, T + NS, seconds=1, number=1)
    commit(history, [ours, theirs, silent])
    labels = Labels(history)
    for one, note in ((ours, "a hair"), (ours, "a scratch"), (ours, ""), (theirs, "x"), (silent, "")):
        labels.label(one.id, Label.TRUE_DEFECT, by="Ann", now_ns=T, note=note)
    assert Shifts(history).notes("a", since_ns=T, until_ns=T + HOUR) == {ours.id: "a scratch"}
