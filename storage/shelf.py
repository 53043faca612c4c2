"""What is on disk in the evidence store, oldest first: one walk at the start, then a running account.

A walk looks at every file, a glance only at the names of days in which something has changed.
"""

import errno
import heapq
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_FRAME = re.compile(r"[0-9A-Za-z]+-\d+")
_TICK_NS = 2 * 10**9


class Shelf:
    """Folders `<line>/<day>/<run>-<seq>` below a root, with their age and size.

    A folder's modification time is the time of capture of what lies in it. Other processes may add and remove folders:
    what they added is seen at the next glance, what they changed at the next walk, what they removed is passed over.

    Attributes:
        bytes: sum of the sizes.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bytes = 0
        self._sizes: dict[str, int] = {}
        self._oldest: list[tuple[int, str]] = []
        self._changed_ns: dict[Path, int] = {}  # by day, when its names were looked at
        self.walk()

    def __len__(self) -> int:
        return len(self._sizes)

    def walk(self) -> None:
        """Look at the disk anew."""
        self._sizes, self._oldest, self._changed_ns, self.bytes = {}, [], {}, 0
        self.glance()

    def glance(self) -> None:
        """Account for what other processes have added."""
        now_ns = time.time_ns()
        changed_ns = {day: _changed_ns(day) for day in _days(self.root)}
        for day, at_ns in changed_ns.items():
            if self._changed_ns.get(day) == at_ns:
                continue
            for frame in _folders(day):
                folder = frame.relative_to(self.root).as_posix()
                if folder in self._sizes or not _FRAME.fullmatch(frame.name):
                    continue
                try:
                    self.add(folder, captured_ns=frame.stat().st_mtime_ns, size=folder_bytes(frame))
                except FileNotFoundError:
                    continue  # another process has just removed it
        # What was changed just now may change again and bear the same time: file systems know it by the tick.
        self._changed_ns = {day: at_ns for day, at_ns in changed_ns.items() if now_ns - at_ns > _TICK_NS}

    def add(self, folder: str, *, captured_ns: int, size: int) -> None:
        """Account for a folder, or for its new size."""
        if folder not in self._sizes:
            heapq.heappush(self._oldest, (captured_ns, folder))
        self.bytes += size - self._sizes.get(folder, 0)
        self._sizes[folder] = size

    def oldest_ns(self) -> int | None:
        """Time of capture of the oldest folder; None when there is none."""
        return self._oldest[0][0] if self._oldest else None

    def drop_oldest(self) -> int:
        """Remove the oldest folder, and its day if that is empty then; the bytes it had.

        Raises:
            OSError: it cannot be removed. It is off the account, so that the next one can be tried.
        """
        _, folder = heapq.heappop(self._oldest)
        size = self._sizes.pop(folder)
        self.bytes -= size
        path = self.root / folder
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            return 0  # another process was faster
        for parent in (path.parent, path.parent.parent):
            try:
                parent.rmdir()
            except OSError as exc:
                if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                    raise
                break
        return size


def folder_bytes(folder: Path) -> int:
    """Sum of the sizes of a folder's files."""
    with os.scandir(folder) as files:
        return sum(file.stat().st_size for file in files)


def _days(root: Path) -> Iterator[Path]:
    for line in _folders(root):
        yield from (day for day in _folders(line) if _DAY.fullmatch(day.name))


def _changed_ns(day: Path) -> int:
    try:
        return day.stat().st_mtime_ns
    except FileNotFoundError:
        return -1  # another process has just removed it


def _folders(parent: Path) -> list[Path]:
    try:
        with os.scandir(parent) as entries:
            return [Path(entry) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
