"""When golden samples are to be shown: pure, for one line of one worker."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta, tzinfo

START, PROMOTED, SHIFT, ASKED, LEARN = "start", "promoted", "shift", "asked", "learn"

_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Showing:
    """What the samples of a line were last shown to, and when.

    Attributes:
        serving: what was judging the line.
        at_ns: wall clock, nanoseconds since the epoch.
        asked: requests counted by then.
    """

    serving: object
    at_ns: int
    asked: int


def due(
    last: Showing | None,
    *,
    serving: object,
    now_ns: int,
    asked: int,
    shifts: Sequence[time],
    zone: tzinfo | None = None,
) -> str | None:
    """Say why a line's samples are to be shown now; None: they need not be.

    Args:
        last: the last time they were shown by this worker; None: never yet.
        serving: what is judging the line now, to be compared with `last.serving`.
        now_ns: wall clock, nanoseconds since the epoch.
        asked: requests counted so far. Any other number than the last one is a request: Redis may have lost its count.
        shifts: local times of day at which shifts begin.
        zone: where these times are local; None: here.

    Returns:
        `start`, `promoted`, `asked`, `shift`, or None. One showing serves all that is due.
    """
    if last is None:
        return START
    if serving != last.serving:
        return PROMOTED
    if asked != last.asked:
        return ASKED
    if shift_begin(now_ns, shifts, zone) != shift_begin(last.at_ns, shifts, zone):  # also after a clock was set back
        return SHIFT
    return None


def shift_begin(at_ns: int, shifts: Sequence[time], zone: tzinfo | None = None) -> int | None:
    """When the shift of a moment began, nanoseconds since the epoch; None without shifts.

    A shift begins once a day, also when clocks are changed: at a time of day that is skipped, it begins with the hour
    that is there instead; at one that comes twice, at the first.
    """
    today = datetime.fromtimestamp(at_ns // _NS, zone).date()
    days = (today + timedelta(days=ahead) for ahead in (-1, 0, 1))
    begins = [int(datetime.combine(day, shift, zone).timestamp()) * _NS for day in days for shift in shifts]
    return max((begin for begin in begins if begin <= at_ns), default=None)
