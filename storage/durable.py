"""Files that are there as a whole or not at all, also after a power failure."""

import errno
import fcntl
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.errors import StorageError, StorageFull

LOCK_S = 10.0
FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def on_disk(what: object) -> Iterator[None]:
    """Turn what the operating system raises about `what` into storage errors.

    Raises:
        StorageFull: there is no room.
        StorageError: anything else.
    """
    try:
        yield
    except OSError as exc:
        if exc.errno in FULL:
            raise StorageFull(f"{what}: the disk is full: free some room, or move data:") from exc
        raise StorageError(f"{what}: {exc.strerror or exc}: check the disk and who may write there") from exc


def lock(descriptor: int, what: object) -> None:
    """Wait for the lock on an open file or folder; it ends with the descriptor, or with the process.

    Raises:
        StorageError: another process has held it for 10 s.
    """
    give_up = time.monotonic() + LOCK_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            if time.monotonic() > give_up:
                raise StorageError(f"{what}: another process holds it: end that, then try again") from exc
            time.sleep(0.02)
        else:
            return


def write_synced(path: Path, data: bytes) -> None:
    """Write a new file and its content to the disk; its folder's entry is the caller's to sync."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace_synced(path: Path, data: bytes) -> None:
    """Replace a file: whoever reads it finds the old content or the new one."""
    new = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        write_synced(new, data)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Write a folder's entries to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
