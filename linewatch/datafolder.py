"""The data folder belongs to one `linewatch up` at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from linewatch.errors import AlreadyRunning, ConfigError


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
def claim(data: Path) -> Iterator[None]:
    """Own the data folder for the length of a `with`; the kernel lets go of it when the process dies.

    Raises:
        ConfigError: the folder cannot be created or written.
        AlreadyRunning: another process owns it.
    """
    make(data)
    with (data / "up.lock").open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            owner = lock.read().strip() or "unknown"
            raise AlreadyRunning(
                f"{data} is in use by another `linewatch up` (process {owner}): stop that one, or set another `data:`"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield
