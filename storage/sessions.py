"""Who is logged in: a random token in a browser's cookie, its SHA-256 here."""

import secrets

from pydantic import BaseModel, ConfigDict
from sqlalchemy import delete, insert, or_, select, update

from storage import tables
from storage.accounts import Account, digest
from storage.database import Database

_TOKEN_BYTES = 32


class Session(BaseModel):
    """One login."""

    model_config = ConfigDict(frozen=True)

    id: str
    """SHA-256 of the token."""
    account: Account
    opened_ns: int
    used_ns: int
    """When somebody last did something in it; kept to the minute or so."""


class Sessions:
    """The sessions of one site, in its history: they outlive a restart. Threads and processes may share it.

    Every method raises StoreUnavailable when the database is away, locked or read-only.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def open(self, account: str, *, password: str, now_ns: int) -> str | None:
        """Open a session; the token is always a new one.

        Args:
            account: its name.
            password: what was kept of the password that has just been verified. When that was changed, or the account
                removed, in the meantime, no session is opened: otherwise it would survive the change.
            now_ns: wall clock, nanoseconds since the epoch.

        Returns:
            The token, or None.
        """
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        kept = select(tables.accounts.c.password).where(tables.accounts.c.name == account).with_for_update()
        with self._database.writing() as db:
            if db.execute(kept).scalar() != password:
                return None
            row = {"id": digest(token), "account": account, "opened_ns": now_ns, "used_ns": now_ns}
            db.execute(insert(tables.sessions).values(row))
        return token

    def find(self, session_id: str) -> Session | None:
        """Find a session, however old, with its account as it is now."""
        s, a = tables.sessions.c, tables.accounts.c
        query = (
            select(s.opened_ns, s.used_ns, a.name, a.role, a.created_ns, a.token_ns)
            .join_from(tables.sessions, tables.accounts)
            .where(s.id == session_id)
        )
        with self._database.reading() as db:
            row = db.execute(query).mappings().first()
        if row is None:
            return None
        account = Account.model_validate({name: row[name] for name in Account.model_fields})
        return Session(id=session_id, account=account, opened_ns=row["opened_ns"], used_ns=row["used_ns"])

    def touch(self, session_id: str, *, now_ns: int) -> None:
        """Note that somebody did something."""
        with self._database.writing() as db:
            db.execute(update(tables.sessions).where(tables.sessions.c.id == session_id).values(used_ns=now_ns))

    def end(self, session_id: str) -> None:
        """Log out."""
        with self._database.writing() as db:
            db.execute(delete(tables.sessions).where(tables.sessions.c.id == session_id))

    def forget(self, *, opened_before_ns: int, used_before_ns: int) -> None:
        """Remove those that have expired."""
        s = tables.sessions.c
        with self._database.writing() as db:
            db.execute(delete(tables.sessions).where(or_(s.opened_ns < opened_before_ns, s.used_ns < used_before_ns)))
