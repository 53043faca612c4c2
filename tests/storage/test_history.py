import os
import sqlite3
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from storage import database, tables
from storage.config import StorageConfig
from storage.errors import StorageError, StorageFull, StoreUnavailable
from storage.history import START, Consequences, Counts, History
from storage.records import Alert, AlertKind, Change, Transition

# A PostgreSQL server to run the same tests on, e.g. postgresql+psycopg://user@localhost/postgres; each test makes and
# drops a database of its own.
POSTGRES = os.environ.get("LINEWATCH_TEST_POSTGRES")


@pytest.fixture(params=["sqlite", *(["postgresql"] if POSTGRES else [])])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StorageConfig]:
    if request.param == "sqlite":
        yield StorageConfig(data=tmp_path / "deep" / "data")
        return
    server = sa.create_engine(POSTGRES or "", isolation_level="AUTOCOMMIT")
    name = f"linewatch_test_{uuid.uuid4().hex}"
    with server.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    url = sa.make_url(POSTGRES or "").set(database=name).render_as_string(hide_password=False)
    yield StorageConfig(data=tmp_path, history=url)
    with server.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    server.dispose()


@pytest.fixture
def history(config: StorageConfig) -> Iterator[History]:
    history = History.open(config)
    yield history
    history.close()


def alert(seq: int = 0, **fields: object) -> Alert:
    return Alert.model_validate(
        {
            "id": f"a/1/{seq}/defect",
            "line": "a",
            "kind": AlertKind.DEFECT,
            "text": "Defect.",
            "raised_ns": 1_700_000_000_000_000_000 + seq,
            "score": 0.1 + 0.2,
            **fields,
        }
    )


def change(what: str, of: Alert) -> Transition:
    return Transition(change=Change(what), alert=of, at_ns=of.cleared_ns or of.raised_ns)


def raise_one(history: History, seq: int = 0, sinks: tuple[str, ...] = (), after: str = START) -> Alert:
    one = alert(seq, kind=list(AlertKind)[seq % 6])
    consequences = Consequences(
        position=f"{seq + 1}-0", transitions=[change("raised", one)], audience={Change.RAISED: sinks}
    )
    history.commit(consequences, after=after)
    return one


def test_a_new_history_is_empty(history: History) -> None:
    assert history.position() == START
    assert history.rule_states() == {}
    assert history.alerts() == []
    assert history.alert("x") is None
    assert history.undelivered() == {}


def test_one_commit_stores_it_all(history: History) -> None:
    raised = alert()
    history.commit(
        Consequences(
            position="5-0",
            transitions=[change("raised", raised)],
            grown=[raised.model_copy(update={"count": 7})],
            states={"a": '{"x": 1}'},
            minutes={("a", 100): Counts(passed=3, rejected=7)},
            audience={Change.RAISED: ["log", "hook"]},
        ),
        after=START,
    )
    assert history.position() == "5-0"
    assert history.rule_states() == {"a": '{"x": 1}'}
    assert history.alert(raised.id) == raised.model_copy(update={"count": 7})
    assert history.events(raised.id) == [Change.RAISED]
    assert history.undelivered() == {"log": 1, "hook": 1}
    cleared = raised.model_copy(update={"count": 9, "cleared_ns": raised.raised_ns + 5})
    history.commit(
        Consequences(
            position="6-0",
            transitions=[change("cleared", cleared)],
            states={"a": '{"x": 2}', "b": "{}"},
            minutes={("a", 100): Counts(passed=1, unknown=2), ("a", 101): Counts(rejected=1)},
        ),
        after="5-0",
    )
    assert history.alerts(open=False) == [cleared]
    assert history.rule_states() == {"a": '{"x": 2}', "b": "{}"}
    assert history.minutes("a", since=100, until=102) == {100: Counts(4, 7, 2), 101: Counts(0, 1, 0)}
    assert history.minutes("a", since=101, until=102).keys() == {101}


def test_a_failed_commit_leaves_no_trace(history: History) -> None:
    raise_one(history, 0)
    twice = Consequences(
        position="9-0", transitions=[change("raised", alert(6)), change("raised", alert(0))], states={"a": "new"}
    )
    with pytest.raises(StorageError):
        history.commit(twice, after="1-0")
    assert history.position() == "1-0"
    assert history.rule_states() == {}
    assert len(history.alerts()) == 1


def test_the_database_too_refuses_two_open_alerts_of_a_kind(history: History) -> None:
    raise_one(history, 0)
    with pytest.raises(StorageError):
        raise_one(history, 6, after="1-0")


def test_two_followers_of_one_stream_are_told_apart(history: History) -> None:
    raise_one(history, 0)
    for stale in (START, "0-5"):
        with pytest.raises(StorageError, match="another alert service"):
            raise_one(history, 1, after=stale)
    assert len(history.alerts()) == 1


def test_listing(history: History) -> None:
    for seq in range(6):
        raise_one(history, seq, after=f"{seq}-0" if seq else START)
    done = alert(3, kind=list(AlertKind)[3], cleared_ns=1_800_000_000_000_000_000)
    history.commit(Consequences(position="7-0", transitions=[change("cleared", done)]), after="6-0")
    assert [one.id for one in history.alerts(limit=2)] == ["a/1/5/defect", "a/1/4/defect"]
    assert len(history.alerts(open=True)) == 5
    assert [one.id for one in history.alerts(open=False)] == [done.id]
    assert history.alerts(line="b") == []


def test_acknowledge(history: History) -> None:
    raised = raise_one(history)
    seen = history.acknowledge(raised.id, by="ann", now_ns=5, sinks=["hook"])
    assert (seen.acknowledged_by, seen.acknowledged_ns) == ("ann", 5)
    again = history.acknowledge(raised.id, by="bob", now_ns=6, sinks=["hook"])
    assert again == seen == history.alert(raised.id)
    assert history.events(raised.id) == [Change.RAISED, Change.ACKNOWLEDGED]
    assert history.undelivered() == {"hook": 1}
    cleared = raised.model_copy(update={"cleared_ns": raised.raised_ns + 1, "count": 2})
    history.commit(Consequences(position="2-0", transitions=[change("cleared", cleared)]), after="1-0")
    kept = history.alert(raised.id)
    assert kept is not None
    assert kept.acknowledged_by == "ann"
    assert kept.count == 2
    with pytest.raises(StorageError, match="'nothing' is not in the history"):
        history.acknowledge("nothing", by="ann", now_ns=5)


def test_the_outbox_keeps_the_order_within_an_alert(history: History) -> None:
    raised = raise_one(history, sinks=("hook", "log"))
    cleared = raised.model_copy(update={"cleared_ns": raised.raised_ns + 1})
    other = alert(1, kind=AlertKind.CAMERA_DARK)
    history.commit(
        Consequences(
            position="2-0",
            transitions=[change("cleared", cleared), change("raised", other)],
            audience={Change.CLEARED: ["hook"], Change.RAISED: ["hook"]},
        ),
        after="1-0",
    )
    first, third = history.due("hook", now_ns=1)
    assert (first.key, third.key) == (f"{raised.id}:raised", f"{other.id}:raised")
    assert Transition.model_validate_json(first.payload) == change("raised", raised)
    history.postponed(first, next_try_ns=1000)
    assert [one.alert for one in history.due("hook", now_ns=999)] == [other.id]
    again, _ = history.due("hook", now_ns=1000)
    assert again.attempts == 1
    history.delivered(again, now_ns=1001)
    assert [one.change for one in history.due("hook", now_ns=1000)] == [Change.CLEARED, Change.RAISED]
    assert len(history.due("log", now_ns=1)) == 1


def test_a_clock_set_back_does_not_hold_deliveries(history: History) -> None:
    raise_one(history, sinks=("hook",))
    now_ns = 2_000_000_000_000_000_000
    (delivery,) = history.due("hook", now_ns=now_ns)
    history.postponed(delivery, next_try_ns=now_ns + 60_000_000_000)
    assert history.due("hook", now_ns=now_ns) == []
    assert len(history.due("hook", now_ns=now_ns - 3600 * 1_000_000_000)) == 1


def test_told_messages_are_forgotten_and_events_stay(history: History) -> None:
    raised = raise_one(history, sinks=("hook", "log"))
    (delivery,) = history.due("hook", now_ns=1)
    history.delivered(delivery, now_ns=10)
    assert history.forget_delivered(before_ns=10) == 0
    assert history.forget_delivered(before_ns=11) == 1
    assert history.undelivered() == {"log": 1}
    assert history.events(raised.id) == [Change.RAISED]


def test_the_migrations_make_the_tables(history: History) -> None:
    with history._database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []


def test_reopening_keeps_everything(config: StorageConfig, history: History) -> None:
    raised = raise_one(history)
    history.close()
    reopened = History.open(config)
    assert reopened.alerts() == [raised]
    assert reopened.position() == "1-0"
    reopened.close()


def test_opened_by_many_at_once(config: StorageConfig) -> None:
    failures: list[BaseException] = []

    def open_it() -> None:
        try:
            History.open(config).close()
        except BaseException as error:  # noqa: BLE001 - handed to the test's thread
            failures.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []


# --- what goes wrong -------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def sqlite_history(data: Path) -> Iterator[History]:
    history = History.open(StorageConfig(data=data))
    yield history
    history.close()


def test_sqlite_survives_a_power_cut_by_its_settings(data: Path, sqlite_history: History) -> None:
    with sqlite_history._database.reading() as db:
        assert db.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert db.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert db.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    assert data.stat().st_mode & 0o777 == 0o700


def test_a_locked_file(data: Path, sqlite_history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.05)
    sqlite_history.close()  # the next connection takes the short patience
    patient = database.Database(StorageConfig(data=data))
    writer = sqlite3.connect(data / "history.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="another process holds it"), patient.writing():
        pass
    writer.execute("ROLLBACK")
    writer.close()
    with patient.writing() as db:
        assert db.scalar(sa.select(1)) == 1
    patient.close()


def test_a_full_disk(sqlite_history: History) -> None:
    with sqlite_history._database.reading() as db:
        pages = db.exec_driver_sql("PRAGMA page_count").scalar_one()
        db.exec_driver_sql(f"PRAGMA max_page_count = {pages}")  # of this pooled connection: what a full disk looks like
    with pytest.raises(StorageFull, match="the disk is full: make room"):
        sqlite_history.commit(Consequences(position="1-0", states={"a": "x" * 10**6}), after=START)
    assert sqlite_history.position() == START


def test_a_read_only_file(sqlite_history: History) -> None:
    with sqlite_history._database.reading() as db:
        db.exec_driver_sql("PRAGMA query_only = ON")
    with pytest.raises(StoreUnavailable, match="cannot be written: check the owner"):
        raise_one(sqlite_history)


def test_a_damaged_file(data: Path) -> None:
    data.mkdir()
    (data / "history.db").write_bytes(b"not a database at all" * 1000)
    with pytest.raises(StorageError, match="damaged"):
        History.open(StorageConfig(data=data))


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="cannot be made"):
        History.open(StorageConfig(data=tmp_path / "file" / "data"))


def test_a_newer_version(data: Path, sqlite_history: History) -> None:
    with sqlite_history._database.writing() as db:
        db.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StorageError, match="of another version"):
        History.open(StorageConfig(data=data))


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nonsense", "no SQLAlchemy URL"),
        ("nosuch://host/db", "no driver for nosuch"),
        ("postgresql+nosuch://host/db", "no driver for postgresql"),
    ],
)
def test_a_wrong_url(tmp_path: Path, url: str, says: str) -> None:
    with pytest.raises(StorageError, match=says):
        History.open(StorageConfig(data=tmp_path, history=url))


def test_no_password_in_messages(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="write sqlite:") as caught:
        History.open(StorageConfig(data=tmp_path, history="sqlite://user:secret@/x"))
    assert "secret" not in str(caught.value)


def test_opening_a_history_loads_no_torch() -> None:
    code = "import sys, storage.history; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
