"""A copy of a SQLite file as of one moment, while others go on writing to it."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from storage.database import BUSY_S
from storage.durable import on_disk
from storage.errors import StorageError, StorageFull, StoreUnavailable

_PAGES = 1024


def snapshot(source: Path, target: Path, told: Callable[[int, int], None] = lambda _done, _total: None) -> str | None:
    """Copy `source` to a new file, mode 0600, and check the copy.

    One read transaction is held from the first page to the last, so that the copy is of one moment and no writer makes
    it begin again; writers do not wait for it (WAL).

    Args:
        source: the file that is in use.
        target: the new file.
        told: pages done, and in all.

    Returns:
        Revision of its tables; None: it has none yet.

    Raises:
        StoreUnavailable: it is not there or held by another process for too long.
        StorageFull: no room.
        StorageError: it is damaged.
    """
    if not source.is_file():
        raise StoreUnavailable(f"{source}: is not there: nothing has been recorded yet, or the path is wrong")
    with on_disk(target):
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with closing(_open(source)) as live, closing(_open(target)) as copy:
            live.execute("BEGIN").close()
            live.execute("SELECT count(*) FROM sqlite_master").fetchall()  # only a read begins the transaction
            live.backup(copy, pages=_PAGES, progress=lambda _status, left, total: told(total - left, total))
            live.rollback()
            copy.execute("PRAGMA journal_mode=DELETE").fetchall()  # one file, without a log beside it
            said = copy.execute("PRAGMA quick_check(1)").fetchall()
            if said != [("ok",)]:
                raise StorageError(f"{source}: is damaged ({said[0][0]}): restore an earlier backup")
            return _revision(copy)
    except sqlite3.Error as exc:
        raise _meaning(source, target, exc) from exc


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, timeout=BUSY_S, isolation_level=None)


def _revision(db: sqlite3.Connection) -> str | None:
    tables = db.execute("SELECT name FROM sqlite_master WHERE name = 'alembic_version'").fetchall()
    found = db.execute("SELECT version_num FROM alembic_version").fetchone() if tables else None
    return None if found is None else str(found[0])


def _meaning(source: Path, target: Path, exc: sqlite3.Error) -> StorageError:
    said = str(exc).lower()
    if "full" in said:
        return StorageFull(f"{target}: the disk is full: make room, or write the backup elsewhere")
    if "locked" in said or "busy" in said:
        return StoreUnavailable(f"{source}: another process holds it for longer than {BUSY_S:g} s: try again")
    return StorageError(f"{source}: cannot be copied ({exc}): check the file, its owner and mode")
