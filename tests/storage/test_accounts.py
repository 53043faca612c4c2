import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from storage import tables
from storage.accounts import Accounts, digest
from storage.config import StorageConfig
from storage.errors import StorageError
from storage.history import History
from storage.passwords import hash_password, matches
from storage.roles import Role
from storage.sessions import Sessions

POSTGRES = os.environ.get("LINEWATCH_TEST_POSTGRES")
PASSWORD = "a long enough one"


@pytest.fixture(params=["sqlite", *(["postgresql"] if POSTGRES else [])])
def history(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[History]:
    if request.param == "sqlite":
        history = History.open(StorageConfig(data=tmp_path))
        yield history
        history.close()
        return
    server = sa.create_engine(POSTGRES or "", isolation_level="AUTOCOMMIT")
    name = f"linewatch_test_{uuid.uuid4().hex}"
    with server.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    url = sa.make_url(POSTGRES or "").set(database=name).render_as_string(hide_password=False)
    history = History.open(StorageConfig(data=tmp_path, history=url))
    yield history
    history.close()
    with server.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    server.dispose()


@pytest.fixture
def accounts(history: History, monkeypatch: pytest.MonkeyPatch) -> Accounts:
    monkeypatch.setattr("storage.passwords._COST", 16)
    return Accounts(history.database)


@pytest.fixture
def sessions(history: History) -> Sessions:
    return Sessions(history.database)


def test_a_password_is_kept_as_what_costs_to_guess() -> None:
    kept, again = hash_password(PASSWORD), hash_password(PASSWORD)
    kind, cost, block, parallel, salt, _ = kept.split("$")
    assert (kind, int(cost) * int(block) * int(parallel) * 128 >= 64 * 2**20) == ("scrypt", True)
    assert 128 * int(cost) * int(block) >= 32 * 2**20, "bytes"
    assert salt != again.split("$")[4]
    assert matches(PASSWORD, kept)
    assert not matches(PASSWORD.upper(), kept)
    assert not matches(PASSWORD, None)


@pytest.mark.parametrize("password", ["", "short", "x" * 9, "x" * 1025])
def test_a_password_that_is_none(accounts: Accounts, password: str) -> None:
    with pytest.raises(ValueError, match="take 10 to 1024"):
        accounts.add("maria", Role.VIEWER, password, now_ns=1)
    assert not accounts.there_are()


@pytest.mark.parametrize("name", ["", "a b", "-a", "a" * 65, "a'; DROP TABLE accounts; --", "a\n", "ä", "a\x00"])
def test_a_name_that_is_none(accounts: Accounts, name: str) -> None:
    with pytest.raises(ValueError, match="is no name of an account"):
        accounts.add(name, Role.VIEWER, PASSWORD, now_ns=1)
    assert accounts.kept_password(name) is None
    assert not accounts.there_are()


def test_an_account(accounts: Accounts, history: History) -> None:
    accounts.add("Maria", Role.OPERATOR, PASSWORD, now_ns=1)
    (maria,) = accounts.all()
    assert (maria.name, maria.role, maria.created_ns, maria.token_ns) == ("maria", Role.OPERATOR, 1, None)
    with pytest.raises(StorageError, match="there is an account maria already"):
        accounts.add("MARIA", Role.VIEWER, PASSWORD, now_ns=1)
    accounts.set_role("Maria", Role.VIEWER)
    token = accounts.make_token("MARIA", now_ns=2)
    found = accounts.of_token(digest(token))
    assert found is not None
    assert (found.role, found.token_ns) == (Role.VIEWER, 2)
    with history.database.reading() as db:
        (row,) = db.execute(sa.select(tables.accounts)).mappings()
    assert token not in str(dict(row))
    assert PASSWORD not in str(dict(row))
    accounts.remove("Maria")
    assert accounts.of_token(digest(token)) is None


def test_what_is_not_there(accounts: Accounts) -> None:
    for change in (
        lambda: accounts.remove("nobody"),
        lambda: accounts.set_role("nobody", Role.VIEWER),
        lambda: accounts.set_password("nobody", PASSWORD),
        lambda: accounts.make_token("nobody", now_ns=1),
        lambda: accounts.drop_token("nobody"),
    ):
        with pytest.raises(StorageError, match="no account 'nobody': `linewatch accounts list`"):
            change()


def test_sessions_end_with_their_account(accounts: Accounts, sessions: Sessions) -> None:
    accounts.add("maria", Role.OPERATOR, PASSWORD, now_ns=1)
    for change in (lambda: accounts.set_password("maria", "another, long one"), lambda: accounts.remove("maria")):
        token = sessions.open("maria", password=accounts.kept_password("maria") or "", now_ns=5)
        assert token is not None
        found = sessions.find(digest(token))
        assert found is not None
        assert (found.account.name, found.opened_ns, found.used_ns) == ("maria", 5, 5)
        change()
        assert sessions.find(digest(token)) is None
    assert sessions.open("maria", password=PASSWORD, now_ns=5) is None


def test_old_sessions_are_forgotten(accounts: Accounts, sessions: Sessions) -> None:
    accounts.add("maria", Role.OPERATOR, PASSWORD, now_ns=1)
    kept = accounts.kept_password("maria") or ""
    old, unused, used = (sessions.open("maria", password=kept, now_ns=at) or "" for at in (1, 10, 10))
    sessions.touch(digest(old), now_ns=20)
    sessions.touch(digest(used), now_ns=20)
    sessions.forget(opened_before_ns=5, used_before_ns=15)
    assert [sessions.find(digest(token)) is not None for token in (old, unused, used)] == [False, False, True]
    sessions.end(digest(used))
    assert sessions.find(digest(used)) is None


def test_logins_and_removals_at_once_leave_no_session(accounts: Accounts, sessions: Sessions) -> None:
    failures: list[BaseException] = []
    tokens: list[str] = []

    def log_in(kept: str) -> None:
        try:
            tokens.extend(filter(None, [sessions.open("maria", password=kept, now_ns=5) for _ in range(5)]))
        except BaseException as error:  # noqa: BLE001 - handed to the test's thread
            failures.append(error)

    for _ in range(5):
        accounts.add("maria", Role.OPERATOR, PASSWORD, now_ns=1)
        threads = [threading.Thread(target=log_in, args=(accounts.kept_password("maria"),)) for _ in range(3)]
        for thread in threads:
            thread.start()
        accounts.remove("maria")
        for thread in threads:
            thread.join()
    assert failures == []
    assert [token for token in tokens if sessions.find(digest(token)) is not None] == []
