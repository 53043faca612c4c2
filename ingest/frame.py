"""The noun of ingest: one captured picture and what is known about it."""

import hashlib
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
"""A picture in memory: `[H, W, 3]` uint8, channels in OpenCV's order (blue, green, red)."""


MOST_FRAMES = 2**40
"""Of one run: a thousand a second for 34 years."""
MAX_PART = 128
"""Most characters of a part's identity."""


class Condition(StrEnum):
    """Whether the camera delivers pictures that can be judged at all.

    Capture says what a picture tells by itself; what takes a reference to compare with (LIGHT to OCCLUDED) is found by
    the worker.
    """

    OK = "ok"
    FROZEN = "frozen"  # the same picture again and again
    DARK = "dark"  # no light, or a covered lens
    OVEREXPOSED = "overexposed"  # much of it is white
    LIGHT = "light"  # much brighter or darker than what the model was fitted on
    BLURRED = "blurred"  # out of focus, or a dirty lens
    MOVED = "moved"  # the camera was knocked
    OCCLUDED = "occluded"  # something stands before the scene
    LOST = "lost"  # the source is gone; capture is reconnecting
    ENDED = "ended"  # the source came to its end; there is nothing more to come
    CORRUPT = "corrupt"  # this one picture could not be decoded


@dataclass(frozen=True, slots=True)
class Frame:
    """One captured frame at full resolution.

    Attributes:
        line: the production line (or scene) this camera watches.
        run: identifies one start of capture; sortable by time, see `new_run`.
        seq: counts from 0 within the run without holes.
        wall_ns: wall-clock time of capture, nanoseconds since the epoch. For people.
        mono_ns: monotonic time of capture on this host, nanoseconds. For durations.
        picture: the picture, or None when it could not be decoded (`condition` is then CORRUPT).
        condition: whether the picture can be judged.
        part: identity of the part in view, when the line tracks parts.
    """

    line: str
    run: str
    seq: int
    wall_ns: int
    mono_ns: int
    picture: Picture | None
    condition: Condition = Condition.OK
    part: str | None = None

    @property
    def id(self) -> str:
        """`line/run/seq`: names the frame, and its verdict, once and for all; in logs `verdict`."""
        return f"{self.line}/{self.run}/{self.seq}"


def part_id(said: str) -> str:
    """A part's identity in a form that can be sent and stored; the same for the same `said`.

    A scanner may read anything. What is too long, or holds what no database takes, keeps its beginning, and a digest
    that tells it from others.
    """
    shown = said.encode("utf-8", "replace").decode().replace("\0", "")
    if shown == said and len(said) <= MAX_PART:
        return said
    digest = hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{shown[: MAX_PART - 17]}~{digest}"


def new_run(wall_ns: int) -> str:
    """Name a run by its start: 16 hexadecimal digits of `wall_ns`, so that names sort by time."""
    return f"{wall_ns:016x}"
