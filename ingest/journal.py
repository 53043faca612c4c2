"""How many frames a run has captured, in a form that outlives the process.

A frame that was numbered but never left a killed capture process would otherwise be forgotten without a verdict. Each
run keeps one small memory-mapped file: the kernel holds its pages when the process dies, so a store of eight bytes is
all it costs per frame. The next start finds the file, closes the run's gap as `unknown`, and removes it.
"""

import mmap
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import structlog

from ingest.frame import MOST_FRAMES, new_run

log = structlog.get_logger()

_FORMAT = struct.Struct("<8sQ")  # magic, next sequence number
_MAGIC = b"lwrun\x00\x00\x01"


def next_run(folder: Path, *, line: str, wall_ns: int) -> str:
    """Name the run of `line` that starts now; it sorts after all earlier ones, also when the clock was set back.

    Storage takes the run that sorts last for the present one: named by a clock that runs behind, a new run would stand
    in the shadow of the old one, its beats unheard.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    kept = folder / f"{line}.latest"
    latest = kept.read_text(encoding="ascii", errors="replace") if kept.exists() else ""
    if re.fullmatch(r"[0-9a-f]{16}", latest):
        wall_ns = max(wall_ns, int(latest, 16) + 1)
    run = new_run(wall_ns)
    new = folder / f".{line}.latest"
    new.write_text(run, encoding="ascii")
    new.replace(kept)
    return run


@dataclass(frozen=True, slots=True)
class Leftover:
    """A run that its process did not finish: all numbers below `next_seq` were captured."""

    run: str
    next_seq: int
    path: Path

    def forget(self) -> None:
        """Remove the file: every frame of the run has been accounted for."""
        self.path.unlink(missing_ok=True)


class RunJournal:
    """The count of one running capture; `close` keeps the file unless the run is settled."""

    def __init__(self, folder: Path, *, line: str, run: str) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = folder / f"{line}@{run}.run"
        with self.path.open("xb") as file:
            file.write(_FORMAT.pack(_MAGIC, 0))
            file.flush()
            os.fsync(file.fileno())
        with self.path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _FORMAT.size)

    def advance(self, next_seq: int) -> None:
        """Note, before a frame is offered, that all numbers below `next_seq` now exist."""
        struct.pack_into("<Q", self._map, 8, next_seq)

    def close(self, *, settled: bool) -> None:
        """Stop writing; a settled run leaves nothing behind."""
        self._map.close()
        if settled:
            self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if not self._map.closed:
            self._map.close()


def leftovers(folder: Path, *, line: str) -> Iterator[Leftover]:
    """Find the runs of `line` that an earlier process left unfinished, oldest first."""
    for path in sorted(folder.glob(f"{line}@*.run")):
        data = path.read_bytes()
        if len(data) != _FORMAT.size or not data.startswith(_MAGIC) or _FORMAT.unpack(data)[1] >= MOST_FRAMES:
            # Cut short, its process died before it numbered any frame. Anything else is none of ours, or was damaged.
            if len(data) >= _FORMAT.size:
                log.error(
                    "a run's journal cannot be read, and is removed", line=line, journal=str(path), bytes=len(data)
                )
            path.unlink()
            continue
        yield Leftover(run=path.stem.rpartition("@")[2], next_seq=_FORMAT.unpack(data)[1], path=path)
