"""Labels and escapes in a real SQLite: kept, never overwritten, whole or not at all."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from storage import tables
from storage.config import StorageConfig
from storage.errors import StorageError
from storage.history import START, Consequences, History
from storage.labels import Escape, Labels
from storage.records import Alert, AlertKind, Change, Label, Transition


def alert(number: int, *, line: str = "a", kind: AlertKind = AlertKind.DEFECT) -> Alert:
    return Alert(
        id=f"{line}/1/{number}/{kind}", line=line, kind=kind, text="Defect.", raised_ns=number, cleared_ns=number
    )


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    history = History.open(StorageConfig(data=tmp_path))
    raised = [alert(5), alert(6), alert(7, line="b"), alert(8, kind=AlertKind.DRIFT)]
    transitions = [Transition(change=Change.RAISED, alert=one, at_ns=one.raised_ns) for one in raised]
    history.commit(Consequences(position="1-0", transitions=transitions), after=START)
    yield history
    history.close()


@pytest.fixture
def labels(history: History) -> Labels:
    return Labels(history)


def test_the_last_word_counts_and_all_are_kept(history: History, labels: Labels) -> None:
    labels.label("a/1/5/defect", Label.FALSE_ALARM, by="ann", now_ns=10, note="a shadow")
    labels.label("a/1/5/defect", Label.TRUE_DEFECT, by="bob", now_ns=20)
    labels.label("a/1/5/defect", Label.KNOWN_VARIATION, by="ann", now_ns=30)
    found = history.alert("a/1/5/defect")
    assert found is not None
    assert (found.label, found.labelled_ns, found.labelled_by) == (Label.KNOWN_VARIATION, 30, "ann")
    assert [(said.label, said.at_ns, said.by, said.note) for said in labels.said(found.id)] == [
        (Label.FALSE_ALARM, 10, "ann", "a shadow"),
        (Label.TRUE_DEFECT, 20, "bob", ""),
        (Label.KNOWN_VARIATION, 30, "ann", ""),
    ]


def test_whoever_labels_has_seen_it_and_sinks_hear_that_once(history: History, labels: Labels) -> None:
    answered = labels.label("a/1/5/defect", Label.FALSE_ALARM, by="ann", now_ns=10, sinks=["hook"])
    labels.label("a/1/5/defect", Label.TRUE_DEFECT, by="bob", now_ns=20, sinks=["hook"])
    assert (answered.acknowledged_by, answered.acknowledged_ns, answered.label) == ("ann", 10, Label.FALSE_ALARM)
    assert history.events("a/1/5/defect") == [Change.RAISED, Change.ACKNOWLEDGED]
    assert [delivery.change for delivery in history.due("hook", now_ns=99)] == [Change.ACKNOWLEDGED]
    # What was seen before by another stays seen by that one.
    history.acknowledge("a/1/6/defect", by="eve", now_ns=5)
    assert labels.label("a/1/6/defect", Label.TRUE_DEFECT, by="ann", now_ns=10).acknowledged_by == "eve"


def test_a_label_is_written_whole_or_not_at_all(history: History, labels: Labels) -> None:
    with history.database.writing() as db:
        db.execute(sa.text("CREATE TRIGGER refuse BEFORE INSERT ON labels BEGIN SELECT RAISE(ABORT, 'no'); END"))
    with pytest.raises(StorageError):
        labels.label("a/1/5/defect", Label.FALSE_ALARM, by="ann", now_ns=10, sinks=["hook"])
    found = history.alert("a/1/5/defect")
    assert found is not None
    assert (found.label, found.acknowledged_ns) == (None, None)
    assert history.events(found.id) == [Change.RAISED]
    assert history.due("hook", now_ns=99) == []


def test_an_alert_that_is_none_has_no_label(history: History, labels: Labels) -> None:
    with pytest.raises(StorageError, match="alert 'a/9' is not in the history"):
        labels.label("a/9", Label.FALSE_ALARM, by="ann", now_ns=10)
    with history.database.reading() as db:
        assert db.scalar(sa.select(sa.func.count()).select_from(tables.labels)) == 0


def test_what_goes_on_with_the_event_leaves_the_label_alone(history: History, labels: Labels) -> None:
    going_on = alert(9).model_copy(update={"cleared_ns": None})
    raised = Transition(change=Change.RAISED, alert=going_on, at_ns=9)
    history.commit(Consequences(position="2-0", transitions=[raised]), after="1-0")
    labels.label(going_on.id, Label.TRUE_DEFECT, by="ann", now_ns=10)
    grown = going_on.model_copy(update={"count": 4, "worst_score": 2.0})
    cleared = Transition(change=Change.CLEARED, alert=grown.model_copy(update={"cleared_ns": 12}), at_ns=12)
    history.commit(Consequences(position="3-0", grown=[grown], transitions=[cleared]), after="2-0")
    found = history.alert(going_on.id)
    assert found is not None
    assert (found.label, found.count, found.cleared_ns) == (Label.TRUE_DEFECT, 4, 12)


def test_people_who_label_at_once_lose_nothing(history: History, labels: Labels) -> None:
    def say(name: str) -> None:
        for number in range(10):
            labels.label("a/1/5/defect", list(Label)[number % 3], by=name, now_ns=number)

    threads = [threading.Thread(target=say, args=(name,)) for name in ("ann", "bob", "eve")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    said, found = labels.said("a/1/5/defect"), history.alert("a/1/5/defect")
    assert found is not None
    assert len(said) == 30
    assert (found.label, found.labelled_by) == (said[-1].label, said[-1].by)


def test_defects_of_a_line_and_period(labels: Labels) -> None:
    labels.label("a/1/6/defect", Label.FALSE_ALARM, by="ann", now_ns=10)
    assert [one.raised_ns for one in labels.defects("a", since_ns=0)] == [5, 6]
    assert [one.raised_ns for one in labels.defects("a", since_ns=6)] == [6]
    assert [one.raised_ns for one in labels.defects("a", since_ns=0, until_ns=6)] == [5]
    assert [one.raised_ns for one in labels.defects("a", since_ns=0, labels=[Label.FALSE_ALARM])] == [6]
    assert labels.defects("a", since_ns=0, labels=[Label.TRUE_DEFECT]) == []


def test_escapes(labels: Labels) -> None:
    noted = [
        Escape(line=line, captured_ns=at, part=part, noted_ns=99, by="ann", note="found by the customer")
        for line, at, part in (("a", 20, "P2"), ("a", 10, None), ("b", 15, "P9"))
    ]
    for escape in noted:
        labels.note_escape(escape)
    assert labels.escapes("a", since_ns=0) == [noted[1], noted[0]]
    assert labels.escapes("a", since_ns=11) == [noted[0]]
    assert labels.escapes("a", since_ns=0, until_ns=20) == [noted[1]]
