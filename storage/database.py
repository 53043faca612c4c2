"""The one place that talks SQL to a server or file: engine, transactions, migrations, and what their errors mean.

SQLite runs in WAL mode with `synchronous=FULL` (a commit survives a power cut) and takes its write lock when a writing
transaction begins, so that two writers wait for each other instead of failing half-way.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from storage.config import StorageConfig
from storage.errors import StorageError, StorageFull, StoreUnavailable

BUSY_S = 5.0
"""How long a statement waits for another writer."""
STATEMENT_S = 30.0
"""How long a statement may take on a server."""
_CACHE_KIB = 256
_WRITE = "linewatch_write"
_MEANINGS: tuple[tuple[tuple[str, ...], type[StorageError], str], ...] = (
    (
        ("disk is full", "no space left", "diskfull", "disk full"),
        StorageFull,
        "the disk is full: make room; nothing was written",
    ),
    (
        ("malformed", "not a database", "corrupt"),
        StorageError,
        "the file is damaged: stop linewatch, move it aside and restore a backup",
    ),
    (
        ("readonly", "read-only"),
        StoreUnavailable,
        "cannot be written: check the owner and mode of the file and its folder",
    ),
    (
        ("locked", "busy", "timeout", "timed out"),
        StoreUnavailable,
        f"another process holds it for longer than {BUSY_S:g} s",
    ),
    (("unable to open",), StoreUnavailable, "cannot be opened: check that its folder exists and is yours"),
)
"""Words of a driver's error -> what they mean for an operator; the first match counts."""


class Database:
    """A SQLAlchemy engine whose errors are ours. Threads may share it."""

    def __init__(self, config: StorageConfig) -> None:
        self._url = _history_url(config)
        self.name = self._url.render_as_string(hide_password=True)
        """For people: the URL without its password."""
        self._engine = _engine(self._url)

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._engine.dialect.name

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a transaction that only reads.

        Raises:
            StoreUnavailable: the database cannot be reached.
        """
        with self._mapped(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction that commits at the end of the block, or leaves no trace when the block fails.

        Raises:
            StoreUnavailable: the database cannot be reached, is locked or read-only.
            StorageFull: no room.
        """
        with (
            self._mapped(),
            self._engine.connect().execution_options(**{_WRITE: True}) as connection,
            connection.begin(),
        ):
            yield connection

    def migrate(self) -> None:
        """Bring the tables to this version; several processes may do so at once.

        Raises:
            StorageError: the tables were written by a newer version.
            StoreUnavailable: the database cannot be reached, is locked or read-only.
        """
        if self._url.database and self.dialect == "sqlite":
            _make_folder(Path(self._url.database).parent)
        config = _alembic()
        head = ScriptDirectory.from_config(config).get_current_head()
        with self.reading() as connection:
            if MigrationContext.configure(connection).get_current_revision() == head:
                return
        with self.writing() as connection:
            if self.dialect == "postgresql":
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(1819895395)")  # one migration at a time
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise StorageError(
                    f"{self.name}: its tables are of another version ({error}): "
                    "use the linewatch that wrote them, or a newer one"
                ) from error

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except PoolTimeout as error:
            raise StoreUnavailable(f"{self.name}: too many requests at once; trying again helps") from error
        except DBAPIError as error:
            raise _meaning(self.name, error) from error
        except SQLAlchemyError as error:
            raise StorageError(f"{self.name}: {_first_line(error)}") from error


def history_file(config: StorageConfig) -> tuple[Path | None, str]:
    """Where the history is: its SQLite file (None: a server keeps it), and its URL without the password, for people.

    Raises:
        StorageError: a wrong URL.
    """
    url = _history_url(config)
    file = Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None
    return file, url.render_as_string(hide_password=True)


def _meaning(name: str, error: DBAPIError) -> StorageError:
    """Say what a driver's error means for an operator."""
    said = f"{type(error.orig).__name__} {error.orig}".lower()
    for words, kind, sentence in _MEANINGS:
        if any(word in said for word in words):
            return kind(f"{name}: {sentence}")
    if type(error).__name__ in {"OperationalError", "InterfaceError"} or error.connection_invalidated:
        return StoreUnavailable(f"{name}: does not answer: {_first_line(error.orig)}")
    return StorageError(f"{name}: {_first_line(error.orig)}")


def _first_line(error: object) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _history_url(config: StorageConfig) -> URL:
    try:
        return (
            make_url(config.history)
            if config.history
            else URL.create("sqlite", database=str(config.data / "history.db"))
        )
    except ArgumentError as error:
        raise StorageError(
            "history: no SQLAlchemy URL: write sqlite:////PATH or postgresql+psycopg://USER@HOST/NAME"
        ) from error


def _engine(url: URL) -> Engine:
    arguments: dict[str, Any] = {}
    if url.get_backend_name() == "sqlite":
        arguments = {"timeout": BUSY_S}
    elif url.get_backend_name() == "postgresql":
        arguments = {
            "connect_timeout": 5,
            "options": f"-c lock_timeout={BUSY_S:g}s -c statement_timeout={STATEMENT_S:g}s",
            # The server's own time-outs say nothing when the network in between is gone.
            "keepalives_idle": 5,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": round(BUSY_S * 4000),
        }
    try:
        engine = create_engine(url, connect_args=arguments, pool_pre_ping=True, pool_timeout=BUSY_S)
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise StorageError(
            f"history: no driver for {url.drivername}: pip install 'psycopg[binary]' and write postgresql+psycopg://…"
        ) from error
    except ArgumentError as error:
        raise StorageError(f"history: {_first_line(error)}: write sqlite:////PATH, four slashes") from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun below, not by the driver's guess
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={BUSY_S * 1000:.0f}",
        # Each connection of the pool has its own and fills it as the history grows; the kernel caches the file anyway.
        f"cache_size={-_CACHE_KIB}",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITE)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(f"{folder}: cannot be made: {error.strerror}") from error


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
