"""Every released version's tables come forward with their data, and a migration that dies leaves the old or the new."""

import os
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from importlib import util
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from storage import tables
from storage.config import StorageConfig
from storage.database import _alembic
from storage.history import History

FOLDER = Path(__file__).parent / "revisions"
REVISIONS = sorted(script.revision for script in ScriptDirectory.from_config(_alembic()).walk_revisions())
HEAD = REVISIONS[-1]
_SPEC = util.spec_from_file_location("revisions_make", FOLDER / "make.py")
make = util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(make)

Rows = dict[str, list[dict[str, object]]]


def rows(path: Path) -> Rows:
    with closing(sqlite3.connect(path)) as db:
        db.row_factory = sqlite3.Row
        names = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        own = [name for name in names if not name.startswith(("sqlite_", "alembic_"))]
        return {name: [dict(row) for row in db.execute(f'SELECT * FROM "{name}" ORDER BY rowid')] for name in own}


def dumped(path: Path) -> str:
    with closing(sqlite3.connect(path)) as db:
        return "\n".join(db.iterdump())


@pytest.fixture
def made(tmp_path: Path):
    def made(revision: str) -> Path:
        path = tmp_path / "history.db"
        make.build(path, (FOLDER / f"{revision}.sql").read_text(encoding="utf-8"))
        return path

    return made


@pytest.mark.parametrize("revision", REVISIONS)
def test_each_revision_comes_forward_with_its_data(made, tmp_path, revision):
    dump = FOLDER / f"{revision}.sql"
    assert dump.exists(), f"run `python {FOLDER / 'make.py'} {revision}` and commit what it writes"
    before = rows(made(revision))
    assert all(before.values()), "each table has rows to lose"
    history = History.open(StorageConfig(data=tmp_path))
    with history.database.reading() as connection:
        context = MigrationContext.configure(connection)
        assert context.get_current_revision() == HEAD
        assert compare_metadata(context, tables.metadata) == []
    after = rows(tmp_path / "history.db")
    for table, old in before.items():
        kept = [{column: row[column] for column in old[0]} for row in after[table]]
        assert kept == old, table
    assert history.position() == "1700000011000-0"
    assert [alert.count for alert in history.alerts(line="a")] == [1, 4]
    assert history.undelivered() == {"hook": 1}
    history.close()


KILLED = """
    import os, shutil, signal, sys
    from pathlib import Path
    import sqlalchemy as sa
    from storage.config import StorageConfig
    from storage.history import History
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    n = 0
    while True:
        data = folder / str(n)
        data.mkdir()
        shutil.copy(source, data / "history.db")
        child = os.fork()
        if child == 0:
            left = [n]
            @sa.event.listens_for(sa.Engine, "before_cursor_execute")
            def count(*_):
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left[0] -= 1
            @sa.event.listens_for(sa.Engine, "commit")
            def commit(_):
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left[0] -= 1
            History.open(StorageConfig(data=data))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status == 0:
            break
        assert os.WTERMSIG(status) == signal.SIGKILL, status
        n += 1
    print(n)
"""


@pytest.mark.parametrize("revision", [revision for revision in REVISIONS if revision != HEAD])
def test_a_migration_killed_at_any_statement_leaves_the_old_or_the_new(made, tmp_path, revision):
    source = made(revision)
    (tmp_path / "k").mkdir()
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(source), str(tmp_path / "k")]
    steps = int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    assert steps > 10
    old, new = dumped(source), dumped(tmp_path / "k" / str(steps) / "history.db")
    assert old != new
    found = [dumped(tmp_path / "k" / str(n) / "history.db") for n in range(steps)]
    assert set(found) <= {old, new}
    assert found[0] == old
    history = History.open(StorageConfig(data=tmp_path / "k" / str(steps // 2)))  # and it can be done again
    history.close()
    assert dumped(tmp_path / "k" / str(steps // 2) / "history.db") == new


def test_two_that_migrate_at_once_migrate_once(made, tmp_path):
    made(REVISIONS[0])
    program = f"""
        from pathlib import Path
        from storage.config import StorageConfig
        from storage.history import History
        History.open(StorageConfig(data=Path({str(tmp_path)!r}))).close()
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    started = [subprocess.Popen(command, env=os.environ) for _ in range(3)]
    assert [process.wait() for process in started] == [0, 0, 0]
    assert rows(tmp_path / "history.db")["minutes"] == rows_of_dump(tmp_path)["minutes"]


def rows_of_dump(folder: Path) -> Rows:
    make.build(folder / "again.db", (FOLDER / f"{REVISIONS[0]}.sql").read_text(encoding="utf-8"))
    return rows(folder / "again.db")
