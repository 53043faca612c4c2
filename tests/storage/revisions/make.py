"""Writes `NUMBER.sql` for a new revision: the dump of the one before, upgraded, with a row in every new table.

    python tests/storage/revisions/make.py 0004

A dump is written once, when its revision is made, and never again: it stands for the files that users have.
"""

import sqlite3
import sys
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command

from storage.database import _alembic

FOLDER = Path(__file__).parent


def build(path: Path, dump: str) -> None:
    """Make the database a dump is of."""
    db = sqlite3.connect(path)
    db.executescript(dump)
    db.close()


def upgrade(path: Path, revision: str) -> None:
    """Bring a database to a revision, in one transaction, as `storage.database` does."""
    engine = sa.create_engine(f"sqlite:///{path}")
    sa.event.listen(engine, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    with engine.begin() as connection:
        config = _alembic()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


def fill(path: Path) -> None:
    """Add a row to each empty table; what it refers to is there, as its table comes before by name or is filled."""
    engine = sa.create_engine(f"sqlite:///{path}")
    known = sa.MetaData()
    known.reflect(engine)
    with engine.begin() as db:
        for table in known.sorted_tables:
            if db.scalar(sa.select(sa.func.count()).select_from(table)) == 0:
                db.execute(table.insert().values({column.name: _value(db, column) for column in table.columns}))
    engine.dispose()


def _value(db: sa.Connection, column: sa.Column[Any]) -> Any:
    for key in column.foreign_keys:
        return db.scalar(sa.select(key.column))
    return {int: 1_700_000_000_000_000_000, float: 0.1}.get(column.type.python_type, f"a {column.name}")


def main(revision: str) -> None:
    """Write the dump of one revision."""
    before = sorted(path for path in FOLDER.glob("*.sql") if path.stem < revision)
    scratch = FOLDER / "scratch.db"
    try:
        if before:
            build(scratch, before[-1].read_text(encoding="utf-8"))
        upgrade(scratch, revision)
        fill(scratch)
        db = sqlite3.connect(scratch)
        text = "\n".join(db.iterdump()) + "\n"
        db.close()
        (FOLDER / f"{revision}.sql").write_text(text, encoding="utf-8")
    finally:
        scratch.unlink(missing_ok=True)


if __name__ == "__main__":
    main(sys.argv[1])
