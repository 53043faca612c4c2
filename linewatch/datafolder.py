"""The data folder belongs to one `linewatch up` at a time."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from linewatch.errors import AlreadyRunning, ConfigError

RESTORING = "restoring"
"""File that is there while a restore moves things about."""
_LOCK = "up.lock"


def make(data: Path) -> None:
    """Create the folder for this user alone; one that exists keeps its mode.

    Raises:
        ConfigError: it cannot be created or written.
    """
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"data: {data} cannot be created: {error.strerror}") from error
    if not os.access(data, os.W_OK | os.X_OK):
        raise ConfigError(f"data: {data} cannot be written by this user")


@contextmanager
def claim(data: Path, *, restoring: bool = False) -> Iterator[None]:
    """Own the data folder for the length of a `with`; the kernel lets go of it when the process dies.

    Raises:
        ConfigError: the folder cannot be created or written, or what a restore began there was not finished.
        AlreadyRunning: another process owns it.
    """
    make(data)
    if (data / RESTORING).exists() and not restoring:
        raise ConfigError(f"{data}: a restore was interrupted here: run `linewatch restore` again, with --replace")
    with _holding(data / _LOCK, f"{data} is in use by another `linewatch up`"):
        yield


@contextmanager
def only(data: Path, role: str, name: str | None = None) -> Iterator[None]:
    """Be the only process of a role on this folder, for the length of a `with`.

    Args:
        data: the folder.
        role: which.
        name: of the role's, where there may be several; it is used as a file's name.

    Raises:
        ConfigError: the folder cannot be created or written.
        AlreadyRunning: there is one.
    """
    make(data)
    file, what = (role, "") if name is None else (f"{role}@{name}", f" of {name}")
    with _holding(data / f"{file}.lock", f"{data}: `linewatch {role}`{what} runs here already"):
        yield


def owner(data: Path) -> int | None:
    """Process that owns the folder now; None: nobody does."""
    try:
        lock = (data / _LOCK).open(encoding="utf-8")
    except FileNotFoundError:
        return None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            said = lock.read().strip()
            return int(said) if said.isdecimal() else 0
        return None


@contextmanager
def _holding(path: Path, taken: str) -> Iterator[None]:
    """Hold a lock, with our process id in its file; `taken` says what it means that somebody else does."""
    with path.open("a+", encoding="utf-8") as lock:
        if not _taken(lock):
            lock.seek(0)
            other = lock.read().strip() or "unknown"
            raise AlreadyRunning(f"{taken} (process {other}): stop that one, or set another `data:`")
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def _taken(lock: TextIO) -> bool:
    """Take the lock; whoever only asks who owns the folder holds it for a moment, too."""
    for pause_s in (0.05, 0.2, None):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if pause_s is not None:
                time.sleep(pause_s)
        else:
            return True
    return False
