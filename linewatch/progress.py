"""How a role tells its supervisor that it moves on, and not only that it exists.

A process that is stopped, deadlocked or stuck in a call still exists. So each loop of a role counts its turns in a page
of memory that it shares with the supervisor: a store of eight bytes, no system call, nothing that could block. The
supervisor compares what it sees with what it saw before (`linewatch/silence.py`); no clock value crosses.

The page is an open file that the child inherits, its number in the environment: nothing is left behind on a disk.
"""

import mmap
import os
import struct
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

VARIABLE = "LINEWATCH_PROGRESS"
"""Set in the environment of a child: the number of the open file."""
_SLOT = struct.Struct("<24sQQ")  # name of the loop, how it stands, turns
_SLOTS = 16
_SIZE = _SLOT.size * _SLOTS
_MOVES, _WAITS = 1, 2


@dataclass(frozen=True, slots=True)
class Loop:
    """One loop of a role as the supervisor sees it: it owes turns unless it waits for the outside world."""

    turns: int
    waits: bool


class Page:
    """The supervisor's end: one page for each start of a child."""

    def __init__(self) -> None:
        self.file = _memory()
        os.write(self.file, bytes(_SIZE))  # written, not only made longer: a full disk must show here, not at a store
        self._map = mmap.mmap(self.file, _SIZE)

    def look(self) -> Mapping[str, Loop]:
        """What each loop has told so far, by name."""
        slots = (_SLOT.unpack_from(self._map, at) for at in range(0, _SIZE, _SLOT.size))
        return {name.rstrip(b"\0").decode(): Loop(turns, how == _WAITS) for name, how, turns in slots if how}

    def close(self) -> None:
        """Let go of it; the child keeps its own."""
        self._map.close()
        os.close(self.file)


class Progress:
    """The role's end. Threads may share it; each loop has a name of its own."""

    def __init__(self, page: mmap.mmap) -> None:
        self._map = page
        self._lock = threading.Lock()
        self._slots: dict[str, int] = {}

    @classmethod
    def open(cls) -> Self:
        """Take up the page that the supervisor offers; without one what is told is kept for nobody."""
        number = os.environ.pop(VARIABLE, None)  # not for processes that this one starts
        if number is None:
            return cls(mmap.mmap(-1, _SIZE))
        page = mmap.mmap(int(number), _SIZE)
        os.close(int(number))
        return cls(page)

    def moves(self, loop: str) -> None:
        """Tell that a loop has made a turn; it owes the next one within the supervisor's patience."""
        self._tell(loop, _MOVES)

    def waits(self, loop: str) -> None:
        """Tell that a loop waits for something that may take any time: a camera, or that it has ended."""
        self._tell(loop, _WAITS)

    def _tell(self, loop: str, how: int) -> None:
        at = self._slots.get(loop)
        if at is None:
            with self._lock:
                at = self._slots.setdefault(loop, len(self._slots) * _SLOT.size)
            struct.pack_into("<24s", self._map, at, loop.encode())
        turns = struct.unpack_from("<Q", self._map, at + 32)[0]
        struct.pack_into("<QQ", self._map, at + 24, how, turns + 1)


def _memory() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("linewatch-progress")
    file, path = tempfile.mkstemp(prefix="linewatch-progress-")
    os.unlink(path)  # noqa: PTH108 - of a name that nobody else has seen
    return file
