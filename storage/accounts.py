"""Who may look at the page, and who may act: accounts, their passwords and tokens.

Of a password only its scrypt hash is kept, of a token only its SHA-256 (it is random: there is nothing to guess).
"""

import hashlib
import re
import secrets

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from storage import tables
from storage.database import Database
from storage.errors import StorageError
from storage.passwords import hash_password
from storage.roles import Role

NAME = re.compile(r"[a-z0-9][a-z0-9_.@-]{0,63}")
"""How an account is called; capitals are the same as small letters."""
_TOKEN = "lw_"  # noqa: S105 - not one but how all begin, so that a search for leaked secrets finds them


class Account(BaseModel):
    """One account, without its secrets."""

    model_config = ConfigDict(frozen=True)

    name: str
    role: Role
    created_ns: int
    token_ns: int | None = None
    """When its token was made; None: it has none."""


class Accounts:
    """The accounts of one site, in its history. Threads and processes may share it.

    Every method raises StoreUnavailable when the database is away, locked or read-only.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, name: str, role: Role, password: str, *, now_ns: int) -> Account:
        """Make an account.

        Raises:
            ValueError: what cannot be a name, or a password that is too short.
            StorageError: there is one of this name.
        """
        name = known_as(name)
        account = Account(name=name, role=role, created_ns=now_ns)
        row = {"name": name, "role": role.value, "password": hash_password(password), "created_ns": now_ns}
        with self._database.writing() as db:
            if _row(db, name) is not None:
                raise StorageError(f"there is an account {name} already: give it another password, or remove it first")
            try:
                db.execute(insert(tables.accounts).values(row))
            except IntegrityError as error:  # somebody was faster, on a database that lets two write at once
                raise StorageError(f"there is an account {name} already") from error
        return account

    def all(self) -> list[Account]:
        """Every account, by name."""
        t = tables.accounts.c
        query = select(t.name, t.role, t.created_ns, t.token_ns).order_by(t.name)
        with self._database.reading() as db:
            return [Account.model_validate(dict(row)) for row in db.execute(query).mappings()]

    def there_are(self) -> bool:
        """Whether there is any."""
        with self._database.reading() as db:
            return bool(db.execute(select(func.count()).select_from(tables.accounts)).scalar())

    def kept_password(self, name: str) -> str | None:
        """What is kept of a password, for `storage.passwords.matches`; None: no such account."""
        if not NAME.fullmatch(name.lower()):  # whatever else was typed, a database need not see it
            return None
        t = tables.accounts.c
        with self._database.reading() as db:
            kept = db.execute(select(t.password).where(t.name == name.lower())).scalar()
        return None if kept is None else str(kept)

    def remove(self, name: str) -> None:
        """Remove an account. Its sessions and its token end at once.

        Raises:
            StorageError: there is no such account.
        """
        with self._database.writing() as db:
            # Locked first: a login at this moment opens its session before, and that is ended, or not at all.
            _must_be(name, int(_row(db, name.lower()) is not None))
            db.execute(delete(tables.sessions).where(tables.sessions.c.account == name.lower()))
            db.execute(delete(tables.accounts).where(tables.accounts.c.name == name.lower()))

    def set_password(self, name: str, password: str) -> None:
        """Give an account another password. Its sessions end at once; its token stays.

        Raises:
            ValueError: a password that is too short.
            StorageError: there is no such account.
        """
        self._change(name, password=hash_password(password), ending=True)

    def set_role(self, name: str, role: Role) -> None:
        """Let an account do more or less, from its next request on.

        Raises:
            StorageError: there is no such account.
        """
        self._change(name, role=role.value)

    def make_token(self, name: str, *, now_ns: int) -> str:
        """Make a token for a program; the one it had before ends. It is given here and never again.

        Raises:
            StorageError: there is no such account.
        """
        token = _TOKEN + secrets.token_urlsafe(32)
        self._change(name, token=digest(token), token_ns=now_ns)
        return token

    def drop_token(self, name: str) -> None:
        """End the token of an account, if it has one.

        Raises:
            StorageError: there is no such account.
        """
        self._change(name, token=None, token_ns=None)

    def of_token(self, hashed: str) -> Account | None:
        """Find whose token this is the digest of."""
        t = tables.accounts.c
        query = select(t.name, t.role, t.created_ns, t.token_ns).where(t.token == hashed)
        with self._database.reading() as db:
            row = db.execute(query).mappings().first()
        return None if row is None else Account.model_validate(dict(row))

    def _change(self, name: str, *, ending: bool = False, **values: object) -> None:
        with self._database.writing() as db:
            found = db.execute(update(tables.accounts).where(tables.accounts.c.name == name.lower()).values(values))
            _must_be(name, found.rowcount)
            if ending:
                db.execute(delete(tables.sessions).where(tables.sessions.c.account == name.lower()))


def known_as(name: str) -> str:
    """Give the name as it is kept.

    Raises:
        ValueError: it is none.
    """
    if not NAME.fullmatch(name.lower()):
        raise ValueError(f"{name!r} is no name of an account: letters, digits and `_ . @ -`, 64 at most")
    return name.lower()


def digest(token: str) -> str:
    """What is kept of a random token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _row(db: Connection, name: str) -> object:
    query = select(tables.accounts.c.name).where(tables.accounts.c.name == name).with_for_update()
    return db.execute(query).first()


def _must_be(name: str, found: int) -> None:
    if found == 0:
        raise StorageError(f"no account {name!r}: `linewatch accounts list` shows those there are")
