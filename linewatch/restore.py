"""Puts a backup back: checked as a whole first, moved into place last.

Only what the backup holds is replaced: history, models, golden samples, keys. Evidence and the verdict stream stay, so
that the alert service follows again, from where the restored history ends, what it had followed before. What is
replaced is kept aside. Killed at any moment, either the old is in place or `linewatch up` refuses until the restore is
run again.
"""

import os
import shutil
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from inference.training.report import Report
from linewatch.datafolder import RESTORING, claim, only
from linewatch.errors import FrontError
from storage.archive import HISTORY, Archive
from storage.config import StorageConfig
from storage.durable import on_disk, sync_folder
from storage.errors import StorageError, StorageFull
from storage.history import History

_PLACES = ("history.db", "history.db-wal", "history.db-shm", "models", "golden")
_KEYS = "keys"
_LOCKS = ("up.lock", "alerts.lock", RESTORING)
_STAGING = ".restore-"
_SPARE = 64 * 2**20
_MB = 10**6


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore came to; `aside` is where the old is kept, None when there was none."""

    archive: Archive
    aside: Path | None


def restore(file: Path, data: Path, *, replace: bool, report: Report) -> Restored:
    """Put a backup into a data folder.

    Args:
        file: the backup.
        data: the folder; made if it is not there.
        replace: what is there is moved aside; otherwise the folder has to be empty.
        report: how far it is.

    Raises:
        StorageError: the backup is damaged or of a newer version, or the disk refuses.
        AlreadyRunning: the folder is in use.
        FrontError: it is not empty.
    """
    archive = Archive(file)
    done, total = 0, 2 * archive.size

    def told(size: int) -> None:
        nonlocal done
        done += size
        report("megabytes checked and restored", done // _MB, total // _MB)

    archive.verify(told)
    with claim(data, restoring=True), only(data, "alerts"):
        _clear(data)
        there = sorted(path.name for path in data.iterdir() if path.name not in _LOCKS)
        if there and not replace:
            raise FrontError(
                f"{data}: is not empty ({', '.join(there[:5])}): restore into another folder, or add --replace, "
                "which keeps the old aside"
            )
        free = shutil.disk_usage(data).free
        if free < archive.size + _SPARE:
            raise StorageFull(f"{data}: {archive.size} bytes do not fit into the {free} that are free: make room")
        staging = data / f"{_STAGING}{uuid.uuid4().hex}"
        try:
            archive.extract(staging, told)
            if (staging / HISTORY).exists():
                _migrate(staging)
            aside = _swap(data, staging, keys=archive.contents.keys, history=archive.contents.revision is not None)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return Restored(archive, aside)


def _migrate(staging: Path) -> None:
    """Bring the history to this version while it is still out of everybody's way."""
    history = History.open(StorageConfig(data=staging))
    try:
        history.position()  # it can be read
    finally:
        history.close()
    left = [path.name for path in staging.glob("history.db-*") if path.stat().st_size]
    if left:
        raise StorageError(f"{staging}: {', '.join(left)} is left beside the history: another process opened it")


def _swap(data: Path, staging: Path, *, keys: bool, history: bool) -> Path | None:
    """Move the old aside and the new in; the marker says that this is not finished."""
    places = [name for name in _PLACES if history or not name.startswith(HISTORY)] + ([_KEYS] if keys else [])
    marker = data / RESTORING
    with on_disk(data):
        marker.touch(mode=0o600)
        sync_folder(data)
        aside = data / f"before-restore-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{uuid.uuid4().hex[:6]}"
        old = [name for name in places if os.path.lexists(data / name)]
        if old:
            aside.mkdir(mode=0o700)
        for name in old:
            (data / name).rename(aside / name)
        for path in sorted(staging.iterdir()):
            path.rename(data / path.name)
        sync_folder(data)
        marker.unlink()
        sync_folder(data)
    return aside if old else None


def _clear(data: Path) -> None:
    """Remove what a restore that was killed had unpacked; what it had moved aside stays."""
    for left in data.glob(f"{_STAGING}*"):
        shutil.rmtree(left, ignore_errors=True)
