"""What is on disk in the evidence store, oldest first: one walk at the start, then a running account."""

import errno
import heapq
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_FRAME = re.compile(r"[0-9A-Za-z]+-\d+")


class Shelf:
    """Folders `<line>/<day>/<run>-<seq>` below a root, with their age and size.

    A folder's modification time is the time of capture of what lies in it. Other processes may add and remove folders:
    what they added is seen after the next walk, what they removed is passed over.

    Attributes:
        bytes: sum of the sizes.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bytes = 0
        self._sizes: dict[str, int] = {}
        self._oldest: list[tuple[int, str]] = []
        self.walk()

    def __len__(self) -> int:
        return len(self._sizes)

    def walk(self) -> None:
        """Look at the disk anew."""
        self._sizes, self._oldest, self.bytes = {}, [], 0
        for path in _frames(self.root):
            try:
                captured_ns, size = path.stat().st_mtime_ns, folder_bytes(path)
            except FileNotFoundError:
                continue  # another process has just removed it
            self.add(path.relative_to(self.root).as_posix(), captured_ns=captured_ns, size=size)

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


def _frames(root: Path) -> Iterator[Path]:
    for line in _folders(root):
        for day in _folders(line):
            if _DAY.fullmatch(day.name):
                yield from (frame for frame in _folders(day) if _FRAME.fullmatch(frame.name))


def _folders(parent: Path) -> list[Path]:
    try:
        with os.scandir(parent) as entries:
            return [Path(entry) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
